//! Who keeps the counts of a balancer that tells of each request: the lines of nginx and HAProxy. The embedded proxy counts for
//! itself, and is asked itself.
//!
//! One task closes the buckets and says how whole each was: of lines that may have been dropped, by the balancer's own total. It
//! decides nothing, and nothing here can make a balancer wait.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::feed::{Down, Feed};
use super::ledger::{Ledger, Lost, MOST_LOST, Read, Untold};
use super::peers::Peers;
use super::reader::{Flow, Reader};
use super::socket::{Paths, Socket};
use super::totals::{Total, Totals};
use crate::domain::{Colors, Counted, ServiceName, Tally};

/// The width of a bucket where nobody counts.
const BUCKET: Duration = Duration::from_secs(10);
/// Lines of the bucket that has just ended may still be on their way.
const SETTLE: Duration = Duration::from_millis(50);
/// Below this a difference between a service's total and its lines says nothing: the two are not read in the same moment.
const FEW: u64 = 100;
/// Of a service's total, the share that must be missing before anything but a full queue is to blame.
const MUCH: f64 = 0.1;

/// Who counts, and how it is asked.
#[derive(Debug)]
pub enum Origin {
    /// A balancer that tells of each request in a datagram.
    Lines {
        /// Where.
        paths: Paths,
        /// The socket, where somebody held it.
        given: Option<UnixDatagram>,
        /// The balancer's pid file: its workers are believed.
        pid: PathBuf,
        /// The balancer's own total.
        totals: Totals,
    },
    /// Nobody, and why.
    Nobody(String),
}

/// What is known of the counting itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// Lines that were counted.
    pub lines: u64,
    /// Datagrams that were no line of a service's, or came from somebody who is not believed.
    pub refused: u64,
    /// The share of the requests of the last bucket that was not told of, 0 to 1, at most; of one service where that is known and
    /// is more. `None`: nobody knows.
    pub share: Option<f64>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ledger: Arc<Ledger>,
    pub(super) down: ArcSwapOption<Down>,
    flow: Arc<Flow>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Lines,
    Nobody(String),
}

impl Shared {
    /// Why nothing is counted here at all.
    pub(super) fn nobody(&self) -> Option<&str> {
        match &self.kind {
            Kind::Nobody(why) => Some(why),
            Kind::Lines => None,
        }
    }
}

/// What was counted, for whoever asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Counts(Arc<Shared>);

impl Counts {
    /// Nothing is counted, because of this.
    pub(super) fn nobody(why: &str) -> Self {
        Self(Arc::new(Shared {
            ledger: Arc::new(Ledger::new(BUCKET)),
            down: ArcSwapOption::empty(),
            flow: Arc::default(),
            kind: Kind::Nobody(why.to_owned()),
        }))
    }

    /// For a rollout.
    pub fn feed(&self) -> Feed {
        Feed::of_traffic(Arc::clone(&self.0))
    }

    /// Why there are no figures; `None`: there are.
    pub fn silence(&self) -> Option<String> {
        let down = self.0.down.load();
        match (&self.0.kind, &*down) {
            (Kind::Nobody(why), _) => Some(why.clone()),
            (_, Some(down)) => Some(down.to_string()),
            (Kind::Lines, None) => None,
        }
    }

    /// What was counted of a service by its lines; `None`: it is not, or not by lines.
    pub(super) fn whole(&self, service: &ServiceName) -> Option<Colors<Tally>> {
        (self.0.kind == Kind::Lines).then(|| self.0.ledger.whole(service))?
    }

    /// What was counted of every service by its lines; `None`: not by lines.
    pub fn counted(&self) -> Option<Vec<Counted>> {
        (self.0.kind == Kind::Lines).then_some(())?;
        let all = self.0.ledger.wholes().into_iter();
        Some(
            all.map(|(service, ended)| Counted {
                service,
                ended,
                in_flight: Colors::default(),
                retried: Colors::default(),
                held: 0,
                turned_away: Vec::new(),
                unserved: 0,
                alias: None,
            })
            .collect(),
        )
    }

