//! A snapshot as one thread sees it: with the thread's own pools of connections and its own turns. Never shared, so nothing
//! in it is locked or atomic.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::entry::{Entry, Target};
use super::lane::{Lane, Lanes};
use super::mark::Standing;
use super::snapshot::Snapshot;
use super::tenure::Tenure;
use super::thread::Ticks;
use super::upstream::Pool;
use crate::domain::{Server, ServiceName};

/// Tells a thread's views apart, without holding any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ViewNumber(u64);

impl ViewNumber {
    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A snapshot with this thread's pools and turns.
pub(super) struct View {
    pub(super) number: ViewNumber,
    pub(super) snapshot: Arc<Snapshot>,
    routes: Vec<Rc<LocalRoute>>,
    pools: HashMap<Server, Rc<Pool>>,
}

/// One service on this thread.
#[derive(Debug)]
pub(super) struct LocalRoute {
    pub(super) entry: Arc<Entry>,
    pub(super) shard: usize,
    pools: Lanes<Vec<Rc<Pool>>>,
    turn: Lanes<Cell<usize>>,
    pub(super) tenure: Lanes<Rc<Tenure>>,
}

impl LocalRoute {
    /// The healthy servers of a color with their pools, from the one whose turn it is; marked ones last, and those whose
    /// circuit is open not at all.
    pub(super) fn in_turn(
        &self,
        lane: Lane,
    ) -> impl Iterator<Item = (&Target, &Rc<Pool>, Standing)> {
        let targets = &self.entry.sides[lane].healthy;
        let turn = &self.turn[lane];
        let first = turn.get() % targets.len().max(1);
        turn.set(first + 1);
        let pools = &self.pools[lane];
        let mut order = (first..targets.len()).chain(0..first);
        // allocates only where there is one
        let mut marked: Vec<usize> = Vec::new();
        let mut last = 0;
        std::iter::from_fn(move || {
            for place in order.by_ref() {
                match targets[place].mark.standing() {
                    Standing::Marked => marked.push(place),
                    Standing::Open => {}
                    good @ (Standing::Good | Standing::Trial) => {
                        return Some((&targets[place], &pools[place], good));
                    }
                }
            }
            let place = *marked.get(last)?;
            last += 1;
            Some((&targets[place], &pools[place], Standing::Marked))
        })
    }
}

impl LocalRoute {
    /// `lane` gets nothing any more: what it has in flight has the time that the service gives.
    fn leave(&self, lane: Lane, now: u32) {
        self.tenure[lane].leave(now, Ticks::of(self.entry.timeouts.drain));
    }
}

/// The tenures of a service whose entry is new: those it had before, with the colors that it leaves told.
fn tenures(before: Option<&Rc<LocalRoute>>, entry: &Entry, now: u32) -> Lanes<Rc<Tenure>> {
    Lanes::from_fn(|lane| {
        let Some(before) = before else {
            return Rc::default();
        };
        if entry.leaves_out(lane) {
            if !before.entry.leaves_out(lane) {
                before.leave(lane, now);
            }
        } else {
            before.tenure[lane].resume();
        }
        Rc::clone(&before.tenure[lane])
    })
}

impl View {
    /// Of a snapshot that no thread ever routes by, so that the first look finds a newer one.
    pub(super) fn none() -> Self {
        Self {
            number: ViewNumber::default(),
            snapshot: Arc::new(Snapshot::empty()),
            routes: Vec::new(),
            pools: HashMap::new(),
        }
    }

    /// Closes connections to servers that were idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        for pool in self.pools.values() {
            pool.sweep(now);
        }
    }

    pub(super) fn find(&self, listener: SocketAddr, host: &str) -> Option<Rc<LocalRoute>> {
        self.snapshot
            .find(listener, host)
            .map(|place| self.at(place))
    }

    /// The service of this name.
    pub(super) fn named(&self, name: &ServiceName) -> Option<Rc<LocalRoute>> {
        let known = self.routes.iter();
        known
            .into_iter()
            .find(|route| route.entry.name == *name)
            .map(Rc::clone)
    }

    /// The service at a place that the snapshot's `find` gave.
    pub(super) fn at(&self, place: usize) -> Rc<LocalRoute> {
        Rc::clone(&self.routes[place])
    }

    /// The view of a new snapshot, from tick `now`. Services and servers that stay keep their turns and pools; the pools of the others are
    /// dropped.
    pub(super) fn renew(&self, snapshot: Arc<Snapshot>, thread: usize, now: u32) -> Self {
        let known: HashMap<_, _> = self
            .routes
            .iter()
            .map(|route| (&route.entry.name, route))
            .collect();
        let mut pools: HashMap<Server, Rc<Pool>> = HashMap::with_capacity(self.pools.len());
        let mut pool_of = |server: &Server| {
            if let Some(pool) = pools.get(server) {
                return Rc::clone(pool);
            }
            let pool = self
                .pools
                .get(server)
                .map_or_else(|| Rc::new(Pool::new(server.clone())), Rc::clone);
            pools.insert(server.clone(), Rc::clone(&pool));
            pool
        };
        let routes: Vec<_> = snapshot
            .entries
            .iter()
            .map(|entry| {
                let lanes = Lanes::from_fn(|lane| {
                    entry.sides[lane]
                        .healthy
                        .iter()
                        .map(|target| pool_of(&target.server))
                        .collect()
                });
                match known.get(&entry.name) {
                    Some(route) if Arc::ptr_eq(&route.entry, entry) => Rc::clone(route),
                    before => Rc::new(LocalRoute {
                        entry: Arc::clone(entry),
                        tenure: tenures(before.copied(), entry, now),
                        shard: thread,
                        pools: lanes,
                        // threads begin at different servers, so that they do not all go to the first one at once
                        turn: Lanes::from_fn(|_| Cell::new(thread)),
                    }),
                }
            })
            .collect();
        for route in &self.routes {
            if snapshot.entry(&route.entry.name).is_none() {
                for lane in Lane::ALL {
                    route.leave(lane, now);
                }
            }
        }
        for (server, pool) in &self.pools {
            if !pools.contains_key(server) {
                pool.retire();
            }
        }
        Self {
            number: self.number.next(),
            snapshot,
            routes,
            pools,
        }
    }
}
