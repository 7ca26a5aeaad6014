//! What was seen of each service's traffic in the last hour, by color and minute: requests, errors, p95.
//!
//! A source counts for ever; once a minute one task takes what it has counted so far and keeps the difference. So the hour is
//! [`MINUTES`] small records for a service that has traffic, 4 KiB each, and nothing for one that has none: 2,000 busy services
//! are 8 MiB. Readers get an immutable picture of the full minutes and add the running one to it. Where a balancer does not
//! count by color the book says so, since zeros would be a claim. The figures decide nothing.

mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::domain::{Colors, ServiceName};
use crate::proxy::Proxy;
pub use window::{Figures, MINUTES, Minute, Sum};
use window::{Kept, difference};

/// How often the source is asked.
const MINUTE: Duration = Duration::from_mins(1);

/// Who counts.
#[derive(Debug, Clone)]
pub enum Source {
    /// The proxy of this process.
    Embedded(Proxy),
    /// Nobody; why, as it reads on the page.
    Nobody(&'static str),
}

type Kepts = BTreeMap<ServiceName, Arc<Kept>>;

/// The figures of all services. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Book {
    source: Source,
    begun: Timestamp,
    kept: watch::Receiver<Arc<Kepts>>,
}

/// The task that keeps a book, ended when this is dropped.
#[derive(Debug)]
pub struct Bookkeeper(tokio::task::JoinHandle<()>);

impl Drop for Bookkeeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Source {
    /// What it has counted of a service so far; `None`: it does not know the service.
    fn ask(&self, service: &ServiceName) -> Option<Colors<Sum>> {
        match self {
            Self::Embedded(proxy) => {
                let ended = proxy.counted_of(service)?.ended;
                Some(Colors::from_fn(|color| Sum::from(&ended[color])))
            }
            Self::Nobody(_) => None,
        }
    }
}

impl Book {
    /// A book without a source.
    pub fn none() -> Self {
        let (_, kept) = watch::channel(Arc::default());
        Self {
            source: Source::Nobody("nothing is counted here"),
            begun: Timestamp::UNIX_EPOCH,
            kept,
        }
    }

    /// A book that is kept from now on, and who keeps it. `names` tells the services that there are. Must be called within a
    /// runtime.
    pub fn keep(
        source: Source,
        names: impl Fn() -> Vec<ServiceName> + Send + 'static,
    ) -> (Self, Bookkeeper) {
        let (sender, kept) = watch::channel(Arc::default());
        let begun = Timestamp::now();
        let book = Self {
            source: source.clone(),
            begun,
            kept,
        };
        (
            book,
            Bookkeeper(tokio::spawn(write(source, names, begun, sender))),
        )
    }

    /// Why there are no figures; `None`: there are.
    pub fn silence(&self) -> Option<&'static str> {
        match self.source {
            Source::Embedded(_) => None,
            Source::Nobody(why) => Some(why),
        }
    }

    /// The last hour of a service, oldest first, the running minute last; `None`: it is not counted.
    pub fn hour(&self, service: &ServiceName, now: Timestamp) -> Option<Vec<Minute>> {
        let sums = self.source.ask(service)?;
        let kept = self.kept.borrow().get(service).cloned();
        let before = kept.as_ref().map(|kept| kept.sums).unwrap_or_default();
        let mut minutes: Vec<_> = kept
            .iter()
            .flat_map(|kept| kept.minutes.iter().copied())
            .collect();
        minutes.push(Minute {
            begin: kept.as_ref().map_or(self.begun, |kept| kept.at),
            end: now,
            colors: difference(&before, &sums),
        });
        Some(minutes)
    }
}

async fn write(
    source: Source,
    names: impl Fn() -> Vec<ServiceName>,
    begun: Timestamp,
    to: watch::Sender<Arc<Kepts>>,
) {
    if matches!(source, Source::Nobody(_)) {
        return;
    }
    let mut clock = interval_at(Instant::now() + MINUTE, MINUTE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let now = Timestamp::now();
        let mut kepts = Kepts::new();
        for name in names() {
            let Some(sums) = source.ask(&name) else {
                continue;
            };
            let before = to.borrow().get(&name).cloned();
            if let Some(kept) = Kept::after(before, sums, begun, now) {
                kepts.insert(name, kept);
            }
        }
        to.send_replace(Arc::new(kepts));
    }
}
