//! The one owner of the state: every change of traffic goes through here, from a command, the API, a followed file or a
//! failed probe alike.
//!
//! One change is: lock → load → settle what a dead process left open → desired position (pure) → gate (health) → plan →
//! journal intent → `Balancer::apply` → journal done → state file → audit. A [`Controller`] does that for whoever owns it:
//! a one-shot command directly, a daemon through `task` and its cloneable [`Handle`]. Nothing below calls upward, and nothing
//! else writes to the store.

mod change;
mod error;
mod recover;
mod request;
mod status;
mod task;

pub use change::Controller;
pub use error::ChangeError;
pub use request::{Outcome, Request, Verb};
pub use status::{
    Columns, Drift, DriftKind, ServerStatus, ServiceStatus, Status, Verification, VerifiedService,
};
pub use task::{Fact, Handle};
