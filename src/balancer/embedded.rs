//! The embedded proxy as a balancer: a table is put into force by swapping a snapshot, and proved by every proxy thread's
//! word and by requests through the front door. It has no files, so there is nothing to check, and the last good
//! configuration is the snapshot before.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use ipnet::IpNet;

use super::{
    Applied, ApplyError, Balancer, Change, Drained, Foreign, FrontDoor, Live, Observed,
    RenderError, Rendered, Served, ServerHealthUse, Step, TrafficUse, Trouble, Troubled,
    front_door, listeners,
};
use crate::domain::{Color, Colors, Counted, Generation, Hashing, RoutingTable, ServiceName};
use crate::proxy::{ListenError, Proxy, Snapshot, try_listen};

/// For all threads to say that they route by the new table. They need microseconds; a machine that is out of breath is
/// not a failed switch.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);
/// Between two looks at what is in flight.
const LOOK: Duration = Duration::from_millis(5);

/// For a person, where a snapshot cannot be brought back.
const ADVICE: &str = "restart turnout: it starts from the state, which was not changed";

/// The embedded proxy.
#[derive(Debug, Clone)]
pub struct Embedded {
    proxy: Proxy,
    /// What was routed by before the present generation, for [`Balancer::revert`].
    former: Arc<ArcSwapOption<Snapshot>>,
    /// How it finds the color of a key.
    hashing: Hashing,
}

impl Embedded {
    /// Drives `proxy`.
    pub fn new(proxy: Proxy) -> Self {
        Self {
            proxy,
            former: Arc::new(ArcSwapOption::empty()),
            hashing: Hashing::SplitClients,
        }
    }

    /// A proxy of its own that finds the color of a key as another balancer does, and listens nowhere yet. `given`: sockets
    /// that listen already, for the addresses that it is asked to serve.
    pub(super) async fn hashing_as(
        hashing: Hashing,
        trusted: Vec<IpNet>,
        given: BTreeMap<SocketAddr, TcpListener>,
    ) -> io::Result<Self> {
        let proxy = Proxy::start(0, trusted)?;
        proxy.give(given).await;
        Ok(Self {
            hashing,
            ..Self::new(proxy)
        })
    }

    /// Every listening socket once more, for another process.
    pub(super) async fn sockets(&self) -> io::Result<Vec<TcpListener>> {
        self.proxy.listeners().await
    }

    /// Ends: listens no more at once, answers what is in flight with `Connection: close`, and cuts what is left after
    /// `within`. Says how many connections that were.
    pub(super) async fn end(&self, within: Duration) -> u64 {
        let deadline = tokio::time::Instant::now() + within;
        self.proxy.drain(deadline).await.cut
    }

    /// As [`Self::end`], once another process accepts from the same sockets.
    pub(super) async fn hand_over(&self, within: Duration) -> u64 {
        let deadline = tokio::time::Instant::now() + within;
        self.proxy.hand_over(deadline).await.cut
    }

    /// Whether every address can be listened on, before the start: a daemon that cannot serve at all says so and ends, while
    /// one that runs keeps what it has and goes on trying.
    pub fn try_addresses(
        mut addresses: impl Iterator<Item = SocketAddr>,
    ) -> Result<(), ApplyError> {
        addresses.try_for_each(try_listen).map_err(refused)
    }

    /// Proves that what is installed is served; the error says what was seen.
    async fn prove(&self, change: &Change<'_>) -> Result<front_door::Seen, String> {
        let generation = change.desired.generation;
        let threads = self
            .proxy
            .acknowledged(generation, ACKNOWLEDGE)
            .await
            .map_err(|error| error.to_string())?;
        let mut seen = match change.front_door {
            FrontDoor::Ask | FrontDoor::Turnout => front_door::ask_all(change, self.hashing)
                .await
                .map_err(|error| told(&error))?,
            FrontDoor::Skip => front_door::Seen::default(),
        };
        let acknowledged = format!("all {threads} proxy threads route by generation {generation}");
        seen.evidence.insert(0, acknowledged);
        Ok(seen)
    }

    /// Brings `last_good` back after `message`.
    async fn restore(
        &self,
        change: &Change<'_>,
        last_good: Arc<Snapshot>,
        message: String,
    ) -> ApplyError {
        let serves = last_good.generation();
        let undone = match self.proxy.install(last_good).await {
            Ok(()) => self
                .proxy
                .acknowledged(serves, ACKNOWLEDGE)
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(told(&error)),
        };
        match undone {
            Ok(threads) => {
                let detail = format!("all {threads} proxy threads route by generation {serves}");
                change.progress.tell(Step::Restore, &detail);
                ApplyError::Restored { message, serves }
            }
            Err(undo) => ApplyError::NotRestored {
                message,
                undo,
                advice: ADVICE.to_owned(),
            },
        }
    }
}

impl Balancer for Embedded {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    fn render(&self, table: &RoutingTable) -> Result<Rendered, RenderError> {
        Ok(Rendered {
            generation: table.generation,
            files: Vec::new(),
        })
    }

    fn server_health(&self) -> ServerHealthUse {
        ServerHealthUse::Probes
    }

    fn traffic_use(&self) -> TrafficUse {
        TrafficUse::Stops
    }

