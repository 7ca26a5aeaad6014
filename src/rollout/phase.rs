//! Where a rollout is: the six statuses that everybody sees, and the phase behind each.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{SplitError, WalkAsk, Weight};

/// How a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RolloutStanding)]
pub enum Status {
    /// It goes on: at the next interval it is judged, or its traffic moves right now.
    Progressing,
    /// A person has stopped it where it is. It is judged all the same, and a bad verdict still takes it back.
    Paused,
    /// It waits where it is, because there is too little to go by; it goes on by itself.
    Holding,
    /// The candidate is active.
    Promoted,
    /// A verdict took it back to the stable color.
    RolledBack,
    /// A person, or another change of traffic, has ended it.
    Cancelled,
}

impl Status {
    /// True if nothing happens any more.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Promoted | Self::RolledBack | Self::Cancelled => true,
            Self::Progressing | Self::Paused | Self::Holding => false,
        }
    }

    /// The word for it in files, on the command line and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Progressing => "progressing",
            Self::Paused => "paused",
            Self::Holding => "holding",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How it waits at a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mood {
    /// For its interval.
    #[default]
    Progressing,
    /// For more to go by.
    Holding,
    /// For a person.
    Paused,
}

/// How it ends, or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The candidate is active.
    Promoted,
    /// By a verdict.
    RolledBack,
    /// By a person or another change.
    Cancelled,
}

/// What it is at. The phases in which traffic is to move are written down before it does, and what they ask for may be done
/// any number of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// The first weight is yet to be put into force.
    Starting {
        /// How it waits then.
        then: Mood,
    },
    /// A weight is in force and the candidate is watched.
    Observing {
        /// How it waits.
        mood: Mood,
    },
    /// Another weight is to be put into force.
    Shifting {
        /// Which.
        to: Weight,
        /// How it waits then.
        then: Mood,
    },
    /// Everything is to go to the candidate, which becomes active.
    Promoting {
        /// How it waits where it is, if that cannot be.
        #[serde(default)]
        then: Mood,
    },
    /// Everything is to go back to the stable color.
    Returning {
        /// How it ends with that.
        end: End,
    },
    /// Nothing happens any more.
    Over {
        /// How it ended.
        end: End,
    },
}

impl Phase {
    /// The word for it in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting { .. } => "starting",
            Self::Observing { .. } => "observing",
            Self::Shifting { .. } => "shifting",
            Self::Promoting { .. } => "promoting",
            Self::Returning { .. } => "returning",
            Self::Over { .. } => "over",
        }
    }

    /// The status that goes with it.
    pub const fn status(self) -> Status {
        match self {
            Self::Starting { then: mood }
            | Self::Observing { mood }
            | Self::Shifting { then: mood, .. } => match mood {
                Mood::Progressing => Status::Progressing,
                Mood::Holding => Status::Holding,
                Mood::Paused => Status::Paused,
            },
            Self::Promoting { .. } | Self::Returning { .. } => Status::Progressing,
            Self::Over { end } => match end {
                End::Promoted => Status::Promoted,
                End::RolledBack => Status::RolledBack,
                End::Cancelled => Status::Cancelled,
            },
        }
    }
}

/// The walk that was asked for: how far at once, how often, how many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// Of the candidate, at first; below the whole.
    pub initial: Weight,
    /// More at each step; above nothing.
    pub step: Weight,
    /// From one verdict to the next: whole seconds, from one to a week.
    pub interval: Duration,
    /// Steps up, after which the candidate is promoted; at least one.
    pub max_steps: u32,
}

/// Why a walk cannot be.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum CourseError {
    /// A weight is none.
    #[error("strategy.{field}: {source}")]
    Weight {
        /// Which one.
        field: &'static str,
        /// Why.
        source: SplitError,
    },
    /// A number is too large or too small.
    #[error("strategy.{field} is {rule}, not {given}")]
    Range {
        /// Which one.
        field: &'static str,
        /// What it is to be.
        rule: &'static str,
        /// What it is.
        given: f64,
    },
}

impl Course {
    /// A week, in seconds.
    pub const LONGEST_INTERVAL: u32 = 604_800;

    /// A walk from what was asked for; what nobody said is 5 %, 10 points more each minute, ten times.
    pub fn of(ask: WalkAsk) -> Result<Self, CourseError> {
        let weight = |field, given: Option<f64>, default: f64| {
            Weight::from_percent(given.unwrap_or(default))
                .map_err(|source| CourseError::Weight { field, source })
        };
        let range = |field, rule, given| Err(CourseError::Range { field, rule, given });
        let initial = weight("initial_weight", ask.initial_weight, 5.0)?;
        if initial == Weight::WHOLE {
            return range("initial_weight", "below 100", initial.percent());
        }
        let step = weight("step_weight", ask.step_weight, 10.0)?;
        if step == Weight::ZERO {
            return range("step_weight", "above 0", 0.0);
        }
        let seconds = ask.interval_sec.unwrap_or(60);
        if !(1..=Self::LONGEST_INTERVAL).contains(&seconds) {
            return range("interval_sec", "from 1 to 604800", f64::from(seconds));
        }
        let max_steps = ask.max_steps.unwrap_or(10);
        if !(1..=10_000).contains(&max_steps) {
            return range("max_steps", "from 1 to 10000", f64::from(max_steps));
        }
        Ok(Self {
            initial,
            step,
            interval: Duration::from_secs(u64::from(seconds)),
            max_steps,
        })
    }

    /// The weight after `weight`; `None`: that would be all of it.
    pub fn after(&self, weight: Weight) -> Option<Weight> {
        let points = weight
            .basis_points()
            .saturating_add(self.step.basis_points());
        Weight::from_basis_points(points).filter(|next| *next < Weight::WHOLE)
    }
}
