//! By what a candidate is judged: limits, how much data is enough, and what the sequential test is to find at which risk.
//!
//! A [`Draft`] is what somebody wrote; a [`Policy`] is one that was checked, and the only thing that judges take. Whoever reads a
//! policy from outside makes the one from the other and shows all problems at once.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// A policy as written. Shares are from 0 to 1, as in seed 001's bodies: 0.01 is one percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// The largest share of failed requests, 0 to 1. Under `sequential` the absolute floor, where nothing given means 0.01.
    pub max_error_rate: Option<f64>,
    /// The largest 95th percentile in milliseconds, 0.001 to a day. Judged from counts, it is that at most 5 % are slower than it.
    pub max_latency_p95_ms: Option<f64>,
    /// The smallest availability, 0 to 1.
    pub min_availability: Option<f64>,
    /// The largest use of the processor, 0 to 1,000,000; 1 is all of one unit of whatever the reporter measures.
    pub max_cpu_utilization: Option<f64>,
    /// Requests of the candidate that are enough data: within the window under `thresholds`, in the step under `sequential`.
    pub min_requests: u64,
    /// Samples, or stretches of counts, that are enough data.
    pub min_samples: u32,
    /// Seconds that a sample counts for under `thresholds`, 1 to 86,400.
    pub sample_window_sec: u32,
    /// Misses in a row that are still borne under `thresholds`; one more rolls back.
    pub max_consecutive_failures: u32,
    /// The share of healthy rollouts that the sequential test may roll back, over the whole rollout and all metrics: 0.0001 to 0.2.
    pub alpha: f64,
    /// How many times the stable color's rate is a regression that matters, 1.2 to 20. Ruling it out lets the candidate advance.
    pub smallest_regression: f64,
    /// A request is slow from here, in milliseconds, 0.001 to a day. Nothing given: `max_latency_p95_ms`; without that, errors alone
    /// are judged.
    pub slow_ms: Option<f64>,
    /// Seconds that one burst of failures may last, 1 to 600: what fails together in them counts as one event, unless the stable
    /// color has shown that its failures come one by one.
    pub burst_sec: u32,
    /// Seconds for which both colors may be above the floor together, 0 to 86,400, before that rolls back too.
    pub incident_sec: u32,
}

impl Default for Draft {
    /// The figures of seed 001's example for how much data is enough, its error rate, and nothing else limited.
    fn default() -> Self {
        Self {
            max_error_rate: Some(0.01),
            max_latency_p95_ms: None,
            min_availability: None,
            max_cpu_utilization: None,
            min_requests: 200,
            min_samples: 3,
            sample_window_sec: 60,
            max_consecutive_failures: 1,
            alpha: 0.01,
            smallest_regression: 2.0,
            slow_ms: None,
            burst_sec: 10,
            incident_sec: 600,
        }
    }
}

/// A policy whose figures are all in range.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "Draft", into = "Draft")]
pub struct Policy(Draft);

/// Everything that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy cannot be used: {}", .problems.join("; "))]
pub struct PolicyError {
    /// A sentence each, with the name of the field.
    pub problems: Vec<String>,
}

impl Policy {
    /// Without a limit of its own, the sequential test's floor.
    const FLOOR: f64 = 0.01;
    /// What a 95th percentile says: this share is slower.
    const SLOW_SHARE: f64 = 0.05;

    /// Checks a draft, and names everything that is wrong with it.
    pub fn new(draft: Draft) -> Result<Self, PolicyError> {
        let mut problems = Vec::new();
        let mut held = |name: &str, value: Option<f64>, low: f64, high: f64| {
            // NaN is in no range
            if let Some(value) = value.filter(|value| !(low..=high).contains(value)) {
                problems.push(format!(
                    "{name} is {value}, which is not from {low} to {high}"
                ));
            }
        };
        let (day, most) = (86_400.0, 1e6);
        held("max_error_rate", draft.max_error_rate, 0.0, 1.0);
        held(
            "max_latency_p95_ms",
            draft.max_latency_p95_ms,
            0.001,
            day * 1e3,
        );
        held("min_availability", draft.min_availability, 0.0, 1.0);
        held("max_cpu_utilization", draft.max_cpu_utilization, 0.0, most);
        held(
            "sample_window_sec",
            Some(draft.sample_window_sec.into()),
            1.0,
            day,
        );
        held("alpha", Some(draft.alpha), 1e-4, 0.2);
        held(
            "smallest_regression",
            Some(draft.smallest_regression),
            1.2,
            20.0,
        );
        held("slow_ms", draft.slow_ms, 0.001, day * 1e3);
        held("burst_sec", Some(draft.burst_sec.into()), 1.0, 600.0);
        held("incident_sec", Some(draft.incident_sec.into()), 0.0, day);
        if draft.min_samples == 0 {
            problems.push("min_samples is 0, and nothing can be said of no sample".into());
        }
        if problems.is_empty() {
            Ok(Self(draft))
        } else {
            Err(PolicyError { problems })
        }
    }

