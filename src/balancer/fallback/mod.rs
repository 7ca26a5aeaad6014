//! The embedded proxy in the place of nginx or HAProxy, for as long as that is gone (`balancer.fallback`).
//!
//! [`Backed`] is the balancer that the controller drives: it is the other one ([`Principal`]), and its [`StandIn`] where that
//! has taken over. State, journal and `auto` know the principal alone: a fallback is no other balancer, and no position moves.
//!
//! ```text
//!              gone at 3 looks in a row, and every address can be bound
//!   aside ─────────────────────────────────────────────────────────────► serving
//!     ▲                                                          ▲          │ release
//!     │ the principal is there                                   │          ▼ (listeners closed, the rest drains)
//!     └──────────────────────────────────────────────────────────┼────── released
//!                                                                └──────────┘ not there at 3 looks, or its start failed
//! ```
//!
//! **Gone** means all of: no process that the pid file names, nobody behind its private listener or socket, and nobody on any
//! listen address. A principal that hangs, reloads, starts slowly, or whose workers outlived the master still holds its
//! addresses; two cannot listen on one, so it cannot be taken over from, whatever was seen before.
//!
//! **A change meanwhile** goes both ways: the principal's files first (checked by its own program, kept as after any change),
//! then the proxy that serves, whose proof counts. So a principal that comes back starts with what was answered last. If the
//! proxy does not take it, the files are put back.
//!
//! What it must never do: listen while the principal may; serve anything but what the state says; know a service without
//! `listen`, which stands in a server block of the user's own.

mod backed;
#[cfg(test)]
pub(crate) mod fake;
mod files;
mod stand_in;
mod told;

use std::path::{Path, PathBuf};

use super::{ApplyError, Balancer, Change, Served};
use crate::domain::Hashing;

pub use backed::Backed;
pub use files::Put;
pub use stand_in::StandIn;
pub use told::{Duty, Fallback};

/// Whether a principal is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It runs, or starts, or nobody looks after it.
    Here,
    /// No process and no private listener is left of it; why that is known.
    Gone(String),
    /// Neither can be said, so it is not gone; what was seen.
    Unclear(String),
}

/// A balancer outside of this process that can be stood in for.
pub trait Principal: Balancer {
    /// How it finds the color of a key.
    fn hashing(&self) -> Hashing;

    /// The state directory.
    fn state_dir(&self) -> &Path;

    /// The file of its that says which generation stands on disk.
    fn leading_file(&self) -> PathBuf;

    /// Checks the files of `change` by its own program and installs them, for its next start. It is not told, and what they
    /// replace is kept until the caller settles it.
    fn put(&self, change: &Change<'_>) -> impl Future<Output = Result<Put, ApplyError>> + Send;

    /// Whether it serves by a configuration of turnout's, of whatever generation, so that the clients may be left to it; if not,
    /// what is seen. Asked every 20 ms after a release.
    fn serves(&self) -> impl Future<Output = Result<(), String>> + Send {
        async {
            match self.observe().await.served {
                Served::Generation { .. } => Ok(()),
                Served::Foreign { reason } | Served::Unreachable { reason } => Err(reason),
            }
        }
    }
}
