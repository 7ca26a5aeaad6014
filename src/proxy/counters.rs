//! What is in flight and what was served, by service and color. A shard for each thread, so that counting a request never
//! makes two cores share a cache line; who asks adds the shards up. Never a lock, never a decision.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::{Color, Colors};

/// The counters of one service.
#[derive(Debug)]
pub(super) struct ServiceCounters {
    shards: Box<[Shard]>,
}

/// 128 bytes: two cache lines, because x86 fetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Colors<Cells>);

#[derive(Debug, Default)]
struct Cells {
    begun: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
}

/// What one color of a service did since the proxy first knew the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests that were routed to the color.
    pub requests: u64,
    /// Of those, answered by the proxy itself: no server could be reached, none answered in time, or the answer broke.
    pub failed: u64,
    /// Not yet ended.
    pub in_flight: u64,
}

impl ServiceCounters {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            shards: (0..threads).map(|_| Shard::default()).collect(),
        }
    }

    pub(super) fn begin(&self, shard: usize, color: Color) {
        self.add(shard, |cells| &cells.begun, color);
    }

    pub(super) fn end(&self, shard: usize, color: Color) {
        self.add(shard, |cells| &cells.ended, color);
    }

    pub(super) fn fail(&self, shard: usize, color: Color) {
        self.add(shard, |cells| &cells.failed, color);
    }

    fn add(&self, shard: usize, cell: impl Fn(&Cells) -> &AtomicU64, color: Color) {
        if let Some(Shard(colors)) = self.shards.get(shard) {
            cell(&colors[color]).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The sum over the shards. Ends are read before begins: a request that comes and goes meanwhile can be counted as in
    /// flight, but none that is in flight can be missed.
    pub(super) fn totals(&self, color: Color) -> Totals {
        let sum = |cell: fn(&Cells) -> &AtomicU64| -> u64 {
            self.shards
                .iter()
                .map(|Shard(colors)| cell(&colors[color]).load(Ordering::Acquire))
                .sum()
        };
        let (ended, failed) = (sum(|cells| &cells.ended), sum(|cells| &cells.failed));
        let requests = sum(|cells| &cells.begun);
        Totals {
            requests,
            failed,
            in_flight: requests.saturating_sub(ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up_and_colors_stay_apart() {
        let counters = ServiceCounters::new(3);
        counters.begin(0, Color::Blue);
        counters.begin(2, Color::Blue);
        counters.begin(1, Color::Green);
        counters.end(2, Color::Blue);
        counters.fail(2, Color::Blue);
        assert_eq!(
            counters.totals(Color::Blue),
            Totals {
                requests: 2,
                failed: 1,
                in_flight: 1
            }
        );
        assert_eq!(counters.totals(Color::Green).in_flight, 1);
    }
}
