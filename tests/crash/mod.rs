//! Killed or failed at every step of a switch, and of the first apply of all: afterwards there is one color, and state, file and served configuration
//! agree on it.
//!
//! strace makes the steps: it kills the command, or fails one of its system calls, at the n-th call on a file. The calls
//! come from a recording of a whole switch, so that a new file or another order is found by itself. A fault that strikes in
//! each call of a kind from the n-th on (`n+`) stands for a disk that stays full or broken.

mod daemon;
mod recovery;
mod steps;
mod strace;

use std::collections::BTreeMap;

use turnout::domain::Color;

use crate::support::{Ran, Site};

/// Those that can fail for a disk's sake.
const DISK_CALLS: &[&str] = &[
    "write",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "symlink",
    "symlinkat",
];

/// What is struck.
const SWITCH: &[&str] = &["switch", "green"];

/// The error that such a call has on a bad disk, or on a full one.
fn error_of(call: &str) -> &'static str {
    if call.ends_with("sync") {
        "EIO"
    } else {
        "ENOSPC"
    }
}

/// State, file and served color agree, whoever is asked; and this is the color.
#[track_caller]
fn agreed(site: &Site, context: &str) -> Color {
    let served = site.served();
    assert_eq!(site.recorded(), served, "state and served color, {context}");
    site.turnout().ok(&["verify"]);
    // what stands on disk, by nginx's own reading of it
    site.balancer().reload();
    assert_eq!(
        site.served(),
        served,
        "the color that the file gives, {context}"
    );
    served
}

#[derive(Debug, Default)]
struct Tally {
    points: u32,
    killed: u32,
    codes: BTreeMap<i32, u32>,
    /// Blue, green.
    colors: [u32; 2],
}

impl Tally {
    fn count(&mut self, ran: &Ran) {
        self.points += 1;
        match ran.code() {
            Some(code) => *self.codes.entry(code).or_default() += 1,
            None => self.killed += 1,
        }
    }
}
