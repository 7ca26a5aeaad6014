//! The embedded proxy as a balancer: a table is put into force by swapping a snapshot, and proved by every proxy thread's
//! word and by requests through the front door. It has no files, so there is nothing to check, and the last good
//! configuration is the snapshot before.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Applied, ApplyError, Balancer, Change, Drained, FrontDoor, Observed, RenderError, Rendered,
    Served, ServerHealthUse, Step, front_door,
};
use crate::domain::{Color, Hashing, RoutingTable, ServiceName};
use crate::proxy::{ListenError, Proxy, Snapshot, holder_of, try_listen};

/// For all threads to say that they route by the new table. They need microseconds; a machine that is out of breath is
/// not a failed switch.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);
/// Between two looks at what is in flight.
const LOOK: Duration = Duration::from_millis(5);
/// For the front door to show one service's colors.
const ASK: Duration = Duration::from_secs(5);

/// The embedded proxy.
#[derive(Debug, Clone)]
pub struct Embedded {
    proxy: Proxy,
}

impl Embedded {
    /// Drives `proxy`.
    pub const fn new(proxy: Proxy) -> Self {
        Self { proxy }
    }

    /// Whether every address can be listened on, before the start: a daemon that cannot serve at all says so and ends, while
    /// one that runs keeps what it has and goes on trying.
    pub fn try_addresses(
        mut addresses: impl Iterator<Item = SocketAddr>,
    ) -> Result<(), ApplyError> {
        addresses.try_for_each(try_listen).map_err(refused)
    }

    /// Proves that what is installed is served; the error says what was seen.
    async fn prove(&self, change: &Change<'_>) -> Result<Vec<String>, String> {
        let generation = change.desired.generation;
        let threads = self
            .proxy
            .acknowledged(generation, ACKNOWLEDGE)
            .await
            .map_err(|error| error.to_string())?;
        let mut evidence = vec![format!(
            "all {threads} proxy threads route by generation {generation}"
        )];
        if change.front_door == FrontDoor::Ask {
            for (name, route) in change.desired.changed_since(change.previous) {
                let seen = front_door::ask(route, Hashing::SplitClients, ASK)
                    .await
                    .map_err(|error| format!("the front door of {name}: {}", told(&error)))?;
                evidence.extend(seen);
            }
        }
        Ok(evidence)
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
                advice: "restart turnout: it starts from the state, which was not changed"
                    .to_owned(),
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
        let next = self.proxy.snapshot(change.desired);
        self.proxy.install(next).await.map_err(refused)?;
        change.progress.tell(
            Step::Install,
            &format!("snapshot of generation {generation}"),
        );
        match self.prove(&change).await {
            Ok(evidence) => {
                change.progress.tell(Step::Prove, &evidence.join("; "));
                Ok(Applied::new(generation, evidence, Vec::new()))
            }
            Err(message) => Err(self.restore(&change, last_good, message).await),
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
        match holder_of(address) {
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
