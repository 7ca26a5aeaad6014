//! A snapshot as one thread sees it: with the thread's own pools of connections and its own turns. Never shared, so nothing
//! in it is locked or atomic.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::flights::Flights;
use super::mark::Standing;
use super::snapshot::{Entry, Snapshot, Target};
use super::upstream::Pool;
use crate::domain::{Color, Colors, Server, Weight};

/// A snapshot with this thread's pools and turns.
pub(super) struct View {
    pub(super) snapshot: Arc<Snapshot>,
    routes: Vec<Rc<LocalRoute>>,
    pools: HashMap<Server, Rc<Pool>>,
    /// What was in flight on services that are gone.
    leaving: RefCell<Vec<Rc<Flights>>>,
}

/// One service on this thread.
#[derive(Debug)]
pub(super) struct LocalRoute {
    pub(super) entry: Arc<Entry>,
    pub(super) shard: usize,
    pools: Colors<Vec<Rc<Pool>>>,
    turn: Colors<Cell<usize>>,
    pub(super) flights: Colors<Rc<Flights>>,
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

    /// Begins the drain of a color that has lost its traffic since `before`, and ends that of one that has some.
    fn heed(&self, before: &Self, now: Instant) {
        for color in Color::BOTH {
            let has = |entry: &Entry| entry.split.weight(color) > Weight::ZERO;
            if has(&self.entry) {
                self.flights[color].stay();
            } else if has(&before.entry) {
                self.flights[color].leave(now + self.entry.timeouts.drain);
            }
        }
    }
}

impl View {
    /// Of a snapshot that no thread ever routes by, so that the first look finds a newer one.
    pub(super) fn none() -> Self {
        Self {
            snapshot: Arc::new(Snapshot::empty()),
            routes: Vec::new(),
            pools: HashMap::new(),
            leaving: RefCell::default(),
        }
    }

    /// Closes connections to servers that were idle for too long, and ends what is in flight on a color that was left for too
    /// long.
    pub(super) fn sweep(&self, now: Instant) {
        for route in &self.routes {
            for color in Color::BOTH {
                route.flights[color].sweep(now);
            }
        }
        self.leaving.borrow_mut().retain(|flights| {
            flights.sweep(now);
            !flights.is_empty()
        });
        for pool in self.pools.values() {
            pool.sweep(now);
        }
    }

    pub(super) fn find(&self, listener: SocketAddr, host: &str) -> Option<Rc<LocalRoute>> {
        self.snapshot
            .find(listener, host)
            .map(|place| Rc::clone(&self.routes[place]))
    }

    /// The view of a new snapshot. Services and servers that stay keep their turns and pools; the pools of the others are
    /// dropped.
    pub(super) fn renew(&self, snapshot: Arc<Snapshot>, thread: usize) -> Self {
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
        let now = Instant::now();
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
                    before => {
                        let route = LocalRoute {
                            entry: Arc::clone(entry),
                            shard: thread,
                            pools: colors,
                            // threads begin at different servers, so that they do not all go to the first one at once
                            turn: Colors::from_fn(|_| Cell::new(thread)),
                            flights: Colors::from_fn(|color| {
                                before.map_or_else(Rc::default, |route| {
                                    Rc::clone(&route.flights[color])
                                })
                            }),
                        };
                        if let Some(before) = before {
                            route.heed(before, now);
                        }
                        Rc::new(route)
                    }
                }
            })
            .collect();
        let mut leaving = self.leaving.take();
        for route in &self.routes {
            if snapshot.entry(&route.entry.name).is_none() {
                for color in Color::BOTH {
                    route.flights[color].leave(now + route.entry.timeouts.drain);
                    leaving.push(Rc::clone(&route.flights[color]));
                }
            }
        }
        for (server, pool) in &self.pools {
            if !pools.contains_key(server) {
                pool.retire();
            }
        }
        Self {
            snapshot,
            routes,
            pools,
            leaving: RefCell::new(leaving),
        }
    }
}
