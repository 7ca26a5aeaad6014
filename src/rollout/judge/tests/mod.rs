//! The judges by what they say: concrete figures, and properties over any.

mod properties;
mod sequential;
mod thresholds;

use jiff::{SignedDuration, Timestamp};

use super::{Draft, Judge, Policy};
use crate::domain::{Arm, Decision, Paired, Verdict};

/// So many seconds after the rollout began.
fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn arm(requests: u64, errors: u64) -> Arm {
    Arm {
        requests,
        errors,
        slow: 0,
    }
}

/// What was counted in the ten seconds from `from` on.
fn counts(from: i64, stable: Arm, candidate: Arm) -> Paired {
    Paired {
        from: at(from),
        to: at(from + 10),
        stable,
        candidate,
    }
}

fn policy(change: impl FnOnce(&mut Draft)) -> Policy {
    let mut draft = Draft::default();
    change(&mut draft);
    Policy::new(draft).unwrap()
}

/// The same counts again and again, ten seconds each, until something other than hold is said; then when, and what.
fn until_said(judge: &mut Judge, most: i64, stable: Arm, candidate: Arm) -> (i64, Verdict) {
    for place in 0..most {
        judge.observe(counts(place * 10, stable, candidate));
        let now = (place + 1) * 10;
        let said = judge.verdict(at(now), at(0));
        if said.decision != Decision::Hold {
            return (now, said);
        }
    }
    let last = judge.verdict(at(most * 10), at(0));
    (most * 10, last)
}
