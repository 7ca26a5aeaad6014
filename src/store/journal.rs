//! The journal of intents and outcomes, and the audit log.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ServiceState;
use crate::domain::{Generation, ServiceName};

/// What is about to be done: enough to finish it, or to see that it was never done.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// The generation that it makes.
    pub generation: Generation,
    /// The generation that it starts from.
    pub base: Generation,
    /// When.
    pub time: Timestamp,
    /// The verb: `switch`, `weights`, `apply`, `failover` …
    pub action: String,
    /// Who: a token's name, `user@host (cli)`, `turnout` for what it does by itself.
    pub actor: String,
    /// `-m`.
    pub message: Option<String>,
    /// The balancer.
    pub balancer: String,
    /// The state of the services that it changes, as it will be.
    pub changes: BTreeMap<ServiceName, ServiceState>,
}

/// How an intent ended without a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was touched.
    Unchanged,
    /// It was undone, and that was proved.
    Restored,
    /// It could not be undone.
    NotRestored,
}

/// A line of `deployments.jsonl` (CONTRACT 3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When it ended.
    pub timestamp: Timestamp,
    /// The service; `None` for what concerns all of them.
    pub service: Option<ServiceName>,
    /// The color concerned, as it is after the change.
    pub environment: Option<crate::domain::Color>,
    /// The version that color runs, if known.
    pub version: Option<String>,
    /// The verb.
    pub action: String,
    /// Whether it was done.
    pub success: bool,
    /// `-m`, or why it failed.
    pub message: String,
    /// Who.
    pub actor: String,
    /// From the command to its answer.
    pub duration_ms: u64,
}
