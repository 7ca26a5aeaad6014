//! The one owner of the state: every change of traffic goes through here, from a command, the API, a followed file or a
//! failed probe alike.
//!
//! One change is: lock → load → settle what a dead process left open → desired position (pure) → gate (health) → plan →
//! journal intent → `Balancer::apply` → journal done → state file → audit. A [`Controller`] does that for whoever owns it:
//! a one-shot command directly, a daemon through `task` and its cloneable [`Handle`]. Nothing below calls upward, and nothing
//! else writes to the store.

mod change;
mod desired;
mod error;
mod health;
mod look;
mod recover;
mod request;
mod status;
mod task;

pub use change::Controller;
pub use error::ChangeError;
pub use request::{Origin, Outcome, Request, Verb};
pub use status::{
    Columns, Drift, DriftKind, HealthBook, ServerStatus, ServiceStatus, Status, Verification,
    VerifiedService,
};
pub use task::{Fact, Handle, Proof, spawn};

/// The causes inside [`ChangeError`], for the edges that turn each into a status or an exit code.
pub use crate::{
    balancer::{ApplyError, RenderError},
    store::{LockError, StoreError},
};
