//! The nginx master that the pid file names, and its workers, as `/proc` shows them.
//!
//! A pid file can be missing, empty, stale, or name a process that got the number later, and SIGHUP ends most programs. So
//! the process is held by a pidfd first and identified then: whatever is signalled is what was looked at. Nothing here
//! sends anything but SIGHUP to an identified master.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, pidfd_send_signal, test_kill_process};

use super::super::ApplyError;
use super::super::install::user;
use super::super::pid_file::{PidFileError, held};
use super::super::process::{children, name, start, title};

const MASTER: &str = "nginx: master process";
const WORKER: &str = "nginx: worker process";

/// From the pid file of a starting nginx to its title; measured below 10 ms.
const STARTING: Duration = Duration::from_secs(1);

/// Why there is no master to talk to. Nothing was signalled.
#[derive(Debug, thiserror::Error)]
pub(super) enum MasterError {
    #[error(
        "nginx does not run: {} does not exist. Start it (systemctl start nginx), or set balancer.nginx.pid to the file that \
         its `pid` directive names", path.display()
    )]
    Missing { path: PathBuf },
    #[error(
        "nginx does not run: {} is empty, as `nginx -t` leaves it behind where no nginx runs. Start nginx (systemctl start \
         nginx)", path.display()
    )]
    Empty { path: PathBuf },
    #[error("{} holds `{text}`, which is not a process number: is it really nginx's pid file?", path.display())]
    Garbage { path: PathBuf, text: String },
    #[error(
        "nginx does not run: {} names process {pid}, which is gone. Start nginx (systemctl start nginx)", path.display()
    )]
    Stale { path: PathBuf, pid: i32 },
    #[error(
        "nginx does not run: {} is stale, process {pid} is now `{name}` and was left alone. Start nginx (systemctl start \
         nginx), or set balancer.nginx.pid", path.display()
    )]
    Reused {
        path: PathBuf,
        pid: i32,
        name: String,
    },
    #[error(
        "process {pid}, which {} names, is an nginx that is no master: it is just starting, or has `master_process off`, which \
         takes no reload", path.display()
    )]
    NoMaster { path: PathBuf, pid: i32 },
    #[error("{} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{user} may not signal the nginx master {pid}: run turnout as root or as the master's user, or set \
         balancer.nginx.reload to a command that may (such as [sudo, systemctl, reload, nginx])"
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

/// A running nginx master, held by a pidfd.
#[derive(Debug)]
pub(super) struct Master {
    pub(super) pid: i32,
    fd: OwnedFd,
    start: u64,
    arguments: Vec<String>,
}

impl Master {
    /// The master that `pid_file` names, identified, and known to take signals from this user. Gives an nginx that is just
    /// starting a moment to say that it is a master.
    pub(super) async fn find(pid_file: &Path) -> Result<Self, MasterError> {
        let started = Instant::now();
        loop {
            match Self::look(pid_file) {
                Err(MasterError::NoMaster { .. }) if started.elapsed() < STARTING => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                looked => return looked,
            }
        }
    }

    pub(super) fn look(pid_file: &Path) -> Result<Self, MasterError> {
        let (number, fd) = held(pid_file)?;
        let path = pid_file.to_owned();
        let title = title(number).unwrap_or_default();
        let Some(arguments) = title.strip_prefix(MASTER) else {
            // nginx writes its pid file a moment before its title
            if name(number).as_deref() == Some("nginx") {
                return Err(MasterError::NoMaster { path, pid: number });
            }
            let name = if title.is_empty() {
                name(number).unwrap_or_else(|| "a process that has just ended".to_owned())
            } else {
                title
            };
            return Err(MasterError::Reused {
                path,
                pid: number,
                name,
            });
        };
        if Pid::from_raw(number).map(test_kill_process) == Some(Err(rustix::io::Errno::PERM)) {
            return Err(MasterError::NotPermitted {
                pid: number,
                user: user(),
            });
        }
        Ok(Self {
            pid: number,
            fd,
            start: start(number).unwrap_or(0),
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        })
    }

    /// SIGHUP. An error means that the master has ended.
    pub(super) fn reload(&self) -> io::Result<()> {
        pidfd_send_signal(&self.fd, Signal::HUP).map_err(Into::into)
    }

    /// True until the master ends.
    pub(super) fn lives(&self) -> bool {
        start(self.pid) == Some(self.start)
            && title(self.pid).is_some_and(|title| title.starts_with(MASTER))
    }

    /// True if it has dealt with every reload that it was told, its own and strangers'. nginx keeps its signals blocked but
    /// while it waits for them, so a master that is loading a configuration shows SIGHUP blocked, and one that has yet to
    /// begin shows it pending. Between the two lie some microseconds: look twice.
    pub(super) fn idles(&self) -> bool {
        let Ok(status) = fs::read_to_string(format!("/proc/{}/status", self.pid)) else {
            return false;
        };
        idles(&status)
    }

