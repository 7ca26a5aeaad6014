//! What the integration tests stand on: real nginx, real loopback servers, the real binary, a load of real connections.
//!
//! Nothing here knows how turnout works inside; what it knows is the contract (files, commands, endpoints, headers, exit
//! codes). Everything that is started is stopped when its value is dropped, and lives in a folder and on ports of its own,
//! so that tests run side by side. Tests that measure take [`alone`], all others [`shared`].

mod backend;
mod http;
mod load;
mod nginx;
mod ports;
mod process;
mod report;
mod site;
mod turnout;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

pub(crate) use backend::{Backend, Mode};
pub(crate) use http::{Answer, Connection, Failure, get};
pub(crate) use load::{Class, Load};
pub(crate) use nginx::{Nginx, NginxSetup, as_user, own_tls_server};
pub(crate) use ports::Ports;
pub(crate) use process::{Background, Ran, Run};
pub(crate) use report::{Event, Report, Sample};
pub(crate) use site::Site;
pub(crate) use turnout::{Api, BINARY, Daemon, Turnout};

/// Within which what comes anyway has come, on a machine that does ten other things too. A bound for failures: nothing is
/// ever measured by it.
pub(crate) const SOON: Duration = Duration::from_mins(1);

static TURN: RwLock<()> = RwLock::new(());

/// The turn of a test that may run beside others. Taken first in every test that starts a process.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

/// The turn of a test that measures: nothing else runs meanwhile. On two cores, what runs beside it would be measured too.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// Asks `look` every few milliseconds until it finds something; fails with `what` after `deadline`.
pub(crate) fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            begin.elapsed() < deadline,
            "waited {deadline:?} for {what}, and it did not come"
        );
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// Whether this process may do what only root can. In CI it must: there nothing is skipped; elsewhere the reason is printed.
pub(crate) fn is_root(purpose: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "CI must run the tests as root: {purpose}"
    );
    println!("not run, because it needs root: {purpose}");
    false
}
