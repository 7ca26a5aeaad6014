//! The verbs and their arguments, as clap reads them: names, help and examples. Nothing here acts.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help that people read, where backticks are noise"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use super::globals::{Globals, duration};
use super::sample_app::SampleApp;
use super::serve::ServeArgs;
use super::service::ServiceCommand;
use crate::domain::{Color, ParseColorError, ServiceName, TrafficMode};

/// Moves HTTP traffic from blue to green on the nginx you already run, or on its own embedded proxy, and proves it.
#[derive(Debug, Parser)]
#[command(
    name = "turnout",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Examples:\n  \
        turnout status                 where the traffic is\n  \
        turnout switch green           all of it to green, proved\n  \
        turnout rollback               back to where it was\n  \
        turnout apply --dry-run        what a changed configuration would do\n\n\
        Exit codes: 0 done, 1 no (drift, unhealthy, differences), 2 wrong usage, 3 failed and as before,\n\
        4 a person is needed, 5 manual gate, 65 configuration refused by the balancer, 69 not reachable,\n\
        75 locked, 77 not permitted, 78 invalid configuration, 124 timed out.\n\
        With -o json or yaml a failure is {error, exit} on stdout, besides the words on stderr."
)]
pub struct Cli {
    /// The flags that every verb understands.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs: two that run until they are told to stop, and those that act and answer.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: API, health probes, watching, and the embedded proxy where that is the balancer
    #[command(after_help = "Examples:\n  \
        turnout serve --config examples/quickstart.yaml\n  \
        turnout serve --blue http://127.0.0.1:5001 --green http://127.0.0.1:5002")]
    Serve(ServeArgs),
    /// All others.
    #[command(flatten)]
    Act(Box<Action>),
    /// Run a small HTTP server to play with
    SampleApp(SampleApp),
}