    /// [`idles`](Self::idles), looked at twice.
    pub(super) async fn rests(&self) -> bool {
        if !self.idles() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.idles()
    }

    /// The value of an option that the master was started with, such as `-p`. Its title is one line, so a value with a space in
    /// it cannot be told.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        let at = self.arguments.iter().position(|word| word == name)?;
        self.arguments.get(at + 1).map(String::as_str)
    }

    /// Its workers that take new connections.
    pub(super) fn accepting(&self) -> Vec<Worker> {
        let mut accepting = self.workers();
        accepting.retain(|worker| worker.accepts());
        accepting
    }

    /// Its workers, those that are shutting down included.
    pub(super) fn workers(&self) -> Vec<Worker> {
        children(self.pid)
            .into_iter()
            .filter(|pid| title(*pid).is_some_and(|title| title.starts_with(WORKER)))
            .filter_map(|pid| {
                Some(Worker {
                    pid,
                    start: start(pid)?,
                })
            })
            .collect()
    }
}

/// True unless SIGHUP (number 1, the lowest bit) is pending or blocked by `/proc/PID/status`.
fn idles(status: &str) -> bool {
    let mask = |name: &str| {
        let field = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(field.trim(), 16).ok()
    };
    ["SigPnd:", "ShdPnd:", "SigBlk:"]
        .iter()
        .all(|name| mask(name).is_some_and(|bits| bits & 1 == 0))
}

/// Ticks (of 10 ms) between the first and the last worker of one reload. Those of two lie 10 ticks apart at least: nginx rests
/// 100 ms after it has started the workers of a reload, with its signals blocked.
const ONE_BATCH: u64 = 8;

/// True if these workers can only have been started by one reload. A worker that replaces one that crashed, or a machine
/// that forks slowly, makes it false as well.
pub(super) fn one_batch(workers: &[Worker]) -> bool {
    let starts = || workers.iter().map(|worker| worker.start);
    match (starts().min(), starts().max()) {
        (Some(first), Some(last)) => last - first <= ONE_BATCH,
        (None, _) | (_, None) => true,
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
        start(self.pid) == Some(self.start)
            && title(self.pid).is_some_and(|title| !title.is_empty())
    }

    /// True while it takes new connections: nginx changes the title of a worker that no longer does.
    pub(super) fn accepts(self) -> bool {
        self.lives() && title(self.pid).is_some_and(|title| title == WORKER)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn pid_file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_pid_file_that_names_no_master_says_what_it_names() {
        let me = std::process::id().to_string();
        for (text, says) in [
            ("", "is empty"),
            ("\n", "is empty"),
            ("abc", "holds `abc`"),
            ("-1", "holds `-1`"),
            ("0", "holds `0`"),
            ("1 2", "holds `1 2`"),
            ("99999999999", "holds `99999999999`"),
            ("4194305", "names process 4194305, which is gone"),
            (me.as_str(), "and was left alone"),
        ] {
            let file = pid_file(text);
            let error = Master::look(file.path()).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        let error = Master::look(Path::new("/nonexistent/nginx.pid")).unwrap_err();
        assert!(matches!(error, MasterError::Missing { .. }), "{error}");
    }

    #[test]
    fn a_master_that_loads_or_is_yet_to_load_does_not_idle() {
        let status = |pending: &str, shared: &str, blocked: &str| {
            format!(
                "Name:\tnginx\nSigPnd:\t{pending}\nShdPnd:\t{shared}\nSigBlk:\t{blocked}\nSigCgt:\t0000000018016a07\n"
            )
        };
        let none = "0000000000000000";
        let loading = "0000000018016a07";
        for (status, expected) in [
            (status(none, none, none), true),
            (status(none, none, "0000000000000002"), true),
            (status(none, none, loading), false),
            (status(none, "0000000000000001", none), false),
            (status("0000000000000001", none, none), false),
            (String::new(), false),
        ] {
            assert_eq!(idles(&status), expected, "{status}");
        }
    }

    #[test]
    fn workers_of_two_reloads_are_no_batch() {
        let workers = |starts: &[u64]| -> Vec<Worker> {
            starts
                .iter()
                .map(|start| Worker {
                    pid: 1,
                    start: *start,
                })
                .collect()
        };
        assert!(one_batch(&workers(&[])));
        assert!(one_batch(&workers(&[1_000, 1_008, 1_003])));
        assert!(!one_batch(&workers(&[1_000, 1_010])));
    }

    #[test]
    fn a_process_is_told_from_a_later_one_by_its_start() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let worker = Worker {
            pid,
            start: start(pid).unwrap(),
        };
        assert!(worker.lives() && !worker.accepts());
        let later = Worker {
            start: worker.start + 1,
            ..worker
        };
        assert!(!later.lives());
    }
}
