//! Services behind an alias: what is known of them, what follows from it, and how they stand.
//!
//! An alias has no color and no position, so nothing of it is switched, rolled back or weighed: whoever asks for that is told
//! that its colors change place behind the name. What is left to decide is whether requests go on to it. A proxy that is
//! told by every table is told like that; nginx has to be told by a change of its own, journalled like a failover; HAProxy has
//! checks of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::events::HealthChange;
use super::{Controller, Status};
use crate::balancer::{AliasHealthUse, AliasLive, Balancer};
use crate::config::{AliasConfig, Config};
use crate::domain::{Admission, Health, HealthEvent, ProbeOutcome, ServerHealth, ServiceName};
use crate::probe::{Seen, Sighting};
use crate::store::State;

/// One service behind an alias, at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AliasStatus {
    /// Its name.
    pub service: ServiceName,
    /// The alias, as `name:port`.
    pub target: String,
    /// What it resolved to when it last did; empty where nobody has looked.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<SocketAddr>,
    /// What is wrong with the last lookup; the addresses stay meanwhile.
    pub problem: Option<String>,
    /// What the probes say of it.
    pub health: Health,
    /// Why the last probe failed; `None` if it passed or none was made.
    pub reason: Option<String>,
    /// The version that it reports.
    pub version: Option<String>,
    /// When it was last probed.
    pub checked_at: Option<Timestamp>,
    /// Whether requests go on to it.
    pub admission: Admission,
    /// Its label.
    pub project: Option<String>,
    /// What the balancer counts; `None` where it does not, or a command looked for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<AliasLive>,
}

/// What is known of one alias.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct AliasKnown {
    addresses: Vec<SocketAddr>,
    problem: Option<String>,
    health: ServerHealth,
    checked_at: Option<Timestamp>,
}

/// What is known of every alias, by the daemon's eyes or one look of a command's.
pub(super) type AliasBook = BTreeMap<ServiceName, AliasKnown>;

impl AliasKnown {
    /// What one look at all of it says, taken for the whole truth.
    pub(super) fn once(
        config: &AliasConfig,
        known: crate::probe::Known,
        outcome: &ProbeOutcome,
    ) -> Self {
        let mut once = config.shape.health.clone();
        (once.healthy_after, once.unhealthy_after) = (1, 1);
        let mut health = ServerHealth::default();
        health.observe(&once, outcome);
        Self {
            addresses: known.addresses,
            problem: known.problem,
            health,
            checked_at: Some(Timestamp::now()),
        }
    }

    const fn admission(&self) -> Admission {
        match self.health.health() {
            Health::Unhealthy => Admission::Blocked,
            Health::Unknown | Health::Healthy => Admission::Open,
        }
    }
}

/// What the probes make of an alias; unknown means open.
pub(super) fn admission(book: &AliasBook, name: &ServiceName) -> Admission {
    book.get(name)
        .map_or(Admission::Open, AliasKnown::admission)
}

/// Forgets what is configured no more, or otherwise.
pub(super) fn keep(book: &mut AliasBook, before: &Config, now: &Config) {
    book.retain(|name, _| {
        let target = |config: &Config| config.aliases.get(name).map(|alias| alias.target.clone());
        target(now).is_some() && target(now) == target(before)
    });
}

impl<B: Balancer> Controller<B> {
    /// Takes what was seen into the book. Says whether it changes what health asks for; `None` for an alias that is not
    /// configured any more.
    pub(super) fn take_sighting(&mut self, sighting: Sighting) -> Option<HealthEvent> {
        let config = self.config.aliases.get(&sighting.service)?;
        if config.target != sighting.target {
            return None;
        }
        let name = &sighting.service;
        let known = self.aliases.entry(name.clone()).or_default();
        let before = known.admission();
        match sighting.seen {
            Seen::Resolved { addresses, problem } => {
                tell_resolved(name, known, &addresses, problem.as_deref());
                if addresses != known.addresses {
                    // what the old address was found to be says nothing of the new one
                    known.health = ServerHealth::default();
                    known.checked_at = None;
                    known.addresses = addresses;
                }
                known.problem = problem;
            }
            Seen::Probed(outcome, addresses) => {
                if addresses != known.addresses {
                    return Some(HealthEvent::Same);
                }
                known.checked_at = Some(sighting.at);
                if config.shape.metrics {
                    self.meter.probed(name, None, &outcome);
                }
                match known.health.observe(&config.shape.health, &outcome) {
                    HealthEvent::BecameUnhealthy => tracing::warn!(
                        service = %name, alias = %sighting.target,
                        reason = known.health.last_failure().map(ToString::to_string),
                        "the alias became unhealthy: requests are answered with 503 until it is healthy again"
                    ),
                    HealthEvent::BecameHealthy => {
                        tracing::info!(service = %name, alias = %sighting.target, "the alias is healthy");
                    }
                    HealthEvent::Same => {}
                }
            }
        }
        Some(match (before, known.admission()) {
            (Admission::Open, Admission::Blocked) => HealthEvent::BecameUnhealthy,
            (Admission::Blocked, Admission::Open) => HealthEvent::BecameHealthy,
            (Admission::Open, Admission::Open) | (Admission::Blocked, Admission::Blocked) => {
                HealthEvent::Same
            }
        })
    }

