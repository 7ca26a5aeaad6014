//! Who says how both colors do: the balancer's own counts where it counts in this process, else what `main` has plugged in.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::{
    Arm, CanarySource, Color, Colors, DURATION_BOUNDS, Paired, ServiceName, Tally,
};

/// One question to a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Which kind of source the rollout names; never `pushed`.
    pub source: CanarySource,
    /// What for.
    pub purpose: Purpose,
    /// Whose traffic.
    pub service: ServiceName,
    /// The color that is to become active.
    pub candidate: Color,
    /// What came before was asked for already.
    pub since: Timestamp,
    /// A request is slow from here; `None`: none is.
    pub slow_from: Option<Duration>,
}

/// What a source is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Whether it can tell all that a rollout will rest on, which is about to begin; the answer has no figures.
    Begin,
    /// What both colors did.
    Figures,
}

/// The answer of a source: what both colors did since then, oldest first, or why nobody can tell.
pub type Looking = Pin<Box<dyn Future<Output = Result<Vec<Paired>, Silence>> + Send>>;

/// Why a source does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// What it said, and what to do.
    pub why: String,
    /// Whether waiting helps.
    pub passes: Passes,
}

/// Whether a source may tell what it did not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// A little later, asked for the same.
    Later,
    /// Not before somebody has changed a query or the configuration.
    Never,
}

impl From<String> for Silence {
    /// One that may pass.
    fn from(why: String) -> Self {
        Self {
            why,
            passes: Passes::Later,
        }
    }
}

/// What `main` has plugged in for the sources that are not in the balancer itself. Cheap to clone.
#[derive(Clone)]
pub struct Feed(Arc<dyn Fn(Look) -> Looking + Send + Sync>);

impl Feed {
    /// A feed that answers each question with `ask`.
    pub fn new<F, E>(ask: impl Fn(Look) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Vec<Paired>, E>> + Send + 'static,
        E: Into<Silence>,
    {
        Self(Arc::new(move |look| {
            let asking = ask(look);
            Box::pin(async move { asking.await.map_err(Into::into) })
        }))
    }

    pub(super) fn ask(&self, look: Look) -> Looking {
        (self.0)(look)
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Feed")
    }
}

/// What both colors did between two looks at the counts of a balancer. `None` where they ran backwards: it began anew.
pub(super) fn between(
    before: &(Timestamp, Colors<Tally>),
    now: &(Timestamp, Colors<Tally>),
    candidate: Color,
    slow_from: Option<Duration>,
) -> Option<Paired> {
    let arm = |color: Color| arm(&before.1[color], &now.1[color], slow_from);
    Some(Paired {
        from: before.0,
        to: now.0,
        stable: arm(!candidate)?,
        candidate: arm(candidate)?,
    })
}

/// What a source told of by the host's clock, which is `ahead`, by the clock of the rollouts. A stretch that ends later than now was
/// told of before that clock was set back, and told again by it.
pub(super) fn on_own_clock(
    told: Vec<Paired>,
    now: Timestamp,
    ahead: SignedDuration,
) -> Vec<Paired> {
    let told = told.into_iter().filter(|pair| pair.to <= now);
    told.filter_map(|pair| {
        Some(Paired {
            from: pair.from.checked_sub(ahead).ok()?,
            to: pair.to.checked_sub(ahead).ok()?,
            ..pair
        })
    })
    .collect()
}

fn arm(before: &Tally, now: &Tally, slow_from: Option<Duration>) -> Option<Arm> {
    let slow = |tally: &Tally| {
        let Some(from) = slow_from else {
            return 0;
        };
        let from = u64::try_from(from.as_micros()).unwrap_or(u64::MAX);
        // the first bucket whose lower end is not below: whoever is in one that begins earlier may have been faster
        let first = DURATION_BOUNDS.iter().position(|bound| *bound >= from);
        let first = first.unwrap_or(DURATION_BOUNDS.len()) + 1;
        tally.durations[first..].iter().sum()
    };
    Some(Arm {
        requests: now.requests().checked_sub(before.requests())?,
        errors: now.failed.checked_sub(before.failed)?,
        slow: slow(now).checked_sub(slow(before))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_by_the_host_s_clock_is_put_on_the_rollouts() {
        let at = |second: i64| {
            Timestamp::UNIX_EPOCH
                .checked_add(SignedDuration::from_secs(second))
                .unwrap()
        };
        let told = |from: i64| Paired {
            from: at(from),
            to: at(from + 10),
            stable: Arm::default(),
            candidate: Arm::default(),
        };
        let own = |ahead| {
            let told = vec![told(3_600), told(3_610), told(3_620)];
            let own = on_own_clock(told, at(3_620), SignedDuration::from_secs(ahead));
            own.iter()
                .map(|pair| (pair.from, pair.to))
                .collect::<Vec<_>>()
        };
        // the third one ends in ten seconds
        assert_eq!(own(3_600), [(at(0), at(10)), (at(10), at(20))]);
        assert_eq!(own(-60), [(at(3_660), at(3_670)), (at(3_670), at(3_680))]);
    }

    fn tally(requests: u64, failed: u64, fast: u64, slow: u64) -> Tally {
        let mut durations = [0; DURATION_BOUNDS.len() + 1];
        // up to 1 ms, and above 100 ms up to 250 ms
        durations[0] = fast;
        durations[7] = slow;
        Tally {
            statuses: [("200", requests)].into(),
            failed,
            durations,
            ..Tally::default()
        }
    }

    #[test]
    fn the_difference_of_two_looks_is_what_both_colors_did_and_never_below_nothing() {
        let at = |tallies| (Timestamp::UNIX_EPOCH, tallies);
        let before = at(Colors {
            blue: tally(10, 1, 9, 1),
            green: tally(1, 0, 1, 0),
        });
        let now = at(Colors {
            blue: tally(30, 1, 28, 2),
            green: tally(6, 2, 2, 4),
        });
        let slow_from = |ms| Some(Duration::from_millis(ms));
        let paired = between(&before, &now, Color::Green, slow_from(100)).unwrap();
        assert_eq!(
            (
                paired.stable.requests,
                paired.stable.errors,
                paired.stable.slow
            ),
            (20, 0, 1)
        );
        assert_eq!(
            (
                paired.candidate.requests,
                paired.candidate.errors,
                paired.candidate.slow
            ),
            (5, 2, 4)
        );
        // between two bounds nobody is called slow who may have been faster
        let paired = between(&before, &now, Color::Green, slow_from(101)).unwrap();
        assert_eq!(paired.candidate.slow, 0);
        let paired = between(&before, &now, Color::Green, slow_from(60_000)).unwrap();
        assert_eq!(paired.candidate.slow, 0);
        assert_eq!(
            between(&before, &now, Color::Green, None)
                .unwrap()
                .candidate
                .slow,
            0
        );
        assert_eq!(between(&now, &before, Color::Green, None), None);
    }
}
