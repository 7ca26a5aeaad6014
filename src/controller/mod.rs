//! The one owner of the state: every change of traffic goes through here, from a command, the API, a followed file or a
//! failed probe alike.
//!
//! One change is: lock → load → settle what a dead process left open → desired position (pure) → gate (health) → plan →
//! journal intent → `Balancer::apply` → journal done → state file → audit. A [`Controller`] does that for whoever owns it:
//! a one-shot command directly, a daemon through `task` and its cloneable [`Handle`]. Nothing below calls upward, and nothing
//! else writes to the store.

mod alias;
mod audit;
mod change;
mod decide;
mod desired;
mod drain;
mod error;
mod events;
mod facts;
mod follow;
mod handle;
mod health;
mod heed;
mod look;
mod meter;
mod patience;
mod planned;
mod publish;
mod queue;
mod recover;
mod released;
mod relief;
mod request;
mod revive;
mod rollouts;
mod stage;
mod standing;
mod status;
mod tables;
mod task;
mod tend;
mod told;
mod verify;

pub use alias::AliasStatus;
pub use audit::SO_ALREADY;
pub use change::Controller;
pub use error::ChangeError;
pub use events::{Event, Events, Gap, Reader, Since};
pub use handle::{Fact, Handle, Proof};
pub use meter::{LastApply, Meter, NO_COLOR, Sight};
pub use released::{Release, Released};
pub use request::{Origin, Outcome, Provided, Request, Verb};
pub use rollouts::{
    BeginRollout, Feed, Look, Looking, OtherRollout, Passes, Purpose, RolloutError, RolloutJudge,
    RolloutRequest, RolloutSource, RolloutStatus, RolloutVerb, RolloutWish, Silence,
};
pub use standing::Standing;
pub use status::{
    Columns, Drift, DriftKind, HealthBook, ServerStatus, ServiceStatus, Status, Verification,
    VerifiedService,
};
pub use task::spawn;

/// The causes inside [`ChangeError`], for the edges that turn each into a status or an exit code, and what [`Handle::history`]
/// answers.
pub use crate::rollout::{InvalidId, RolloutId, Status as RolloutStanding};
pub use crate::{
    balancer::{ApplyError, Duty, Fallback, RenderError},
    store::{AuditEntry, LockError, StoreError},
};

#[cfg(test)]
mod tests;
