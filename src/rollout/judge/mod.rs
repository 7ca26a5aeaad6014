//! A stand-in until the judges are here.

mod policy;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::{Decision, Paired, Sample, Verdict};

pub use policy::{Draft, Policy, PolicyError};

/// One of the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "judge")]
pub enum Judge {
    /// Fixed limits.
    Thresholds(Thresholds),
    /// Against the stable color.
    Sequential(Box<Thresholds>),
}

/// Fixed limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    policy: Policy,
    samples: Vec<Sample>,
    misses: u32,
}

impl Judge {
    fn inner(&mut self) -> &mut Thresholds {
        match self {
            Self::Thresholds(judge) => judge,
            Self::Sequential(judge) => judge,
        }
    }

    /// Fixed limits.
    pub fn thresholds(policy: Policy) -> Self {
        Self::Thresholds(Thresholds {
            policy,
            samples: Vec::new(),
            misses: 0,
        })
    }

    /// Against the stable color.
    pub fn sequential(policy: Policy) -> Self {
        Self::Sequential(Box::new(Thresholds {
            policy,
            samples: Vec::new(),
            misses: 0,
        }))
    }

    /// By what it judges.
    pub fn policy(&self) -> &Policy {
        match self {
            Self::Thresholds(judge) => &judge.policy,
            Self::Sequential(judge) => &judge.policy,
        }
    }

    /// Takes a report.
    pub fn push(&mut self, sample: Sample) {
        self.inner().samples.push(sample);
    }

    /// Takes counts.
    pub fn observe(&mut self, counts: Paired) {
        self.push(Sample {
            at: counts.to,
            requests: counts.candidate.requests,
            errors: counts.candidate.errors,
            latency_p95_ms: None,
            availability: None,
            cpu_utilization: None,
        });
    }

    /// A step begins.
    pub fn new_step(&mut self, _now: Timestamp) {}

    /// The word at the end of an interval.
    pub fn verdict(&mut self, now: Timestamp, step_began: Timestamp) -> Verdict {
        let judge = self.inner();
        let window = SignedDuration::from_secs(judge.policy.sample_window_sec.into());
        let from = now
            .checked_sub(window)
            .unwrap_or(Timestamp::MIN)
            .max(step_began);
        judge.samples.retain(|sample| sample.at >= from);
        let requests: u64 = judge.samples.iter().map(|sample| sample.requests).sum();
        let errors: u64 = judge.samples.iter().map(|sample| sample.errors).sum();
        let (decision, reason) = if requests < judge.policy.min_requests
            || judge.samples.len() < judge.policy.min_samples as usize
        {
            (
                Decision::Hold,
                format!("too little data: {requests} requests"),
            )
        } else if errors as f64 / requests.max(1) as f64
            <= judge.policy.max_error_rate.unwrap_or(1.0)
        {
            judge.misses = 0;
            (Decision::Advance, format!("{errors} of {requests} failed"))
        } else {
            judge.misses += 1;
            let decision = if judge.misses > judge.policy.max_consecutive_failures {
                Decision::RollBack
            } else {
                Decision::Hold
            };
            (decision, format!("{errors} of {requests} failed"))
        };
        Verdict {
            at: now,
            decision,
            reason,
            evidence: Vec::new(),
        }
    }

    /// A look between two intervals.
    pub fn alarm(&self, _now: Timestamp) -> Option<Verdict> {
        None
    }
}
