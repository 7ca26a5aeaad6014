//! What the traffic itself says of one server: a mark for one that refuses connections, a circuit for one that fails.
//!
//! | seen | what follows |
//! |---|---|
//! | a refused connection, or none within `timeouts.connect` | **marked**: passed over for 1 s while another server of the color is left; 2, 4, 8 s if the one request that tries it then is refused too |
//! | 5 failures in a row (no connection in time, no answer in time, a connection that ended before an answer) with no answer between them | **circuit open**: gets nothing for 5 s, then one request as a trial; 10, 20, 30 s if the trial fails |
//! | any head of an answer | all is forgotten |
//!
//! A mark never keeps the last server of a color from being tried, because a refusal costs nothing; an open circuit does,
//! because what waits for a server that hangs costs the client its time and the server its last breath. Refusals alone never
//! open a circuit, so a server that is started again serves at once. Statuses are the application's business.
//!
//! Shared by all threads without locks: a handful of atomics, of which the path of a healthy server reads two and writes
//! none. Health probes are apart from this; a server that they found unhealthy and then healthy starts without a past.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The first rest of a server that refuses; each further one doubles, up to [`MARK_MOST`].
const MARK_FOR: Duration = Duration::from_secs(1);
const MARK_MOST: Duration = Duration::from_secs(8);
/// Failures in a row that open a circuit.
const OPEN_AFTER: u32 = 5;
/// How long it stays open before a trial; each trial that fails doubles it, up to [`OPEN_MOST`].
const OPEN_FOR: Duration = Duration::from_secs(5);
const OPEN_MOST: Duration = Duration::from_secs(30);

/// Times are milliseconds since the first look at the clock, plus one, so that 0 can mean "never".
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Now, as marks count it.
fn now() -> u64 {
    milliseconds(BEGAN.elapsed()) + 1
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is known of one server of one service.
#[derive(Debug, Default)]
pub(super) struct Mark {
    refused: Trouble,
    failed: Trouble,
}

/// One kind of trouble: how often in a row, and until when it has consequences.
#[derive(Debug, Default)]
struct Trouble {
    in_a_row: AtomicU32,
    /// 0: none.
    until: AtomicU64,
    /// How often it began.
    total: AtomicU64,
}

/// Whether a server may get a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is held against it.
    Good,
    /// Its rest is over, and this request is the one that tries it.
    Trial,
    /// Only if there is no other.
    Marked,
    /// No.
    Open,
}

/// One server as the traffic sees it, for status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MarkTotals {
    /// It refused the last connection, and is passed over.
    pub marked: bool,
    /// Its circuit is open (or waits for its trial).
    pub open: bool,
    /// How often it was marked anew.
    pub marks: u64,
    /// How often its circuit opened.
    pub openings: u64,
}

impl Trouble {
    /// `None`: no trouble. `Some(true)`: its rest is over and this caller is the one to try.
    fn rests(&self, now: u64, trial: Duration) -> Option<bool> {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 {
            return None;
        }
        // who moves the end is the one that tries; if nothing comes of it, the next may when that time is over, too
        let claimed = until <= now
            && self
                .until
                .compare_exchange(
                    until,
                    now + milliseconds(trial),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok();
        Some(claimed)
    }

    fn clear(&self) -> bool {
        if self.in_a_row.load(Ordering::Relaxed) == 0 && self.until.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.in_a_row.store(0, Ordering::Relaxed);
        self.until.swap(0, Ordering::Relaxed) != 0
    }
}

/// `first` doubled `times` times, at most `most`.
fn doubled(first: Duration, times: u32, most: Duration) -> u64 {
    milliseconds(first.saturating_mul(1 << times.min(16)).min(most))
}

impl Mark {
    pub(super) fn standing(&self) -> Standing {
        self.standing_at(now)
    }

    fn standing_at(&self, now: impl Fn() -> u64) -> Standing {
        // the path of a healthy server: two loads, and the clock is not read
        if self.failed.until.load(Ordering::Relaxed) == 0
            && self.refused.until.load(Ordering::Relaxed) == 0
        {
            return Standing::Good;
        }
        let now = now();
        match self.failed.rests(now, OPEN_FOR) {
            Some(true) => return Standing::Trial,
            Some(false) => return Standing::Open,
            None => {}
        }
        match self.refused.rests(now, MARK_FOR) {
            Some(true) => Standing::Trial,
            Some(false) => Standing::Marked,
            None => Standing::Good,
        }
    }

    /// The head of an answer came. True if that ended a mark or closed a circuit.
    pub(super) fn answered(&self) -> bool {
        let (refused, failed) = (self.refused.clear(), self.failed.clear());
        refused || failed
    }

    /// It refused a connection. True if it is marked by that and was not before.
    pub(super) fn refused(&self, standing: Standing) -> bool {
        self.refused_at(standing, now())
    }

