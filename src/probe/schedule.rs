//! The daemon's probes: a task for each server, at once and then each interval. Holds no health, only a schedule.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::probe;
use crate::domain::{Color, HealthPolicy, ProbeOutcome, Server, Service, ServiceName};

/// Probes at once: descriptors, and the burst at the start of 2,000 services.
const AT_ONCE: usize = 256;

/// One probe's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whose server.
    pub service: ServiceName,
    /// Of which color.
    pub color: Color,
    /// Which.
    pub server: Server,
    /// What came.
    pub outcome: ProbeOutcome,
    /// When it ended.
    pub at: Timestamp,
}

/// Which server of which service.
pub(super) type Place = (ServiceName, Color, Server);

/// The daemon's probes: a task for each server, which reports into one channel. Dropping it ends them all.
#[derive(Debug)]
pub struct Probes {
    reports: mpsc::Sender<Report>,
    permits: Arc<Semaphore>,
    pub(super) tasks: BTreeMap<Place, Probing>,
}

#[derive(Debug)]
pub(super) struct Probing {
    policy: HealthPolicy,
    pub(super) task: JoinHandle<()>,
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probes {
    /// Probes nothing yet.
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        Self {
            reports,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: BTreeMap::new(),
        }
    }

    /// Probes the servers of these services from now on: new ones at once, those whose address and policy stay go on as they
    /// were, the others end. Must be called within a runtime.
    pub fn set(&mut self, services: &BTreeMap<ServiceName, Arc<Service>>) {
        let mut before = std::mem::take(&mut self.tasks);
        for (name, service) in services {
            for (color, servers) in service.servers.iter() {
                for server in servers {
                    let place = (name.clone(), color, server.clone());
                    let kept = before
                        .remove(&place)
                        .filter(|probing| probing.policy == service.health);
                    let probing = kept.unwrap_or_else(|| self.begin(&place, &service.health));
                    self.tasks.insert(place, probing);
                }
            }
        }
    }

    fn begin(&self, place: &Place, policy: &HealthPolicy) -> Probing {
        let task = tokio::spawn(repeat(
            place.clone(),
            policy.clone(),
            Arc::clone(&self.permits),
            self.reports.clone(),
        ));
        Probing {
            policy: policy.clone(),
            task,
        }
    }
}

/// Probes at once, and then each interval from start to start. The second probe comes up to a tenth of an interval later than
/// that, by the server's name, so that servers that began together do not go on together.
async fn repeat(
    place: Place,
    policy: HealthPolicy,
    permits: Arc<Semaphore>,
    reports: mpsc::Sender<Report>,
) {
    let begun = Instant::now();
    let mut due = tokio::time::interval_at(
        begun + policy.interval + spread(&place, policy.interval),
        policy.interval,
    );
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (service, color, server) = place;
    loop {
        let outcome = {
            let Ok(_permit) = permits.acquire().await else {
                return;
            };
            probe(&server, color, &policy).await
        };
        let report = Report {
            service: service.clone(),
            color,
            server: server.clone(),
            outcome,
            at: Timestamp::now(),
        };
        if reports.send(report).await.is_err() {
            // nobody listens any more: the daemon ends
            return;
        }
        due.tick().await;
    }
}

/// From 0 to a tenth of the interval, the same for the same server each time.
fn spread(place: &Place, interval: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    place.hash(&mut hasher);
    let part = u32::try_from(hasher.finish() % 1_000).unwrap_or(0);
    interval / 10 * part / 1_000
}
