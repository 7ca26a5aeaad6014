//! The serde mirror of the YAML: every key, as it may stand in a file, and the JSON Schema that is made from it.
//!
//! Nothing has a default here and everything may be left out (or be null): defaults and checks come with the valid types.
//! Keys of features to come are here from the start, so that a file is checked as a whole by every version. The text itself
//! is read by `yaml`, held against the schema by `shape`, and only what fits is deserialized into these types.

mod balancer;
mod prometheus;
mod release;
mod root;
mod service;

pub(super) use balancer::{
    Balancer, Fallback, Haproxy, Kind, Nginx, Reload, ReloadWord, Switching,
};
pub(super) use prometheus::Prometheus;
pub(super) use release::{Judge, Notify, Policy, Smoke, Source, SourceWord, Walk, Workload};
pub use root::schema;
pub(super) use root::{Control, Follow, Fragment, May, Root, Token, shape_of};
pub(super) use service::{
    Color, Colored, Health, Limits, OnUnhealthy, Rate, RateBy, RateRule, Service, Sticky,
    StickyKeys, Strategy, Timeouts, Written,
};
