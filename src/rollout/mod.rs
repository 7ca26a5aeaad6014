//! Rollouts: the walk of a candidate from its first percent to all of it, and what is made of the figures on the way.
//!
//! Pure: no clock, no file, no socket, no log; time is an argument. Imports from `domain` alone.

pub mod judge;
pub mod report;