    /// What is known of the lines; `None`: there are none.
    pub fn loss(&self) -> Option<Loss> {
        (self.0.kind == Kind::Lines).then_some(())?;
        let Read { lines, strange } = self.0.ledger.read();
        Some(Loss {
            lines,
            refused: strange + self.0.flow.strangers(),
            share: match self.0.ledger.last() {
                Some(Lost::Share(share)) => Some(share.max(self.0.ledger.most_untold())),
                Some(Lost::Unknown) | None => None,
            },
        })
    }
}

/// The counting at work, ended when this is dropped.
#[derive(Debug)]
pub struct Counting {
    counts: Counts,
    task: Option<JoinHandle<()>>,
    reader: Option<Reader>,
}

impl Drop for Counting {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Counting {
    /// Begins. `names` tells the services that there are. What keeps it from counting is in the log and in
    /// [`Counts::silence`]: traffic is not held up for want of figures. Must be called within a runtime.
    pub fn begin(
        origin: Origin,
        width: Duration,
        names: impl Fn() -> Vec<ServiceName> + Send + 'static,
    ) -> Self {
        let ledger = Arc::new(Ledger::new(width));
        let flow = Arc::new(Flow::default());
        let shared = |kind| {
            Arc::new(Shared {
                ledger: Arc::clone(&ledger),
                down: ArcSwapOption::empty(),
                flow: Arc::clone(&flow),
                kind,
            })
        };
        ledger.know(&names(), ledger.place(Timestamp::now()));
        match origin {
            Origin::Nobody(why) => Self {
                counts: Counts(shared(Kind::Nobody(why))),
                task: None,
                reader: None,
            },
            Origin::Lines {
                paths,
                given,
                pid,
                totals,
            } => {
                let shared = shared(Kind::Lines);
                let reader = read(&shared, &paths, given, pid);
                let task = tokio::spawn(close(Arc::clone(&shared), totals, names));
                Self {
                    counts: Counts(shared),
                    task: Some(task),
                    reader,
                }
            }
        }
    }

