//! What a rollout is judged by, and what a judge says: samples, verdicts, and the evidence behind them.
//!
//! The judges of `rollout` make these, the sources of `traffic` feed them, and state file, API and report show them. Nothing here
//! decides anything.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What one color did in a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Arm {
    /// Requests that ended.
    pub requests: u64,
    /// Of them, those that ended with a status of 500 or above, or without an answer of the server.
    pub errors: u64,
    /// Of them, those that took longer than the policy's latency.
    pub slow: u64,
}

/// Both colors in the same stretch of time, as the balancer saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Paired {
    /// When the stretch began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
    /// The stable color.
    pub stable: Arm,
    /// The candidate.
    pub candidate: Arm,
}

/// What somebody reports of the candidate (`POST /metrics`), or what is worked out of [`Paired`] for the thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was taken.
    pub at: Timestamp,
    /// Requests since the sample before.
    pub requests: u64,
    /// Of them, those that failed.
    pub errors: u64,
    /// Milliseconds.
    pub latency_p95_ms: Option<f64>,
    /// A share, 0 to 1, as it is reported.
    pub availability: Option<f64>,
    /// A share, 0 and up, as it is reported.
    pub cpu_utilization: Option<f64>,
}

/// What is judged.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Failed requests.
    Errors,
    /// The p95, or slow requests.
    Latency,
    /// Reported availability.
    Availability,
    /// Reported CPU use.
    Cpu,
}

/// What a judge makes of what it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// One step up.
    Advance,
    /// Stay, and look again.
    Hold,
    /// Everything back to the stable color.
    RollBack,
}

/// One figure behind a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Evidence {
    /// Which one.
    pub metric: Metric,
    /// The stable color's rate in the metric's unit, where it was compared with.
    pub stable: Option<f64>,
    /// The candidate's.
    pub candidate: f64,
    /// What was worked out: under thresholds the candidate's figure, under the sequential judge the e-value.
    pub value: f64,
    /// What `value` is held against.
    pub bound: f64,
}

/// A judge's word, with its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Verdict {
    /// When it was said.
    pub at: Timestamp,
    /// What to do.
    pub decision: Decision,
    /// For people: which figure, and by how much.
    pub reason: String,
    /// The figures that it rests on.
    pub evidence: Vec<Evidence>,
}
