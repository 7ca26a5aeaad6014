//! What each verb takes: positional arguments and flags, as clap reads them. Nothing here acts.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help that people read, where backticks are noise"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::globals::duration;
use crate::domain::{Color, ParseColorError, ServiceName, TrafficMode};

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
