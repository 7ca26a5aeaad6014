//! The change lock (one writer at a time) and the serve lock (one daemon for each state directory).

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AuditEntry, Intent, Outcome, State, Store, StoreError};
use crate::balancer::Applied;

/// Who holds a lock; written into the lock file for the one who waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// What it runs, such as `turnout switch green`.
    pub command: String,
    /// The user's name, or number.
    pub user: String,
    /// Since when.
    pub since: Timestamp,
    /// `-m`.
    pub message: Option<String>,
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it. Exit 75, status 423.
    #[error("{path} is held by {}", holder.as_ref().map_or_else(|| "an unknown process".to_owned(), ToString::to_string))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What it says about its holder; `None` if that is unreadable.
        holder: Option<Holder>,
    },
    /// The lock file could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} (pid {}, `{}`) since {}",
            self.user, self.pid, self.command, self.since
        )
    }
}

/// Held for the life of a daemon.
#[derive(Debug)]
pub struct ServeLock {}

/// Whether the locks are held, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockStatus {
    /// The change lock's holder; `None`: free.
    pub change: Option<Holder>,
    /// The daemon; `None`: none runs.
    pub serve: Option<Holder>,
}

/// Held for one change. Everything that is written goes through it.
#[derive(Debug)]
pub struct ChangeLock {}

/// An intent that is on disk and not yet settled.
#[derive(Debug)]
#[must_use = "an intent must be committed or given up"]
pub struct Begun {}

impl Store {
    /// Takes the change lock, waiting up to `wait`. Makes the state directory if there is none.
    pub async fn lock(&self, holder: Holder, wait: Duration) -> Result<ChangeLock, LockError> {
        todo!()
    }

    /// Takes the serve lock at once or not at all.
    pub fn serve_lock(&self, holder: Holder) -> Result<ServeLock, LockError> {
        todo!()
    }

    /// Who holds what. Changes nothing.
    pub fn lock_status(&self) -> Result<LockStatus, StoreError> {
        todo!()
    }
}

impl ChangeLock {
    /// Writes the intent into the journal and `target` beside the state file, and syncs both. When this fails nothing has
    /// been changed.
    pub fn begin(&mut self, intent: Intent, target: &State) -> Result<Begun, StoreError> {
        todo!()
    }

    /// Records a proved outcome: done (fsync), then the state file, then `active/SERVICE`. On an error the journal is as
    /// before `done`, and the caller must bring the balancer back to the old table.
    pub fn commit(&mut self, begun: &Begun, applied: &Applied) -> Result<(), StoreError> {
        todo!()
    }

    /// Records that an intent came to nothing.
    pub fn give_up(
        &mut self,
        begun: Begun,
        outcome: Outcome,
        error: &str,
    ) -> Result<(), StoreError> {
        todo!()
    }

    /// Settles an intent that a dead process left open ([`super::Loaded::open`]): as done (its changes are in force by the
    /// given proof; the state is written) …
    pub fn settle_done(&mut self, intent: &Intent, applied: &Applied) -> Result<State, StoreError> {
        todo!()
    }

    /// … or as never done.
    pub fn settle_failed(
        &mut self,
        intent: &Intent,
        outcome: Outcome,
        error: &str,
    ) -> Result<(), StoreError> {
        todo!()
    }

    /// Appends to the audit log.
    pub fn audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        todo!()
    }
}
