//! What each color really got: requests, errors and times, from whoever carries the traffic.
//!
//! | file | owns |
//! |---|---|
//! | `counting` | the lines of nginx and HAProxy at work; closes the buckets |
//! | `socket`, `peers`, `reader` | the datagram socket, who is believed, the thread that empties it |
//! | `line` | what a balancer says of one request |
//! | `ledger`, `slice`, `whole` | what was counted, in bounded memory |
//! | `totals` | the balancers' own totals, by which a loss is seen |
//! | `prometheus`, `query` | Prometheus in place of all that |
//! | `feed` | what a rollout is given, or why there is nothing |
//! | `window` | the last hour for the page |
//!
//! The page's hour: a source counts for ever; once a minute one task takes what it has counted so far and keeps the difference. So the hour is
//! [`MINUTES`] small records for a service that has traffic, 4 KiB each, and nothing for one that has none: 2,000 busy services
//! are 8 MiB. Readers get an immutable picture of the full minutes and add the running one to it. Where a balancer does not
//! count by color the book says so, since zeros would be a claim.

mod counting;
mod feed;
mod ledger;
mod line;
mod peers;
mod prometheus;
mod query;
mod reader;
mod slice;
mod socket;
mod totals;
mod whole;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::domain::{Colors, Counted, ServiceName};
use crate::proxy::Proxy;
pub use counting::{Counting, Counts, Loss, Origin};
pub use feed::{Down, Feed, Unavailable};
pub use prometheus::Prometheus;
pub use query::{Figure, QueryError};
pub use socket::{Paths, SocketError};
pub use totals::Totals;
pub use window::{Figures, MINUTES, Minute, Sum};
use window::{Kept, difference};

/// How often the source is asked.
const MINUTE: Duration = Duration::from_mins(1);

/// Who counts.
#[derive(Debug, Clone)]
pub enum Source {
    /// The proxy of this process.
    Embedded(Proxy),
    /// The lines of nginx or HAProxy, or nobody.
    Lines(Counts),
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
            Self::Lines(counts) => {
                let whole = counts.whole(service)?;
                Some(Colors::from_fn(|color| Sum::from(&whole[color])))
            }
        }
    }
}

impl Book {
    /// A book without a source.
    pub fn none() -> Self {
        let (_, kept) = watch::channel(Arc::default());
        Self {
            source: Source::Lines(Counts::nobody("nothing is counted here")),
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
    pub fn silence(&self) -> Option<String> {
        match &self.source {
            Source::Embedded(_) => None,
            Source::Lines(counts) => counts.silence(),
        }
    }

    /// What the balancer's lines say of every service since the daemon began; `None`: they are not what is counted by.
    pub fn counted(&self) -> Option<Vec<Counted>> {
        match &self.source {
            Source::Embedded(_) => None,
            Source::Lines(counts) => counts.counted(),
        }
    }

    /// How much of the traffic the lines tell of; `None`: they are not what is counted by.
    pub fn loss(&self) -> Option<Loss> {
        match &self.source {
            Source::Embedded(_) => None,
            Source::Lines(counts) => counts.loss(),
        }
    }

    /// The last hour of a service, oldest first, the running minute last; `None`: it is not counted.
    pub fn hour(&self, service: &ServiceName, now: Timestamp) -> Option<Vec<Minute>> {
        // in this order: what was kept later than it was counted would look like a balancer that began anew
        let kept = self.kept.borrow().get(service).cloned();
        let sums = self.source.ask(service)?;
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
            if let Some(kept) = Kept::after(before, &sums, begun, now) {
                kepts.insert(name, kept);
            }
        }
        to.send_replace(Arc::new(kepts));
    }
}
