//! When to try again what failed by itself. Each try may cost the balancer a reload and everybody else the ten seconds that
//! a proof may take, so the wait doubles; a person's own command never waits here.
//!
//! What is different from the time of the failure (another file on disk, another generation served, a balancer that is back)
//! is a reason to try at once. It must never decide what is tried.

use std::time::Duration;

use tokio::time::Instant;

use crate::balancer::Observed;

/// The first wait: one look for drift, so that what lasts a moment is put right with the next one.
const FIRST: Duration = Duration::from_secs(5);
/// The longest wait: twelve reloads in an hour, which nobody notices.
const LONGEST: Duration = Duration::from_mins(5);

/// A failure, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patience {
    wait: Duration,
    until: Instant,
    seen: Observed,
}

impl Patience {
    /// After one more failure, with what is seen of the balancer since. `before`: the one of the failure before this.
    pub(super) fn after(before: Option<Self>, seen: Observed) -> Self {
        let wait = before.map_or(FIRST, |before| (before.wait * 2).min(LONGEST));
        Self {
            wait,
            until: Instant::now() + wait,
            seen,
        }
    }

    /// Whether it is time, or the balancer is not as it was.
    pub(super) fn is_over(&self, now: &Observed) -> bool {
        Instant::now() >= self.until || *now != self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::Served;

    fn seen(reason: &str) -> Observed {
        Observed {
            disk: None,
            served: Served::Unreachable {
                reason: reason.to_owned(),
            },
        }
    }

    #[test]
    fn the_wait_doubles_up_to_five_minutes() {
        let mut patience = Patience::after(None, seen("refused"));
        let mut waits = vec![patience.wait.as_secs()];
        for _ in 0..7 {
            patience = Patience::after(Some(patience), seen("refused"));
            waits.push(patience.wait.as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        assert!(!patience.is_over(&seen("refused")));
        patience.until = Instant::now();
        assert!(patience.is_over(&seen("refused")));
    }

    #[test]
    fn a_balancer_that_changed_is_tried_at_once() {
        let patience = Patience::after(None, seen("refused"));
        assert!(!patience.is_over(&seen("refused")));
        assert!(patience.is_over(&seen("it is back")));
    }
}
