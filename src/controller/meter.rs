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
use crate::domain::{Color, Generation, HealthEvent, ProbeOutcome, Service, ServiceName, Split};

/// Upper ends of an apply's duration, in seconds: the embedded proxy needs milliseconds, a reload of nginx some hundred, and its
/// retries on a busy port some seconds.
const APPLY_BOUNDS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What stands for the color behind an alias. Prometheus takes an empty label for one that is not there.
pub const NO_COLOR: &str = "";

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

    /// A probe of a color's server; of what stands behind an alias where there is none.
    pub(super) fn probed(
        &self,
        service: &ServiceName,
        color: Option<Color>,
        outcome: &ProbeOutcome,
    ) {
        let result = match outcome {
            ProbeOutcome::Pass { .. } => "passed",
            ProbeOutcome::Fail(_) => "failed",
        };
        let label = Probed {
            service: service.to_string(),
            color: color.map_or(NO_COLOR, Color::as_str),
            result,
        };
        self.probes.get_or_create(&label).inc();
    }

    /// Forgets the probes of services that are gone or no longer counted.
    pub(super) fn keep_to(&self, before: &Config, now: &Config) {
        let (known, stays) = (before.shapes(), now.shapes());
        for (name, shape) in known {
            // one that has colors now has others to be counted by
            let is_same = |now: &Arc<Service>| {
                now.metrics && now.alias().is_some() == shape.alias().is_some()
            };
            if stays.get(&name).is_some_and(is_same) {
                continue;
            }
            for color in [Color::Blue.as_str(), Color::Green.as_str(), NO_COLOR] {
                for result in ["passed", "failed"] {
                    self.probes.remove(&Probed {
                        service: name.to_string(),
                        color,
                        result,
                    });
                }
            }
        }
    }

    pub(super) fn saw(&self, verification: &Verification, config: &Config) {
        let shapes = config.shapes();
        let served = verification.services.iter();
        self.sight.store(Arc::new(Sight {
            generation: verification.generation.served,
            splits: served
                .filter_map(|service| Some((service.service.clone(), service.split.served?)))
                .collect(),
            hidden: shapes
                .values()
                .filter(|shape| !shape.metrics)
                .map(|shape| shape.name.clone())
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
            self.meter
                .probed(&report.service, Some(report.color), &report.outcome);
        }
        Some(event)
    }
}
