//! What is told of a fallback: in the answer to a release, in the status, and in the audit log. Decides nothing.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Controller;
use super::change::milliseconds;
use super::events::Happening;
use crate::balancer::{Balancer, Fallback};
use crate::domain::describe;
use crate::store::{AuditEntry, Holder};

/// Never more often than this, however often servers are probed.
const SHORTEST: Duration = Duration::from_millis(100);

/// What came of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Released {
    /// The listeners are closed.
    Released,
    /// Nobody stands in, or they were given back already.
    NotInForce,
}

/// The answer to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Release {
    /// What came of it.
    pub outcome: Released,
    /// In a sentence.
    pub message: String,
    /// The fallback that ended, or that waits for the balancer.
    pub fallback: Option<Fallback>,
}

impl Release {
    /// Nothing had to be given back.
    pub fn not_in_force(fallback: Option<Fallback>) -> Self {
        Self {
            outcome: Released::NotInForce,
            message: match &fallback {
                None => "no fallback is in force: turnout holds no listener of the balancer's"
                    .to_owned(),
                Some(waiting) => format!(
                    "the listeners were given back already; turnout waits for {} to start",
                    waiting.balancer
                ),
            },
            fallback,
        }
    }
}

impl<B: Balancer> Controller<B> {
    /// What stands in now, if anything does.
    pub(super) fn fallback(&self) -> Option<Fallback> {
        self.balancer.stand_in()?.told()
    }

    /// The problems, a fallback before all others.
    pub(super) fn problems_now(&self) -> Vec<String> {
        let fallback = self.fallback().map(|fallback| fallback.sentence());
        fallback.into_iter().chain(self.problems.clone()).collect()
    }

    pub(super) fn probe_interval(&self) -> Duration {
        let services = self.config.services.values();
        let shortest = services.map(|service| service.shape.health.interval).min();
        shortest.unwrap_or(Duration::from_secs(5)).max(SHORTEST)
    }

    pub(super) fn longest_drain(&self) -> Duration {
        let services = self.config.services.values();
        let longest = services.map(|service| service.shape.timeouts.drain).max();
        longest.unwrap_or_default()
    }

    /// The line of a fallback or its end. What was done is done, so a failure is only logged.
    pub(super) async fn audit_relief(
        &self,
        action: &str,
        actor: &str,
        message: String,
        took: Duration,
    ) {
        let holder = Holder::current(&format!("{} fallback", self.command), None);
        let entry = AuditEntry {
            timestamp: Timestamp::now(),
            service: None,
            environment: None,
            version: None,
            action: action.to_owned(),
            success: true,
            message,
            actor: actor.to_owned(),
            duration_ms: milliseconds(took),
        };
        let written = match self.store.lock(holder, Duration::ZERO).await {
            Ok(mut lock) => lock.audit(&entry).map_err(|error| describe(&error)),
            Err(error) => Err(describe(&error)),
        };
        if let Err(error) = written {
            tracing::warn!(error, action, "the audit log could not be written");
        }
        self.events.tell(&Happening::Audit(&entry));
    }
}
