//! The process that a pid file names, held by a pidfd before anybody looks at it: whatever is signalled then is what was looked at,
//! though its number may have gone to another one meanwhile. It says nothing of what the process is.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Why no process is held. Each balancer has its own words for it.
#[derive(Debug)]
pub(super) enum PidFileError {
    Missing {
        path: PathBuf,
    },
    Unreadable {
        path: PathBuf,
        source: io::Error,
    },
    Empty {
        path: PathBuf,
    },
    /// It holds something else than a number: the first 40 characters of it.
    Garbage {
        path: PathBuf,
        text: String,
    },
    /// No process has that number.
    Stale {
        path: PathBuf,
        pid: i32,
    },
}

/// The number in `pid_file`, and the process that has it now.
pub(super) fn held(pid_file: &Path) -> Result<(i32, OwnedFd), PidFileError> {
    let path = pid_file.to_owned();
    let text = match fs::read_to_string(pid_file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(PidFileError::Missing { path });
        }
        Err(source) => return Err(PidFileError::Unreadable { path, source }),
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(PidFileError::Empty { path });
    }
    let Some((number, pid)) = text
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .and_then(|number| Some((number, Pid::from_raw(number)?)))
    else {
        let text = text.chars().take(40).collect();
        return Err(PidFileError::Garbage { path, text });
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok((number, fd)),
        Err(_gone) => Err(PidFileError::Stale { path, pid: number }),
    }
}
