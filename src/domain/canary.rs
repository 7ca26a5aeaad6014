//! What somebody asks of a rollout: its source, judge, walk and policy, each of which may be left to a default. Numbers as
//! they were given; `rollout` checks them once all layers (request, configuration, built in) lie on one another.

use serde::{Deserialize, Serialize};

/// Where the figures of a rollout come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CanarySource {
    /// Somebody posts them.
    #[default]
    Pushed,
    /// The balancer's own counts of both colors.
    Traffic,
    /// Queries to a Prometheus server, which the configuration names.
    Prometheus,
}

impl CanarySource {
    /// The word for it in files, on the command line and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pushed => "pushed",
            Self::Traffic => "traffic",
            Self::Prometheus => "prometheus",
        }
    }
}

/// Who judges a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgeKind {
    /// The candidate against fixed limits.
    #[default]
    Thresholds,
    /// The candidate against the stable color at the same time.
    Sequential,
}

impl JudgeKind {
    /// The word for it in files, on the command line and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Thresholds => "thresholds",
            Self::Sequential => "sequential",
        }
    }
}

/// The walk, as far as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RolloutStrategy)]
pub struct WalkAsk {
    /// Percent at first. Default: 5.
    #[schema(minimum = 0, exclusive_maximum = 100)]
    pub initial_weight: Option<f64>,
    /// Percent points at each step. Default: 10.
    #[schema(exclusive_minimum = 0, maximum = 100)]
    pub step_weight: Option<f64>,
    /// Seconds from one verdict to the next. Default: 60.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 604_800)]
    #[serde(deserialize_with = "super::whole::optional")]
    pub interval_sec: Option<u32>,
    /// Steps up, after which the candidate is promoted. Default: 10.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    #[serde(deserialize_with = "super::whole::optional")]
    pub max_steps: Option<u32>,
}

impl WalkAsk {
    /// This where it says something, else `below`.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            initial_weight: self.initial_weight.or(below.initial_weight),
            step_weight: self.step_weight.or(below.step_weight),
            interval_sec: self.interval_sec.or(below.interval_sec),
            max_steps: self.max_steps.or(below.max_steps),
        }
    }
}

/// The limits, as far as they were said. A limit that nobody named is none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RolloutPolicy)]
pub struct PolicyAsk {
    /// Share of failed requests, 0 to 1. From the traffic, those answered with 5xx or (not told by nginx) with an answer that broke
    /// off. One whose client gave up before the answer is not among them: limit the latency to see a candidate that hangs.
    #[schema(minimum = 0, maximum = 1)]
    pub max_error_rate: Option<f64>,
    /// Milliseconds.
    #[schema(exclusive_minimum = 0)]
    pub max_latency_p95_ms: Option<f64>,
    /// Share, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub min_availability: Option<f64>,
    /// Share of a processor; above 1 for more than one.
    #[schema(minimum = 0)]
    pub max_cpu_utilization: Option<f64>,
    /// Requests needed for a verdict.
    #[schema(minimum = 0)]
    #[serde(deserialize_with = "super::whole::optional")]
    pub min_requests: Option<u64>,
    /// Samples needed for a verdict.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 4_294_967_295u64)]
    #[serde(deserialize_with = "super::whole::optional")]
    pub min_samples: Option<u32>,
    /// Seconds that a sample counts for. Default: the interval, and 60 at least; more where the source needs it for `min_samples`.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 86_400)]
    #[serde(deserialize_with = "super::whole::optional")]
    pub sample_window_sec: Option<u32>,
    /// Misses in a row that are borne; one more is the way back.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 4_294_967_295u64)]
    #[serde(deserialize_with = "super::whole::optional")]
    pub max_consecutive_failures: Option<u32>,
    /// Under `sequential`: the share of healthy rollouts that may be rolled back, 0.0001 to 0.2.
    #[schema(minimum = 0.0001, maximum = 0.2)]
    pub alpha: Option<f64>,
    /// Under `sequential`: how many times the stable color's rate is a regression that matters, 1.2 to 20.
    #[schema(minimum = 1.2, maximum = 20)]
    pub smallest_regression: Option<f64>,
    /// A request is slow from here, in milliseconds. Default: `max_latency_p95_ms`. With `source: traffic`, which is counted in
    /// buckets, it is the next of 1, 2.5, 5, 10, 25, 50, 100, 250, 350, 500, 750, 1,000, 2,500 and 10,000.
    #[schema(exclusive_minimum = 0)]
    pub slow_ms: Option<f64>,
    /// Under `sequential`: seconds that one burst of failures may last.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 600)]
    #[serde(deserialize_with = "super::whole::optional")]
    pub burst_sec: Option<u32>,
    /// Under `sequential`: seconds for which both colors may fail together before that is a reason to go back.
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 86_400)]
    #[serde(deserialize_with = "super::whole::optional")]
    pub incident_sec: Option<u32>,
}

impl PolicyAsk {
    /// This where it says something, else `below`.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            max_error_rate: self.max_error_rate.or(below.max_error_rate),
            max_latency_p95_ms: self.max_latency_p95_ms.or(below.max_latency_p95_ms),
            min_availability: self.min_availability.or(below.min_availability),
            max_cpu_utilization: self.max_cpu_utilization.or(below.max_cpu_utilization),
            min_requests: self.min_requests.or(below.min_requests),
            min_samples: self.min_samples.or(below.min_samples),
            sample_window_sec: self.sample_window_sec.or(below.sample_window_sec),
            max_consecutive_failures: self
                .max_consecutive_failures
                .or(below.max_consecutive_failures),
            alpha: self.alpha.or(below.alpha),
            smallest_regression: self.smallest_regression.or(below.smallest_regression),
            slow_ms: self.slow_ms.or(below.slow_ms),
            burst_sec: self.burst_sec.or(below.burst_sec),
            incident_sec: self.incident_sec.or(below.incident_sec),
        }
    }
}

/// All of it: `services.NAME.canary` of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CanaryAsk {
    /// `source`
    pub source: Option<CanarySource>,
    /// `judge`
    pub judge: Option<JudgeKind>,
    /// `strategy`
    pub strategy: WalkAsk,
    /// `policy`
    pub policy: PolicyAsk,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_lies_over_what_was_not() {
        let said = WalkAsk {
            initial_weight: Some(1.0),
            ..WalkAsk::default()
        };
        let below = WalkAsk {
            initial_weight: Some(5.0),
            max_steps: Some(3),
            ..WalkAsk::default()
        };
        let both = said.over(below);
        assert_eq!((both.initial_weight, both.max_steps), (Some(1.0), Some(3)));
        let policy = PolicyAsk {
            min_samples: Some(0),
            ..PolicyAsk::default()
        };
        let below = PolicyAsk {
            min_samples: Some(3),
            max_error_rate: Some(0.01),
            ..PolicyAsk::default()
        };
        let both = policy.over(below);
        assert_eq!(
            (both.min_samples, both.max_error_rate),
            (Some(0), Some(0.01))
        );
    }
}