    /// What is counted.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// The datagram socket once more, for another process; `None` where there is none.
    pub fn descriptor(&self) -> Option<UnixDatagram> {
        self.reader.as_ref()?.descriptor()
    }
}

fn read(
    shared: &Arc<Shared>,
    paths: &Paths,
    given: Option<UnixDatagram>,
    pid: PathBuf,
) -> Option<Reader> {
    let begun = Socket::open(paths, given).and_then(|socket| {
        let (ledger, flow) = (Arc::clone(&shared.ledger), Arc::clone(&shared.flow));
        Reader::begin(socket, ledger, flow, Peers::of(pid))
    });
    match begun {
        Ok(reader) => Some(reader),
        Err(error) => {
            let reason = crate::domain::describe(&error);
            tracing::warn!(
                reason,
                "the traffic of the balancer is not counted; it is served all the same"
            );
            shared.down.store(Some(Arc::new(Down::now(reason))));
            None
        }
    }
}

/// What stood at the end of a bucket.
#[derive(Debug, Clone)]
struct Stand {
    /// Lines of each service.
    told: BTreeMap<String, u64>,
    total: Option<Total>,
}

/// Closes the buckets of lines.
async fn close(
    shared: Arc<Shared>,
    totals: Totals,
    names: impl Fn() -> Vec<ServiceName> + Send + 'static,
) {
    let mut before: Option<Stand> = None;
    loop {
        let rest = shared.ledger.rest(Timestamp::now());
        tokio::time::sleep(rest + SETTLE).await;
        let total = totals.ask().await;
        let now = Stand {
            told: shared.ledger.told(),
            total,
        };
        let full = shared.flow.take_full();
        let (lost, untold) = match &before {
            // the first bucket was not counted from its begin
            None => (Lost::Unknown, BTreeMap::new()),
            Some(_) if shared.down.load().is_some() => (Lost::Unknown, BTreeMap::new()),
            Some(before) => missing(before, &now, full),
        };
        before = Some(now);
        if shared.flow.has_ended() && shared.down.load().is_none() {
            let why = "the thread that reads the balancer's lines has ended; restart turnout";
            shared.down.store(Some(Arc::new(Down::now(why.to_owned()))));
        }
        let at = shared.ledger.place(Timestamp::now());
        shared.ledger.know(&names(), at);
        shared.ledger.close(at, lost, &untold);
        if !lost.is_evidence() || !untold.is_empty() {
            tracing::debug!(
                ?lost,
                ?untold,
                full,
                "a bucket of the traffic was not counted whole"
            );
        }
    }
}

/// How much of a bucket was not told of: of all the traffic, because there was no room for it; and of which services, for whatever
/// reason.
fn missing(before: &Stand, now: &Stand, full: bool) -> (Lost, BTreeMap<String, Untold>) {
    // a balancer that began anew has counted from nothing, and a service that is new was not counted from the begin
    let told = |name: &str| now.told.get(name)?.checked_sub(*before.told.get(name)?);
    let each = match (&before.total, &now.total) {
        (Some(Total::All(before_it)), Some(Total::All(now_it))) => {
            let told = now.told.keys().filter_map(|name| told(name)).sum();
            let answered = now_it.checked_sub(*before_it);
            let lost = answered.map_or(Lost::Unknown, |answered| {
                Lost::Share(Untold { answered, told }.share())
            });
            let none_dropped = Lost::Share(0.0);
            return (if full { lost } else { none_dropped }, BTreeMap::new());
        }
        (Some(Total::Each(before_it)), Some(Total::Each(now_it))) => {
            let each = now.told.keys().filter_map(|name| {
                let answered = now_it.get(name)?.checked_sub(*before_it.get(name)?)?;
                let untold = Untold {
                    answered,
                    told: told(name)?,
                };
                Some((name.clone(), untold))
            });
            each.collect::<BTreeMap<_, _>>()
        }
        _ => BTreeMap::new(),
    };
    let lost = if full && each.is_empty() {
        Lost::Unknown
    } else if full {
        let sum = |of: fn(&Untold) -> u64| each.values().map(of).sum();
        let all = Untold {
            answered: sum(|untold| untold.answered),
            told: sum(|untold| untold.told.min(untold.answered)),
        };
        Lost::Share(all.share())
    } else {
        // the queue was never full, so nothing was dropped
        Lost::Share(0.0)
    };
    let untold = each
        .into_iter()
        .filter(|(_, untold)| untold.answered >= FEW && untold.share() > MUCH);
    (lost, untold.collect())
}

/// More than this is no evidence, in percent, for messages.
pub(super) const MOST_PERCENT: f64 = MOST_LOST * 100.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Arm, Color, Paired};
    use crate::traffic::Unavailable;

    async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begun = tokio::time::Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "waited for {what}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_is_sent_is_given_out_in_stretches() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths {
            socket: folder.path().join("traffic/socket"),
            reader: folder.path().join("traffic/reader"),
        };
        let shop: ServiceName = "shop".parse().unwrap();
        let origin = Origin::Lines {
            paths: paths.clone(),
            given: None,
            pid: folder.path().join("pid"),
            totals: Totals::Unknown,
        };
        let names = vec![shop.clone()];
        let counting = Counting::begin(origin, Duration::from_millis(200), move || names.clone());
        let (counts, feed) = (counting.counts(), counting.counts().feed());
        let over = Duration::from_millis(300);
        let pairs = || feed.pairs(&shop, Color::Blue, over, Timestamp::UNIX_EPOCH);
        assert!(matches!(pairs(), Err(Unavailable::NoData { .. })));
        // the first stretch was not counted from its begin
        wait_for("a whole stretch", || counts.0.ledger.begun().then_some(())).await;
        let balancer = UnixDatagram::unbound().unwrap();
        for color in [Color::Blue, Color::Green, Color::Green] {
            let line = format!("<190>Nov 21 16:30:56 turnout: shop {color} 502 0.600 7");
            balancer.send_to(line.as_bytes(), &paths.socket).unwrap();
        }
        balancer.send_to(b"nonsense", &paths.socket).unwrap();
        let seen = wait_for("the lines", || pairs().ok()).await;
        let requests =
            |arm: fn(&Paired) -> Arm| seen.iter().map(|pair| arm(pair).requests).sum::<u64>();
        assert_eq!(
            (
                requests(|pair| pair.stable),
                requests(|pair| pair.candidate)
            ),
            (1, 2)
        );
        assert_eq!(seen[0].candidate.errors, seen[0].candidate.requests);
        assert_eq!(seen[0].candidate.slow, seen[0].candidate.requests);
        let loss = counts.loss().unwrap();
        assert_eq!((loss.lines, loss.refused), (3, 1));
        assert!(paths.reader.exists());
        drop(counting);
        assert!(!paths.reader.exists());
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_had_is_a_source_that_is_down() {
        let origin = Origin::Lines {
            paths: Paths {
                socket: "/proc/none/socket".into(),
                reader: "/proc/none/reader".into(),
            },
            given: None,
            pid: "/proc/none/pid".into(),
            totals: Totals::Unknown,
        };
        let counting = Counting::begin(origin, Duration::from_millis(100), Vec::new);
        let feed = counting.counts().feed();
        let shop = "shop".parse().unwrap();
        let error = feed.pairs(&shop, Color::Blue, Duration::ZERO, Timestamp::UNIX_EPOCH);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("failed to bind the datagram socket /proc/none/socket"),
            "{error}"
        );
        let nobody = Counting::begin(Origin::Nobody("because".to_owned()), BUCKET, Vec::new);
        let error =
            nobody
                .counts()
                .feed()
                .pairs(&shop, Color::Blue, Duration::ZERO, Timestamp::UNIX_EPOCH);
        assert_eq!(error, Err(Unavailable::NoSource("because".to_owned())));
    }

    fn each(figures: &[(&str, u64)]) -> BTreeMap<String, u64> {
        let each = figures.iter();
        each.map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn what_was_lost_is_told_by_nginx_s_total_where_the_queue_was_full() {
        let stand = |told, total: Option<u64>| Stand {
            told: each(&[("shop", told)]),
            total: total.map(Total::All),
        };
        let before = stand(1_000, Some(5_000));
        let lost = |told, total, full| missing(&before, &stand(told, total), full).0;
        assert_eq!(lost(1_990, Some(6_000), true), Lost::Share(0.01));
        assert_eq!(lost(1_990, None, true), Lost::Unknown);
        // the total is of others' requests as well
        assert_eq!(lost(1_100, Some(6_000), false), Lost::Share(0.0));
        // begun anew
        assert_eq!(lost(1_100, Some(90), true), Lost::Unknown);
    }

    #[test]
    fn haproxy_s_total_of_a_service_is_held_against_the_lines_of_that_one() {
        let stand = |told: [u64; 2], total: &[(&str, u64)]| Stand {
            told: each(&[("blog", told[0]), ("shop", told[1])]),
            total: Some(Total::Each(each(total))),
        };
        let before = stand(
            [100, 1_000],
            &[("blog", 100), ("shop", 1_000), ("quiet", 9)],
        );
        let after = |told, total: &[(&str, u64)], full| missing(&before, &stand(told, total), full);
        // one that is not counted (`metrics: false`) is nobody's loss, however much it has
        let total = [("blog", 300), ("shop", 2_000), ("quiet", 90_000)];
        assert_eq!(
            after([300, 2_000], &total, false),
            (Lost::Share(0.0), BTreeMap::new())
        );
        // one whose frontend does not log is its own loss alone
        let (lost, untold) = after([100, 2_000], &total, false);
        assert_eq!(lost, Lost::Share(0.0));
        let blog = Untold {
            answered: 200,
            told: 0,
        };
        assert_eq!(untold, BTreeMap::from([("blog".to_owned(), blog)]));
        // few say nothing
        let few = [("blog", 199), ("shop", 2_000)];
        assert_eq!(after([100, 2_000], &few, false).1, BTreeMap::new());
        // a queue that was full is everybody's
        let (lost, untold) = after([300, 1_400], &total, true);
        assert_eq!((lost, untold.len()), (Lost::Share(0.5), 1));
        // begun anew
        let anew = [("blog", 3), ("shop", 20)];
        assert_eq!(after([103, 1_020], &anew, true).0, Lost::Unknown);
    }
}
