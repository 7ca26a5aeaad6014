//! The body of `POST /metrics`: what somebody saw of a candidate since they reported last. What cannot be true is refused.

use serde::{Deserialize, Serialize};

use super::error::Problem;
use super::wire::Checked;
use crate::controller::{InvalidId, RolloutId, RolloutStanding};
use crate::domain::{Sample, whole};

/// Requests in one report: more than any balancer sees in a year, and sums of them fit.
const MOST: u64 = 1_000_000_000_000;

/// POST /metrics
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PushedMetrics)]
pub(super) struct Pushed {
    /// Of which rollout.
    #[schema(value_type = RolloutId)]
    deployment_id: String,
    metrics: Figures,
}

/// What was seen of the candidate.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CandidateFigures)]
struct Figures {
    /// Since the report before.
    #[schema(maximum = 1_000_000_000_000u64)]
    #[serde(deserialize_with = "whole::required")]
    requests: u64,
    /// Of these.
    #[schema(maximum = 1_000_000_000_000u64)]
    #[serde(deserialize_with = "whole::required")]
    errors: u64,
    #[schema(minimum = 0)]
    latency_p95_ms: Option<f64>,
    /// Share, 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    availability: Option<f64>,
    /// Share of a processor; above 1 for more than one.
    #[schema(minimum = 0)]
    cpu_utilization: Option<f64>,
}

/// The answer: it is written down.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TakenMetrics)]
pub(super) struct Taken {
    pub(super) deployment_id: RolloutId,
    /// How the rollout stands.
    pub(super) status: RolloutStanding,
}

impl Pushed {
    /// What is meant. An id that is none is that of no rollout.
    pub(super) fn sample(&self) -> Result<(RolloutId, Sample), Problem> {
        let id = self
            .deployment_id
            .parse()
            .map_err(|error: InvalidId| Problem::not_found(error.to_string()))?;
        let figures = &self.metrics;
        let sample = Sample {
            // the controller says when
            at: jiff::Timestamp::UNIX_EPOCH,
            requests: figures.requests,
            errors: figures.errors,
            latency_p95_ms: figures.latency_p95_ms,
            availability: figures.availability,
            cpu_utilization: figures.cpu_utilization,
        };
        Ok((id, sample))
    }
}

impl Checked for Pushed {
    fn check(&self) -> Result<(), Problem> {
        let figures = &self.metrics;
        if figures.requests > MOST || figures.errors > figures.requests {
            return Err(Problem::unfitting(format!(
                "metrics.errors: {} of {} requests, of at most {MOST}",
                figures.errors, figures.requests
            )));
        }
        for (field, value, most) in [
            ("latency_p95_ms", figures.latency_p95_ms, f64::MAX),
            ("availability", figures.availability, 1.0),
            ("cpu_utilization", figures.cpu_utilization, f64::MAX),
        ] {
            if let Some(value) = value.filter(|value| !(0.0..=most).contains(value)) {
                let rule = if most > 1.0 {
                    "0 or more"
                } else {
                    "from 0 to 1"
                };
                return Err(Problem::unfitting(format!(
                    "metrics.{field} is {rule}, not {value}"
                )));
            }
        }
        Ok(())
    }
}
