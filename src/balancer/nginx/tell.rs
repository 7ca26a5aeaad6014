//! nginx told to load what stands on disk, and what it said to that.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::super::listeners;
use super::Nginx;
use super::error_log::ErrorLog;
use super::process::Master;
use crate::config::NginxReload;
use crate::exec::Program;

/// For a reload command of the user's.
const RELOAD_COMMAND: Duration = Duration::from_mins(1);

/// `message` with what nginx itself said, and who holds an address that it did not get.
pub(super) fn with_log(message: String, log: Option<&ErrorLog>, nginx: &Nginx) -> String {
    let emergencies = log.map(ErrorLog::emergencies).unwrap_or_default();
    if emergencies.is_empty() {
        return message;
    }
    let holders: BTreeSet<String> = emergencies
        .iter()
        .filter(|line| line.contains("Address already in use"))
        .filter_map(|line| {
            let text = line.strip_prefix("bind() to ")?.split(' ').next()?;
            let address: SocketAddr = text.parse().ok()?;
            Some(format!(
                "{address} is held by {}",
                listeners::holder(address)?
            ))
        })
        .collect();
    let mut lines = vec![format!("{message}; nginx says: {}", emergencies.join("; "))];
    lines.extend(holders);
    if emergencies
        .iter()
        .any(|line| line.contains("(13: Permission denied)"))
    {
        lines.push(format!(
            "the master that {} names may not do that: look at its user and capabilities",
            nginx.settings.pid.display()
        ));
    }
    lines.join("; ")
}

pub(super) enum Untold {
    Gone,
    Command(String),
}

pub(super) async fn tell(nginx: &Nginx, master: Option<&Master>) -> Result<String, Untold> {
    match (&nginx.settings.reload, master) {
        (NginxReload::Command(argv), _) => {
            let program = Program::new(argv).deadline(RELOAD_COMMAND);
            let output = program.run().await.and_then(crate::exec::Output::success);
            match output {
                Ok(output) => Ok(format!("`{}`", output.argv)),
                Err(error) => Err(Untold::Command(format!(
                    "the reload command failed: {error}"
                ))),
            }
        }
        (NginxReload::Signal, Some(master)) => match master.reload() {
            Ok(()) => Ok(format!("SIGHUP to the master {}", master.pid)),
            Err(_gone) => Err(Untold::Gone),
        },
        (NginxReload::Signal, None) => Err(Untold::Gone),
    }
}
