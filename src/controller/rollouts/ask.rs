//! What may be asked of rollouts, and why it is refused.

use std::fmt;
use std::time::Duration;

use super::super::ChangeError;
use super::source::Passes;
use crate::domain::{CanaryAsk, CanarySource, Color, Sample, ServiceName};
use crate::rollout::{RolloutId, Status, TermsError};
use crate::store::StoreError;

/// What a rollout is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct BeginRollout {
    /// Whose traffic; `None`: the only service there is.
    pub service: Option<ServiceName>,
    /// What the idle color runs.
    pub new_version: String,
    /// What the active color runs, if known.
    pub baseline_version: Option<String>,
    /// What is said of it; the rest is the configuration's, and built in.
    pub terms: CanaryAsk,
    /// What becomes of another rollout of the same service.
    pub other: OtherRollout,
}

/// What becomes of a rollout that runs while another one is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OtherRollout {
    /// It goes on, and the new one is refused.
    #[default]
    Stays,
    /// It is cancelled first.
    Superseded,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum RolloutVerb {
    /// A new one.
    Begin(Box<BeginRollout>),
    /// Stay where it is.
    Pause(RolloutId),
    /// Go on.
    Resume(RolloutId),
    /// Everything to the candidate, now.
    Promote(RolloutId),
    /// Everything back to the stable color, now.
    Cancel(RolloutId),
    /// What somebody saw of the candidate; its time is when it comes.
    Push(RolloutId, Sample),
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutRequest {
    /// What.
    pub what: RolloutVerb,
    /// Why, for the audit log.
    pub message: Option<String>,
    /// Who.
    pub actor: String,
    /// How long to wait for the change lock.
    pub lock_wait: Duration,
}

impl RolloutRequest {
    /// A plain one: 10 s for the lock.
    pub fn new(what: RolloutVerb, actor: impl Into<String>) -> Self {
        Self {
            what,
            message: None,
            actor: actor.into(),
            lock_wait: Duration::from_secs(10),
        }
    }
}

/// What somebody who waits wants to be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutWish {
    /// Its first weight is in force.
    Begun,
    /// The candidate is active.
    Promoted,
    /// Everything is on the stable color.
    TakenBack,
}

impl fmt::Display for RolloutWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begun => "begun",
            Self::Promoted => "promoted",
            Self::TakenBack => "taken back",
        })
    }
}

/// Why a rollout was not begun, moved or told something.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// No rollout of that name. Exit 2, status 404.
    #[error("there is no rollout {id}: `turnout canary list` has those that are kept")]
    Unknown {
        /// As asked for.
        id: RolloutId,
    },
    /// Nothing happens to it any more. Exit 1, status 409.
    #[error(
        "the rollout {id} is over: it was {}. `turnout canary show {id}` says why, and `turnout canary start` begins another", word(*status)
    )]
    Over {
        /// Which.
        id: RolloutId,
        /// How it ended.
        status: Status,
    },
    /// Its traffic is going back. Exit 1, status 409.
    #[error(
        "the rollout {id} is on its way back to the stable color, which nothing stops: `turnout canary show {id}` says why, and another \
         can begin once it is there"
    )]
    Returning {
        /// Which.
        id: RolloutId,
    },
    /// Its first weight is not in force yet. Exit 1, status 409.
    #[error(
        "the rollout {id} has not begun: its first weight is not in force yet. Try again when it is, or end it with `turnout abort`"
    )]
    NotBegun {
        /// Which.
        id: RolloutId,
    },
    /// Something else came in place of what was waited for. Exit 1, status 409.
    #[error("the rollout {id} was not {wish}, it is {} now: {reason}", word(*status))]
    Otherwise {
        /// Which.
        id: RolloutId,
        /// What was waited for.
        wish: RolloutWish,
        /// How it stands.
        status: Status,
        /// Why it stands like that.
        reason: String,
    },
    /// What was asked for is being done, and was not done in time. Exit 75 and status 423 where the change lock is held, 4 and 500
    /// where a person is needed, else 124 and 504.
    #[error(
        "not done yet, and tried until it is: the rollout {id} is on its way back to the stable color. `turnout canary show {id}` \
         tells when it is there"
    )]
    GoesOn {
        /// Which.
        id: RolloutId,
        /// What is in the way, for the first who is told.
        #[source]
        source: Option<Box<ChangeError>>,
    },
    /// The one that it was to supersede still has traffic. Exit 1, status 409.
    #[error(
        "{version} was not begun: the rollout {id} before it is on its way back and not there yet ({why}). That is tried until it is done: \
         try again when `turnout canary show {id}` says that it is over"
    )]
    NotBackYet {
        /// What was to begin.
        version: String,
        /// The one before it.
        id: RolloutId,
        /// What is in its way, or why it goes back.
        why: String,
    },
    /// It is judged by other figures than pushed ones, which would be counted beside them. Exit 1, status 409.
    #[error(
        "the rollout {id} is judged by source: {}, and takes no pushed samples: begin it with source: pushed to be judged by those",
        judged_by.as_str()
    )]
    NotPushed {
        /// Which.
        id: RolloutId,
        /// Where its figures come from.
        judged_by: CanarySource,
    },
    /// What was asked for cannot be. Exit 2, status 422.
    #[error("{0}")]
    Terms(#[from] TermsError),
    /// There is no Prometheus server to ask. Exit 2, status 422.
    #[error(
        "source: prometheus needs `services.{service}.canary.source.prometheus` in the configuration"
    )]
    NoPrometheus {
        /// Which service.
        service: ServiceName,
    },
    /// Nobody tells of its requests, so it would hold for ever. Exit 2, status 422.
    #[error(
        "source: traffic cannot tell how {service} does: {why}; push samples (source: pushed), or name a Prometheus"
    )]
    NoTraffic {
        /// Which service.
        service: ServiceName,
        /// Why not, and what to do.
        why: String,
    },
    /// The traffic is not where a rollout begins. Exit 1, status 409.
    #[error("{service} cannot begin a rollout: {why}")]
    NotAtRest {
        /// Which service.
        service: ServiceName,
        /// What is in the way, and what to do.
        why: String,
    },
    /// Somebody moved the traffic meanwhile. Exit 1, status 409.
    #[error("the rollout of {candidate} was ended: {reason}")]
    Superseded {
        /// The color that was to become active.
        candidate: Color,
        /// By what.
        reason: String,
    },
    /// The source cannot tell what it will be asked. Exit 69 and status 503 where it may later; 78 and 422 where a query or the
    /// configuration has to be changed first.
    #[error("no rollout of {service} can rest on its source, and none was begun: {why}")]
    NoFigures {
        /// Which service.
        service: ServiceName,
        /// What it said, and what to do.
        why: String,
        /// Whether waiting helps.
        passes: Passes,
    },
    /// The change of traffic.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// It cannot be written down, so nothing was begun. Exit 3, status 500.
    #[error("failed to write the rollout down")]
    Store(#[source] StoreError),
}

const fn word(status: Status) -> &'static str {
    match status {
        Status::Promoted => "promoted",
        Status::RolledBack => "rolled back",
        Status::Cancelled => "cancelled",
        Status::Progressing => "progressing",
        Status::Paused => "paused",
        Status::Holding => "holding",
    }
}
