//! The judges: what is made of a candidate's figures, each time somebody asks. Advance, hold, or roll back, with the reason.
//!
//! Two of them, as one closed enum that is kept in the state file and goes on after a restart where it was:
//!
//! | judge | compares | with |
//! |---|---|---|
//! | [`Thresholds`] | the candidate's figures of the last window | fixed limits |
//! | [`Sequential`] | the candidate's failed and slow requests | the stable color's at the same time, by a test that may be looked at as often as one likes |
//!
//! What a judge does not know is a hold, never a verdict: no traffic, no counts, counts that cannot be true. A judge never looks
//! at a clock and moves no traffic.

mod bets;
mod dispersion;
mod policy;
pub mod replay;
mod sequential;
#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these figures are exact")]
mod tests;
mod thresholds;
mod track;
pub(in crate::rollout) mod words;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Decision, Paired, Sample, Verdict};

pub use policy::{Draft, Policy, PolicyError};
pub use sequential::Sequential;
pub use thresholds::Thresholds;

/// One of the two ways to judge, with all that it remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "judge")]
pub enum Judge {
    /// Fixed limits.
    Thresholds(Thresholds),
    /// Against the stable color.
    Sequential(Box<Sequential>),
}

impl Judge {
    /// Fixed limits over a window, as `POST /deployments` has them.
    pub fn thresholds(policy: Policy) -> Self {
        Self::Thresholds(Thresholds::new(policy))
    }

    /// The always-valid test against the stable color.
    pub fn sequential(policy: Policy) -> Self {
        Self::Sequential(Box::new(Sequential::new(policy)))
    }

    /// The same, of a source whose newest counts may be as old as `late` while all is well.
    pub fn sequential_late(policy: Policy, late: Duration) -> Self {
        Self::Sequential(Box::new(Sequential::of_late(policy, late)))
    }

    /// By what it judges.
    pub fn policy(&self) -> &Policy {
        match self {
            Self::Thresholds(judge) => judge.policy(),
            Self::Sequential(judge) => judge.policy(),
        }
    }

    /// Takes what somebody reported of the candidate. A report that cannot be true is dropped, and is the reason of a hold until a
    /// good one follows.
    pub fn push(&mut self, sample: Sample) {
        match self {
            Self::Thresholds(judge) => judge.push(sample),
            // none come: what rests on pushed samples alone is not begun under this judge
            Self::Sequential(_) => {}
        }
    }

    /// Takes what both colors did in a stretch of time. Counts that cannot be true are dropped, and are the reason of a hold until
    /// good ones follow. Stretches from before the rollout (a candidate without requests) are welcome: the sequential judge
    /// learns from them how the stable color's failures clump.
    pub fn observe(&mut self, counts: Paired) {
        match self {
            Self::Thresholds(judge) => judge.observe(counts),
            Self::Sequential(judge) => judge.observe(counts),
        }
    }

    /// A step begins: data of the steps before no longer counts as enough data.
    pub fn new_step(&mut self, now: Timestamp) {
        match self {
            Self::Thresholds(_) => {}
            Self::Sequential(judge) => judge.new_step(now),
        }
    }

    /// The word at the end of an interval. Asked once each interval: the thresholds count their misses in a row here.
    pub fn verdict(&mut self, now: Timestamp, step_began: Timestamp) -> Verdict {
        match self {
            Self::Thresholds(judge) => judge.verdict(now, step_began),
            Self::Sequential(judge) => judge.verdict(now),
        }
    }

    /// A look between two intervals: the verdict if it is to roll back now, which the sequential judge may say at any time
    /// without a price. Changes nothing; the thresholds have no such word.
    pub fn alarm(&self, now: Timestamp) -> Option<Verdict> {
        match self {
            Self::Thresholds(_) => None,
            Self::Sequential(judge) => {
                Some(judge.verdict(now)).filter(|said| said.decision == Decision::RollBack)
            }
        }
    }
}

/// A count as a real number.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests stay far below 2^53"
)]
const fn real(count: u64) -> f64 {
    count as f64
}