/// The verbs that act and answer.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Render the balancer's configuration for the current position, and stage it for `reload`
    #[command(after_help = "Examples:\n  \
        turnout render && turnout reload\n  \
        turnout render --dry-run       the files it would write\n  \
        turnout render --to -          print it\n  \
        turnout render --to /tmp/turnout.conf")]
    Render(RenderArgs),
    /// Install what is staged: check, swap, graceful reload, prove; restore on failure
    #[command(after_help = "Example:\n  turnout render && turnout reload -m 'two more servers'")]
    Reload(ChangeFlags),
    /// Render and reload in one
    #[command(after_help = "Examples:\n  turnout apply --dry-run\n  turnout apply -m 'new host'")]
    Apply(ChangeFlags),
    /// Show what `apply` would change; exit 1 if anything
    #[command(after_help = "Example:\n  turnout diff && echo nothing to apply")]
    Diff,
    /// Move all traffic to a color (default: the idle one)
    #[command(after_help = "Examples:\n  \
        turnout switch                 the only service, to its idle color\n  \
        turnout switch green -m 'release 1.9'\n  \
        turnout switch shop green --wait-drained\n  \
        turnout switch shop --dry-run")]
    Switch(SwitchArgs),
    /// Move all traffic back: amid a canary to the stable color, else to the one active before the last switch
    #[command(
        after_help = "Examples:\n  turnout rollback\n  turnout rollback shop -m 'errors on checkout'"
    )]
    Rollback(RollbackArgs),
    /// Divide traffic by color (blue_green) or by weights (canary)
    #[command(
        override_usage = "turnout strategy [OPTIONS] [SERVICE] <blue_green|canary>",
        after_help = "Example:\n  turnout strategy shop canary"
    )]
    Strategy(StrategyArgs),
    /// Set the weights, in percent; canary only
    #[command(
        override_usage = "turnout weights [OPTIONS] [SERVICE] blue=N green=N",
        after_help = "Examples:\n  \
            turnout weights shop blue=80 green=20\n  \
            turnout weights green=2.5            blue gets the rest\n  \
            turnout weights blue=1 green=2 --normalize"
    )]
    Weights(WeightsArgs),
    /// Move some percent points towards a color; canary only
    #[command(after_help = "Example:\n  turnout shift shop --by 10 --towards green")]
    Shift(ShiftArgs),
    /// Let a service's requests go on, hold them, or answer them with a maintenance page
    #[command(after_help = "Examples:\n  \
        turnout traffic hold shop      requests wait, at most limits.hold\n  \
        turnout traffic open shop      and go on, in their order\n  \
        turnout traffic maintenance shop --page down.html --retry-after 10m\n\n\
        The position stays, and what was set survives a restart. On the embedded proxy only.")]
    Traffic(TrafficArgs),
    /// Add, replace, remove or list services, each as a file in the first folder of `include`
    #[command(
        subcommand,
        after_help = "Examples:\n  \
            turnout service set blog --host blog.com --target blog:3000 --project myproject\n  \
            turnout service remove blog\n  \
            turnout service list"
    )]
    Service(ServiceCommand),
    /// Show position, health, versions and drift
    #[command(after_help = "Examples:\n  \
        turnout status\n  \
        turnout status shop -w         live\n  \
        turnout status --exit-code     1 on drift or an unhealthy active color (for health checks)")]
    Status(StatusArgs),
    /// Compare state, disk and what is served; exit 1 on drift
    #[command(after_help = "Example:\n  turnout verify -o json")]
    Verify,
    /// Probe the servers now and show each reason; exit 1 if one is unhealthy
    #[command(after_help = "Examples:\n  turnout check\n  turnout check shop green")]
    Check(Subject),
    /// Send requests through the router: does a backend answer, does the router say what the state says, does it count; exit 1
    /// if not
    #[command(after_help = "Examples:\n  turnout test\n  turnout test shop -o json")]
    Test(ServiceArgs),
    /// Show the router's figures: requests, failures, bytes, times, by color
    #[command(after_help = "Examples:\n  \
        turnout metrics\n  \
        turnout metrics shop -o json\n\n\
        Of the embedded proxy, since it began; nginx and HAProxy are not counted yet. For Prometheus: GET /metrics\n\
        of the control API.")]
    Metrics(ServiceArgs),
    /// Show the audit log
    #[command(after_help = "Examples:\n  turnout history shop -n 5\n  turnout history -o json")]
    History(HistoryArgs),
    /// Look for what would keep turnout from working here
    Doctor,
    /// Write a first turnout.yaml
    #[command(after_help = "Examples:\n  \
        turnout init\n  \
        turnout init --dry-run                         what it would write\n  \
        turnout init --from /etc/nginx/nginx.conf      the lines to add to it")]
    Init(InitArgs),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print a shell completion script
    #[command(after_help = "Example:\n  turnout completion bash > /etc/bash_completion.d/turnout")]
    Completion {
        /// Which shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all of them
    #[command(
        after_help = "Examples:\n  turnout man | man -l -\n  turnout man --to /usr/share/man/man1"
    )]
    Man {
        /// Write one page for each verb into this folder
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Show who holds the locks (default), or how one becomes free
    #[command(after_help = "Examples:\n  turnout lock\n  turnout lock release")]
    Lock {
        /// What to do
        #[command(subcommand)]
        command: Option<LockCommand>,
    },
    /// Give the listeners back that turnout holds while nginx or HAProxy is gone
    #[command(
        subcommand,
        after_help = "Example:\n  turnout fallback release && systemctl start nginx"
    )]
    Fallback(FallbackCommand),
}

/// What to do with a fallback.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum FallbackCommand {
    /// Close them, so that the balancer can start; what is in flight is finished. 0 also where there is nothing to close
    Release,
    /// Show whether one is in force, since when, and what to do
    Status,
}

/// What to do with the locks.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum LockCommand {
    /// Show who holds the change lock and the serve lock, and since when
    Status,
    /// Explain how a lock becomes free; never takes one from a living holder
    Release,
}

/// What every verb understands that changes something.
#[derive(Debug, Clone, Args)]
pub struct ChangeFlags {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the audit log
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// How long to wait while another change is made
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub lock_wait: Duration,
    /// Go on although the target is unhealthy or a file was edited by hand
    #[arg(long)]
    pub force: bool,
}

/// `[SERVICE] [COLOR]`: one argument alone is a color if it is named like one.
#[derive(Debug, Clone, Args)]
pub struct Subject {
    /// Service; may be left out where there is only one
    #[arg(value_name = "SERVICE")]
    pub first: Option<String>,
    /// blue or green
    #[arg(value_name = "COLOR", value_parser = color())]
    pub second: Option<Color>,
}

/// Arguments of `switch`.
#[derive(Debug, Args)]
pub struct SwitchArgs {
    /// Which service, where to.
    #[command(flatten)]
    pub subject: Subject,
    /// Return only when the old color has nothing in flight, so that it is safe to stop
    #[arg(long)]
    pub wait_drained: bool,
    /// As everywhere.
    #[command(flatten)]
    pub flags: ChangeFlags,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Service; may be left out where there is only one
    #[arg(value_name = "SERVICE")]
    pub service: Option<ServiceName>,
    /// As everywhere.
    #[command(flatten)]
    pub flags: ChangeFlags,
}

