//! One process group: who it is, across restarts of turnout, and how it ends.
//!
//! A process id alone is no identity, since ids are given out again: the record holds the start time and the boot too, and
//! nothing is signalled that does not match all three.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;
use tokio::time::Instant;

/// How often a group is looked at for being empty; the kernel tells nobody.
const LOOK: Duration = Duration::from_millis(20);
/// How long a killed group may take to be gone (a process in a hung disk access cannot be killed).
const KILLED: Duration = Duration::from_secs(5);

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// Clock ticks from boot to its start: field 22 of `/proc/PID/stat`.
    start: u64,
    boot: String,
}

impl Identity {
    /// The process that has this id now.
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(Self {
            pid,
            start: Stat::of(pid)?.start,
            boot: boot.trim().to_owned(),
        })
    }

    /// True while that very process runs.
    pub(super) fn runs(&self) -> bool {
        let living = Stat::of(self.pid).is_ok_and(|stat| !stat.zombie);
        living && Self::of(self.pid).is_ok_and(|now| now == *self)
    }
}

/// What `/proc/PID/stat` says.
#[derive(Debug)]
struct Stat {
    start: u64,
    group: i32,
    /// It has ended and was not reaped.
    zombie: bool,
}

impl Stat {
    fn of(pid: i32) -> io::Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path)?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("{path} is not as proc(5) says")))
    }

    /// The name in brackets may hold spaces and brackets, so what counts is behind the last one.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(Self {
            zombie: *fields.first()? == "Z",
            group: fields.get(2)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }
}

/// True if nobody of a group runs. Those that nobody reaps (their parent died, and process 1 of a container does not care)
/// hold nothing and do not count.
fn empty(group: Pid) -> bool {
    if kill(Pid::from_raw(-group.as_raw()), None) == Err(Errno::ESRCH) {
        return true;
    }
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return false;
    };
    !processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Stat::of(pid).ok())
        .any(|stat| stat.group == group.as_raw() && !stat.zombie)
}

/// What is kept of a running workload, for the turnout that comes after this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) identity: Identity,
    /// The digest of what it was started with: another configuration is another process.
    pub(super) spec: String,
}

impl Record {
    /// What was kept; `None` where nothing readable is. A torn record only costs a second start that finds its port taken.
    pub(super) fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        file.persist(path)?;
        Ok(())
    }
}

/// The first process of a group.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) identity: Identity,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Started by this turnout, which reaps it.
    Child(Child),
    /// Started by one before; init reaps it.
    Adopted(AsyncFd<OwnedFd>),
}

impl Process {
    pub(super) fn child(child: Child) -> io::Result<Self> {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| io::Error::other("it ended before it was seen"))?;
        Ok(Self {
            identity: Identity::of(pid)?,
            kind: Kind::Child(child),
        })
    }

    /// Watches a process that runs already. Must be called within a runtime.
    pub(super) fn adopt(identity: Identity) -> io::Result<Self> {
        let pid = rustix::process::Pid::from_raw(identity.pid)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        // the descriptor now holds whoever has the id: only now does it say something that this is the same one
        if !identity.runs() {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that change their descriptor; OwnedFd never does"
        )]
        let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
        Ok(Self {
            identity,
            kind: Kind::Adopted(pidfd),
        })
    }

    /// Waits for its end and says how it ended. Safe to drop and to call again.
    pub(super) async fn ended(&mut self) -> String {
        match &mut self.kind {
            Kind::Child(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => format!("no status: {error}"),
            },
            Kind::Adopted(pidfd) => match pidfd.readable().await {
                Ok(_ready) => "ended".to_owned(),
                Err(error) => format!("no longer watched: {error}"),
            },
        }
    }

    /// Ends the whole group: SIGTERM, up to `grace`, SIGKILL. Returns when it is empty.
    pub(super) async fn end(&mut self, grace: Duration) -> Result<(), StillThere> {
        let group = Pid::from_raw(self.identity.pid);
        signal(group, Signal::SIGTERM);
        if self.gone(group, grace).await {
            return Ok(());
        }
        signal(group, Signal::SIGKILL);
        if self.gone(group, KILLED).await {
            Ok(())
        } else {
            Err(StillThere {
                group: group.as_raw(),
            })
        }
    }

    /// SIGKILL to the whole group, without waiting.
    pub(super) fn kill(&self) {
        signal(Pid::from_raw(self.identity.pid), Signal::SIGKILL);
    }

    /// True if the first process was reaped and its group is empty within `time`.
    async fn gone(&mut self, group: Pid, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let ended = async {
            self.ended().await;
            while !empty(group) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout_at(deadline, ended).await.is_ok()
    }
}

/// Processes that SIGKILL did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "processes of group {group} are still there after SIGKILL: look with `ps -o pid,stat,cmd -g {group}`"
)]
pub struct StillThere {
    /// Process group.
    pub group: i32,
}

/// Signals a group. The one error that can come is that it is empty, which is what is waited for next.
fn signal(group: Pid, signal: Signal) {
    killpg(group, signal).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_no_other_with_its_id() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = Identity::of(pid).unwrap();
        assert!(me.runs());
        for other in [
            Identity {
                start: me.start + 1,
                ..me.clone()
            },
            Identity {
                boot: "another".to_owned(),
                ..me.clone()
            },
        ] {
            assert!(!other.runs(), "{other:?}");
        }
    }

    #[test]
    fn a_record_is_read_back_and_a_torn_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop-blue.json");
        assert_eq!(Record::load(&path), None);
        let record = Record {
            identity: Identity {
                pid: 7,
                start: 8,
                boot: "b".to_owned(),
            },
            spec: "s".to_owned(),
        };
        record.save(&path).unwrap();
        assert_eq!(Record::load(&path), Some(record));
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(10).unwrap();
        assert_eq!(Record::load(&path), None);
    }
}
