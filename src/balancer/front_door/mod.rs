//! The last part of a proof: a request through the door that clients use comes back from the color that it should.
//!
//! The listener of a service is asked directly; where the user's own server block listens, its `public` URL. Only colors
//! that gain traffic, or whose service is new to the balancer, are asked, so that taking traffic from a color that hangs
//! never waits for that color. A wrong color is asked again until the time is over, since the answer of an old worker may
//! still be under way. Nothing here looks at a status: a failing server behind the right door is a matter of health.

mod door;
mod plain;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Change, DoorLook, FrontDoor};
use crate::domain::{Color, Hashing, OnUnhealthy, Route, ServiceName, Weight, sample_key};
use door::{Door, Said};
pub use plain::{DoorAnswer, ask_door};

/// Between two questions. An answer costs well under a millisecond, so this is what a proof waits at most in excess.
const PAUSE: Duration = Duration::from_millis(10);

/// For the right answer to come, beside what the last question takes: nginx's old workers are gone before, so this is for a
/// machine that is out of breath.
const WITHIN: Duration = Duration::from_secs(5);

/// For one question that only looks.
const LOOK: Duration = Duration::from_secs(2);

/// For all questions that only look: with many services behind hanging servers, the rest goes unasked.
const LOOK_ALL: Duration = Duration::from_secs(5);

/// Questions at once, over all services.
const AT_ONCE: usize = 32;

/// Requests without a key that are made to see the colors of a split, in rounds of so many at once.
const KEYLESS_ROUNDS: usize = 5;
const KEYLESS_AT_ONCE: usize = 10;

/// Why the front door does not prove a route.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrontDoorError {
    #[error("the front door {door} of {service} routes to {seen}, not to {expected}")]
    WrongColor {
        service: ServiceName,
        door: String,
        seen: Color,
        expected: Color,
    },
    #[error(
        "the front door {door} of {service} answers 503: turnout finds no healthy server of {expected} there"
    )]
    Nobody {
        service: ServiceName,
        door: String,
        expected: Color,
    },
    #[error(
        "the front door {door} of {service} answers {status} without X-Routed-To: another server block takes that host, or \
         the snippet is not included there"
    )]
    NotTurnout {
        service: ServiceName,
        door: String,
        status: u16,
    },
    #[error("the front door {door} of {service} does not answer: {reason}")]
    NoAnswer {
        service: ServiceName,
        door: String,
        reason: String,
    },
}

/// What was seen through the front doors.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// A line for each color, for a person.
    pub(super) evidence: Vec<String>,
    /// Services that turnout was seen behind.
    pub(super) routed: BTreeSet<ServiceName>,
    /// Services whose door was never seen to lead to turnout and still does not, with the door's name, and why
    /// it is silent if it is.
    pub(super) unrouted: Vec<(ServiceName, String)>,
}

/// What one color of a route has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// Itself: it gains traffic, so it was found healthy a moment ago.
    Itself,
    /// Turnout at the least: its service is new to the balancer, its health is not in question.
    Turnout,
}

/// The colors that are asked, each with what it has to show.
fn asked(route: &Route, before: Option<&Route>, gaining: Expect) -> Vec<(Color, Expect)> {
    // one whose traffic was held is seen to go on
    let is_new =
        before.is_none_or(|before| before.service != route.service || !before.traffic.is_open());
    Color::BOTH
        .into_iter()
        .filter(|color| route.share(*color) > Weight::ZERO)
        .filter_map(|color| match before {
            Some(before) if route.share(color) > before.share(color) => Some((color, gaining)),
            Some(_) | None => is_new.then_some((color, Expect::Turnout)),
        })
        .collect()
}

