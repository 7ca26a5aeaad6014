//! The requests of one color on one thread that have ended, as they are counted for metrics. Written by its thread alone, read
//! by whoever asks: plain loads and stores, no locked instruction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::{DURATION_BOUNDS, STATUS_LABELS, Tally, duration_place, status_place};

/// How one request ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) status: u16,
    pub(super) failed: bool,
    pub(super) bytes: u64,
    /// `None`: its length says nothing, because it became a tunnel.
    pub(super) took: Option<Duration>,
}

/// 464 bytes, made when the first request ends: a service without traffic costs a pointer.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Ledger {
    statuses: [AtomicU64; STATUS_LABELS.len()],
    failed: AtomicU64,
    bytes: AtomicU64,
    durations: [AtomicU64; DURATION_BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            statuses: std::array::from_fn(|_| AtomicU64::new(0)),
            failed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            durations: std::array::from_fn(|_| AtomicU64::new(0)),
            microseconds: AtomicU64::new(0),
        }
    }
}

impl Ledger {
    /// On the one thread that writes here.
    pub(super) fn write(&self, done: Done) {
        add(&self.statuses[status_place(done.status)], 1);
        if done.failed || done.status >= 500 {
            add(&self.failed, 1);
        }
        if done.bytes > 0 {
            add(&self.bytes, done.bytes);
        }
        if let Some(took) = done.took {
            let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            add(&self.durations[duration_place(microseconds)], 1);
            add(&self.microseconds, microseconds);
        }
    }

    pub(super) fn add_to(&self, tally: &mut Tally) {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        for (label, cell) in STATUS_LABELS.iter().zip(&self.statuses) {
            let count = read(cell);
            if count > 0 {
                *tally.statuses.entry(label).or_default() += count;
            }
        }
        tally.failed += read(&self.failed);
        tally.bytes += read(&self.bytes);
        for (sum, cell) in tally.durations.iter_mut().zip(&self.durations) {
            *sum += read(cell);
        }
        tally.duration += Duration::from_micros(read(&self.microseconds));
    }
}

/// Only one thread writes, so that nothing can come between the two.
fn add(cell: &AtomicU64, more: u64) {
    cell.store(
        cell.load(Ordering::Relaxed).wrapping_add(more),
        Ordering::Relaxed,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_badly_is_failed_whatever_its_status() {
        let ledger = Ledger::default();
        let done = Done {
            status: 200,
            failed: false,
            bytes: 10,
            took: Some(Duration::from_micros(1_500)),
        };
        ledger.write(done);
        ledger.write(Done {
            failed: true,
            ..done
        });
        ledger.write(Done {
            status: 502,
            bytes: 0,
            ..done
        });
        ledger.write(Done {
            status: 101,
            took: None,
            ..done
        });
        let mut tally = Tally::default();
        ledger.add_to(&mut tally);
        assert_eq!(
            (tally.requests(), tally.failed, tally.bytes, tally.timed()),
            (4, 2, 30, 3)
        );
        assert_eq!(tally.statuses[&"502"], 1);
        assert_eq!(tally.durations[1], 3);
        assert_eq!(tally.duration, Duration::from_micros(4_500));
    }
}