    fn live(&self, service: &ServiceName) -> Option<Live> {
        let door = self.proxy.door(service)?;
        let totals = Colors::from_fn(|color| self.proxy.totals(service, color).unwrap_or_default());
        let troubled = Color::BOTH.into_iter().flat_map(|color| {
            let marks = self.proxy.marks(service, color);
            marks.into_iter().filter_map(move |(server, mark)| {
                let (trouble, times) = match (mark.open, mark.marked) {
                    (true, _) => (Trouble::CircuitOpen, mark.openings),
                    (false, true) => (Trouble::PassedOver, mark.marks),
                    (false, false) => return None,
                };
                Some(Troubled {
                    color,
                    url: server.to_string(),
                    trouble,
                    times,
                })
            })
        });
        Some(Live {
            in_flight: Colors::from_fn(|color| totals[color].in_flight),
            requests: Colors::from_fn(|color| totals[color].requests),
            failed: Colors::from_fn(|color| totals[color].failed),
            retried: Colors::from_fn(|color| totals[color].retried),
            held: door.held,
            held_too_long: door.held_too_long,
            in_maintenance: door.in_maintenance,
            rate_limited: door.rate_limited,
            unserved: door.unserved,
            router: self.proxy.figures(service),
            troubled: troubled.collect(),
        })
    }

    fn counted(&self) -> Option<Vec<Counted>> {
        Some(self.proxy.counted())
    }

    fn refused(&self) -> BTreeMap<String, u64> {
        let refused = self.proxy.refused().into_iter();
        refused
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect()
    }

    async fn check(&self, _: &RoutingTable, _: &Rendered) -> Result<Vec<String>, ApplyError> {
        Ok(Vec::new())
    }

    async fn drained(&self, service: &ServiceName, color: Color, within: Duration) -> Drained {
        let deadline = Instant::now() + within;
        loop {
            let busy = self.proxy.in_flight(service, color);
            if busy == 0 {
                return Drained::Done;
            }
            if Instant::now() >= deadline {
                return Drained::Busy {
                    what: format!("{busy} requests"),
                };
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn apply(&self, change: Change<'_>) -> Result<Applied, ApplyError> {
        let generation = change.desired.generation;
        let last_good = self.proxy.current();
        let next = self.proxy.snapshot(change.desired, self.hashing);
        self.proxy.install(next).await.map_err(refused)?;
        change.progress.tell(
            Step::Install,
            &format!("snapshot of generation {generation}"),
        );
        match self.prove(&change).await {
            Ok(seen) => {
                change.progress.tell(Step::Prove, &seen.evidence.join("; "));
                // the same generation with other servers left out is not a way back
                if last_good.generation() != generation {
                    self.former.store(Some(last_good));
                }
                Ok(Applied::new(generation, seen.evidence, Vec::new()).seen_through(seen.routed))
            }
            Err(message) => Err(self.restore(&change, last_good, message).await),
        }
    }

    async fn revert(&self, to: Generation, _: Foreign) -> Result<Option<Applied>, ApplyError> {
        let now = self.proxy.current();
        if now.generation() != to {
            let former = self.former.load_full();
            let Some(former) = former.filter(|former| former.generation() == to) else {
                return Ok(None);
            };
            self.proxy.install(former).await.map_err(refused)?;
        }
        match self.proxy.acknowledged(to, ACKNOWLEDGE).await {
            Ok(threads) => {
                let seen = format!("all {threads} proxy threads route by generation {to}");
                Ok(Some(Applied::new(to, vec![seen], Vec::new())))
            }
            Err(error) => Err(ApplyError::NotRestored {
                message: format!("generation {to} was to be brought back"),
                undo: error.to_string(),
                advice: ADVICE.to_owned(),
            }),
        }
    }

    async fn observe(&self) -> Observed {
        let snapshot = self.proxy.current();
        Observed {
            disk: None,
            served: Served::Generation {
                generation: snapshot.generation(),
                splits: snapshot.splits(),
            },
        }
    }
}

/// A listen address that cannot be had, in nginx's words, and who has it.
fn refused(error: ListenError) -> ApplyError {
    let ListenError { address, source } = error;
    let reason = match source.raw_os_error() {
        // the text of an io::Error with a number ends in " (os error 98)"; nginx puts the number first, and so do we
        Some(number) => {
            let text = source.to_string();
            let text = text.split(" (os error").next().unwrap_or(&text);
            format!("bind() to {address} failed ({number}: {text})")
        }
        None => format!("bind() to {address} failed ({source})"),
    };
    let kind = source.kind();
    if kind == io::ErrorKind::PermissionDenied {
        return ApplyError::NotPermitted {
            message: format!(
                "{reason}: ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
            ),
        };
    }
    let message = if kind == io::ErrorKind::AddrInUse {
        match listeners::holder(address) {
            Some(holder) => format!(
                "{reason}; {holder} listens there: stop it, or give the service another `listen`"
            ),
            None => format!(
                "{reason}: stop what listens there (`ss -ltnp` as root shows it), or give the service another `listen`"
            ),
        }
    } else {
        reason
    };
    ApplyError::Unchanged {
        message,
        source: None,
    }
}

/// An error with its causes in one line.
fn told(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
