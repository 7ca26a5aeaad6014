//! Everything that one color did since the counting began, in arrays: a line costs no allocation and no search.

use std::time::Duration;

use super::line::Line;
use crate::domain::{DURATION_BOUNDS, STATUS_LABELS, Tally, duration_place, status_place};

/// As [`Tally`], which it becomes when somebody asks.
#[derive(Debug, Clone)]
pub(super) struct Whole {
    statuses: [u64; STATUS_LABELS.len()],
    failed: u64,
    bytes: u64,
    durations: [u64; DURATION_BOUNDS.len() + 1],
    microseconds: u64,
}

impl Default for Whole {
    fn default() -> Self {
        Self {
            statuses: [0; STATUS_LABELS.len()],
            failed: 0,
            bytes: 0,
            durations: [0; DURATION_BOUNDS.len() + 1],
            microseconds: 0,
        }
    }
}

impl Whole {
    pub(super) fn add(&mut self, line: &Line<'_>) {
        self.statuses[status_place(line.status)] += 1;
        self.failed += u64::from(line.is_error());
        self.bytes = self.bytes.saturating_add(line.bytes);
        if let Some(microseconds) = line.microseconds {
            self.durations[duration_place(microseconds)] += 1;
            self.microseconds = self.microseconds.saturating_add(microseconds);
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.statuses.iter().sum()
    }

    pub(super) fn tally(&self) -> Tally {
        let statuses = STATUS_LABELS.iter().zip(self.statuses);
        Tally {
            statuses: statuses
                .filter(|(_, count)| *count > 0)
                .map(|(label, count)| (*label, count))
                .collect(),
            failed: self.failed,
            bytes: self.bytes,
            durations: self.durations,
            duration: Duration::from_micros(self.microseconds),
        }
    }
}
