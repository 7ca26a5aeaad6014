//! The daemon of the state directory: whether one runs and answers, and who holds the change lock.

use super::finding::{Finding, said};
use crate::api::client::Client;
use crate::cli::chosen::Chosen;
use crate::cli::{CliError, Globals, target};
use crate::config::Config;
use crate::store::Store;

/// Whether a daemon holds the state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    /// One does, or that cannot be told, which was said.
    Told,
    /// None does: what that means depends on the balancer.
    None,
}

pub(super) async fn locks(
    globals: &Globals,
    config: &Config,
    store: &Store,
    findings: &mut Vec<Finding>,
) -> Daemon {
    let status = match store.lock_status() {
        Ok(status) => status,
        Err(error) => {
            findings.push(Finding::wrong(
                "locks",
                said(&error),
                "put that right; nothing can be changed before",
            ));
            return Daemon::Told;
        }
    };
    if let Some(holder) = &status.change {
        findings.push(Finding::note(
            "change lock",
            format_args!("held by {holder}"),
            "wait for it; a crashed holder's lock is free at once",
        ));
    }
    let Some(holder) = status.serve else {
        return Daemon::None;
    };
    match ask(globals, config).await {
        Ok(found) => findings.push(Finding::fine("daemon", format_args!("{holder}: {found}"))),
        Err(error) => findings.push(Finding::wrong(
            "daemon",
            format_args!("{holder} runs, but: {}", said(&error)),
            "look at its log, and at control.listen and the token",
        )),
    }
    Daemon::Told
}

/// No daemon: by choice beside nginx, and nothing at all without the proxy that is inside it.
pub(super) fn no_daemon(chosen: Option<&Chosen>) -> Finding {
    if matches!(chosen, Some(Chosen::Embedded)) {
        Finding::note(
            "daemon",
            "none runs on this state directory, and the embedded proxy is inside it: nothing is served",
            "start it: turnout serve (or systemctl start turnout)",
        )
    } else {
        Finding::note(
            "daemon",
            "none runs on this state directory",
            "turnout serve, if failover, health and the API are wanted",
        )
    }
}

/// Asks the daemon who it is.
async fn ask(globals: &Globals, config: &Config) -> Result<String, CliError> {
    let address = match globals.server()? {
        Some(address) => address,
        None => target::address_of(config)?,
    };
    let identity = Client::new(&address, globals.token()?)?.identity().await?;
    Ok(format!("turnout {} answers at {address}", identity.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_daemon_the_embedded_proxy_is_to_be_started() {
        let embedded = no_daemon(Some(&Chosen::Embedded));
        assert!(embedded.found.ends_with("nothing is served"));
        assert!(embedded.way_out.starts_with("start it: turnout serve"));
        assert!(no_daemon(None).way_out.contains("if failover"));
    }
}