    /// From how many milliseconds on a request is to be counted as slow; `None`: nothing about latency is judged from counts.
    pub fn slow_from_ms(&self) -> Option<f64> {
        self.slow_ms.or(self.max_latency_p95_ms)
    }

    /// The share of failed requests that a candidate may not exceed whatever the stable color does. Never 0, of which no share of
    /// anything can be taken.
    pub(super) fn error_floor(&self) -> f64 {
        let available = self.min_availability.map_or(1.0, |least| 1.0 - least);
        let failed = match (self.max_error_rate, self.min_availability) {
            (None, None) => Self::FLOOR,
            (failed, _) => failed.unwrap_or(1.0),
        };
        failed.min(available).clamp(1e-4, 0.99)
    }

    /// The same of slow requests.
    pub(super) const fn slow_floor() -> f64 {
        Self::SLOW_SHARE
    }
}

impl Deref for Policy {
    type Target = Draft;

    fn deref(&self) -> &Draft {
        &self.0
    }
}

impl TryFrom<Draft> for Policy {
    type Error = PolicyError;

    fn try_from(draft: Draft) -> Result<Self, PolicyError> {
        Self::new(draft)
    }
}

impl From<Policy> for Draft {
    fn from(policy: Policy) -> Self {
        policy.0
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these figures are exact")]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_policy_is_named_at_once() {
        let draft = Draft {
            max_error_rate: Some(f64::NAN),
            max_latency_p95_ms: Some(0.0),
            min_samples: 0,
            alpha: 0.5,
            smallest_regression: 1.0,
            ..Draft::default()
        };
        let error = Policy::new(draft).unwrap_err();
        assert_eq!(
            error.problems,
            [
                "max_error_rate is NaN, which is not from 0 to 1",
                "max_latency_p95_ms is 0, which is not from 0.001 to 86400000",
                "alpha is 0.5, which is not from 0.0001 to 0.2",
                "smallest_regression is 1, which is not from 1.2 to 20",
                "min_samples is 0, and nothing can be said of no sample",
            ]
        );
    }

    #[test]
    fn a_policy_is_read_with_its_defaults_and_refused_with_a_word_too_many() {
        let policy: Policy =
            serde_json::from_str(r#"{"max_error_rate": 0.02, "min_samples": 1}"#).unwrap();
        assert_eq!(policy.max_error_rate, Some(0.02));
        assert_eq!(policy.sample_window_sec, 60);
        assert_eq!(policy.alpha, 0.01);
        let error = serde_json::from_str::<Policy>(r#"{"max_errors": 1}"#).unwrap_err();
        assert!(error.to_string().contains("max_errors"), "{error}");
        let error = serde_json::from_str::<Policy>(r#"{"alpha": 2}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the policy cannot be used: alpha is 2, which is not from 0.0001 to 0.2"
        );
    }

    #[test]
    fn the_floor_is_the_stricter_of_error_rate_and_availability() {
        let of = |max_error_rate, min_availability| {
            let draft = Draft {
                max_error_rate,
                min_availability,
                ..Draft::default()
            };
            (Policy::new(draft).unwrap().error_floor() * 1e6).round()
        };
        assert_eq!(of(Some(0.01), Some(0.995)), 5000.0);
        assert_eq!(of(None, Some(0.98)), 20000.0);
        assert_eq!(of(None, None), 10000.0);
        assert_eq!(of(Some(0.0), None), 100.0);
    }
}
