//! The arguments of the verbs that look, and of those that write a file for people: names and help. Nothing here acts.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::globals::duration;
use crate::domain::ServiceName;

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
