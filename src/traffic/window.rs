//! One service's hour: sums in, minutes out. Pure; the time comes in as an argument.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::{Colors, DURATION_BOUNDS as BOUNDS, Tally};

/// Full minutes that are kept.
pub const MINUTES: usize = 60;

/// What a source has counted of one color since it began. It only grows while the source runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Requests.
    pub requests: u64,
    /// Of those, answered with 5xx or not at all.
    pub errors: u64,
    /// How long they took, by bucket of [`DURATION_BOUNDS`](crate::domain::DURATION_BOUNDS), not added up.
    pub durations: [u64; BOUNDS.len() + 1],
}

impl From<&Tally> for Sum {
    fn from(tally: &Tally) -> Self {
        Self {
            requests: tally.requests(),
            errors: tally.failed,
            durations: tally.durations,
        }
    }
}

/// One color in one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Requests.
    pub requests: u64,
    /// Of those, answered with 5xx or not at all.
    pub errors: u64,
    /// 95 of 100 took at most this long, as closely as the buckets tell; `None`: none was timed.
    pub p95: Option<Duration>,
}

/// One minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minute {
    /// Its begin; the first one begins with the book.
    pub begin: Timestamp,
    /// Its end.
    pub end: Timestamp,
    /// What each color did in it.
    pub colors: Colors<Figures>,
}

/// The full minutes of a service, and the sums at the end of the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) minutes: VecDeque<Minute>,
    pub(super) sums: Colors<Sum>,
    /// When that was.
    pub(super) at: Timestamp,
}

impl Kept {
    /// What is kept once `sums` were counted, by a book that was begun at `begun`; `None`: there was never anything to keep.
    pub(super) fn after(
        before: Option<Arc<Self>>,
        sums: &Colors<Sum>,
        begun: Timestamp,
        now: Timestamp,
    ) -> Option<Arc<Self>> {
        let mut kept = match before {
            Some(before) => before,
            None if *sums == Colors::default() => return None,
            None => Arc::new(Self {
                minutes: VecDeque::new(),
                sums: Colors::default(),
                at: begun,
            }),
        };
        let one = Arc::make_mut(&mut kept);
        if one.minutes.len() == MINUTES {
            one.minutes.pop_front();
        }
        one.minutes.push_back(Minute {
            begin: one.at,
            end: now,
            colors: difference(&one.sums, sums),
        });
        one.sums = *sums;
        one.at = now;
        Some(kept)
    }
}

/// What came between two sums. A source that began anew in between has counted from nothing.
pub(super) fn difference(before: &Colors<Sum>, now: &Colors<Sum>) -> Colors<Figures> {
    Colors::from_fn(|color| {
        let now = now[color];
        let before = if before[color].requests > now.requests {
            Sum::default()
        } else {
            before[color]
        };
        let mut durations = now.durations;
        for (new, old) in durations.iter_mut().zip(before.durations) {
            *new = new.saturating_sub(old);
        }
        Figures {
            requests: now.requests - before.requests,
            errors: now.errors.saturating_sub(before.errors),
            p95: p95(&durations),
        }
    })
}

/// The 95th percentile, by linear interpolation within its bucket. Above the last bound nothing can be told, so it is the
/// bound.
fn p95(durations: &[u64; BOUNDS.len() + 1]) -> Option<Duration> {
    let total: u64 = durations.iter().sum();
    if total == 0 {
        return None;
    }
    // the smallest number of requests that is at least 95 of 100
    let rank = (total * 95).div_ceil(100);
    let mut below = 0;
    for (place, count) in durations.iter().copied().enumerate() {
        if below + count >= rank {
            let low = place.checked_sub(1).map_or(0, |place| BOUNDS[place]);
            let Some(high) = BOUNDS.get(place) else {
                return Some(Duration::from_micros(low));
            };
            let within = (high - low) * (rank - below) / count;
            return Some(Duration::from_micros(low + within));
        }
        below += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(requests: u64, errors: u64) -> Colors<Sum> {
        let mut durations = [0; BOUNDS.len() + 1];
        durations[2] = requests;
        Colors {
            blue: Sum {
                requests,
                errors,
                durations,
            },
            green: Sum::default(),
        }
    }

    #[test]
    fn a_minute_is_what_came_since_the_last_and_sixty_are_kept() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(Kept::after(None, &Colors::default(), now, now), None);
        let mut kept = None;
        for minute in 1..=70_u64 {
            kept = Kept::after(kept, &sum(minute * 10, minute), now, now);
        }
        let kept = kept.unwrap();
        assert_eq!(kept.minutes.len(), MINUTES);
        let last = kept.minutes.back().unwrap().colors;
        assert_eq!((last.blue.requests, last.blue.errors), (10, 1));
        assert_eq!(last.green, Figures::default());
    }

    #[test]
    fn a_source_that_began_anew_is_not_a_negative_minute() {
        let came = difference(&sum(500, 20), &sum(30, 1)).blue;
        assert_eq!((came.requests, came.errors), (30, 1));
    }

    #[test]
    fn the_percentile_is_within_its_bucket() {
        assert_eq!(p95(&[0; BOUNDS.len() + 1]), None);
        let mut durations = [0; BOUNDS.len() + 1];
        durations[3] = 100;
        // 95 of 100 between 5 and 10 ms
        assert_eq!(p95(&durations), Some(Duration::from_micros(9_750)));
        durations[3] = 94;
        durations[7] = 6;
        assert_eq!(p95(&durations), Some(Duration::from_millis(125)));
        let mut slow = [0; BOUNDS.len() + 1];
        slow[BOUNDS.len()] = 1;
        assert_eq!(p95(&slow), Some(Duration::from_secs(10)));
    }
}
