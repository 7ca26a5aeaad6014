//! A snapshot as one thread sees it: with the thread's own pools of connections and its own turns. Never shared, so nothing
//! in it is locked or atomic.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::mark::Standing;
use super::snapshot::{Entry, Snapshot, Target};
use super::tenure::Tenure;
use super::thread::Ticks;
use super::upstream::Pool;
use crate::domain::{Color, Colors, Server};

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
    pools: Colors<Vec<Rc<Pool>>>,
    turn: Colors<Cell<usize>>,
    pub(super) tenure: Colors<Rc<Tenure>>,
}

impl LocalRoute {
    /// The healthy servers of a color with their pools, from the one whose turn it is; marked ones last, and those whose
    /// circuit is open not at all.
    pub(super) fn in_turn(
        &self,
        color: Color,
    ) -> impl Iterator<Item = (&Target, &Rc<Pool>, Standing)> {
        let targets = &self.entry.sides[color].healthy;
        let turn = &self.turn[color];
        let first = turn.get() % targets.len().max(1);
        turn.set(first + 1);
        let pools = &self.pools[color];
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
    /// `color` gets nothing any more: what it has in flight has the time that the service gives.
    fn leave(&self, color: Color, now: u32) {
        self.tenure[color].leave(now, Ticks::of(self.entry.timeouts.drain));
    }
}

/// The tenures of a service whose entry is new: those it had before, with the colors that it leaves told.
fn tenures(before: Option<&Rc<LocalRoute>>, entry: &Entry, now: u32) -> Colors<Rc<Tenure>> {
    Colors::from_fn(|color| {
        let Some(before) = before else {
            return Rc::default();
        };
        if entry.split.whole() == Some(!color) {
            if before.entry.split.whole() != Some(!color) {
                before.leave(color, now);
            }
        } else {
            before.tenure[color].resume();
        }
        Rc::clone(&before.tenure[color])
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
                let colors = Colors::from_fn(|color| {
                    entry.sides[color]
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
                        pools: colors,
                        // threads begin at different servers, so that they do not all go to the first one at once
                        turn: Colors::from_fn(|_| Cell::new(thread)),
                    }),
                }
            })
            .collect();
        for route in &self.routes {
            if snapshot.entry(&route.entry.name).is_none() {
                route.leave(Color::Blue, now);
                route.leave(Color::Green, now);
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
