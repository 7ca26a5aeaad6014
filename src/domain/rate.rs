//! A rate limit as the configuration gives it: how many requests, over what time, whose, and on which paths.

use std::time::Duration;

use serde::Serialize;

/// One rule of `limits.rate`: a bucket of `burst` tokens that `requests` tokens flow into during each `per`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RateRule {
    /// Tokens for each `per`, at least 1.
    pub requests: u32,
    /// At least a millisecond, at most a day.
    pub per: Duration,
    /// Tokens that a full bucket holds, at least 1: so many requests pass at once.
    pub burst: u32,
    /// Who shares a bucket.
    pub by: RateBy,
    /// The paths that are meant, each with all that is below it; none: every path.
    pub paths: Vec<String>,
}

/// Who shares a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum RateBy {
    /// Each client address has one; an IPv6 client its /64, which is what one subscriber has.
    Client,
    /// All clients of the service together.
    Service,
}
