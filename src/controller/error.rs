//! Why a change was not made: one enum for the one operation. Exit codes are `exit`'s, statuses are `api::error`'s.

use std::path::PathBuf;

use crate::balancer::{ApplyError, RenderError};
use crate::domain::{Color, PositionError, ServiceName};
use crate::rollout::RolloutId;
use crate::store::{LockError, StoreError};

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No service of that name. Exit 2, status 404.
    #[error("there is no service `{name}`; there is {known}")]
    UnknownService {
        /// As asked for.
        name: ServiceName,
        /// The names there are.
        known: String,
    },
    /// Several services, and none was named. Exit 2, status 400.
    #[error("name the service: there is {known}")]
    WhichService {
        /// The names there are.
        known: String,
    },
    /// The position cannot move like that. Exit 1, status 409.
    #[error("failed to move {service}")]
    Position {
        /// Which service.
        service: ServiceName,
        /// Why.
        #[source]
        source: PositionError,
    },
    /// There is no rollout to end. Exit 1, status 409.
    #[error(
        "no rollout runs on {service}, and nothing was changed: `turnout rollback {service}` goes to the color before the last switch"
    )]
    NoRollout {
        /// Which service.
        service: ServiceName,
    },
    /// There was no switch to go back from. Exit 1, status 409.
    #[error("{service} was never switched, so there is nothing to roll back to")]
    NothingToRollBack {
        /// Which service.
        service: ServiceName,
    },
    /// There are no colors to move. Exit 1, status 409.
    #[error(
        "{service} has a target ({target}): its colors change place behind the alias, and turnout has none of them to move"
    )]
    BehindAlias {
        /// Which service.
        service: ServiceName,
        /// The alias.
        target: String,
    },
    /// The target would not serve. Exit 1, status 409.
    #[error(
        "{color} of {service} is unhealthy ({reasons}); nothing was changed. Look with `turnout check {service} {color}`, or override with --force"
    )]
    Unhealthy {
        /// Which service.
        service: ServiceName,
        /// Which color.
        color: Color,
        /// Each server with its reason.
        reasons: String,
    },
    /// Another tool's file decides. Exit 1, status 409.
    #[error("the active color of {service} follows {file}: change it there")]
    Followed {
        /// Which service.
        service: ServiceName,
        /// The file.
        file: PathBuf,
    },
    /// The balancer has no way to do it. Exit 1, status 409.
    #[error(
        "{balancer} cannot {what} the traffic of a service for turnout: that works on the embedded proxy; on {balancer} it stays with its own configuration"
    )]
    NotHere {
        /// `hold` or `maintenance`.
        what: &'static str,
        /// Which balancer.
        balancer: &'static str,
    },
    /// A rollout has the traffic. Exit 1, status 409.
    #[error(
        "a rollout runs on {service} ({id}): wait for its end, or end it with `turnout abort {service}`; --force ends it first"
    )]
    RolloutRuns {
        /// Which service.
        service: ServiceName,
        /// Which rollout.
        id: RolloutId,
    },
    /// `reload` without `render`. Exit 1, status 409.
    #[error("nothing is staged: run `turnout render` first, or `turnout apply` for both")]
    NothingStaged,
    /// What is staged is not what would be rendered now. Exit 1, status 409.
    #[error(
        "what is staged (generation {staged}) is out of date: {why}; run `turnout render` again"
    )]
    StagedOutdated {
        /// Its generation.
        staged: crate::domain::Generation,
        /// What changed since.
        why: String,
    },
    /// It was switched and recorded, but the color that was left is still busy. Exit 124, status 504.
    #[error(
        "{service} was switched, which is proved and recorded, but after {seconds} s {color} is not drained: {what}. Do not stop {color} yet; the same command waits again, and `timeouts.drain` says for how long"
    )]
    NotDrained {
        /// Which service.
        service: ServiceName,
        /// The color that was left.
        color: Color,
        /// How long was waited.
        seconds: u64,
        /// What is in flight.
        what: String,
    },
    /// The change lock. Exit 75, status 423 when it is held.
    #[error("failed to take the change lock")]
    Lock(#[from] LockError),
    /// The template. Exit 65, status 500.
    #[error("failed to render")]
    Render(#[from] RenderError),
    /// The balancer.
    #[error("failed to apply")]
    Apply(#[from] ApplyError),
    /// The state directory; nothing was changed, or it was undone. Exit 3, status 500.
    #[error("failed to use the state directory; traffic is as before")]
    Store(#[from] StoreError),
    /// State, journal and balancer say nothing that can be gone on from, or something could not be undone. Exit 4, status 500.
    #[error("{what}. {advice}")]
    NeedsPerson {
        /// What is wrong.
        what: String,
        /// What to do.
        advice: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The daemon's controller has ended. Exit 69, status 503.
    #[error("turnout is shutting down")]
    ShuttingDown,
}
