//! The HAProxy master that the pid file names, and its workers, as `/proc` shows them.
//!
//! Held by a pidfd first and identified then, as nginx's. SIGUSR2 ends a program that does not expect it, and an HAProxy
//! without a master does not; so it is sent only to one that is seen to catch it (`SigCgt`). During a reload the master
//! executes itself anew and catches nothing until its new worker runs, by which a reload under way is known.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, pidfd_send_signal, test_kill_process};

use super::super::ApplyError;
use super::super::address;
use super::super::install::user;
use super::super::pid_file::{PidFileError, held};
use super::super::process::{children, name, start};

/// For a master that is just starting or reloading to say that it is one; a reload takes 40 ms, a large one more.
const STARTING: Duration = Duration::from_secs(2);

/// Why there is no master to talk to. Nothing was signalled.
#[derive(Debug, thiserror::Error)]
pub(super) enum MasterError {
    #[error(
        "HAProxy does not run: {} does not exist. Start it (systemctl start haproxy), or set balancer.haproxy.pid to the \
         file that `-p` names", path.display()
    )]
    Missing { path: PathBuf },
    #[error(
        "HAProxy does not run: {} is empty. Start it (systemctl start haproxy), or set balancer.haproxy.pid to the file \
         that `-p` names", path.display()
    )]
    Empty { path: PathBuf },
    #[error("{} holds `{text}`, which is not a process number: is it really HAProxy's pid file?", path.display())]
    Garbage { path: PathBuf, text: String },
    #[error(
        "HAProxy does not run: {} names process {pid}, which is gone. Start HAProxy (systemctl start haproxy)", path.display()
    )]
    Stale { path: PathBuf, pid: i32 },
    #[error(
        "HAProxy does not run: {} is stale, process {pid} is now `{name}` and was left alone. Start HAProxy (systemctl start \
         haproxy), or set balancer.haproxy.pid", path.display()
    )]
    Reused {
        path: PathBuf,
        pid: i32,
        name: String,
    },
    #[error(
        "process {pid}, which {} names, is an HAProxy without a master, which takes no reload: start it with -W (or -Ws under \
         systemd)", path.display()
    )]
    NoMaster { path: PathBuf, pid: i32 },
    #[error("{} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{user} may not signal the HAProxy master {pid}: run turnout as root, or set balancer.haproxy.master_socket"
    )]
    NotPermitted { pid: i32, user: String },
}

impl From<PidFileError> for MasterError {
    fn from(error: PidFileError) -> Self {
        match error {
            PidFileError::Missing { path } => Self::Missing { path },
            PidFileError::Unreadable { path, source } => Self::Unreadable { path, source },
            PidFileError::Empty { path } => Self::Empty { path },
            PidFileError::Garbage { path, text } => Self::Garbage { path, text },
            PidFileError::Stale { path, pid } => Self::Stale { path, pid },
        }
    }
}

impl From<MasterError> for ApplyError {
    fn from(error: MasterError) -> Self {
        match &error {
            MasterError::NotPermitted { .. } => Self::NotPermitted {
                message: error.to_string(),
            },
            MasterError::Unreadable { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::NotPermitted {
                    message: format!("{error} by {}: {source}", user()),
                }
            }
            MasterError::Unreadable { source, .. } => Self::Unreachable {
                message: format!("{error}: {source}"),
            },
            MasterError::Missing { .. }
            | MasterError::Empty { .. }
            | MasterError::Garbage { .. }
            | MasterError::Stale { .. }
            | MasterError::NoMaster { .. }
            | MasterError::Reused { .. } => Self::Unreachable {
                message: error.to_string(),
            },
        }
    }
}

/// A running master, held by a pidfd.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) pid: i32,
    fd: OwnedFd,
    start: u64,
}

impl Master {
    /// The master that `pid_file` names, identified.
    pub(super) async fn find(pid_file: &Path) -> Result<Self, MasterError> {
        let started = Instant::now();
        loop {
            match Self::look(pid_file) {
                // a reload empties the file for a moment before it writes the same number again
                Err(MasterError::NoMaster { .. } | MasterError::Empty { .. })
                    if started.elapsed() < STARTING =>
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                looked => return looked,
            }
        }
    }