/// Asks the front doors of what a change changes, some at a time. The first failure ends it.
pub(super) async fn ask_all(change: &Change<'_>, hashing: Hashing) -> Result<Seen, FrontDoorError> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    let mut closed = Seen::default();
    let gaining = match change.front_door {
        FrontDoor::Ask | FrontDoor::Skip => Expect::Itself,
        FrontDoor::Turnout => Expect::Turnout,
    };
    for (name, route) in change.desired.changed_since(change.previous) {
        if !route.traffic.is_open() {
            // a question would wait, or get the page
            let what = format!("the traffic of {name} is {}", route.traffic.mode());
            closed.evidence.push(what);
            continue;
        }
        let before = change.previous.and_then(|table| table.routes.get(name));
        let colors = asked(route, before, gaining);
        let may_wait = change.unseen.contains(name);
        let (route, permits) = (route.clone(), Arc::clone(&permits));
        asking.spawn(async move {
            // never closed, so this is only ever a wait
            let _permit = permits.acquire_owned().await.ok();
            ask(&route, hashing, &colors, may_wait).await
        });
    }
    let mut seen = closed;
    while let Some(asked) = asking.join_next().await {
        match asked {
            Ok(one) => {
                let one = one?;
                seen.evidence.extend(one.evidence);
                seen.routed.extend(one.routed);
                seen.unrouted.extend(one.unrouted);
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    seen.evidence.sort();
    seen.unrouted.sort();
    Ok(seen)
}

/// One service. `may_wait`: that its door does not lead to turnout yet is no failure.
async fn ask(
    route: &Route,
    hashing: Hashing,
    colors: &[(Color, Expect)],
    may_wait: bool,
) -> Result<Seen, FrontDoorError> {
    let name = &route.service.name;
    let mut seen = Seen::default();
    let Some(door) = Door::of(&route.service) else {
        seen.evidence.push(format!(
            "{name}: no front door configured; proved by the private listener"
        ));
        return Ok(seen);
    };
    if colors.is_empty() {
        seen.evidence
            .push(format!("front door {}: no color gains", door.name));
        return Ok(seen);
    }
    if may_wait {
        let yet = match door.once(None, door.patience()).await {
            Err(FrontDoorError::NotTurnout { .. }) => Some(door.name.clone()),
            Err(FrontDoorError::NoAnswer { reason, .. }) => {
                Some(format!("{} (which does not answer: {reason})", door.name))
            }
            Ok(_) | Err(FrontDoorError::WrongColor { .. } | FrontDoorError::Nobody { .. }) => None,
        };
        if let Some(door) = yet {
            seen.unrouted.push((name.clone(), door));
            return Ok(seen);
        }
    }
    let deadline = Instant::now() + WITHIN;
    match (&route.service.sticky, route.split().whole()) {
        (None, None) => seen.evidence.push(keyless(&door, colors, deadline).await?),
        (sticky, _) => {
            for (color, expect) in colors {
                let key = sample_key(hashing, name, route.split(), *color);
                let header = sticky
                    .as_ref()
                    .zip(key.as_ref())
                    .map(|(sticky, key)| (sticky.header.as_str(), key.as_str()));
                let said = until(&door, route, header, (*color, *expect), deadline).await?;
                seen.evidence
                    .push(format!("front door {}: {said}", door.name));
            }
        }
    }
    seen.routed.insert(name.clone());
    Ok(seen)
}

/// Asks for one color until the answer is right or the time is over.
async fn until(
    door: &Door,
    route: &Route,
    header: Option<(&str, &str)>,
    (expected, expect): (Color, Expect),
    deadline: Instant,
) -> Result<&'static str, FrontDoorError> {
    let failover = route.service.on_unhealthy == OnUnhealthy::Failover
        && route
            .service
            .servers(expected)
            .iter()
            .all(|server| route.unhealthy.contains(server));
    loop {
        let service = door.service.name.clone();
        let failure = match door.once(header, door.patience()).await {
            Ok(Said::Color(color)) if color == expected || failover => return Ok(color.as_str()),
            Ok(Said::Nobody) if expect == Expect::Turnout => return Ok("nobody is healthy"),
            Ok(Said::Color(seen)) => FrontDoorError::WrongColor {
                service,
                door: door.name.clone(),
                seen,
                expected,
            },
            Ok(Said::Nobody) => FrontDoorError::Nobody {
                service,
                door: door.name.clone(),
                expected,
            },
            Err(failure) => failure,
        };
        if Instant::now() >= deadline {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Without a key nobody can say which color a request gets: whichever answers is right, and the colors that are asked for are
/// looked for within reason.
async fn keyless(
    door: &Door,
    colors: &[(Color, Expect)],
    deadline: Instant,
) -> Result<String, FrontDoorError> {
    let mut seen = BTreeSet::new();
    let mut nobody = false;
    let mut failure = None;
    for round in 0.. {
        let mut asking = JoinSet::new();
        for _ in 0..KEYLESS_AT_ONCE {
            let door = door.clone();
            asking.spawn(async move { door.once(None, door.patience()).await });
        }
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok(Ok(Said::Color(color))) => {
                    seen.insert(color);
                }
                Ok(Ok(Said::Nobody)) => nobody = true,
                Ok(Err(error)) => failure = Some(error),
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
            // those that still wait may be with a color that hangs
            if colors.iter().all(|(color, _)| seen.contains(color)) {
                break;
            }
        }
        let enough = colors.iter().all(|(color, _)| seen.contains(color));
        let answered = !seen.is_empty() || nobody;
        if enough || answered && round + 1 >= KEYLESS_ROUNDS || Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    match failure {
        Some(failure) if seen.is_empty() && !nobody => Err(failure),
        _ => {
            let seen: Vec<_> = seen.iter().map(|color| color.as_str()).collect();
            Ok(format!("front door {}: {}", door.name, seen.join(" and ")))
        }
    }
}

/// One question through each front door, without a claim.
pub(super) async fn look(routes: impl Iterator<Item = &Route>) -> Vec<(ServiceName, DoorLook)> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let deadline = Instant::now() + LOOK_ALL;
    let mut asking = JoinSet::new();
    for door in routes.filter_map(|route| Door::of(&route.service)) {
        let permits = Arc::clone(&permits);
        asking.spawn(async move {
            // never closed, so this is only ever a wait
            let _permit = permits.acquire_owned().await.ok();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let look = match door.once(None, LOOK.min(left)).await {
                Ok(Said::Color(color)) => DoorLook::Color {
                    door: door.name,
                    color,
                },
                Ok(Said::Nobody) => DoorLook::Nobody { door: door.name },
                Err(error @ FrontDoorError::NoAnswer { .. }) => DoorLook::Silent(error.to_string()),
                Err(error) => DoorLook::Elsewhere(error.to_string()),
            };
            Some((door.service.name.clone(), look))
        });
    }
    let mut looks: Vec<_> = asking.join_all().await.into_iter().flatten().collect();
    looks.sort_by(|left, right| left.0.cmp(&right.0));
    looks
}
