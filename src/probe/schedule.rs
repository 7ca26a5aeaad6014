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
use crate::domain::{
    Color, HealthPolicy, ProbeFailure, ProbeOutcome, Server, Service, ServiceName,
};

/// Probes at once: descriptors, and the burst at the start of 2,000 services.
pub(super) const AT_ONCE: usize = 256;

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
            for color in Color::BOTH {
                for server in service.servers(color) {
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

/// Between two looks at a server that refused its first probe.
pub(super) const STARTING: Duration = Duration::from_millis(100);

/// Probes at once, and then each interval from start to start. The second probe comes up to a tenth of an interval later than
/// that, by the server's name, so that servers that began together do not go on together.
///
/// A server that refuses its first probe may be starting, as those are that this daemon has just started: until the second
/// probe is due it is looked at each 100 ms, and the first answer that is not a refusal is reported. What goes on refusing
/// is counted by the interval like everything else.
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
    let mut first = First::Yes;
    loop {
        let Some(outcome) = look(&place, &policy, &permits).await else {
            return;
        };
        let may_be_starting =
            first == First::Yes && outcome == ProbeOutcome::Fail(ProbeFailure::Refused);
        first = First::No;
        if tell(&reports, &place, outcome).await == Listener::Gone {
            return;
        }
        if may_be_starting {
            let answered = tokio::select! {
                _ = due.tick() => continue,
                answered = no_refusal(&place, &policy, &permits) => answered,
            };
            let Some(outcome) = answered else { return };
            if tell(&reports, &place, outcome).await == Listener::Gone {
                return;
            }
        }
        due.tick().await;
    }
}

/// Whether a server is probed for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Yes,
    No,
}

/// Whether anybody takes reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listener {
    There,
    /// The daemon ends.
    Gone,
}

/// One probe as soon as one of the permits is free; `None` when there are none any more.
async fn look(
    (_, color, server): &Place,
    policy: &HealthPolicy,
    permits: &Semaphore,
) -> Option<ProbeOutcome> {
    let _permit = permits.acquire().await.ok()?;
    Some(probe(server, *color, policy).await)
}

/// The first outcome that is not a refusal.
async fn no_refusal(
    place: &Place,
    policy: &HealthPolicy,
    permits: &Semaphore,
) -> Option<ProbeOutcome> {
    loop {
        tokio::time::sleep(STARTING).await;
        let outcome = look(place, policy, permits).await?;
        if outcome != ProbeOutcome::Fail(ProbeFailure::Refused) {
            return Some(outcome);
        }
    }
}

async fn tell(
    reports: &mpsc::Sender<Report>,
    (service, color, server): &Place,
    outcome: ProbeOutcome,
) -> Listener {
    let report = Report {
        service: service.clone(),
        color: *color,
        server: server.clone(),
        outcome,
        at: Timestamp::now(),
    };
    match reports.send(report).await {
        Ok(()) => Listener::There,
        Err(mpsc::error::SendError(_)) => Listener::Gone,
    }
}

/// From 0 to a tenth of the interval, the same for the same server each time.
pub(super) fn spread(place: &impl Hash, interval: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    place.hash(&mut hasher);
    let part = u32::try_from(hasher.finish() % 1_000).unwrap_or(0);
    interval / 10 * part / 1_000
}
