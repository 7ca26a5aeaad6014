//! As many open files as this process may have: each client connection is one, and each connection to a server.
//!
//! Debian gives a process 1,024 of them and lets it take many more by itself; a daemon that does not would stop accepting at
//! a thousand clients.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. What cannot be had is logged, and the daemon goes on with less.
pub(super) fn raise() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(())
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised; see `ulimit -n`");
    }
}
