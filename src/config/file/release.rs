//! What brings a version to a service, as it stands in a file: workload, smoke tests, hooks, rollouts, migrations.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::service::Written;

/// The processes of each color: exactly one of `command`, `systemd` and `exec`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Workload {
    /// Program and arguments; {color}, {port}, {version} and {turnout} (this binary) are filled in.
    pub(in crate::config) command: Option<Vec<Option<Written>>>,
    /// A systemd unit such as shop@{color}.service.
    pub(in crate::config) systemd: Option<String>,
    /// Commands of the user's.
    pub(in crate::config) exec: Option<WorkloadExec>,
    /// The working directory, with the same placeholders. Default: the configuration's folder.
    pub(in crate::config) dir: Option<String>,
    /// Added to the environment, with the same placeholders.
    pub(in crate::config) env: Option<BTreeMap<String, Option<Written>>>,
    /// The port of each color. Default: the port of its first server.
    pub(in crate::config) ports: Option<Ports>,
    /// The version of each color, until a release says otherwise.
    pub(in crate::config) versions: Option<Versions>,
    /// From SIGTERM to SIGKILL. Default: 20s.
    pub(in crate::config) stop_grace: Option<String>,
}

/// Commands for the processes of a color; none goes through a shell.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WorkloadExec {
    /// Starts a color.
    pub(in crate::config) start: Vec<Option<Written>>,
    /// Stops a color.
    pub(in crate::config) stop: Vec<Option<Written>>,
    /// Brings a version onto a color.
    pub(in crate::config) deploy: Option<Vec<Option<Written>>>,
    /// Says whether a color runs.
    pub(in crate::config) status: Option<Vec<Option<Written>>>,
}

/// A port for each color.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Ports {
    /// Blue's port.
    #[schemars(range(min = 1))]
    pub(in crate::config) blue: u16,
    /// Green's port.
    #[schemars(range(min = 1))]
    pub(in crate::config) green: u16,
}

/// A version for each color.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Versions {
    /// Blue's version.
    pub(in crate::config) blue: Option<Written>,
    /// Green's version.
    pub(in crate::config) green: Option<Written>,
}

/// One request to the idle color: exactly one of `get`, `post`, `put`, `patch`, `delete` and `head`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Smoke {
    /// Its name in results. Default: method and path.
    pub(in crate::config) name: Option<Written>,
    /// The path of a GET.
    pub(in crate::config) get: Option<String>,
    /// The path of a POST.
    pub(in crate::config) post: Option<String>,
    /// The path of a PUT.
    pub(in crate::config) put: Option<String>,
    /// The path of a PATCH.
    pub(in crate::config) patch: Option<String>,
    /// The path of a DELETE.
    pub(in crate::config) delete: Option<String>,
    /// The path of a HEAD.
    pub(in crate::config) head: Option<String>,
    /// The body, as text.
    pub(in crate::config) body: Option<Written>,
    /// Request headers.
    pub(in crate::config) headers: Option<BTreeMap<String, Option<Written>>>,
    /// What must come.
    pub(in crate::config) expect: Option<SmokeExpect>,
    /// For the whole answer. Default: 10s.
    pub(in crate::config) timeout: Option<String>,
}

/// What must come.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct SmokeExpect {
    /// One status, or a range such as 200-299. Default: 200-299.
    pub(in crate::config) status: Option<Written>,
    /// Fields of the JSON body: each must be there and equal.
    pub(in crate::config) json: Option<BTreeMap<String, serde_json::Value>>,
    /// A text that the body must hold.
    pub(in crate::config) text: Option<Written>,
}

/// Programs run around a switch, with TURNOUT_* variables.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Hooks {
    /// Before it; a failure stops the release.
    pub(in crate::config) before_switch: Option<Vec<Option<String>>>,
    /// After it.
    pub(in crate::config) after_switch: Option<Vec<Option<String>>>,
    /// After a release that failed.
    pub(in crate::config) failed: Option<Vec<Option<String>>>,
}

/// A webhook.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Notify {
    /// Where the JSON is posted.
    pub(in crate::config) url: String,
    /// Which events. Default: all.
    pub(in crate::config) events: Option<Vec<Option<String>>>,
}

