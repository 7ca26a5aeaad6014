//! What turnout talks about, as values: colors, splits, services, positions, routing tables, health.
//!
//! Pure: no clock, no file, no socket, no log. Every other layer speaks in these types, so that one word means one thing
//! everywhere. Nothing here imports from the rest of the crate.

mod bucket;
mod canary;
mod chain;
mod color;
mod health;
mod names;
mod position;
mod rate;
mod routing;
mod server;
mod service;
mod shape;
mod split;
mod tally;
mod traffic;
mod verdict;
pub mod whole;

pub use bucket::{Bucket, Hashing, sample_key, threshold};
pub use canary::{CanaryAsk, CanarySource, JudgeKind, PolicyAsk, WalkAsk};
pub use chain::describe;
pub use color::{Color, Colors, ParseColorError};
pub use health::{Health, HealthEvent, ProbeFailure, ProbeOutcome, ServerHealth};
pub use names::{HostPattern, InvalidName, ServiceName};
pub use position::{Position, PositionError, Strategy};
pub use rate::{RateBy, RateRule};
pub use routing::{Admission, AliasRoute, Generation, Route, RoutingTable};
pub use server::Server;
pub use service::{
    AccessLog, Expectation, HealthPolicy, Limits, OnUnhealthy, PublicUrl, Service, StatusRange,
    Sticky, Timeouts, TlsFiles, Upstream,
};
pub use shape::ShapeDigest;
pub use split::{Split, SplitError, Weight};
pub use tally::{
    CLIENT_GONE, Carried, Counted, DURATION_BOUNDS, RouterFigures, STATUS_LABELS, Tally,
    duration_bound, duration_place, status_place,
};
pub use traffic::{Maintenance, Traffic, TrafficMode};
pub use verdict::{Arm, Decision, Evidence, Metric, Paired, Sample, Verdict};
