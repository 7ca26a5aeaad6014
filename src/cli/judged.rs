//! What rollouts are judged by beside pushed samples: the requests that the balancer tells of, or a Prometheus.
//!
//! Each Prometheus is asked once before a rollout rests on it, and followed for as long as somebody looks; another one in the
//! configuration is another question. What cannot be had is said and holds the rollout; nothing here makes a figure of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch::Receiver;

use crate::config::{Config, PrometheusSettings};
use crate::controller::{Feed, Look, Passes, Purpose, Silence};
use crate::domain::{CanarySource, Paired, ServiceName, describe};
use crate::traffic::{self, Counts, Prometheus, QueryError, Unavailable};

/// Longer than any bucket of time: nothing is slow.
const NEVER: Duration = Duration::MAX;

/// The feed of a daemon's controller.
pub(super) fn feed(counts: Counts, known: Receiver<Arc<Config>>) -> Feed {
    let followed = Arc::new(Followed {
        known,
        feeds: Mutex::default(),
    });
    Feed::new(move |look| {
        let (counts, followed) = (counts.clone(), Arc::clone(&followed));
        async move {
            match (look.source, look.purpose) {
                (CanarySource::Prometheus, Purpose::Begin) => {
                    followed.feed(&look).await.map(|_| Vec::new())
                }
                (CanarySource::Prometheus, Purpose::Figures) => {
                    pairs(&followed.feed(&look).await?, &look).map_err(Silence::from)
                }
                (CanarySource::Traffic | CanarySource::Pushed, _) => {
                    pairs(&counts.feed(), &look).map_err(Silence::from)
                }
            }
        }
    })
}

/// Of what has to be changed first.
const fn never(why: String) -> Silence {
    Silence {
        why,
        passes: Passes::Never,
    }
}

fn silence(error: &QueryError) -> Silence {
    let why = describe(error);
    if error.may_pass() {
        why.into()
    } else {
        never(why)
    }
}

fn pairs(feed: &traffic::Feed, look: &Look) -> Result<Vec<Paired>, String> {
    let slow = look.slow_from.unwrap_or(NEVER);
    match feed.pairs(&look.service, !look.candidate, slow, look.since) {
        Ok(pairs) => Ok(pairs),
        // the judge says what is too little
        Err(Unavailable::NoData { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// How each is asked, above what a request is slow (`None`: none is), and its feed.
type Feeds = BTreeMap<ServiceName, (PrometheusSettings, Option<Duration>, traffic::Feed)>;

/// The Prometheus of each service that is asked, with the settings it is asked by.
struct Followed {
    known: Receiver<Arc<Config>>,
    feeds: Mutex<Feeds>,
}

impl Followed {
    async fn feed(&self, look: &Look) -> Result<traffic::Feed, Silence> {
        let settings = {
            let config = self.known.borrow();
            let service = config.services.get(&look.service);
            service.and_then(|service| service.prometheus.clone())
        };
        let settings = settings.ok_or_else(|| {
            never(format!(
                "services.{}.canary.source names no Prometheus",
                look.service
            ))
        })?;
        // the configuration may have been another one when the rollout began
        if look.slow_from.is_some() && !settings.queries.contains_key("slow") {
            return Err(never(format!(
                "services.{}.canary.source.prometheus has no query for slow, and the policy limits the latency",
                look.service
            )));
        }
        let slow = look.slow_from;
        let kept = self.kept(&look.service, &settings, slow);
        // each rollout rests on answers of its own
        if look.purpose == Purpose::Figures
            && let Some(feed) = kept
        {
            return Ok(feed);
        }
        let prometheus = Prometheus::new(settings.clone(), look.service.clone(), slow)
            .map_err(|error| silence(&error))?;
        prometheus
            .preflight(!look.candidate)
            .await
            .map_err(|error| silence(&error))?;
        if let Some(feed) = kept {
            return Ok(feed);
        }
        let feed = prometheus.watch();
        self.feeds()
            .insert(look.service.clone(), (settings, slow, feed.clone()));
        Ok(feed)
    }

    /// The feed that goes on already; what nobody has looked at for long is forgotten.
    fn kept(
        &self,
        service: &ServiceName,
        settings: &PrometheusSettings,
        slow: Option<Duration>,
    ) -> Option<traffic::Feed> {
        let mut feeds = self.feeds();
        feeds.retain(|_, (_, _, feed)| !feed.has_ended());
        let (by, than, feed) = feeds.get(service)?;
        ((by, *than) == (settings, slow)).then(|| feed.clone())
    }

    fn feeds(&self) -> std::sync::MutexGuard<'_, Feeds> {
        // nothing panics while it is held
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
