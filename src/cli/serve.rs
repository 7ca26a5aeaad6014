//! `turnout serve`: the daemon. Its body is a stub, to be replaced at the merge; the arguments stand.

use super::{CliError, Globals};
use crate::exit::ExitCode;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Blue's server when there is no configuration file; together with --green it makes a one-service configuration
    #[arg(long, value_name = "URL")]
    pub blue: Option<String>,
    /// Green's server, likewise
    #[arg(long, value_name = "URL")]
    pub green: Option<String>,
}

/// Why the daemon did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("`turnout serve` is a stub")]
pub struct ServeError;

impl ServeError {
    /// How the program ends because of this.
    pub(super) fn exit(&self) -> ExitCode {
        ExitCode::Failed
    }
}

/// Runs until it is told to stop. Makes its own runtime, so that it may have more threads than a command.
pub(super) fn run(_args: ServeArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(ServeError.into())
}
