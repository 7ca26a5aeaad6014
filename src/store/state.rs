//! The state file: where every service's traffic is after the last proved outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Intent;
use super::kept::Kept;
use super::recover::survey;
use crate::domain::{
    Admission, Color, Colors, Generation, Position, ServiceName, ShapeDigest, Strategy, Traffic,
};
use crate::rollout::RolloutId;

/// The position after the last proved outcome. Written as JSON by `wire`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// The generation that was proved last.
    pub generation: Generation,
    /// The balancer that was proved last (`nginx`, `embedded`), so that `auto` does not change its mind.
    pub balancer: Option<String>,
    /// Every service with colors that was ever applied, by name.
    pub services: BTreeMap<ServiceName, ServiceState>,
    /// Every service behind an alias that is in force, by name.
    pub aliases: BTreeMap<ServiceName, AliasState>,
}

/// One service behind an alias, in the state. There is nothing of it that a person moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliasState {
    /// The shape that was put into force last.
    pub shape: Option<ShapeDigest>,
    /// Whether a balancer without probes of its own answers with 503 in its place.
    #[serde(default, skip_serializing_if = "Admission::is_open")]
    pub admission: Admission,
}

/// One service in the state.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceState {
    /// Where its traffic is.
    pub position: Position,
    /// The color that was active before the last switch; where `rollback` goes.
    pub previous: Option<Color>,
    /// Failover in force: everything goes to this color although the position says otherwise.
    pub overlay: Option<Color>,
    /// Colors that nginx answers with 503 while they are unhealthy.
    pub refused: BTreeSet<Color>,
    /// The color that a person forced traffic onto although it was unhealthy: no failover away from it until it was healthy
    /// once, or the next change.
    pub forced: Option<Color>,
    /// The shape that was put into force last; `None`: the service is not in force (it was taken out of the configuration),
    /// or the state is of an earlier turnout, which kept none.
    pub shape: Option<ShapeDigest>,
    /// Whether its front door was ever seen to lead to turnout.
    pub door: DoorSeen,
    /// Whether an operator holds its requests, or has put it into maintenance.
    pub traffic: Traffic,
    /// The version each color is known to run.
    pub versions: Colors<Option<String>>,
    /// The rollout that its traffic is in; `None`: it is in none.
    pub rollout: Option<Governed>,
    /// When the position was last moved.
    pub since: Timestamp,
}

/// The rollout that a service's traffic is in. Set by its first weight and taken away by whatever ends it, in the same change as
/// the position: whoever moves the traffic otherwise takes it away too, and the rollout knows by that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Governed {
    /// Which.
    pub id: RolloutId,
    /// The strategy before, which the service gets back at the end.
    pub strategy: Strategy,
}

/// Whether a proof ever saw turnout behind a service's front door. Where the user's own server block listens, the first
/// apply writes what that block is yet to include, so until then the door cannot show it: that is so for a new service, and
/// for one that turnout listened for before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoorSeen {
    /// There is none but turnout's own listener, which comes and goes with turnout's file: nothing to wait for.
    #[default]
    Own,
    /// It was seen: from then on another answer is a failure.
    Seen,
    /// It was not seen yet.
    Pending,
}

impl DoorSeen {
    /// For leaving the default out of the file.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    pub(super) const fn is_own(&self) -> bool {
        matches!(self, Self::Own)
    }
}

/// What was found.
#[derive(Debug)]
pub struct Loaded {
    /// The state to go on from.
    pub state: State,
    /// Where it came from.
    pub origin: Origin,
    /// An intent without an outcome: the process that wrote it died, or is at work right now. Only who holds the change
    /// lock can tell, and must settle it before the next change.
    pub open: Option<Intent>,
    /// The highest generation that any change ever had, failed ones too. The next one should be above it: what a failed
    /// change left behind may still be served under its number.
    pub used: Generation,
    /// What a person should know of the files, such as an unreadable line in the journal that was done without.
    pub warnings: Vec<String>,
}

/// Where a state came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// There is no state file: start from the configuration.
    Fresh,
    /// The state file (brought up to date from the journal, where that has a later outcome).
    File,
    /// The state file is unreadable for this reason; this is `.bak` brought up to date from the journal.
    Backup(String),
    /// Neither could be read for this reason; this is the journal alone.
    Journal(String),
}

/// Why the state directory cannot be read or written. Each text names the path; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("failed to {action} {path}")]
    Io {
        /// "read", "write", "sync" …
        action: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// State file, backup and journal are all unreadable. The balancer may still be asked.
    #[error("{path} cannot be read: {reason}; neither can its backup or the journal")]
    Corrupt {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Written by a later turnout.
    #[error(
        "{path} has version {found}, and this turnout knows versions up to {known}: upgrade turnout"
    )]
    Newer {
        /// The state file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The last version that is known.
        known: u64,
    },
    /// The change does not follow from what is recorded, or its lock is not what it was: it was computed before the lock was
    /// had, an open intent was not settled, or the proof is of another generation.
    #[error("{path} refuses the change: {reason}")]
    OutOfOrder {
        /// The journal or lock file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A symbolic link, FIFO, device, another user's file, or one that the world may write.
    #[error("{path} is refused: {reason}")]
    Unsafe {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The state directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    pub(super) kept: Kept,
}

impl Store {
    /// A store in `dir`. Neither touches nor checks it: reading works without write permission, and the directory is made by
    /// the first change.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            kept: Kept::default(),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is remembered. Needs no lock: files are replaced whole, and journals only grow.
    pub fn load(&self) -> Result<Loaded, StoreError> {
        survey(&self.dir, &mut self.kept.read())?.outcome
    }
}
