//! What is seen of a balancer: on disk, in what it serves, through front doors, and by those who look after it. Says how things
//! are, and never what to do about them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::domain::{Color, Generation, ServiceName, Split};

/// What a balancer was seen to do, without changing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What stands on disk; `None` where the balancer has no files.
    pub disk: Option<Disk>,
    /// What is served.
    pub served: Served,
}

/// The file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// There is none.
    Absent,
    /// Written by turnout and untouched since.
    Intact {
        /// Its generation.
        generation: Generation,
        /// The splits it says, by service.
        splits: BTreeMap<ServiceName, Split>,
    },
    /// Written by turnout and edited since.
    Edited {
        /// The generation in the head of the balancer's file.
        generation: Generation,
        /// The file that was edited: that one, or one that goes with it.
        path: PathBuf,
    },
    /// Not written by turnout, or without a readable head.
    Foreign,
    /// It could not be read.
    Unreadable {
        /// Why.
        reason: String,
    },
}

/// What one request through a front door showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DoorLook {
    /// This color answered.
    Color {
        /// Address and host, or the URL.
        door: String,
        /// Which.
        color: Color,
    },
    /// Turnout answered that nobody is healthy.
    Nobody {
        /// Address and host, or the URL.
        door: String,
    },
    /// Somebody answered who is not turnout; how, and what to do.
    Elsewhere(String),
    /// Nothing came; why.
    Silent(String),
}

/// What clients get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// A configuration of turnout's.
    Generation {
        /// Which.
        generation: Generation,
        /// What the running workers say of each service: its split, or the one color that a keyless request gets.
        splits: BTreeMap<ServiceName, Split>,
    },
    /// The balancer runs, but not with a configuration of turnout's.
    Foreign {
        /// What was seen.
        reason: String,
    },
    /// The balancer does not run, or cannot be asked.
    Unreachable {
        /// What was seen.
        reason: String,
    },
}

impl Served {
    /// The color that one service's traffic is wholly seen on, if that is so.
    pub fn whole(&self, service: &ServiceName) -> Option<Color> {
        match self {
            Self::Generation { splits, .. } => splits.get(service).and_then(|split| split.whole()),
            Self::Foreign { .. } | Self::Unreachable { .. } => None,
        }
    }
}

/// One thing that `doctor` looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Fine(String),
    /// It works, and could be better.
    Advice(String),
    /// A change would fail.
    Problem(String),
}

/// What came of a daemon's look at a balancer that somebody else has been at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tended {
    /// Nobody has, seen under the lock.
    Nothing,
    /// Somebody has, and it serves what it should.
    Seen(String),
    /// Somebody has, and it was brought back to what it should serve.
    PutRight(String),
    /// Somebody has, and it could not be brought back.
    Failed(String),
}

/// Whether a color that was left has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drained {
    /// Nothing is in flight on it.
    Done,
    /// Something still was at the deadline.
    Busy {
        /// What, such as `2 old workers of nginx (pids 12, 13)`.
        what: String,
    },
}
