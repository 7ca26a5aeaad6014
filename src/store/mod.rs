//! What turnout remembers, and how it survives being killed: state file, journal, audit log, locks.
//!
//! The order of one change is intent (fsync) → effect → proof → done (fsync) → state file (temp, fsync, rename, fsync of
//! the directory). The state file's temporary is written and synced together with the intent, so that a full disk shows
//! before anything has an effect; what is left after the proof is one small append and one rename. Every change is made
//! through a [`ChangeLock`], which the kernel frees when its holder dies. A state file that cannot be read is never
//! overwritten: it is put aside under another name, and the journal says what it held. Nothing here talks to a balancer.

mod active;
mod audit;
mod change;
mod disk;
mod journal;
mod kept;
mod lock;
mod recover;
mod rollouts;
mod staged;
mod state;
mod wire;
mod writer;

#[cfg(test)]
mod tests;

pub use audit::AuditEntry;
pub use change::{Begun, ChangeLock};
pub use journal::{Intent, Outcome};
pub use lock::{Holder, LockError, LockStatus, ServeLock};
pub use rollouts::{Found, OVER_KEPT};
pub use staged::Staged;
pub use state::{
    AliasState, DoorSeen, Governed, Loaded, Origin, ServiceState, State, Store, StoreError,
};
