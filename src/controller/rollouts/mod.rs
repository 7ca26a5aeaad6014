//! The rollouts of a daemon: driven by their machines, judged at their intervals, written down before they move anything.
//!
//! `ask` has what may be asked and why it is refused, `first` asks the source of a new one and `begin` makes it, `drive` hands
//! events to the machines and does what comes out, `force` brings a weight about under the change lock, `watch` sees how the
//! candidate does and `source` who counts, `settle` takes what is asked and finds out what became of a rollout meanwhile,
//! `waiting` answers those who wait, `view` is what everybody sees. The machine and the judges are [`crate::rollout`]'s; nothing
//! in here decides when a candidate is good.
//!
//! What counts is in two places, each for its own fact: the state file says whether a rollout governs a service, in the same
//! change as the position ([`crate::store::Governed`]); the rollout's own file says how far it is and what comes next.

mod ask;
mod begin;
mod drive;
mod first;
mod force;
mod settle;
mod source;
mod view;
mod waiting;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{oneshot, watch as channel};
use tokio::time::Instant;

use crate::domain::{Colors, Tally};
use crate::rollout::{Phase, Record, RolloutId};
use crate::store::{Found, Store};
use begin::Next;
use force::Goal;
use waiting::Waiting;

pub use ask::{BeginRollout, OtherRollout, RolloutError, RolloutRequest, RolloutVerb, RolloutWish};
pub use source::{Feed, Look, Looking, Passes, Purpose, Silence};
pub use view::{RolloutJudge, RolloutSource, RolloutStatus};

pub(super) use first::First;
pub(super) use watch::Looked;

/// Rollouts in the list of all, newest first; as many as are kept.
pub(super) type Shown = Arc<Vec<Arc<RolloutStatus>>>;
pub(super) type Answer = oneshot::Sender<Result<Arc<RolloutStatus>, RolloutError>>;

/// The actor of what nobody asked for.
const BY_ITSELF: &str = "turnout";
/// Between two looks at a source: a sixth of the interval, from one second to ten.
const LOOKS: u32 = 6;
const SHORTEST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// For one question to a source outside of this process.
const SOURCE: Duration = Duration::from_secs(10);
/// Between two tries at a change lock that somebody else holds.
const LOCK_AGAIN: Duration = Duration::from_millis(50);
/// What was seen and led to nothing yet is on disk after so long: an interval may be a week, and a crash is to cost no more. A
/// rollout is 1 to 2 MiB.
const SEEN_KEPT: Duration = Duration::from_secs(30);
/// Between two tries to write a rollout down.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Wall-clock time that no jump of the clock moves: read once, and counted on from there.
#[derive(Debug, Clone, Copy)]
struct Clock {
    wall: Timestamp,
    at: Instant,
    /// How far the host's clock is ahead of this one.
    ahead: SignedDuration,
}

impl Clock {
    fn start() -> Self {
        Self {
            wall: Timestamp::now(),
            at: Instant::now(),
            ahead: SignedDuration::ZERO,
        }
    }

    /// How far the host's clock, by which sources outside of this process tell, is ahead of this one: by what it was set forward
    /// since the start, or was suspended. Anew only after a jump of more than a second: the two are never read in the same
    /// moment, and what is told must not overlap with what was told before.
    fn ahead(&mut self) -> SignedDuration {
        let ahead = Timestamp::now().duration_since(self.now());
        if ahead.saturating_sub(self.ahead).abs() > SignedDuration::from_secs(1) {
            self.ahead = ahead;
        }
        self.ahead
    }

    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.at.elapsed()).unwrap_or(SignedDuration::MAX);
        self.wall.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// The moment on the clock that sleeps are measured by; at once for what is over.
    fn instant(&self, at: Timestamp) -> Instant {
        let left = at.duration_since(self.now());
        Instant::now() + Duration::try_from(left).unwrap_or_default()
    }
}

/// Whether somebody is asking the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    Nobody,
    Somebody,
}

/// Whether all of it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Whole,
    Not,
}

/// One that is not over.
#[derive(Debug)]
struct Running {
    record: Record,
    /// When its machine is due.
    due: Instant,
    /// When its source is looked at next.
    look: Instant,
    asking: Asking,
    /// What the balancer had counted at the last look.
    counted: Option<(Timestamp, Colors<Tally>)>,
    /// Why the source cannot be asked, since it cannot.
    down: Option<String>,
    /// Who ended it, for the audit log; `None`: nobody has, or a verdict.
    back_by: Option<String>,
    waiting: Vec<Waiting>,
    written: Written,
    /// Since when something is seen that is not on disk.
    unsaved: Option<Instant>,
}

