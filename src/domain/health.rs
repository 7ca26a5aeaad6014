//! The health of one server, as a pure machine over the outcomes of its probes.
//!
//! ```text
//!             pass × healthy_after                     fail × unhealthy_after
//!  Unknown ─────────────────────────► Healthy  ─────────────────────────────► Unhealthy
//!     │                                  ▲                                        │
//!     └── fail × unhealthy_after ──► Unhealthy ◄───────────────────────────────┘
//!                                        └──────── pass × healthy_after ──► Healthy
//! ```
//!
//! A flapping server (pass, fail, pass …) therefore changes nothing until one side comes often enough in a row.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::HealthPolicy;

/// What is known of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not probed often enough to tell.
    Unknown,
    /// Passed `healthy_after` times in a row, and has not failed `unhealthy_after` times since.
    Healthy,
    /// Failed `unhealthy_after` times in a row, and has not passed `healthy_after` times since.
    Unhealthy,
}

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProbeFailure {
    /// Nobody listens there.
    Refused,
    /// The name has no address.
    Unresolved {
        /// What the resolver said.
        message: String,
    },
    /// No whole answer within the time-out.
    Timeout {
        /// The time-out in milliseconds.
        after_ms: u64,
    },
    /// The connection broke, or what came is not HTTP.
    Broken {
        /// What happened.
        message: String,
    },
    /// The status is not one that passes.
    Status {
        /// The status that came.
        status: u16,
    },
    /// A field of the body is not as expected.
    Field {
        /// Its key.
        key: String,
        /// What was expected, as JSON.
        expected: String,
        /// What came, as JSON; `None`: the key is missing.
        found: Option<String>,
    },
    /// The body is not the JSON that the expectation needs.
    NotJson {
        /// What the parser said.
        message: String,
    },
    /// The server says that it is the other color: a misconfiguration.
    WrongColor {
        /// The `environment` it reports.
        reported: String,
    },
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Unresolved { message } => write!(f, "name not resolved: {message}"),
            Self::Timeout { after_ms } => write!(f, "no answer within {after_ms} ms"),
            Self::Broken { message } => write!(f, "broken answer: {message}"),
            Self::Status { status } => write!(f, "status {status}"),
            Self::Field {
                key,
                expected,
                found: Some(found),
            } => write!(f, "`{key}` is {found}, expected {expected}"),
            Self::Field {
                key,
                expected,
                found: None,
            } => write!(f, "`{key}` is missing, expected {expected}"),
            Self::NotJson { message } => write!(f, "the body is not JSON: {message}"),
            Self::WrongColor { reported } => write!(
                f,
                "it reports environment {reported}: the address belongs to the other color"
            ),
        }
    }
}

/// The outcome of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// All that was expected came.
    Pass {
        /// The version that the health document reports, if it does.
        version: Option<String>,
    },
    /// Something did not.
    Fail(ProbeFailure),
}

/// What one probe changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthEvent {
    /// Nothing.
    Same,
    /// The server is healthy now and was not before.
    BecameHealthy,
    /// The server is unhealthy now and was not before.
    BecameUnhealthy,
}

/// The machine of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHealth {
    health: Health,
    passes: u32,
    failures: u32,
    last_failure: Option<ProbeFailure>,
    version: Option<String>,
}

impl Default for ServerHealth {
    fn default() -> Self {
        Self {
            health: Health::Unknown,
            passes: 0,
            failures: 0,
            last_failure: None,
            version: None,
        }
    }
}

impl ServerHealth {
    /// What is known now.
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Why the last probe failed; `None` if it passed, or none was made.
    pub const fn last_failure(&self) -> Option<&ProbeFailure> {
        self.last_failure.as_ref()
    }

    /// The version that the last passing probe reported.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Takes one outcome in.
    pub fn observe(&mut self, policy: &HealthPolicy, outcome: &ProbeOutcome) -> HealthEvent {
        match outcome {
            ProbeOutcome::Pass { version } => {
                self.passes = self.passes.saturating_add(1);
                self.failures = 0;
                self.last_failure = None;
                self.version.clone_from(version);
                match self.health {
                    Health::Unknown | Health::Unhealthy if self.passes >= policy.healthy_after => {
                        self.health = Health::Healthy;
                        HealthEvent::BecameHealthy
                    }
                    Health::Unknown | Health::Unhealthy | Health::Healthy => HealthEvent::Same,
                }
            }
            ProbeOutcome::Fail(failure) => {
                self.failures = self.failures.saturating_add(1);
                self.passes = 0;
                self.last_failure = Some(failure.clone());
                match self.health {
                    Health::Unknown | Health::Healthy
                        if self.failures >= policy.unhealthy_after =>
                    {
                        self.health = Health::Unhealthy;
                        HealthEvent::BecameUnhealthy
                    }
                    Health::Unknown | Health::Healthy | Health::Unhealthy => HealthEvent::Same,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::domain::{Expectation, StatusRange};

    fn policy(unhealthy_after: u32, healthy_after: u32) -> HealthPolicy {
        HealthPolicy {
            path: "/health".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            unhealthy_after,
            healthy_after,
            expect: Expectation {
                status: StatusRange {
                    low: 200,
                    high: 299,
                },
                json: BTreeMap::new(),
            },
        }
    }

    fn run(policy: &HealthPolicy, outcomes: &str) -> (String, Health) {
        let mut server = ServerHealth::default();
        let events = outcomes
            .chars()
            .map(|outcome| {
                let outcome = match outcome {
                    'p' => ProbeOutcome::Pass { version: None },
                    _ => ProbeOutcome::Fail(ProbeFailure::Refused),
                };
                match server.observe(policy, &outcome) {
                    HealthEvent::Same => '.',
                    HealthEvent::BecameHealthy => 'H',
                    HealthEvent::BecameUnhealthy => 'U',
                }
            })
            .collect();
        (events, server.health())
    }

    #[test]
    fn the_state_changes_only_after_enough_in_a_row() {
        for (unhealthy, healthy, outcomes, events, end) in [
            (3, 1, "p", "H", Health::Healthy),
            (3, 1, "ff", "..", Health::Unknown),
            (3, 1, "fff", "..U", Health::Unhealthy),
            (3, 1, "pffpffp", "H......", Health::Healthy),
            (3, 1, "pfffp", "H..UH", Health::Healthy),
            (3, 2, "pfffpfp", "...U...", Health::Unhealthy),
            (1, 2, "ppfpp", ".HU.H", Health::Healthy),
            (2, 2, "pfpfpfpf", "........", Health::Unknown),
        ] {
            let (got, state) = run(&policy(unhealthy, healthy), outcomes);
            assert_eq!((got.as_str(), state), (events, end), "{outcomes}");
        }
    }
}
