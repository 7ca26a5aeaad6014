//! What can be asked for, and what is answered: one form for command line, API and files that are followed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ServiceStatus;
use crate::balancer::Foreign;
use crate::domain::{Color, Generation, ServiceName, Split, Strategy, Traffic};
use crate::plan::Plan;

/// What is to be done. `service: None` means the only one there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verb {
    /// All traffic to `to` (default: the idle color).
    Switch {
        /// Which service.
        service: Option<ServiceName>,
        /// Where to.
        to: Option<Color>,
    },
    /// Back to the color active before the last switch.
    Rollback {
        /// Which service.
        service: Option<ServiceName>,
    },
    /// Another strategy.
    Strategy {
        /// Which service.
        service: Option<ServiceName>,
        /// The new one.
        strategy: Strategy,
    },
    /// Another split, under canary.
    Weights {
        /// Which service.
        service: Option<ServiceName>,
        /// The new one.
        weights: Split,
    },
    /// Percent points more for one color, under canary.
    Shift {
        /// Which service.
        service: Option<ServiceName>,
        /// Percent points, may be negative; the result is clamped to 0..=100.
        by: f64,
        /// Which color gains.
        towards: Color,
    },
    /// Requests go on, wait, or get a page; the position stays.
    Traffic {
        /// Which service.
        service: Option<ServiceName>,
        /// What becomes of them.
        to: Traffic,
    },
    /// The configuration's shape and the state's positions into force.
    Apply,
    /// What `render` staged into force.
    Reload,
}

impl Verb {
    /// The word for it in journal, audit and lock.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Switch { .. } => "switch",
            Self::Rollback { .. } => "rollback",
            Self::Strategy { .. } => "strategy",
            Self::Weights { .. } => "weights",
            Self::Shift { .. } => "shift",
            Self::Traffic { to, .. } => to.mode().as_str(),
            Self::Apply => "apply",
            Self::Reload => "reload",
        }
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// A person or a program of theirs.
    #[default]
    Person,
    /// The file that `state.follow` names.
    Followed,
    /// Turnout itself: failover, a changed configuration.
    Turnout,
}

/// What has to be so for a change to be made at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provided {
    /// Nothing.
    #[default]
    Nothing,
    /// A rollout has the traffic of the service: the change is its end, and nothing else.
    RolloutRuns,
}

/// One request for a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ChangeRequest)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What.
    pub change: Verb,
    /// Go on although the target is unhealthy, or a file was edited by hand.
    #[serde(default)]
    pub force: bool,
    /// Say what would be done and do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Answer only when the old color has nothing in flight.
    #[serde(default)]
    pub wait_drained: bool,
    /// Why, for journal and audit.
    #[serde(default)]
    #[schema(max_length = 1000)]
    pub message: Option<String>,
    /// Where it comes from.
    #[serde(skip)]
    pub origin: Origin,
    /// What it is made for alone.
    #[serde(skip)]
    pub provided: Provided,
    /// Who. Set by the edge that knows, never by the caller of the API.
    #[serde(skip)]
    pub actor: String,
    /// How long to wait for the change lock; in milliseconds on the wire, a day at most.
    #[serde(default = "ten_seconds", with = "milliseconds")]
    #[schema(value_type = u64, maximum = 86_400_000)]
    pub lock_wait: Duration,
}

impl Request {
    /// A plain request: nothing forced, 10 s for the lock.
    pub fn new(change: Verb, actor: impl Into<String>) -> Self {
        Self {
            change,
            origin: Origin::Person,
            provided: Provided::Nothing,
            force: false,
            dry_run: false,
            wait_drained: false,
            message: None,
            actor: actor.into(),
            lock_wait: ten_seconds(),
        }
    }

    /// Whether a hand-edited file may be replaced. The way back does not wait for somebody to look at one: a copy of it is
    /// kept.
    pub(super) const fn foreign(&self) -> Foreign {
        if self.force || matches!(self.change, Verb::Rollback { .. }) {
            Foreign::Replace
        } else {
            Foreign::Refuse
        }
    }
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// A duration as whole milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Outcome {
    /// The verb.
    pub action: String,
    /// False: it was so already, or it was a dry run.
    pub changed: bool,
    /// True: nothing was done, `plan` says what would be.
    pub dry_run: bool,
    /// The generation in force.
    pub generation: Generation,
    /// What was (or would be) done.
    pub plan: Plan,
    /// The service that was meant; `None` for `apply` and `reload`.
    pub service: Option<ServiceStatus>,
    /// What proves it, a line for each fact.
    pub evidence: Vec<String>,
    /// What a person should know although it worked.
    pub warnings: Vec<String>,
    /// From the request to the proof.
    pub duration_ms: u64,
}
