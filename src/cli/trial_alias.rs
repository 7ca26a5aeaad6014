//! `turnout test` of a service behind an alias: the same three questions, of which none has a color for an answer.

use std::sync::Arc;

use super::trial::{Found, HEALTH, Tested, Verdict, asked, counted, metrics};
use crate::balancer::ask_door;
use crate::config::AliasConfig;
use crate::controller::AliasStatus;
use crate::domain::Service;

pub(super) async fn all<'a>(
    status: &'a AliasStatus,
    known: &AliasConfig,
    kind: &str,
) -> Vec<Tested<'a>> {
    let (shape, url) = (&known.shape, known.target.to_string());
    let is_embedded = kind == "embedded";
    let before = if is_embedded {
        counted(shape).await.ok()
    } else {
        None
    };
    let (backend, is_routed) = backend(shape, &url).await;
    let (router, metrics) = if is_embedded {
        let port = known.target.port();
        (router(shape, port).await, metrics(shape, before).await)
    } else if is_routed {
        let text = format!("{kind} routes to {}", status.target);
        ((Verdict::Passed, text), not_counted(kind))
    } else {
        let text = format!("{kind} showed no route to {}", status.target);
        ((Verdict::Failed, text), not_counted(kind))
    };
    Tested::of(&status.service, [backend, router, metrics])
}

/// What stands behind the alias answers the health path through the router. Also whether the answer came from there.
async fn backend(shape: &Arc<Service>, url: &str) -> (Found, bool) {
    let path = shape.health.path.as_str();
    let answer = match ask_door(shape, path).await {
        Ok(answer) => answer,
        Err(reason) => return ((Verdict::Failed, reason), false),
    };
    let (door, status) = (answer.door, answer.status);
    let is_routed = answer.upstream.as_deref() == Some(url);
    let expected = shape.health.expect.status;
    let found = match answer.error {
        None if !is_routed => (
            Verdict::Failed,
            format!(
                "{door} answers {status} without X-Upstream-URL: {url}: that is not turnout's route"
            ),
        ),
        None => {
            let fits = (expected.low..=expected.high).contains(&status);
            let verdict = if fits {
                Verdict::Passed
            } else {
                Verdict::Failed
            };
            (
                verdict,
                format!("{url} answers {path} with {status} at {door}"),
            )
        }
        Some(error) => (Verdict::Failed, format!("{status}: {error} ({door})")),
    };
    (found, is_routed)
}

/// The router's own word.
async fn router(shape: &Arc<Service>, port: u16) -> Found {
    if !shape.router_endpoints {
        return (Verdict::NotHere, "router_endpoints is false".to_owned());
    }
    let said = match asked(shape, HEALTH).await {
        Ok(said) => said,
        Err(reason) => return (Verdict::Failed, reason),
    };
    let word = said["status"].as_str().unwrap_or("?");
    let text = format!("{word}, to port {}", said["active_port"]);
    if word == "healthy" && said["active_port"] == port {
        (Verdict::Passed, text)
    } else {
        (Verdict::Failed, text)
    }
}

fn not_counted(kind: &str) -> Found {
    let text = format!(
        "{kind} carries the traffic, and turnout does not count its requests behind an alias"
    );
    (Verdict::NotHere, text)
}