/// Defaults for rollouts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Canary {
    /// Where the figures come from. Default: pushed. With `traffic`, every request counts that a color got, those as well that a
    /// preview header sent there: whoever tries broken pages on the candidate is seen as its failures.
    pub(in crate::config) source: Option<Source>,
    /// How they are judged. Default: sequential with `source: traffic`, else thresholds.
    pub(in crate::config) judge: Option<Judge>,
    /// The walk.
    pub(in crate::config) strategy: Option<Walk>,
    /// The limits.
    pub(in crate::config) policy: Option<Policy>,
}

/// Pushed samples, what the balancer saw, or a query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Source {
    Word(SourceWord),
    Prometheus(PrometheusSource),
}

/// The sources without settings.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum SourceWord {
    Pushed,
    Traffic,
}

/// Figures from Prometheus.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PrometheusSource {
    /// Which server and queries.
    pub(in crate::config) prometheus: super::Prometheus,
}

/// How figures are judged.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Judge {
    Thresholds,
    Sequential,
}

/// The walk of a candidate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Walk {
    /// Percent at first, below 100. Default: 5.
    #[schemars(range(min = 0, max = 99.99))]
    pub(in crate::config) initial_weight: Option<f64>,
    /// Percent points at each step. Default: 10.
    #[schemars(range(min = 0.01, max = 100))]
    pub(in crate::config) step_weight: Option<f64>,
    /// Seconds at each step. Default: 60; with a Prometheus and `judge: thresholds`, `sample_window_sec`, which is 270 by its own
    /// defaults.
    #[schemars(range(min = 1, max = 604_800))]
    pub(in crate::config) interval_sec: Option<u32>,
    /// Steps up, after which the candidate is promoted. Default: 10.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) max_steps: Option<u32>,
}

/// The limits a candidate must keep.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Policy {
    /// Share of failed requests. Default: 0.01. From the traffic, those answered with 5xx or (not told by nginx) with an answer that
    /// broke off. One whose client gave up before the answer is not among them: limit the latency to see a candidate that hangs.
    #[schemars(range(min = 0, max = 1))]
    pub(in crate::config) max_error_rate: Option<f64>,
    /// Milliseconds. Default: no limit.
    #[schemars(range(min = 0.001, max = 86_400_000))]
    pub(in crate::config) max_latency_p95_ms: Option<f64>,
    /// Share of the time, or of requests. Default: no limit.
    #[schemars(range(min = 0, max = 1))]
    pub(in crate::config) min_availability: Option<f64>,
    /// Share of a processor; above 1 for more than one. Default: no limit.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(in crate::config) max_cpu_utilization: Option<f64>,
    /// Requests needed for a verdict. Default: 200.
    pub(in crate::config) min_requests: Option<u64>,
    /// Samples needed for a verdict. Default: 3.
    #[schemars(range(min = 1))]
    pub(in crate::config) min_samples: Option<u32>,
    /// Seconds that samples count for. Default: the interval, and 60 at least; more where the source needs it for `min_samples`.
    #[schemars(range(min = 1, max = 86_400))]
    pub(in crate::config) sample_window_sec: Option<u32>,
    /// Misses in a row that are borne; one more is the way back. Default: 1.
    pub(in crate::config) max_consecutive_failures: Option<u32>,
    /// Under `judge: sequential`, the share of healthy rollouts that may be rolled back. Default: 0.01.
    #[schemars(range(min = 0.0001, max = 0.2))]
    pub(in crate::config) alpha: Option<f64>,
    /// Under `judge: sequential`, how many times the stable color's rate is a regression that matters. Default: 2.
    #[schemars(range(min = 1.2, max = 20))]
    pub(in crate::config) smallest_regression: Option<f64>,
    /// A request is slow from here, in milliseconds. Default: `max_latency_p95_ms`. With `source: traffic`, which is counted in
    /// buckets, it is the next of 1, 2.5, 5, 10, 25, 50, 100, 250, 350, 500, 750, 1,000, 2,500 and 10,000.
    #[schemars(range(min = 0.001, max = 86_400_000))]
    pub(in crate::config) slow_ms: Option<f64>,
    /// Under `judge: sequential`, seconds that one burst of failures may last. Default: 10.
    #[schemars(range(min = 1, max = 600))]
    pub(in crate::config) burst_sec: Option<u32>,
    /// Under `judge: sequential`, seconds for which both colors may fail together. Default: 600.
    #[schemars(range(min = 0, max = 86_400))]
    pub(in crate::config) incident_sec: Option<u32>,
}

/// Database migrations.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Migrations {
    /// The folder of the SQL files.
    pub(in crate::config) dir: String,
    /// sqlite:PATH or postgres://…
    pub(in crate::config) database: String,
}
