//! What is in flight and what was served, by service and color. A shard for each thread, so that counting a request never
//! makes two cores share a cache line; who asks adds the shards up. Never a lock, never a decision.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::Entry;
use super::handle::Proxy;
use super::lane::{Lane, Lanes};
use super::ledger::{Done, Ledger};
use crate::domain::{Carried, Colors, Counted, RouterFigures, ServiceName, Tally};

/// The counters of one service.
#[derive(Debug)]
pub(super) struct ServiceCounters {
    shards: Box<[Shard]>,
    /// Requests that wait until the traffic is opened. One number for all threads, because it bounds them together.
    held: AtomicU64,
}

/// 128 bytes: two cache lines, because x86 fetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Lanes<Cells>, Turned);

#[derive(Debug, Default)]
struct Cells {
    begun: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    ended_how: OnceLock<Box<Ledger>>,
}

/// Requests that went to no color.
#[derive(Debug, Default)]
struct Turned {
    closed: AtomicU64,
    tired: AtomicU64,
    limited: AtomicU64,
    unserved: AtomicU64,
}

/// Why a request went to no color although its service is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TurnedAway {
    /// The service is in maintenance.
    Closed,
    /// It waited for as long as it may, or too many wait already.
    Tired,
    /// A rate limit.
    Limited,
    /// Nobody who may serve it is healthy.
    Unserved,
}

/// What one color of a service (or its alias) did since the proxy first knew the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests that were routed to the color.
    pub requests: u64,
    /// Of those, answered by the proxy itself: no server could be reached, none answered in time, or the answer broke.
    pub failed: u64,
    /// Not yet ended.
    pub in_flight: u64,
    /// Attempts after the first: at another server that was asked because one refused, or on another connection.
    pub retried: u64,
}

/// What the proxy did with a service's requests before any color was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DoorTotals {
    /// Waiting now, because the traffic is held.
    pub held: u64,
    /// Answered with 503 because the service was in maintenance.
    pub in_maintenance: u64,
    /// Answered with 503 because the traffic was held for longer than `limits.hold`, or too many waited.
    pub held_too_long: u64,
    /// Answered with 429.
    pub rate_limited: u64,
    /// Answered with 503 because nobody who may serve was healthy.
    pub unserved: u64,
}

