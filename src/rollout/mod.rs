//! Rollouts: the walk of a candidate from its first percent to all of the traffic, judged on its way. Pure.
//!
//! `phase` has the words, `walk` one rollout's place on its way, `machine` what happens to it (with the diagram), `judge` the
//! judges, `terms` what it is to be, `record` all of it as it is kept, `report` what happened and why, for people. Whoever drives it, `controller`, hands in events and does what comes out; nothing
//! here knows a clock, a file or a balancer.

pub mod judge;
mod machine;
mod phase;
mod record;
pub mod report;
mod terms;
mod walk;

pub use machine::{Action, Event, Refusal};
pub use phase::{Course, CourseError, End, Mood, Phase, Status};
pub use record::{InvalidId, Moved, Record, RolloutId, Subject};
pub use terms::{Terms, TermsError, Told, policy_of};
pub use walk::Walk;
