//! The proxy that stands in: asleep until it takes over, and gone again, but for what is in flight, when it gives back.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::time::Instant;

use super::super::{
    ApplyError, Balancer as _, Change, Embedded, Foreign, FrontDoor, Progress, Rendered, listeners,
};
use super::Principal;
use super::told::{Duty, Fallback};
use crate::domain::{Hashing, RoutingTable, ServiceName, Traffic};

/// For the listeners to be closed, which takes each thread one turn.
const CLOSED: Duration = Duration::from_secs(2);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(1);

/// The proxy that stands in for one balancer.
#[derive(Debug)]
pub struct StandIn {
    kind: &'static str,
    hashing: Hashing,
    trusted: Vec<IpNet>,
    state_dir: PathBuf,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    /// The one that serves.
    serving: Option<Embedded>,
    /// `None`: the principal serves.
    told: Option<Fallback>,
    /// Sockets of the process before this one, which served.
    given: BTreeMap<SocketAddr, TcpListener>,
}

impl StandIn {
    /// For `principal`. Starts nothing.
    pub fn of(principal: &impl Principal, trusted: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self {
            kind: principal.kind(),
            hashing: principal.hashing(),
            trusted,
            state_dir: principal.state_dir().to_owned(),
            now: Mutex::default(),
        })
    }

    /// What is in force; `None`: the principal serves.
    pub fn told(&self) -> Option<Fallback> {
        self.now().told.clone()
    }

    /// What a process before this one left in force. One that was serving is taken up at once.
    pub fn remembered(&self) -> Option<Fallback> {
        let fallback = Fallback::remembered(&self.state_dir)?;
        (fallback.balancer == self.kind).then_some(fallback)
    }

    /// Sockets that listen already, for the next [`Self::take_over`].
    pub fn give(&self, sockets: BTreeMap<SocketAddr, TcpListener>) {
        self.now().given.extend(sockets);
    }

    /// Closes the given sockets that nobody needs, and says which.
    pub fn close_unused(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.now().given).into_keys().collect()
    }

    /// Every socket that it listens on, once more, for another process.
    pub async fn sockets(&self) -> io::Result<Vec<TcpListener>> {
        match self.serving() {
            Some(embedded) => embedded.sockets().await,
            None => Ok(Vec::new()),
        }
    }

    /// Takes over with `table`, proved by every thread's word. `reason` and `since`: how and when the principal was seen to be
    /// gone. That an address cannot be bound means that it is not gone after all, or that this user may not: nothing was
    /// changed then.
    pub async fn take_over(
        &self,
        table: &RoutingTable,
        reason: &str,
        since: Timestamp,
    ) -> Result<Fallback, ApplyError> {
        let table = as_served(table);
        let shapes = table.shapes();
        let mut listens: Vec<SocketAddr> = shapes.filter_map(|service| service.listen).collect();
        listens.sort_unstable();
        listens.dedup();
        if listens.is_empty() {
            return Err(ApplyError::Unchanged {
                message: "no service has a `listen` that could be taken over".to_owned(),
                source: None,
            });
        }
        let given = std::mem::take(&mut self.now().given);
        let embedded = Embedded::hashing_as(self.hashing, self.trusted.clone(), given);
        let embedded = embedded.await.map_err(|source| ApplyError::Unchanged {
            message: "failed to start the threads of the embedded proxy".to_owned(),
            source: Some(source),
        })?;
        let change = Change {
            desired: &table,
            rendered: &Rendered {
                generation: table.generation,
                files: Vec::new(),
            },
            previous: None,
            front_door: FrontDoor::Skip,
            unseen: &std::collections::BTreeSet::new(),
            foreign: Foreign::Refuse,
            progress: Progress::silent(),
        };
        // what is recorded is served again, which records nothing
        drop(embedded.apply(change).await?);
        let fallback = Fallback {
            balancer: self.kind.to_owned(),
            since,
            reason: reason.to_owned(),
            duty: Duty::Serving,
            listens,
            left_out: left_out(&table),
        };
        let mut now = self.now();
        now.serving = Some(embedded);
        now.told = Some(fallback.clone());
        drop(now);
        self.remember(&fallback);
        Ok(fallback)
    }

    /// Gives the listeners back: they are closed when this returns. What is in flight is answered with `Connection: close`
    /// in the background, for `drain` at most. `None`: it listens nowhere.
    pub async fn give_back(&self, drain: Duration) -> Option<Fallback> {
        let (embedded, fallback) = {
            let mut now = self.now();
            let embedded = now.serving.take()?;
            let fallback = now.told.as_mut()?;
            fallback.duty = Duty::Released;
            (embedded, fallback.clone())
        };
        self.remember(&fallback);
        tokio::spawn(async move {
            let cut = embedded.end(drain).await;
            if cut > 0 {
                tracing::info!(cut, "connections were closed at the drain deadline");
            }
        });
        // whoever is told that they are free binds them
        let deadline = Instant::now() + CLOSED;
        while are_ours(&fallback.listens) && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        Some(fallback)
    }

    /// The principal serves again.
    pub fn stand_aside(&self) -> Option<Fallback> {
        if let Err(error) = Fallback::forget(&self.state_dir) {
            tracing::warn!(%error, "fallback.json in the state directory could not be removed");
        }
        self.now().told.take()
    }

    /// Lets requests in flight finish at the end of this process, and says how many connections were cut after `within`.
    pub async fn drain(&self, within: Duration) -> u64 {
        match self.serving() {
            Some(embedded) => embedded.end(within).await,
            None => 0,
        }
    }

    /// As [`Self::drain`], once a successor accepts.
    pub async fn hand_over(&self, within: Duration) -> u64 {
        match self.serving() {
            Some(embedded) => embedded.hand_over(within).await,
            None => 0,
        }
    }

    /// The proxy, where it serves.
    pub(super) fn serving(&self) -> Option<Embedded> {
        self.now().serving.clone()
    }

    fn remember(&self, fallback: &Fallback) {
        if let Err(error) = fallback.remember(&self.state_dir) {
            let error = crate::domain::describe(&error);
            tracing::warn!(
                error,
                "a restart of turnout will look for the balancer first"
            );
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // what is behind it is whole at any time
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True while this process listens on one of these.
fn are_ours(addresses: &[SocketAddr]) -> bool {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let mine = listeners::sockets_of(me).unwrap_or_default();
    listeners::listening()
        .iter()
        .any(|open| addresses.contains(&open.address) && mine.contains(&open.inode))
}

fn left_out(table: &RoutingTable) -> Vec<ServiceName> {
    let shapes = table.shapes();
    shapes
        .filter(|service| service.listen.is_none())
        .map(|service| service.name.clone())
        .collect()
}

/// The table as the proxy that stands in is to serve it: like the principal, which lets all traffic pass, and answers for a
/// refused color itself. The front door of a service without `listen` is the principal's own, so nobody is asked there.
pub(super) fn as_served(table: &RoutingTable) -> RoutingTable {
    let mut table = table.clone();
    for route in table.routes.values_mut() {
        route.traffic = Traffic::Open;
        for color in &route.refused {
            let servers = route.service.servers(*color).iter().cloned();
            route.unhealthy.extend(servers);
        }
        if route.service.listen.is_none() && route.service.public.is_some() {
            Arc::make_mut(&mut route.service).public = None;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::domain::{Color, Generation, Position, PublicUrl, Route, Strategy};
    use crate::proxy::tests::shape;

    fn route(name: &str) -> Route {
        let shape = shape(name, "127.0.0.1:8080".parse().unwrap());
        Route::new(
            Arc::new(shape),
            Position::all(Strategy::BlueGreen, Color::Blue),
        )
    }

    #[test]
    fn it_serves_like_the_one_it_stands_in_for() {
        let mut shop = route("shop");
        shop.traffic = Traffic::Hold;
        shop.refused = BTreeSet::from([Color::Green]);
        let mut blog = route("blog");
        let own = Arc::make_mut(&mut blog.service);
        own.listen = None;
        own.public = Some(PublicUrl("http://127.0.0.1:80/".to_owned()));
        let names = |route: &Route| route.service.name.clone();
        let table = RoutingTable {
            generation: Generation(4),
            routes: BTreeMap::from([(names(&shop), shop.clone()), (names(&blog), blog)]),
            aliases: BTreeMap::new(),
        };
        let served = as_served(&table);
        let [blog, also] = ["blog", "shop"].map(|name| &served.routes[&name.parse().unwrap()]);
        assert_eq!(served.generation, Generation(4));
        assert!(also.traffic.is_open(), "nginx lets all traffic pass");
        assert_eq!(
            also.unhealthy,
            BTreeSet::from([shop.service.servers(Color::Green)[0].clone()]),
            "a refused color has no server"
        );
        assert_eq!(also.split(), shop.split());
        assert_eq!(blog.service.public, None, "its front door is nginx's own");
        assert_eq!(left_out(&served), ["blog".parse().unwrap()]);
    }
}
