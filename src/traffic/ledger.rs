//! What was counted: for each service the whole since the start, and the last hours in buckets, by color.
//!
//! Bounded whatever comes: a service that the configuration does not know has no place, a bucket without a request none either, and
//! all together have at most [`MOST_BUCKETS`] (48 MiB). One lock, held for microseconds, that no data path ever waits for: it is
//! taken by the reader, once a bucket by who closes it, and by who asks. A bucket whose counting was not whole is not evidence and
//! is not given out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::line::Line;
use super::slice::{Slice, place_of};
use super::whole::Whole;
use crate::domain::{Color, Colors, Paired, ServiceName, Tally};

/// How long buckets are kept, if there is room.
const KEPT: Duration = Duration::from_hours(3);
/// Of all services together, 144 bytes each.
const MOST_BUCKETS: usize = 350_000;
/// Above this a bucket is no evidence.
pub(super) const MOST_LOST: f64 = 0.01;

/// How much of a bucket was counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Lost {
    /// This share of the requests was not told of, at most; 0 to 1.
    Share(f64),
    /// Some were not, and nobody knows how many.
    Unknown,
}

impl Lost {
    pub(super) fn is_evidence(self) -> bool {
        matches!(self, Self::Share(share) if share <= MOST_LOST)
    }
}

/// What a balancer answered for one service in a bucket, far more than it told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Untold {
    pub(super) answered: u64,
    pub(super) told: u64,
}

impl Untold {
    /// 0 to 1.
    pub(super) fn share(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "requests of one bucket")]
        let share = self.answered.saturating_sub(self.told) as f64 / self.answered.max(1) as f64;
        share
    }
}

/// One bucket and how whole it is.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: i64,
    lost: Lost,
}

/// One service in one bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    at: i64,
    colors: Colors<Slice>,
}

#[derive(Debug)]
struct Entry {
    name: ServiceName,
    whole: Colors<Whole>,
    open: Bucket,
    closed: VecDeque<Bucket>,
    /// Of the last bucket.
    untold: Option<Untold>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the text of their names, which is what a line has.
    entries: BTreeMap<String, Entry>,
    marks: VecDeque<Mark>,
    lines: u64,
    strange: u64,
}

/// Lines that were read, and those that were none of a service's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Read {
    pub(super) lines: u64,
    pub(super) strange: u64,
}

#[derive(Debug)]
pub(super) struct Ledger {
    width: i64,
    inner: Mutex<Inner>,
}

impl Ledger {
    /// With buckets of `width`, at least a millisecond.
    pub(super) fn new(width: Duration) -> Self {
        Self {
            width: i64::try_from(width.as_millis()).unwrap_or(i64::MAX).max(1),
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // nothing in here can be left half done
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the bucket that `now` is in.
    pub(super) fn place(&self, now: Timestamp) -> i64 {
        now.as_millisecond().div_euclid(self.width)
    }

    /// When a bucket begins.
    pub(super) fn begin(&self, at: i64) -> Timestamp {
        Timestamp::from_millisecond(at.saturating_mul(self.width)).unwrap_or_default()
    }

    /// From `now` to the end of its bucket.
    pub(super) fn rest(&self, now: Timestamp) -> Duration {
        let past = now.as_millisecond().rem_euclid(self.width);
        Duration::from_millis(u64::try_from(self.width - past).unwrap_or(1))
    }

    /// Only these are counted; others are forgotten.
    pub(super) fn know(&self, names: &[ServiceName], at: i64) {
        let mut inner = self.inner();
        let is_known = |name: &ServiceName| inner.entries.contains_key(name.as_str());
        if inner.entries.len() != names.len() || !names.iter().all(is_known) {
            let stay: BTreeSet<&str> = names.iter().map(ServiceName::as_str).collect();
            inner.entries.retain(|name, _| stay.contains(name.as_str()));
            for name in names {
                let entry = || Entry {
                    name: name.clone(),
                    whole: Colors::default(),
                    open: Bucket {
                        at,
                        colors: Colors::default(),
                    },
                    closed: VecDeque::new(),
                    untold: None,
                };
                inner.entries.entry(name.to_string()).or_insert_with(entry);
            }
        }
    }

    /// Counts what was read in bucket `at`.
    pub(super) fn count<'a>(&self, lines: impl Iterator<Item = Option<Line<'a>>>, at: i64) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        for line in lines {
            let entry = line.and_then(|line| Some((line, inner.entries.get_mut(line.service)?)));
            let Some((line, entry)) = entry else {
                inner.strange += 1;
                continue;
            };
            inner.lines += 1;
            entry.turn(at);
            entry.whole[line.color].add(&line);
            entry.open.colors[line.color].add(line.is_error(), line.microseconds);
        }
    }

