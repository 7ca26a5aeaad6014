//! What stands behind an alias: a task for each one, which follows the name and probes what it resolves to now.
//!
//! A new answer is a new beginning: it is told at once, so that what the old address was found to be is forgotten, and
//! probed at once, by the same short looks that a starting server gets. A name that cannot be looked up any more is probed where
//! it last was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::once::probe_at;
use super::schedule::{AT_ONCE, STARTING, spread};
use crate::domain::{HealthPolicy, ProbeFailure, ProbeOutcome, Server, Service, ServiceName};
use crate::resolve::{Followed, Known};

/// Something that was seen of an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Whose alias.
    pub service: ServiceName,
    /// The alias.
    pub target: Server,
    /// What.
    pub seen: Seen,
    /// When.
    pub at: Timestamp,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It resolves to other addresses, or the lookups fail otherwise than before.
    Resolved {
        /// What it resolved to when it last did.
        addresses: Vec<SocketAddr>,
        /// What is wrong with the last lookup.
        problem: Option<String>,
    },
    /// It was probed, at one of these addresses.
    Probed(ProbeOutcome, Vec<SocketAddr>),
}

/// The daemon's eyes on aliases: a task for each, which reports into one channel. Dropping it ends them all.
#[derive(Debug)]
pub struct Aliases {
    sightings: mpsc::Sender<Sighting>,
    permits: Arc<Semaphore>,
    tasks: BTreeMap<(ServiceName, Server), Watching>,
}

#[derive(Debug)]
struct Watching {
    policy: HealthPolicy,
    task: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Aliases {
    /// Looks at nothing yet.
    pub fn new(sightings: mpsc::Sender<Sighting>) -> Self {
        Self {
            sightings,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: BTreeMap::new(),
        }
    }

    /// Follows and probes the aliases of these services from now on, as [`super::Probes::set`] does servers. Services without
    /// one are passed over. Must be called within a runtime.
    pub fn set(&mut self, services: &BTreeMap<ServiceName, Arc<Service>>) {
        let mut before = std::mem::take(&mut self.tasks);
        for (name, service) in services {
            let Some(target) = service.alias() else {
                continue;
            };
            let place = (name.clone(), target.clone());
            let kept = before
                .remove(&place)
                .filter(|watching| watching.policy == service.health);
            let watching = kept.unwrap_or_else(|| Watching {
                policy: service.health.clone(),
                task: tokio::spawn(
                    Eye {
                        service: name.clone(),
                        target: target.clone(),
                        policy: service.health.clone(),
                        permits: Arc::clone(&self.permits),
                        sightings: self.sightings.clone(),
                    }
                    .run(),
                ),
            });
            self.tasks.insert(place, watching);
        }
    }
}

struct Eye {
    service: ServiceName,
    target: Server,
    policy: HealthPolicy,
    permits: Arc<Semaphore>,
    sightings: mpsc::Sender<Sighting>,
}

/// When the next probe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// At the interval.
    Steady,
    /// Soon: what is there now may be starting, since its first probe was refused.
    Starting,
}

impl Eye {
    async fn run(self) {
        let mut followed = Followed::begin(&self.target);
        followed.first(self.policy.timeout).await;
        let mut known = followed.now();
        if self.tell_resolved(&known).await.is_err() {
            return;
        }
        let interval = self.policy.interval;
        let spread = spread(&(&self.service, &self.target), interval);
        let mut due = tokio::time::interval_at(Instant::now() + interval + spread, interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = Pace::Steady;
        let mut is_first = true;
        let mut probe = true;
        loop {
            if probe {
                let outcome = {
                    let Ok(_permit) = self.permits.acquire().await else {
                        return;
                    };
                    probe_at(&known.addresses, &self.target, None, &self.policy).await
                };
                let is_refused = outcome == ProbeOutcome::Fail(ProbeFailure::Refused);
                // what goes on refusing is counted by the interval like everything else
                if (!(pace == Pace::Starting && is_refused)
                    && self
                        .tell(Seen::Probed(outcome, known.addresses.clone()))
                        .await
                        .is_err())
                    || self.sightings.is_closed()
                {
                    return;
                }
                pace = if is_refused && (is_first || pace == Pace::Starting) {
                    Pace::Starting
                } else {
                    Pace::Steady
                };
                is_first = false;
            }
            probe = tokio::select! {
                _ = due.tick() => {
                    pace = Pace::Steady;
                    true
                }
                () = tokio::time::sleep(STARTING), if pace == Pace::Starting => true,
                now = followed.changed() => {
                    let is_other = now.addresses != known.addresses;
                    let is_told = is_other || now.problem != known.problem;
                    known = now;
                    if is_told && self.tell_resolved(&known).await.is_err() {
                        return;
                    }
                    if is_other {
                        due.reset();
                        (pace, is_first) = (Pace::Steady, true);
                    }
                    is_other
                }
            };
        }
    }

    async fn tell_resolved(&self, known: &Known) -> Result<(), mpsc::error::SendError<Sighting>> {
        self.tell(Seen::Resolved {
            addresses: known.addresses.clone(),
            problem: known.problem.clone(),
        })
        .await
    }

    async fn tell(&self, seen: Seen) -> Result<(), mpsc::error::SendError<Sighting>> {
        let sighting = Sighting {
            service: self.service.clone(),
            target: self.target.clone(),
            seen,
            at: Timestamp::now(),
        };
        self.sightings.send(sighting).await
    }
}

/// One lookup and one probe, for a command that has no daemon to ask. Ends within twice `policy.timeout`.
pub async fn look_at(target: &Server, policy: &HealthPolicy) -> (Known, ProbeOutcome) {
    let known = crate::resolve::once(target, policy.timeout).await;
    let outcome = probe_at(&known.addresses, target, None, policy).await;
    (known, outcome)
}
