//! One request through a service's front door for who wants to see what a client sees. Proves nothing.

use std::sync::Arc;

use super::door::Door;
use crate::domain::{Color, Service};

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorAnswer {
    /// The door, for people.
    pub door: String,
    /// The status.
    pub status: u16,
    /// `X-Routed-To`.
    pub color: Option<Color>,
    /// `X-Upstream-URL`.
    pub upstream: Option<String>,
    /// `X-Turnout-Error`.
    pub error: Option<String>,
    /// At most 64 KiB; empty where a public URL is the door.
    pub body: String,
}

/// Asks for `path`; the error is a sentence for people.
pub async fn ask_door(service: &Arc<Service>, path: &str) -> Result<DoorAnswer, String> {
    let Some(door) = Door::of(service) else {
        return Err(
            "there is no front door: neither `listen` nor `public` is configured".to_owned(),
        );
    };
    let answer = door.plainly(path, None, door.patience()).await;
    let answer = answer.map_err(|reason| format!("{} does not answer: {reason}", door.name))?;
    let text = |name: &str| {
        answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    Ok(DoorAnswer {
        status: answer.status.as_u16(),
        color: text("x-routed-to").and_then(|color| color.parse().ok()),
        upstream: text("x-upstream-url").map(str::to_owned),
        error: text("x-turnout-error").map(str::to_owned),
        body: answer.body,
        door: door.name,
    })
}
