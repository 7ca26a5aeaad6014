//! `turnout fallback release|status`: the listeners back to nginx or HAProxy before it starts. systemd runs it then
//! (`ExecStartPre`), so it says what is and ends with 0 wherever nothing has to be given back.

use super::change::actor;
use super::output::{self, BOLD};
use super::target::{self, Needs, Target};
use super::{CliError, Globals};
use crate::controller::{Fallback, Release};
use crate::exit::ExitCode;
use crate::store::Store;

pub(super) async fn release(globals: &Globals) -> Result<ExitCode, CliError> {
    let release = if runs(globals)? {
        match target::to_write(globals, Needs::Daemon).await?.0 {
            Target::Daemon(daemon) => daemon.client.release(&actor()).await?,
            // it has ended since
            Target::Local(_) => Release::not_in_force(None),
        }
    } else {
        // no daemon, no listener; and the next one is to look for the balancer first
        let state_dir = target::state_dir(globals)?;
        if let Err(error) = Fallback::forget(&state_dir) {
            output::warn(format_args!(
                "fallback.json in {} could not be removed: {error}",
                state_dir.display()
            ));
        }
        Release::not_in_force(None)
    };
    output::value(globals.format(), &release, |release| {
        release.message.clone()
    })?;
    Ok(ExitCode::Done)
}

pub(super) async fn status(globals: &Globals) -> Result<ExitCode, CliError> {
    let fallback = match target::to_read(globals).await? {
        Target::Daemon(daemon) => daemon.client.status().await?.fallback,
        Target::Local(_) => None,
    };
    output::value(globals.format(), &fallback, |fallback| match fallback {
        Some(fallback) => format!("{BOLD}fallback{BOLD:#} {}", fallback.sentence()),
        None => "no fallback is in force".to_owned(),
    })?;
    Ok(ExitCode::Done)
}

/// Whether there is a daemon to ask.
fn runs(globals: &Globals) -> Result<bool, CliError> {
    if globals.server()?.is_some() {
        return Ok(true);
    }
    let store = Store::new(target::state_dir(globals)?);
    Ok(store.lock_status()?.serve.is_some())
}
