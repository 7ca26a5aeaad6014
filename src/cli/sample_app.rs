//! `turnout sample-app`: a small HTTP server to play with. A stub, to be replaced at the merge.

use super::CliError;

/// Arguments of `sample-app`.
#[derive(Debug, clap::Args)]
pub struct SampleAppArgs {
    /// The port to listen on
    #[arg(long, value_name = "PORT", env = "PORT")]
    pub port: Option<u16>,
}

/// Serves until it is told to stop.
pub(super) fn run(_args: SampleAppArgs) -> Result<(), CliError> {
    Err(CliError::NotInThisVersion {
        what: "turnout sample-app".to_owned(),
    })
}
