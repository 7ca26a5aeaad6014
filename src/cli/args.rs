//! The verbs, as clap reads them: names, help and examples; what each takes is in `flags`. Nothing here acts.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help that people read, where backticks are noise"
)]

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::args_rollout::{CanaryCommand, SteerArgs};
pub use super::flags::{
    ChangeFlags, HistoryArgs, InitArgs, RenderArgs, RollbackArgs, ServiceArgs, ShiftArgs,
    StatusArgs, StrategyArgs, Subject, SwitchArgs, TrafficArgs, WeightsArgs,
};
use super::globals::Globals;
use super::sample_app::SampleApp;
use super::serve::ServeArgs;
use super::service::ServiceCommand;

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
    /// Roll a new version out step by step: start one, list and show them
    #[command(subcommand)]
    Canary(CanaryCommand),
    /// Make the candidate of the running rollout active now
    #[command(after_help = "Example:\n  turnout promote shop -m 'seen enough'")]
    Promote(SteerArgs),
    /// Stop the running rollout where it is; a bad verdict still takes it back
    #[command(after_help = "Example:\n  turnout pause shop -m 'lunch'")]
    Pause(SteerArgs),
    /// Let a paused rollout go on
    #[command(after_help = "Example:\n  turnout resume shop")]
    Resume(SteerArgs),
    /// End the running rollout: all traffic back to the stable color
    #[command(after_help = "Example:\n  turnout abort shop -m 'errors on checkout'")]
    Abort(SteerArgs),
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
