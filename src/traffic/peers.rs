//! Who is believed: root, turnout's own user, and the users of the balancer's workers.
//!
//! Everybody on the host can write to the socket, and what is counted may roll a version back. The kernel says who sent each
//! datagram. Where the balancer's processes are out of sight, as in another container, whoever can reach the socket is believed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks for the sake of somebody unknown, so that a stranger who writes without end costs nothing.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Peers {
    /// The balancer's pid file.
    pid: PathBuf,
    users: Vec<u32>,
    looked: Option<Instant>,
    out_of_sight: bool,
}

impl Peers {
    pub(super) fn of(pid: PathBuf) -> Self {
        Self {
            pid,
            users: Vec::new(),
            looked: None,
            out_of_sight: false,
        }
    }

    /// Whether `user`'s datagrams count.
    pub(super) fn believes(&mut self, user: u32) -> bool {
        if user == 0 || user == nix::unistd::geteuid().as_raw() || self.users.contains(&user) {
            return true;
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= AGAIN) {
            self.looked = Some(Instant::now());
            let found = workers(&self.pid);
            self.out_of_sight = found.is_none();
            self.users = found.unwrap_or_default();
            return self.out_of_sight || self.users.contains(&user);
        }
        self.out_of_sight
    }
}

/// The users of the children of the process that the file names; `None` where there is none to be seen.
fn workers(pid: &Path) -> Option<Vec<u32>> {
    let master: u32 = fs::read_to_string(pid).ok()?.trim().parse().ok()?;
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).ok()?;
    let users = children
        .split_whitespace()
        .filter_map(|child| fs::metadata(format!("/proc/{child}")).ok())
        .map(|process| process.uid());
    Some(users.collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_user_of_no_worker_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let mut file = fs::File::create(&pid).unwrap();
        write!(file, "{}", std::process::id()).unwrap();
        let mut peers = Peers::of(pid);
        let own = nix::unistd::geteuid().as_raw();
        assert!(peers.believes(own));
        assert!(!peers.believes(own + 4_711));
        // out of sight
        let mut elsewhere = Peers::of(folder.path().join("none"));
        assert!(elsewhere.believes(own + 4_711));
    }
}