impl ServiceCounters {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            shards: (0..threads).map(|_| Shard::default()).collect(),
            held: AtomicU64::new(0),
        }
    }

    pub(super) fn begin(&self, shard: usize, lane: Lane) {
        self.add(shard, |cells| &cells.begun, lane);
    }

    pub(super) fn end(&self, shard: usize, lane: Lane) {
        self.add(shard, |cells| &cells.ended, lane);
    }

    pub(super) fn fail(&self, shard: usize, lane: Lane) {
        self.add(shard, |cells| &cells.failed, lane);
    }

    pub(super) fn retry(&self, shard: usize, lane: Lane) {
        self.add(shard, |cells| &cells.retried, lane);
    }

    /// A request went to no color.
    pub(super) fn turn_away(&self, shard: usize, why: TurnedAway) {
        if let Some(Shard(_, turned)) = self.shards.get(shard) {
            let cell = match why {
                TurnedAway::Closed => &turned.closed,
                TurnedAway::Tired => &turned.tired,
                TurnedAway::Limited => &turned.limited,
                TurnedAway::Unserved => &turned.unserved,
            };
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One more waits, if there is room. Whoever got a place gives it back with [`Self::give_place`].
    pub(super) fn take_place(&self, most: u64) -> bool {
        if self.held.fetch_add(1, Ordering::Relaxed) < most {
            return true;
        }
        self.held.fetch_sub(1, Ordering::Relaxed);
        false
    }

    pub(super) fn give_place(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn door(&self) -> DoorTotals {
        let sum = |cell: fn(&Turned) -> &AtomicU64| -> u64 {
            self.shards
                .iter()
                .map(|Shard(_, turned)| cell(turned).load(Ordering::Relaxed))
                .sum()
        };
        DoorTotals {
            held: self.held.load(Ordering::Relaxed),
            in_maintenance: sum(|turned| &turned.closed),
            held_too_long: sum(|turned| &turned.tired),
            rate_limited: sum(|turned| &turned.limited),
            unserved: sum(|turned| &turned.unserved),
        }
    }

    /// How a request ended, on its thread.
    pub(super) fn write(&self, shard: usize, lane: Lane, done: Done) {
        if let Some(Shard(lanes, _)) = self.shards.get(shard) {
            let ledger = lanes[lane].ended_how.get_or_init(Box::default);
            ledger.write(done);
        }
    }

    /// How the requests of one lane ended, of all threads together.
    fn ended(&self, lane: Lane) -> Tally {
        let mut tally = Tally::default();
        for Shard(lanes, _) in &self.shards {
            if let Some(ledger) = lanes[lane].ended_how.get() {
                ledger.add_to(&mut tally);
            }
        }
        tally
    }

    /// Everything, of all threads together.
    fn counted(&self, service: &ServiceName) -> Counted {
        let totals = Colors::from_fn(|color| self.totals(Lane::Color(color)));
        let door = self.door();
        Counted {
            service: service.clone(),
            ended: Colors::from_fn(|color| self.ended(Lane::Color(color))),
            alias: None,
            in_flight: Colors::from_fn(|color| totals[color].in_flight),
            retried: Colors::from_fn(|color| totals[color].retried),
            held: door.held,
            turned_away: vec![
                ("no_backend", door.unserved),
                ("held_too_long", door.held_too_long),
                ("maintenance", door.in_maintenance),
                ("rate_limit", door.rate_limited),
            ],
            unserved: door.unserved + door.held_too_long,
        }
    }

    fn add(&self, shard: usize, cell: impl Fn(&Cells) -> &AtomicU64, lane: Lane) {
        if let Some(Shard(lanes, _)) = self.shards.get(shard) {
            cell(&lanes[lane]).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The sum over the shards. Ends are read before begins: a request that comes and goes meanwhile can be counted as in
    /// flight, but none that is in flight can be missed.
    pub(super) fn totals(&self, lane: Lane) -> Totals {
        let sum = |cell: fn(&Cells) -> &AtomicU64| -> u64 {
            self.shards
                .iter()
                .map(|Shard(lanes, _)| cell(&lanes[lane]).load(Ordering::Acquire))
                .sum()
        };
        let (ended, failed) = (sum(|cells| &cells.ended), sum(|cells| &cells.failed));
        let requests = sum(|cells| &cells.begun);
        Totals {
            requests,
            failed,
            in_flight: requests.saturating_sub(ended),
            retried: sum(|cells| &cells.retried),
        }
    }
}

impl Entry {
    /// Everything that was counted of it.
    pub(super) fn counted(&self) -> Counted {
        let counters = &self.counters;
        let alias = self.alias().map(|_| {
            let totals = counters.totals(Lane::Alias);
            Carried {
                ended: counters.ended(Lane::Alias),
                in_flight: totals.in_flight,
                retried: totals.retried,
            }
        });
        Counted {
            alias,
            ..counters.counted(&self.name)
        }
    }
}

impl Proxy {
    /// What was counted of the services that are in force and have their requests counted, in the order of their names.
    pub fn counted(&self) -> Vec<Counted> {
        let snapshot = self.current();
        let entries = snapshot.entries.iter();
        entries
            .filter(|entry| entry.is_counted())
            .map(|entry| entry.counted())
            .collect()
    }

    /// What was counted of one service; `None` where it is not in force, or its requests are not counted.
    pub fn counted_of(&self, service: &ServiceName) -> Option<Counted> {
        let snapshot = self.current();
        let entry = snapshot.entry(service).filter(|entry| entry.is_counted())?;
        Some(entry.counted())
    }

    /// The figures of one service; `None` where it is not in force, or its requests are not counted.
    pub fn figures(&self, service: &ServiceName) -> Option<RouterFigures> {
        Some(RouterFigures::of(&self.counted_of(service)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Color;

    const BLUE: Lane = Lane::Color(Color::Blue);
    const GREEN: Lane = Lane::Color(Color::Green);

    #[test]
    fn shards_add_up_and_colors_stay_apart() {
        let counters = ServiceCounters::new(3);
        counters.begin(0, BLUE);
        counters.begin(2, BLUE);
        counters.begin(1, GREEN);
        counters.end(2, BLUE);
        counters.fail(2, BLUE);
        assert_eq!(
            counters.totals(BLUE),
            Totals {
                requests: 2,
                failed: 1,
                in_flight: 1,
                retried: 0
            }
        );
        assert_eq!(counters.totals(GREEN).in_flight, 1);
    }
}
