//! Prometheus as a source of figures, checked.

use std::collections::BTreeMap;
use std::time::Duration;

/// Which server, which queries, and how patiently it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusSettings {
    /// Its URL, before `/api/v1`.
    pub url: String,
    /// By figure (`requests` and `errors` are there, `slow` may be), templates with `{{color}}`, `{{service}}`, `{{window}}` and
    /// `{{seconds}}`.
    pub queries: BTreeMap<String, String>,
    /// The stretch of time of one figure, above zero.
    pub window: Duration,
    /// How long after its end a stretch is asked for.
    pub lag: Duration,
    /// For one answer, above zero.
    pub timeout: Duration,
    /// Failures in a row after which the source is down, at least 1.
    pub failures: u32,
}