    fn refused_at(&self, standing: Standing, now: u64) -> bool {
        let until = self.refused.until.load(Ordering::Relaxed);
        if until > now && standing != Standing::Trial {
            // others found it at the same time: one mark is enough
            return false;
        }
        let before = self.refused.in_a_row.fetch_add(1, Ordering::Relaxed);
        let rest = doubled(MARK_FOR, before, MARK_MOST);
        self.refused.until.store(now + rest, Ordering::Relaxed);
        if until == 0 {
            self.refused.total.fetch_add(1, Ordering::Relaxed);
        }
        until == 0
    }

    /// It took a request and did not answer. True if that opened its circuit.
    pub(super) fn failed(&self, standing: Standing) -> bool {
        self.failed_at(standing, now())
    }

    fn failed_at(&self, standing: Standing, now: u64) -> bool {
        let in_a_row = self.failed.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        let until = self.failed.until.load(Ordering::Relaxed);
        if in_a_row < OPEN_AFTER || (until != 0 && standing != Standing::Trial) {
            return false;
        }
        let rest = if until == 0 {
            // the trials are counted from here
            self.failed.in_a_row.store(OPEN_AFTER, Ordering::Relaxed);
            milliseconds(OPEN_FOR)
        } else {
            doubled(OPEN_FOR, in_a_row - OPEN_AFTER, OPEN_MOST)
        };
        let opened = self
            .failed
            .until
            .compare_exchange(until, now + rest, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
            && until == 0;
        if opened {
            self.failed.total.fetch_add(1, Ordering::Relaxed);
        }
        opened
    }

    pub(super) fn totals(&self) -> MarkTotals {
        MarkTotals {
            marked: self.refused.until.load(Ordering::Relaxed) != 0,
            open: self.failed.until.load(Ordering::Relaxed) != 0,
            marks: self.refused.total.load(Ordering::Relaxed),
            openings: self.failed.total.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_marks_for_a_second_then_one_request_tries_and_an_answer_forgets() {
        let mark = Mark::default();
        assert_eq!(mark.standing_at(|| 1), Standing::Good);
        assert!(mark.refused_at(Standing::Good, 1));
        assert!(
            !mark.refused_at(Standing::Good, 1),
            "found twice at once, marked once"
        );
        assert_eq!(mark.standing_at(|| 1_000), Standing::Marked);
        assert_eq!(mark.standing_at(|| 1_001), Standing::Trial);
        assert_eq!(mark.standing_at(|| 1_001), Standing::Marked);
        assert!(!mark.refused_at(Standing::Trial, 1_002));
        assert_eq!(mark.standing_at(|| 3_001), Standing::Marked);
        assert_eq!(mark.standing_at(|| 3_002), Standing::Trial);
        assert!(mark.answered());
        assert_eq!(mark.standing_at(|| 3_003), Standing::Good);
        assert_eq!(mark.totals().marks, 1);
    }

    #[test]
    fn the_rest_of_a_marked_server_grows_to_eight_seconds() {
        let mark = Mark::default();
        let mut time = 1;
        let mut rests = Vec::new();
        assert!(mark.refused_at(Standing::Good, time));
        for _ in 0..5 {
            let begin = time;
            while mark.standing_at(|| time) != Standing::Trial {
                time += 1;
            }
            rests.push(time - begin);
            mark.refused_at(Standing::Trial, time);
        }
        assert_eq!(rests, [1_000, 2_000, 4_000, 8_000, 8_000]);
    }

    #[test]
    fn five_failures_in_a_row_open_and_the_trial_decides() {
        let mark = Mark::default();
        for _ in 0..4 {
            assert!(!mark.failed_at(Standing::Good, 1));
        }
        assert!(!mark.answered(), "nothing was open");
        for _ in 0..4 {
            assert!(!mark.failed_at(Standing::Good, 1));
        }
        assert!(mark.failed_at(Standing::Good, 1));
        assert!(!mark.failed_at(Standing::Good, 1));
        assert_eq!(mark.standing_at(|| 5_000), Standing::Open);
        assert_eq!(mark.standing_at(|| 5_001), Standing::Trial);
        assert_eq!(mark.standing_at(|| 5_001), Standing::Open);
        assert!(!mark.failed_at(Standing::Trial, 5_002));
        assert_eq!(mark.standing_at(|| 15_001), Standing::Open);
        assert!(mark.totals().open);
        assert!(mark.answered());
        assert_eq!(
            mark.totals(),
            MarkTotals {
                openings: 1,
                ..MarkTotals::default()
            }
        );
    }

    #[test]
    fn a_trial_of_which_nothing_is_heard_is_repeated() {
        let mark = Mark::default();
        for _ in 0..5 {
            mark.failed_at(Standing::Good, 1);
        }
        assert_eq!(mark.standing_at(|| 6_000), Standing::Trial);
        assert_eq!(mark.standing_at(|| 10_999), Standing::Open);
        assert_eq!(mark.standing_at(|| 11_000), Standing::Trial);
    }
}