    pub(super) fn look(pid_file: &Path) -> Result<Self, MasterError> {
        let (number, fd) = held(pid_file)?;
        let path = pid_file.to_owned();
        let name = name(number).unwrap_or_else(|| "a process that has just ended".to_owned());
        if name != "haproxy" {
            return Err(MasterError::Reused {
                path,
                pid: number,
                name,
            });
        }
        if !catches(number, Signal::USR2) {
            return Err(MasterError::NoMaster { path, pid: number });
        }
        Ok(Self {
            pid: number,
            fd,
            start: start(number).unwrap_or(0),
        })
    }

    /// SIGUSR2.
    pub(super) fn reload(&self) -> Result<(), MasterError> {
        match pidfd_send_signal(&self.fd, Signal::USR2) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::PERM) => Err(self.not_permitted()),
            Err(_gone) => Err(MasterError::Stale {
                path: PathBuf::from(format!("/proc/{}", self.pid)),
                pid: self.pid,
            }),
        }
    }

    /// Refuses a master that takes no signals from this user.
    pub(super) fn may_signal(&self) -> Result<(), MasterError> {
        match Pid::from_raw(self.pid).map(test_kill_process) {
            Some(Err(rustix::io::Errno::PERM)) => Err(self.not_permitted()),
            Some(_) | None => Ok(()),
        }
    }

    fn not_permitted(&self) -> MasterError {
        MasterError::NotPermitted {
            pid: self.pid,
            user: user(),
        }
    }

    /// True until the master ends.
    pub(super) fn lives(&self) -> bool {
        start(self.pid) == Some(self.start) && name(self.pid).as_deref() == Some("haproxy")
    }

    /// False while a reload is under way.
    pub(super) fn is_settled(&self) -> bool {
        catches(self.pid, Signal::USR2)
    }

    /// Its workers, those included that only finish what they have.
    pub(super) fn workers(&self) -> Vec<Worker> {
        children(self.pid)
            .into_iter()
            .filter(|pid| name(*pid).as_deref() == Some("haproxy"))
            .filter_map(|pid| {
                Some(Worker {
                    pid,
                    start: start(pid)?,
                })
            })
            .collect()
    }

    /// The files and folders that it was started with (`-f`), absolute. `None` where they cannot be seen.
    pub(super) fn files(&self) -> Option<Vec<PathBuf>> {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).ok()?;
        let cwd = fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()?;
        let words: Vec<String> = bytes
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let mut files = Vec::new();
        let mut words = words.iter().skip(1).peekable();
        while let Some(word) = words.next() {
            // `-f a -f b`; behind `--` come files alone
            if word == "-f" {
                files.extend(words.next().map(|file| cwd.join(file)));
            } else if word == "--" {
                files.extend(
                    words
                        .by_ref()
                        .filter(|file| !file.is_empty())
                        .map(|file| cwd.join(file)),
                );
            }
        }
        Some(files)
    }
}

/// One worker, told from a later process of the same number by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Worker {
    pub(super) pid: i32,
    start: u64,
}

impl Worker {
    /// True until it ends.
    pub(super) fn lives(self) -> bool {
        start(self.pid) == Some(self.start) && name(self.pid).as_deref() == Some("haproxy")
    }

    /// True while it takes new connections: one that does not any more has closed its listeners. Where this user may not see
    /// that, the word of the new worker has to do.
    pub(super) fn accepts(self) -> bool {
        self.lives() && address::listens(self.pid).unwrap_or(false)
    }
}

/// True if a process has a handler for a signal, by the mask in `/proc/PID/status` (bit n-1 for signal n).
fn catches(pid: i32, signal: Signal) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1_u64 << (signal.as_raw() - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_pid_file_that_names_no_haproxy_says_what_it_names() {
        let me = std::process::id().to_string();
        for (text, says) in [
            ("", "is empty"),
            ("abc", "holds `abc`"),
            ("-1", "holds `-1`"),
            ("4194305", "names process 4194305, which is gone"),
            (me.as_str(), "and was left alone"),
        ] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let error = Master::look(file.path()).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        let error = Master::look(Path::new("/nonexistent/haproxy.pid")).unwrap_err();
        assert!(matches!(error, MasterError::Missing { .. }), "{error}");
    }
}