impl Running {
    fn new(record: Record, clock: &Clock) -> Self {
        let due = record.walk.until().unwrap_or(Timestamp::MAX);
        Self {
            due: clock.instant(due),
            look: Instant::now(),
            asking: Asking::Nobody,
            counted: None,
            down: None,
            back_by: None,
            waiting: Vec::new(),
            written: Written::Whole,
            unsaved: None,
            record,
        }
    }

    /// Who wants that, for the audit log: whoever asked for just this, and nobody else whose wish came to nothing before.
    fn wanted_by(&self, goal: Goal) -> &str {
        let who = match (goal, self.record.walk.phase()) {
            // after a crash as well, when nobody waits any more
            (Goal::Weight(_), Phase::Starting { .. }) => Some(self.record.subject.actor.as_str()),
            (Goal::Weight(_), _) => None,
            (Goal::Promote, _) => {
                let mut waiting = self.waiting.iter();
                let promotes = waiting.find(|waiting| waiting.wish == RolloutWish::Promoted);
                promotes.map(|waiting| waiting.actor.as_str())
            }
            (Goal::Return, _) => self.back_by.as_deref(),
        };
        who.unwrap_or(BY_ITSELF)
    }

    fn looks_every(&self) -> Duration {
        looks_every(self.record.walk.course().interval)
    }
}

/// From one look at a source to the next.
fn looks_every(interval: Duration) -> Duration {
    (interval / LOOKS).clamp(SHORTEST_LOOK, LONGEST_LOOK)
}

/// All of them.
#[derive(Debug)]
pub(super) struct Rollouts {
    clock: Clock,
    running: BTreeMap<RolloutId, Running>,
    /// Newest first.
    over: VecDeque<Arc<RolloutStatus>>,
    shown: channel::Sender<Shown>,
    /// Those that wait for the one before them to be taken back.
    next: Vec<Next>,
    /// Pushed samples that are not on disk yet, and who waits for that.
    pushed: Vec<(RolloutId, Answer)>,
}

impl Rollouts {
    /// Those that the state directory knows, and what is wrong with its files.
    pub(super) fn load(store: &Store) -> (Self, channel::Receiver<Shown>, Vec<String>) {
        let clock = Clock::start();
        let mut problems = Vec::new();
        let found = store.load_rollouts().unwrap_or_else(|error| {
            problems.push(crate::domain::describe(&error));
            Found::default()
        });
        problems.extend(found.problems);
        let mut records = found.records;
        if let Err(error) = store.prune_rollouts(&mut records) {
            problems.push(crate::domain::describe(&error));
        }
        let (over, going): (Vec<_>, Vec<_>) = records
            .into_iter()
            .partition(|record| record.walk.status().is_over());
        let running = going.into_iter().map(|mut record| {
            record.walk = record.walk.resumed(clock.now());
            (record.id.clone(), Running::new(record, &clock))
        });
        let (shown, receiver) = channel::channel(Shown::default());
        let rollouts = Self {
            clock,
            running: running.collect(),
            over: over
                .iter()
                .map(|record| Arc::new(RolloutStatus::of(record)))
                .collect(),
            shown,
            next: Vec::new(),
            pushed: Vec::new(),
        };
        rollouts.show();
        (rollouts, receiver, problems)
    }

    /// Until something is due. Cancel-safe: all times are fixed.
    pub(super) async fn due(&self) {
        let running = self.running.values();
        let running = running.map(|running| running.due.min(running.look));
        let next = self.next.iter().map(|next| next.again);
        match running.chain(next).min() {
            Some(next) => tokio::time::sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// Everything into the list that everybody sees.
    fn show(&self) {
        let going = self.running.values().map(|running| &running.record);
        let going = going.map(|record| Arc::new(RolloutStatus::of(record)));
        let mut all: Vec<_> = going.chain(self.over.iter().cloned()).collect();
        all.sort_by(|left, right| (right.created_at, &right.id).cmp(&(left.created_at, &left.id)));
        self.shown.send_replace(Arc::new(all));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_followed_and_one_that_is_read_a_little_later_is_not() {
        let hour = SignedDuration::from_hours(1);
        for jump in [hour, -hour] {
            let mut clock = Clock::start();
            assert_eq!(clock.ahead(), SignedDuration::ZERO);
            // as if the host's had been set since
            clock.wall = clock.wall.checked_sub(jump).unwrap();
            let ahead = clock.ahead();
            let off = ahead.checked_sub(jump).unwrap().abs();
            assert!(off < SignedDuration::from_secs(1), "{ahead:?}");
            assert_eq!(clock.ahead(), ahead);
        }
    }
}
