//! Health probes: one request on a new connection, bounded in time and bytes, and the schedule that makes them.
//!
//! A probe says what came and judges it by the service's expectation; what that means for a server's health is
//! `domain::health`'s to say, and what it means for the traffic the controller's. Nothing is logged here: every outcome is
//! reported.

mod alias;
mod once;
mod schedule;

pub use crate::resolve::Known;
pub use alias::{Aliases, Seen, Sighting, look_at};
pub use once::probe;
pub use schedule::{Probes, Report};

#[cfg(test)]
mod tests;
