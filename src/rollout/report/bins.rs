//! Counts gathered into as many stretches as a picture has room for.

use jiff::Timestamp;

use super::wilson::interval;
use crate::domain::{Arm, Paired};

/// One color in a stretch of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// The middle of the stretch, as a share of the whole time.
    pub(super) x: f64,
    pub(super) rate: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The stretches of a picture; more would be narrower than a line.
const MOST: usize = 48;

/// The rate of bad requests of each color, stable first, in at most [`MOST`] stretches of equal length. Stretches in which a color had no
/// request have no point.
pub(super) fn rates(
    counts: &[Paired],
    span: (Timestamp, Timestamp),
    bad: fn(&Arm) -> u64,
) -> [Vec<Point>; 2] {
    let whole = span.1.duration_since(span.0).as_secs_f64().max(1e-9);
    let number = counts.len().clamp(1, MOST);
    let mut sums = vec![[(0.0, 0.0); 2]; number];
    for one in counts {
        let middle = one.from.duration_since(span.0).as_secs_f64()
            + one.to.duration_since(one.from).as_secs_f64() / 2.0;
        let share = (middle / whole).clamp(0.0, 1.0);
        let place = sums.len() - 1;
        let place = place.min(floor(share * real(number)));
        if let Some(sum) = sums.get_mut(place) {
            for (sum, arm) in sum.iter_mut().zip([&one.stable, &one.candidate]) {
                sum.0 += real_count(bad(arm));
                sum.1 += real_count(arm.requests);
            }
        }
    }
    [0, 1].map(|color| {
        let all = sums.iter().enumerate();
        all.filter_map(|(place, both)| {
            let (bad, of) = both[color];
            if of <= 0.0 {
                return None;
            }
            let (low, high) = interval(bad, of);
            let x = (real(place) + 0.5) / real(number);
            let rate = bad / of;
            Some(Point { x, rate, low, high })
        })
        .collect()
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small number that is not below 0"
)]
const fn floor(number: f64) -> usize {
    number as usize
}

#[expect(clippy::cast_precision_loss, reason = "a small number")]
pub(super) const fn real(number: usize) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests stay far below 2^53"
)]
pub(super) const fn real_count(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these figures are exact")]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn counts_are_added_up_in_stretches_of_equal_length() {
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        let counts: Vec<Paired> = (0..96)
            .map(|place| Paired {
                from: at(place * 10),
                to: at(place * 10 + 10),
                stable: Arm {
                    requests: 90,
                    errors: 1,
                    slow: 0,
                },
                candidate: Arm {
                    requests: if place < 48 { 0 } else { 10 },
                    errors: 0,
                    slow: 0,
                },
            })
            .collect();
        let [stable, candidate] = rates(&counts, (at(0), at(960)), |arm| arm.errors);
        assert_eq!((stable.len(), candidate.len()), (48, 24));
        assert_eq!(stable[0].rate, 2.0 / 180.0);
        assert_eq!(stable[0].x, 0.5 / 48.0);
        assert!(
            (candidate[0].high - 0.1611).abs() < 1e-4,
            "{:?}",
            candidate[0]
        );
    }
}
