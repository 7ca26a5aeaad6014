//! What the files said when they were last read, beside their bytes, so that what has not changed is not decoded again.
//!
//! A daemon reads its state several times for each change and once for each look. The files stay what counts: they are read
//! each time, and only where the bytes are the same is their meaning taken from here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::State;
use super::journal::Records;

/// Shared by the clones of a store.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Read>>);

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The state file, where it could be read.
    pub(super) state: Option<(Vec<u8>, State)>,
    /// The whole lines of the journal, and what they say.
    pub(super) journal: (Vec<u8>, Records),
}

impl Kept {
    /// For one reading of the files.
    pub(super) fn read(&self) -> MutexGuard<'_, Read> {
        // whoever panicked has left a whole value: both are replaced at once
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
