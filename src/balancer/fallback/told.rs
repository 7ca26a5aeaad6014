//! What is said of a fallback, to people and to the next process of this state directory. The file goes with the boot that it
//! was written in: after another one the balancer is expected to start first.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::ApplyError;
use super::super::install::write_kept;
use crate::domain::ServiceName;

const FILE: &str = "fallback.json";

/// What the proxy that stands in does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Duty {
    /// It serves in the balancer's place.
    Serving,
    /// It has given the listeners back, and the balancer has not been seen since.
    Released,
}

/// A fallback that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Fallback {
    /// Who is gone: `nginx` or `haproxy`.
    pub balancer: String,
    /// Since when, as it was first seen.
    pub since: Timestamp,
    /// How that is known.
    pub reason: String,
    /// What is done about it.
    pub duty: Duty,
    /// Where turnout listens in its place.
    #[schema(value_type = Vec<String>)]
    pub listens: Vec<SocketAddr>,
    /// Services that nobody serves meanwhile, because they stand in a server block or frontend of the user's own.
    pub left_out: Vec<ServiceName>,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    boot: String,
    fallback: Fallback,
}

impl Fallback {
    /// In a sentence: what is, and what to do.
    pub fn sentence(&self) -> String {
        let Self {
            balancer,
            since,
            reason,
            ..
        } = self;
        let since = since.strftime("%Y-%m-%dT%H:%M:%SZ");
        let listens: Vec<_> = self.listens.iter().map(ToString::to_string).collect();
        let mut text = match self.duty {
            Duty::Serving => format!(
                "{balancer} is gone since {since} ({reason}): turnout itself serves {} in its place. To bring it back: `turnout \
                 fallback release && systemctl start {balancer}` (`systemctl start {balancer}` alone where the drop-in of \
                 deploy/ is installed)",
                listens.join(", ")
            ),
            Duty::Released => format!(
                "{balancer} is gone since {since}: turnout has given {} back and waits for {balancer} to start; if it does not \
                 come, turnout takes over again",
                listens.join(", ")
            ),
        };
        if !self.left_out.is_empty() {
            let names: Vec<_> = self.left_out.iter().map(ServiceName::as_str).collect();
            text.extend([format!(
                ". Nobody serves {} meanwhile: without `listen` they stand in {balancer}'s own configuration",
                names.join(", ")
            )]);
        }
        text
    }

    /// What the last process of this boot left; `None` where nothing was in force or that cannot be read.
    pub fn remembered(state_dir: &Path) -> Option<Self> {
        let text = fs::read(state_dir.join(FILE)).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        (remembered.boot == boot()).then_some(remembered.fallback)
    }

    /// For the next process, which takes over at once where this one was serving.
    pub(super) fn remember(&self, state_dir: &Path) -> Result<(), ApplyError> {
        let remembered = Remembered {
            boot: boot(),
            fallback: self.clone(),
        };
        let text =
            serde_json::to_vec_pretty(&remembered).map_err(|error| ApplyError::Unchanged {
                message: "failed to write down the fallback".to_owned(),
                source: Some(error.into()),
            })?;
        Ok(write_kept(&state_dir.join(FILE), &text)?)
    }

    /// Nothing is in force any more. Says so where the file cannot be removed, which would have the next process take over at
    /// once should the balancer be gone then.
    pub fn forget(state_dir: &Path) -> std::io::Result<()> {
        match fs::remove_file(state_dir.join(FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The kernel's name for this boot; empty where there is none, which is the same for each.
fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fallback() -> Fallback {
        Fallback {
            balancer: "nginx".to_owned(),
            since: "2026-11-21T09:12:04.3Z".parse().unwrap(),
            reason: "no process".to_owned(),
            duty: Duty::Serving,
            listens: vec!["127.0.0.1:80".parse().unwrap()],
            left_out: vec!["blog".parse().unwrap()],
        }
    }

    #[test]
    fn a_fallback_says_since_when_where_and_what_to_do() {
        assert_eq!(
            fallback().sentence(),
            "nginx is gone since 2026-11-21T09:12:04Z (no process): turnout itself serves 127.0.0.1:80 in its place. To bring \
             it back: `turnout fallback release && systemctl start nginx` (`systemctl start nginx` alone where the drop-in of \
             deploy/ is installed). Nobody serves blog meanwhile: without `listen` they stand in nginx's own configuration"
        );
    }

    #[test]
    fn it_is_remembered_for_the_next_process_of_this_boot_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Fallback::remembered(folder.path()), None);
        fallback().remember(folder.path()).unwrap();
        assert_eq!(Fallback::remembered(folder.path()), Some(fallback()));
        let path = folder.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        let text = text.replace(&boot(), "another boot");
        write_kept(&path, text.as_bytes()).unwrap();
        assert_eq!(Fallback::remembered(folder.path()), None);
        Fallback::forget(folder.path()).unwrap();
        Fallback::forget(folder.path()).unwrap();
        assert!(!path.exists());
    }
}