    /// Closes every bucket before `at`; those since the last close were counted as `lost` says, and those of the services in
    /// `untold` are no evidence besides.
    pub(super) fn close(&self, at: i64, lost: Lost, untold: &BTreeMap<String, Untold>) {
        let mut inner = self.inner();
        let kept = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX) / self.width;
        let busy = inner
            .entries
            .values()
            .filter(|entry| !entry.closed.is_empty());
        let room = MOST_BUCKETS / busy.count().max(1);
        let last = at - 1;
        let first = inner.marks.back().map_or(last, |mark| mark.at + 1);
        for (name, entry) in &mut inner.entries {
            entry.turn(at);
            entry.untold = untold.get(name).copied();
            if entry.untold.is_some() {
                entry.closed.retain(|bucket| bucket.at < first);
            }
            while entry.closed.len() > room
                || entry
                    .closed
                    .front()
                    .is_some_and(|first| first.at < at - kept)
            {
                entry.closed.pop_front();
            }
        }
        inner
            .marks
            .retain(|mark| mark.at >= at - kept && mark.at <= last);
        let first = inner.marks.back().map_or(last, |mark| mark.at + 1);
        for at in first.max(at - kept)..=last {
            inner.marks.push_back(Mark { at, lost });
        }
    }

    /// How whole the last closed bucket was; `None`: there is none yet.
    pub(super) fn last(&self) -> Option<Lost> {
        self.inner().marks.back().map(|mark| mark.lost)
    }

    /// How little of a service the last closed bucket was told of; `None`: enough, as far as is known.
    pub(super) fn untold(&self, service: &ServiceName) -> Option<Untold> {
        self.inner().entries.get(service.as_str())?.untold
    }

    /// The largest share of any service's requests that the last closed bucket was not told of, as far as is known.
    pub(super) fn most_untold(&self) -> f64 {
        let inner = self.inner();
        let all = inner.entries.values().filter_map(|entry| entry.untold);
        all.map(Untold::share).fold(0.0, f64::max)
    }

    /// Requests of each service since the start.
    pub(super) fn told(&self) -> BTreeMap<String, u64> {
        let inner = self.inner();
        let all = inner.entries.iter();
        all.map(|(name, entry)| {
            let of = |color: Color| entry.whole[color].requests();
            (name.clone(), of(Color::Blue) + of(Color::Green))
        })
        .collect()
    }

    /// True once there is a bucket that was counted from its begin, whole or not.
    pub(super) fn begun(&self) -> bool {
        self.inner().marks.len() > 1
    }

    pub(super) fn read(&self) -> Read {
        let inner = self.inner();
        Read {
            lines: inner.lines,
            strange: inner.strange,
        }
    }

    /// The whole since the start; `None`: the service is not counted.
    pub(super) fn whole(&self, service: &ServiceName) -> Option<Colors<Tally>> {
        let inner = self.inner();
        let whole = &inner.entries.get(service.as_str())?.whole;
        Some(Colors::from_fn(|color| whole[color].tally()))
    }

    /// Of every service.
    pub(super) fn wholes(&self) -> Vec<(ServiceName, Colors<Tally>)> {
        let inner = self.inner();
        let all = inner.entries.values();
        all.map(|entry| {
            let tallies = Colors::from_fn(|color| entry.whole[color].tally());
            (entry.name.clone(), tallies)
        })
        .collect()
    }

    /// The closed buckets that begin at `since` or later, were counted whole, and had a request; oldest first.
    pub(super) fn pairs(
        &self,
        service: &ServiceName,
        stable: Color,
        slow_over: Duration,
        since: Timestamp,
    ) -> Vec<Paired> {
        let place = place_of(slow_over);
        let inner = self.inner();
        let Some(entry) = inner.entries.get(service.as_str()) else {
            return Vec::new();
        };
        let whole = |at| {
            let mark = inner.marks.binary_search_by_key(&at, |mark| mark.at);
            mark.is_ok_and(|place| inner.marks[place].lost.is_evidence())
        };
        let closed = entry.closed.iter();
        closed
            .filter(|bucket| self.begin(bucket.at) >= since && whole(bucket.at))
            .map(|bucket| Paired {
                from: self.begin(bucket.at),
                to: self.begin(bucket.at + 1),
                stable: bucket.colors[stable].arm(place),
                candidate: bucket.colors[!stable].arm(place),
            })
            .collect()
    }
}