    /// How an alias stands, for whoever listens.
    pub(super) fn alias_change(&self, name: &ServiceName) -> Vec<HealthChange> {
        let known = self.config.aliases.get(name).zip(self.aliases.get(name));
        let told = known.map(|(config, known)| HealthChange {
            service: name.clone(),
            color: None,
            url: config.target.to_string(),
            health: known.health.health(),
            reason: known.health.last_failure().map(ToString::to_string),
            checked_at: known.checked_at.unwrap_or_else(Timestamp::now),
        });
        told.into_iter().collect()
    }

    /// What health asks for and is not so, where only a change of the balancer's files brings it about.
    pub(super) fn admissions(&self, state: &State) -> BTreeMap<ServiceName, Admission> {
        if self.balancer.alias_health() != AliasHealthUse::Recorded {
            return BTreeMap::new();
        }
        let known = self.aliases.iter().filter_map(|(name, known)| {
            let recorded = state.aliases.get(name)?.admission;
            let wanted = known.admission();
            (wanted != recorded).then(|| (name.clone(), wanted))
        });
        known.collect()
    }

    /// Every alias at a glance.
    pub(super) fn alias_statuses(&self) -> Vec<AliasStatus> {
        let aliases = self.config.aliases.iter();
        let counted = self.balancer.counted().unwrap_or_default();
        aliases
            .map(|(name, config)| {
                let known = self.aliases.get(name).cloned().unwrap_or_default();
                AliasStatus {
                    service: name.clone(),
                    target: config.target.authority(),
                    admission: known.admission(),
                    addresses: known.addresses,
                    problem: known.problem,
                    health: known.health.health(),
                    reason: known.health.last_failure().map(ToString::to_string),
                    version: known.health.version().map(ToOwned::to_owned),
                    checked_at: known.checked_at,
                    project: config.shape.project.clone(),
                    live: counted
                        .iter()
                        .find(|one| one.service == *name)
                        .and_then(AliasLive::of),
                }
            })
            .collect()
    }

    /// One lookup and one probe of each of these aliases now.
    pub(super) async fn look_at_aliases(&self, names: &[ServiceName]) -> AliasBook {
        let mut running = tokio::task::JoinSet::new();
        for name in names {
            let Some(config) = self.config.aliases.get(name).cloned() else {
                continue;
            };
            let name = name.clone();
            running.spawn(async move {
                let (known, outcome) =
                    crate::probe::look_at(&config.target, &config.shape.health).await;
                (name, AliasKnown::once(&config, known, &outcome))
            });
        }
        running.join_all().await.into_iter().collect()
    }
}

/// Says once that a name cannot be looked up, or can be again, or leads elsewhere.
fn tell_resolved(
    name: &ServiceName,
    known: &AliasKnown,
    addresses: &[SocketAddr],
    problem: Option<&str>,
) {
    match (&known.problem, problem) {
        (None, Some(problem)) => tracing::warn!(
            service = %name, problem, addresses = ?addresses,
            "the alias cannot be looked up: what it resolved to before stays"
        ),
        (Some(_), None) => {
            tracing::info!(service = %name, addresses = ?addresses, "the alias is looked up again");
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
    if addresses != known.addresses {
        tracing::info!(service = %name, before = ?known.addresses, now = ?addresses, "the alias leads elsewhere");
    }
}

impl Status {
    /// The alias of this name.
    pub fn alias(&self, name: &ServiceName) -> Option<&AliasStatus> {
        self.aliases.iter().find(|alias| alias.service == *name)
    }
}
