//! The verbs of rollouts and their arguments: names, help and examples. Nothing here acts.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::globals::duration;
use super::replay::ReplayArgs;
use crate::domain::{CanarySource, JudgeKind, ServiceName};

/// What to do with rollouts.
#[derive(Debug, Subcommand)]
pub enum CanaryCommand {
    /// Begin a rollout: the idle color becomes the candidate and gets its first percent
    #[command(after_help = "Examples:\n  \
        turnout canary start v2.1.0\n  \
        turnout canary start v2.1.0 --service shop --initial-weight 5 --step-weight 15 --interval 2m\n  \
        turnout canary start v2.1.0 --wait       for CI: 0 promoted, 3 rolled back, 1 cancelled\n\n\
        What is left out is the configuration's (services.NAME.canary), and built in: 5 %, 10 points more each\n\
        minute, at most 10 times; at most 1 % errors, seen over 200 requests and 3 samples.")]
    Start(Box<StartArgs>),
    /// List the rollouts that are kept, newest first
    #[command(after_help = "Examples:\n  turnout canary list\n  turnout canary list shop -o json")]
    List(ListArgs),
    /// Show one rollout: where it is, its verdicts, what happened
    #[command(after_help = "Examples:\n  \
        turnout canary show                      the newest\n  \
        turnout canary show shop                 the newest of a service\n  \
        turnout canary show 3f2b8c1e-9d40-4a7e-8f55-6c1d2e3f4a5b -o json\n  \
        turnout canary show shop -w              a line for each change, until it is over: 0 promoted, 3 rolled back, 1 cancelled")]
    Show(ShowArgs),
    /// Report what happened in a rollout and why, as text or as a page with pictures
    #[command(after_help = "Examples:\n  \
        turnout canary report                    the newest\n  \
        turnout canary report shop --html /tmp/rollout.html")]
    Report(ReportArgs),
    /// Run both judges over recorded counts, to tune a policy before trusting it
    #[command(after_help = "Examples:\n  \
        turnout canary replay counts.csv\n  \
        turnout canary replay counts.csv --max-error-rate 0.005 --html /tmp/replay.html")]
    Replay(Box<ReplayArgs>),
}

/// Arguments of `canary report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The id of a rollout, or a service for its newest [default: the newest of all]
    #[arg(value_name = "ID|SERVICE")]
    pub which: Option<String>,
    /// Write a page that needs nothing else, with pictures, to FILE
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Arguments of `canary start`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// The version that the idle color runs
    #[arg(value_name = "VERSION")]
    pub version: String,
    /// Service; may be left out where there is only one
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<ServiceName>,
    /// The version that the active color runs, if it is not known
    #[arg(long, value_name = "VERSION")]
    pub baseline: Option<String>,
    /// Percent at first
    #[arg(long, value_name = "PERCENT")]
    pub initial_weight: Option<f64>,
    /// Percent points at each step
    #[arg(long, value_name = "POINTS")]
    pub step_weight: Option<f64>,
    /// From one verdict to the next, in whole seconds
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub interval: Option<Duration>,
    /// Steps up, after which the candidate is promoted
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u32>,
    /// Where the figures come from [default: the configuration's, else pushed]
    #[arg(long, value_parser = source())]
    pub source: Option<CanarySource>,
    /// Who judges them [default: the configuration's, else sequential with --source traffic, and thresholds otherwise]
    #[arg(long, value_parser = judge())]
    pub judge: Option<JudgeKind>,
    /// The largest share of failed requests, 0 to 1
    #[arg(long, value_name = "SHARE")]
    pub max_error_rate: Option<f64>,
    /// The largest 95th percentile, in milliseconds
    #[arg(long, value_name = "MS")]
    pub max_latency_p95_ms: Option<f64>,
    /// The smallest availability, 0 to 1
    #[arg(long, value_name = "SHARE")]
    pub min_availability: Option<f64>,
    /// The largest use of the processor; 1 is one processor
    #[arg(long, value_name = "SHARE")]
    pub max_cpu_utilization: Option<f64>,
    /// Requests needed for a verdict
    #[arg(long, value_name = "N")]
    pub min_requests: Option<u64>,
    /// Samples needed for a verdict
    #[arg(long, value_name = "N")]
    pub min_samples: Option<u32>,
    /// How long a sample counts, in whole seconds
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub sample_window: Option<Duration>,
    /// Misses in a row that are borne; one more is the way back
    #[arg(long, value_name = "N")]
    pub max_consecutive_failures: Option<u32>,
    /// Cancel a rollout of the service that runs
    #[arg(long)]
    pub supersede: bool,
    /// Return when it is over: 0 promoted, 3 rolled back, 1 cancelled
    #[arg(short, long)]
    pub wait: bool,
    /// As everywhere.
    #[command(flatten)]
    pub flags: SteerFlags,
}

/// Arguments of `canary list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    pub service: Option<ServiceName>,
}

/// Arguments of `canary show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The id of a rollout, or a service for its newest [default: the newest of all]
    #[arg(value_name = "ID|SERVICE")]
    pub which: Option<String>,
    /// A line for each change, until it is over
    #[arg(short, long)]
    pub watch: bool,
}

/// Arguments of `promote`, `pause`, `resume` and `abort`.
#[derive(Debug, Args)]
pub struct SteerArgs {
    /// Service; may be left out where only one has a rollout
    #[arg(value_name = "SERVICE")]
    pub service: Option<ServiceName>,
    /// As everywhere.
    #[command(flatten)]
    pub flags: SteerFlags,
}

/// What every verb of rollouts understands that changes something.
#[derive(Debug, Clone, Args)]
pub struct SteerFlags {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the audit log
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// How long to wait while another change is made
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub lock_wait: Duration,
}

fn source() -> impl TypedValueParser<Value = CanarySource> {
    const ALL: [CanarySource; 3] = [
        CanarySource::Pushed,
        CanarySource::Traffic,
        CanarySource::Prometheus,
    ];
    PossibleValuesParser::new(ALL.map(CanarySource::as_str)).try_map(|text| {
        ALL.into_iter()
            .find(|source| source.as_str() == text)
            .ok_or("it is pushed, traffic or prometheus")
    })
}

fn judge() -> impl TypedValueParser<Value = JudgeKind> {
    const ALL: [JudgeKind; 2] = [JudgeKind::Thresholds, JudgeKind::Sequential];
    PossibleValuesParser::new(ALL.map(JudgeKind::as_str)).try_map(|text| {
        ALL.into_iter()
            .find(|judge| judge.as_str() == text)
            .ok_or("it is thresholds or sequential")
    })
}
