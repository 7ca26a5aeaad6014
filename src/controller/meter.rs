//! What is counted of the controller's own doings, for metrics: probes, applies, and what was seen served at the last look.
//!
//! Nothing is decided by it. A service with `metrics: false` is not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Controller, Verification};
use crate::balancer::{Applied, ApplyError, Balancer, Change};
use crate::config::Config;
use crate::domain::{Color, Generation, HealthEvent, ProbeOutcome, ServiceName, Split};

/// Upper ends of an apply's duration, in seconds: the embedded proxy needs milliseconds, a reload of nginx some hundred, and its
/// retries on a busy port some seconds.
const APPLY_BOUNDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The words of one counter of probes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Probed {
    service: String,
    color: &'static str,
    result: &'static str,
}

/// The words of one counter of applies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Put {
    balancer: &'static str,
    result: &'static str,
}

/// What came of the last apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastApply {
    /// When one was last proved by this daemon; `None`: not yet.
    pub proved_at: Option<Timestamp>,
    /// Whether the last of all was.
    pub was_proved: bool,
}

/// What the last look saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// The generation that is served; `None`: none of turnout's, or not to be seen.
    pub generation: Option<Generation>,
    /// The split that is served, where it was seen.
    pub splits: BTreeMap<ServiceName, Split>,
    /// Services that are to be left out of all metrics.
    pub hidden: BTreeSet<ServiceName>,
}

/// The counters of one controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Meter {
    probes: Family<Probed, Counter>,
    applies: Family<Put, Counter>,
    apply_time: Histogram,
    last: Arc<ArcSwap<Option<LastApply>>>,
    sight: Arc<ArcSwap<Sight>>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            probes: Family::default(),
            applies: Family::default(),
            apply_time: Histogram::new(APPLY_BOUNDS),
            last: Arc::default(),
            sight: Arc::default(),
        }
    }
}

impl Meter {
    /// Adds the counters to `registry`, whose prefix they get.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "health_checks",
            "Health probes that came back, by what they found",
            self.probes.clone(),
        );
        registry.register(
            "config_reloads",
            "Applies of a routing table, by how they ended: proved (ok), refused by a check (rejected), not proved and undone (unproved), or failed",
            self.applies.clone(),
        );
        registry.register(
            "config_reload_duration_seconds",
            "From the beginning of an apply to its proof or failure",
            self.apply_time.clone(),
        );
    }

    /// What came of the last apply; `None`: there was none since the start.
    pub fn last_apply(&self) -> Option<LastApply> {
        **self.last.load()
    }

    /// What the last look saw.
    pub fn sight(&self) -> Arc<Sight> {
        self.sight.load_full()
    }

    pub(super) fn probed(&self, report: &crate::probe::Report) {
        let result = match report.outcome {
            ProbeOutcome::Pass { .. } => "passed",
            ProbeOutcome::Fail(_) => "failed",
        };
        let label = Probed {
            service: report.service.to_string(),
            color: report.color.as_str(),
            result,
        };
        self.probes.get_or_create(&label).inc();
    }

    /// Forgets the probes of services that are gone or no longer counted.
    pub(super) fn keep_to(&self, before: &Config, now: &Config) {
        let stays = |name: &ServiceName| {
            let service = now.services.get(name);
            service.is_some_and(|service| service.shape.metrics)
        };
        for name in before.services.keys().filter(|name| !stays(name)) {
            for color in Color::BOTH {
                for result in ["passed", "failed"] {
                    self.probes.remove(&Probed {
                        service: name.to_string(),
                        color: color.as_str(),
                        result,
                    });
                }
            }
        }
    }

    pub(super) fn saw(&self, verification: &Verification, config: &Config) {
        let services = config.services.iter();
        let served = verification.services.iter();
        self.sight.store(Arc::new(Sight {
            generation: verification.generation.served,
            splits: served
                .filter_map(|service| Some((service.service.clone(), service.split.served?)))
                .collect(),
            hidden: services
                .filter(|(_, service)| !service.shape.metrics)
                .map(|(name, _)| name.clone())
                .collect(),
        }));
    }

    fn applied(
        &self,
        balancer: &'static str,
        result: &Result<Applied, ApplyError>,
        begun: Instant,
    ) {
        let word = match result {
            Ok(_) => "ok",
            Err(ApplyError::Refused { .. } | ApplyError::Edited { .. }) => "rejected",
            Err(ApplyError::Restored { .. } | ApplyError::NotRestored { .. }) => "unproved",
            Err(
                ApplyError::Unreachable { .. }
                | ApplyError::NotPermitted { .. }
                | ApplyError::Unchanged { .. },
            ) => "failed",
        };
        let label = Put {
            balancer,
            result: word,
        };
        self.applies.get_or_create(&label).inc();
        self.apply_time.observe(begun.elapsed().as_secs_f64());
        let before = self.last_apply().and_then(|last| last.proved_at);
        let was_proved = result.is_ok();
        self.last.store(Arc::new(Some(LastApply {
            proved_at: if was_proved {
                Some(Timestamp::now())
            } else {
                before
            },
            was_proved,
        })));
    }
}

impl<B: Balancer> Controller<B> {
    /// The balancer's apply, counted.
    pub(super) async fn apply(&self, change: Change<'_>) -> Result<Applied, ApplyError> {
        let begun = Instant::now();
        let result = self.balancer.apply(change).await;
        self.meter.applied(self.balancer.kind(), &result, begun);
        result
    }

    /// Takes a probe's report into the book, and counts it; `None` for a server that is not configured any more.
    pub(super) fn take_probe(&mut self, report: &crate::probe::Report) -> Option<HealthEvent> {
        let event = self.learn_probe(report)?;
        let service = self.config.services.get(&report.service);
        if service.is_some_and(|service| service.shape.metrics) {
            self.meter.probed(report);
        }
        Some(event)
    }
}
