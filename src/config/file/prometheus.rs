//! `canary.source.prometheus`, as it stands in a file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A Prometheus server and a query for each figure.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Prometheus {
    /// Its URL, before `/api/v1`.
    pub(in crate::config) url: String,
    /// A query for each figure: `requests` and `errors`, and `slow` for the latency. Each gives one number: how many in the last
    /// `{{window}}`, of `{{service}}` and `{{color}}`; slow is longer than `{{seconds}}`.
    pub(in crate::config) queries: Option<BTreeMap<String, Option<String>>>,
    /// The stretch of time of one figure; four scrapes or more. Default: 60s.
    pub(in crate::config) window: Option<String>,
    /// How long after its end a stretch is asked for. Default: 30s.
    pub(in crate::config) lag: Option<String>,
    /// For one answer. Default: 5s.
    pub(in crate::config) timeout: Option<String>,
    /// Failures in a row after which the source is down. Default: 3.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) failures: Option<u32>,
}
