//! `turnout serve`: the daemon. Its body is a stub, to be replaced at the merge; the arguments stand.

use super::{CliError, Globals};

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

/// Runs until it is told to stop. Makes its own runtime, so that it may have more threads than a command.
pub(super) fn run(_args: ServeArgs, _globals: &Globals) -> Result<(), CliError> {
    Err(CliError::NotInThisVersion {
        what: "turnout serve".to_owned(),
    })
}