impl Entry {
    /// Begins bucket `at`, if it is a later one than the open one. A clock that was set back goes on in the open one.
    fn turn(&mut self, at: i64) {
        if at <= self.open.at {
            return;
        }
        let next = Bucket {
            at,
            colors: Colors::default(),
        };
        let full = std::mem::replace(&mut self.open, next);
        if Color::BOTH
            .iter()
            .any(|color| full.colors[*color].requests > 0)
        {
            self.closed.push_back(full);
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these figures are exact")]
mod tests {
    use super::super::line::Ending;
    use super::*;

    const fn line(service: &str, color: Color, status: u16) -> Line<'_> {
        Line {
            service,
            color,
            status,
            ending: Ending::Otherwise,
            microseconds: Some(30_000),
            bytes: 1,
        }
    }

    fn ledger() -> (Ledger, ServiceName) {
        let ledger = Ledger::new(Duration::from_secs(10));
        let shop: ServiceName = "shop".parse().unwrap();
        ledger.know(std::slice::from_ref(&shop), 100);
        (ledger, shop)
    }

    fn pairs(ledger: &Ledger, shop: &ServiceName, since: i64) -> Vec<(u64, u64, u64)> {
        let over = Duration::from_millis(25);
        let pairs = ledger.pairs(shop, Color::Blue, over, ledger.begin(since));
        let figures = pairs.iter().map(|pair| {
            let (stable, candidate) = (pair.stable, pair.candidate);
            (stable.requests, candidate.errors, candidate.slow)
        });
        figures.collect()
    }

    #[test]
    fn a_bucket_is_given_out_once_it_is_closed_and_was_counted_whole() {
        let (ledger, shop) = ledger();
        let requests = [
            Some(line("shop", Color::Blue, 200)),
            Some(line("shop", Color::Green, 503)),
        ];
        ledger.count(requests.into_iter(), 100);
        assert_eq!(pairs(&ledger, &shop, 100), []);
        ledger.close(101, Lost::Share(0.0), &BTreeMap::new());
        assert_eq!(pairs(&ledger, &shop, 100), [(1, 1, 1)]);
        assert_eq!(pairs(&ledger, &shop, 101), []);
        for (at, lost) in [(101, Lost::Share(0.011)), (102, Lost::Unknown)] {
            ledger.count([Some(line("shop", Color::Blue, 200))].into_iter(), at);
            ledger.close(at + 1, lost, &BTreeMap::new());
        }
        // one without a request is not given out either
        ledger.close(104, Lost::Share(0.0), &BTreeMap::new());
        assert_eq!(pairs(&ledger, &shop, 100), [(1, 1, 1)]);
        let whole = ledger.whole(&shop).unwrap();
        assert_eq!((whole.blue.requests(), whole.green.failed), (3, 1));
    }

    #[test]
    fn a_service_whose_requests_are_not_told_of_has_no_evidence_and_the_others_have() {
        let (ledger, shop) = ledger();
        let blog: ServiceName = "blog".parse().unwrap();
        ledger.know(&[shop.clone(), blog.clone()], 100);
        let close = |at, untold: &[(&str, Untold)]| {
            let each = ["shop", "blog"].map(|name| Some(line(name, Color::Blue, 200)));
            ledger.count(each.into_iter(), at);
            let untold = untold
                .iter()
                .map(|(name, untold)| ((*name).to_owned(), *untold));
            ledger.close(at + 1, Lost::Share(0.0), &untold.collect());
        };
        close(100, &[]);
        let untold = Untold {
            answered: 1_000,
            told: 1,
        };
        close(101, &[("blog", untold)]);
        assert_eq!(pairs(&ledger, &shop, 100).len(), 2);
        assert_eq!(pairs(&ledger, &blog, 100).len(), 1);
        assert_eq!(ledger.untold(&shop), None);
        assert_eq!(ledger.untold(&blog), Some(untold));
        assert_eq!(ledger.most_untold(), 0.999);
        assert_eq!(
            ledger.told(),
            BTreeMap::from([("blog".to_owned(), 2), ("shop".to_owned(), 2)])
        );
        close(102, &[]);
        assert_eq!(pairs(&ledger, &blog, 100).len(), 2);
        assert_eq!(ledger.untold(&blog), None);
    }

    #[test]
    fn what_is_no_service_s_has_no_place() {
        let (ledger, shop) = ledger();
        ledger.count(
            [None, Some(line("other", Color::Blue, 200))].into_iter(),
            100,
        );
        let read = Read {
            lines: 0,
            strange: 2,
        };
        assert_eq!(ledger.read(), read);
        ledger.know(&[], 101);
        assert_eq!(ledger.whole(&shop), None);
    }

    #[test]
    fn three_hours_are_kept() {
        let (ledger, shop) = ledger();
        for at in 100..2_000 {
            ledger.count([Some(line("shop", Color::Blue, 200))].into_iter(), at);
            ledger.close(at + 1, Lost::Share(0.0), &BTreeMap::new());
        }
        assert_eq!(pairs(&ledger, &shop, 0).len(), 1_080);
    }
}
