//! What one color did in one bucket of time, small enough that hours of it fit into memory.
//!
//! Pure. Slow requests are told from the buckets of [`DURATION_BOUNDS`], so "slower than" is always one of these bounds.

use std::time::Duration;

use crate::domain::{Arm, DURATION_BOUNDS as BOUNDS, duration_place};

/// One color in one bucket: 68 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Slice {
    pub(super) requests: u32,
    pub(super) errors: u32,
    pub(super) durations: [u32; BOUNDS.len() + 1],
}

impl Slice {
    pub(super) fn add(&mut self, is_error: bool, microseconds: Option<u64>) {
        self.requests = self.requests.saturating_add(1);
        self.errors = self.errors.saturating_add(u32::from(is_error));
        if let Some(microseconds) = microseconds {
            let place = &mut self.durations[duration_place(microseconds)];
            *place = place.saturating_add(1);
        }
    }

    /// With every request above `place` as slow.
    pub(super) fn arm(&self, place: usize) -> Arm {
        let slow = self.durations.iter().skip(place + 1);
        Arm {
            requests: self.requests.into(),
            errors: self.errors.into(),
            slow: slow.map(|count| u64::from(*count)).sum(),
        }
    }
}

/// The place of the bound that stands for `over`: the first one that is not below it, or the last there is.
pub(super) fn place_of(over: Duration) -> usize {
    let microseconds = u64::try_from(over.as_micros()).unwrap_or(u64::MAX);
    duration_place(microseconds).min(BOUNDS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_above_the_first_bound_that_is_not_below_the_limit() {
        let mut slice = Slice::default();
        for milliseconds in [100, 400, 600, 20_000] {
            slice.add(milliseconds == 600, Some(milliseconds * 1_000));
        }
        slice.add(true, None);
        let slow = |over| slice.arm(place_of(Duration::from_millis(over)));
        assert_eq!(
            slow(450),
            Arm {
                requests: 5,
                errors: 2,
                slow: 2
            }
        );
        assert_eq!(slow(300).slow, 3);
        assert_eq!(slow(500).slow, 2);
        assert_eq!(slow(250).slow, 3);
        // nothing is told apart above ten seconds
        assert_eq!(slow(60_000).slow, 1);
    }
}