/// Arguments of `strategy`.
#[derive(Debug, Args)]
pub struct StrategyArgs {
    /// Service (may be left out where there is only one), then blue_green or canary
    #[arg(value_name = "SERVICE|STRATEGY", num_args = 1..=2, required = true)]
    pub words: Vec<String>,
    /// As everywhere.
    #[command(flatten)]
    pub flags: ChangeFlags,
}

/// Arguments of `weights`.
#[derive(Debug, Args)]
pub struct WeightsArgs {
    /// Service (may be left out where there is only one), then blue=PERCENT and green=PERCENT
    #[arg(value_name = "SERVICE|COLOR=PERCENT", num_args = 1..=3, required = true)]
    pub words: Vec<String>,
    /// Scale the two numbers to 100
    #[arg(long)]
    pub normalize: bool,
    /// As everywhere.
    #[command(flatten)]
    pub flags: ChangeFlags,
}

/// Arguments of `shift`.
#[derive(Debug, Args)]
pub struct ShiftArgs {
    /// Service; may be left out where there is only one
    #[arg(value_name = "SERVICE")]
    pub service: Option<ServiceName>,
    /// Percent points; the result stays within 0 and 100
    #[arg(long, value_name = "POINTS", allow_negative_numbers = true, value_parser = points)]
    pub by: f64,
    /// Which color gains
    #[arg(long, value_name = "COLOR", value_parser = color())]
    pub towards: Color,
    /// As everywhere.
    #[command(flatten)]
    pub flags: ChangeFlags,
}

/// Arguments of `traffic`.
#[derive(Debug, Args)]
pub struct TrafficArgs {
    /// What becomes of the requests
    #[arg(value_name = "open|hold|maintenance", value_parser = traffic_mode())]
    pub mode: TrafficMode,
    /// Service; may be left out where there is only one
    #[arg(value_name = "SERVICE")]
    pub service: Option<ServiceName>,
    /// An HTML page for maintenance, at most 32 KiB; it is kept in the state, not read again
    #[arg(long, value_name = "FILE")]
    pub page: Option<PathBuf>,
    /// What Retry-After says during maintenance [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub retry_after: Option<Duration>,
    /// As everywhere.
    #[command(flatten)]
    pub flags: ChangeFlags,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show this service at length
    #[arg(value_name = "SERVICE")]
    pub service: Option<ServiceName>,
    /// Live, once a second; a line for each change where stdout is not a terminal
    #[arg(short, long)]
    pub watch: bool,
    /// Exit 1 on drift or an unhealthy active color
    #[arg(long, conflicts_with = "watch")]
    pub exit_code: bool,
}

/// Arguments of `test` and `metrics`.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    pub service: Option<ServiceName>,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    pub service: Option<ServiceName>,
    /// The last N entries
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub number: usize,
}

/// Arguments of `render`.
#[derive(Debug, Args)]
pub struct RenderArgs {
    /// Write to FILE (what it refers to beside it), or to stdout with `-`, in place of staging
    #[arg(long, value_name = "FILE|-")]
    pub to: Option<PathBuf>,
    /// Say which files would be written, and write none
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for who waits for the lock meanwhile
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// How long to wait while a change is made
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub lock_wait: Duration,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Print a proposal made from this configuration of nginx or HAProxy, and what to change there; write nothing
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Print the file that would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

fn color() -> impl TypedValueParser<Value = Color> {
    PossibleValuesParser::new(Color::BOTH.map(Color::as_str)).try_map(|text| {
        text.parse::<Color>()
            .map_err(|error: ParseColorError| error)
    })
}

fn traffic_mode() -> impl TypedValueParser<Value = TrafficMode> {
    const MODES: [TrafficMode; 3] = [
        TrafficMode::Open,
        TrafficMode::Hold,
        TrafficMode::Maintenance,
    ];
    PossibleValuesParser::new(MODES.map(TrafficMode::as_str)).try_map(|text| {
        MODES
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or("it is open, hold or maintenance")
    })
}

fn points(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|points| points.is_finite())
        .ok_or_else(|| "it is a number of percent points such as 10 or 2.5".to_owned())
}
