//! What the handle is told of all threads together: whether they route by a snapshot, and how they ended.

use std::time::Duration;

/// Not every thread said that it routes by the new snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{missing} of {threads} proxy threads, or a process before this one that still finishes its requests, do not route by the new table after {waited:?}"
)]
pub struct Unacknowledged {
    /// How many did not.
    pub missing: usize,
    /// How many there are.
    pub threads: usize,
    /// How long was waited.
    pub waited: Duration,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut at the deadline; 0: everything was finished.
    pub cut: u64,
}
