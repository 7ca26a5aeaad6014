//! One metric under the sequential test: what was seen of both colors, and the capital of the bets on it.
//!
//! Three questions, each with capital of its own:
//!
//! - **Is the candidate worse than the stable color?** On the share of the bad requests of a stretch that the candidate has.
//! - **Is it above the floor, and above what the stable color has at present?** On the candidate's rate alone, so that a candidate a little
//!   worse than a stable color just under the floor is found as well.
//! - **Is a regression that matters ruled out?** Against the candidate being so many times worse, or above the floor by itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::bets::{Capital, on_share};
use super::dispersion::Dispersion;

/// Bad requests of one color in a stretch, of all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Side {
    pub(super) requests: f64,
    pub(super) bad: f64,
}

impl Side {
    pub(super) fn rate(self) -> f64 {
        if self.requests > 0.0 {
            self.bad / self.requests
        } else {
            0.0
        }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.requests += more.requests;
        self.bad += more.bad;
    }

    fn fade(&mut self, by: f64) {
        self.requests *= by;
        self.bad *= by;
    }
}

/// What is asked of a metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    /// How many times the stable rate is a regression that matters.
    pub(super) smallest: f64,
    /// The rate that the candidate may not exceed.
    pub(super) floor: f64,
}

impl Question {
    /// Up to this many times the stable rate nothing is wrong: an eighth of the way to what matters, on a log scale. Two colors are
    /// never quite alike (caches, age), and a test with enough traffic finds every difference.
    pub(super) fn margin(self) -> f64 {
        self.smallest.powf(0.125)
    }
}

/// One settled stretch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    pub(super) belongs: Belongs,
    pub(super) stable: Side,
    pub(super) candidate: Side,
}

/// Which step a stretch tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belongs {
    /// The present one, with all of it.
    ToThisStep,
    /// One before, or it began in one.
    Before,
}

/// For how long the candidate has been above the floor, as far as counts tell. Time without counts is no part of it: what
/// nobody has seen is not known to be bad.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Spell {
    since: Timestamp,
    last: Timestamp,
}

impl Spell {
    /// A silence of more seconds ends it: three stretches of ten.
    const BREAK: f64 = 30.0;

    /// With one stretch more, or begun by it.
    fn with(before: Option<Self>, from: Timestamp, to: Timestamp) -> Self {
        let lasting =
            before.filter(|spell| from.duration_since(spell.last).as_secs_f64() <= Self::BREAK);
        Self {
            since: lasting.map_or(to, |spell| spell.since),
            last: to,
        }
    }

    /// How long it has been seen to last.
    pub(super) fn seconds(self) -> f64 {
        self.last.duration_since(self.since).as_secs_f64()
    }
}

/// What is remembered of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Track {
    worse: Capital,
    above: Capital,
    not_worse: Capital,
    below: Capital,
    clumps: Dispersion,
    /// Since the rollout began.
    pub(super) stable: Side,
    pub(super) candidate: Side,
    /// Since the step began.
    step_stable: Side,
    step_candidate: Side,
    /// Both, fading.
    pub(super) stable_now: Side,
    pub(super) candidate_now: Side,
    /// The candidate is above the floor.
    pub(super) spell: Option<Spell>,
    /// Steps whose capital has not entered yet, since nothing was settled in them.
    #[serde(default)]
    fresh: u32,
}

/// How many times worse each bet says that the candidate is, in units of the smallest regression that matters.
const WORSE: [f64; 4] = [1.0, 2.5, 8.0, 40.0];
/// The share of its capital that each bet on the candidate's own rate puts in.
const STAKES: [f64; 4] = [0.05, 0.2, 0.5, 0.9];
/// The weight of the comparison in the evidence; the rest is that of the floor.
const COMPARISON: f64 = 0.9;
/// A regression is ruled out at 1 in 20. Being wrong here costs a step, which is watched as every step is.
pub(super) const RULED_OUT: f64 = 20.0;
/// What is recent loses half its weight in this many seconds.
const HALF_LIFE: f64 = 60.0;
/// The candidate's own rate is compared with this part of the floor, to rule out that it is above.
const FAR_BELOW: f64 = 0.25;

impl Default for Track {
    fn default() -> Self {
        Self {
            worse: Capital::new(WORSE.len()),
            above: Capital::new(STAKES.len()),
            not_worse: Capital::new(1),
            below: Capital::new(1),
            clumps: Dispersion::default(),
            stable: Side::default(),
            candidate: Side::default(),
            step_stable: Side::default(),
            step_candidate: Side::default(),
            stable_now: Side::default(),
            candidate_now: Side::default(),
            spell: None,
            fresh: 0,
        }
    }
}

impl Track {
    /// Fresh capital for a regression that begins with this step: bet from its first stretch on, so that what still tells of the
    /// step before does not lose it.
    pub(super) fn new_step(&mut self) {
        self.fresh = self.fresh.saturating_add(1);
        self.step_stable = Side::default();
        self.step_candidate = Side::default();
    }

    /// Takes a stretch that has ended.
    pub(super) fn settle(&mut self, asked: Question, stretch: Stretch) {
        let Stretch {
            from,
            to,
            belongs,
            stable,
            candidate,
        } = stretch;
        let seconds = to.duration_since(from).as_secs_f64();
        let fade = 0.5_f64.powf(seconds / HALF_LIFE);
        self.stable_now.fade(fade);
        self.stable_now.add(stable);
        if belongs == Belongs::ToThisStep {
            for _ in 0..std::mem::take(&mut self.fresh) {
                self.worse.new_step();
                self.above.new_step();
            }
        }
        if candidate.requests > 0.0 {
            self.compare(asked, stable, candidate);
            self.measure(asked, stable, candidate);
            self.candidate_now.fade(fade);
            self.candidate_now.add(candidate);
            self.stable.add(stable);
            self.candidate.add(candidate);
            if belongs == Belongs::ToThisStep {
                self.step_stable.add(stable);
                self.step_candidate.add(candidate);
            }
            self.keep_time(asked, from, to);
        }
        // last: how much the bets of a stretch are worth is settled before it is seen
        self.clumps.learn(stable.requests, stable.bad);
    }

    fn compare(&mut self, asked: Question, stable: Side, candidate: Side) {
        let bad = stable.bad + candidate.bad;
        if stable.requests <= 0.0 || bad <= 0.0 {
            return;
        }
        let share = candidate.bad / bad;
        // the candidate's part if it fails so many times as often as the stable color
        let part = |times: f64| {
            times * candidate.requests / (times * candidate.requests + stable.requests)
        };
        let margin = asked.margin();
        let sure = self.clumps.bound().map_or(1.0, |clump| bad / clump);
        self.worse.bet(|place| {
            let times = WORSE.get(place).copied().unwrap_or(1.0) * asked.smallest;
            on_share(share, sure, part(margin), part(times))
        });
        let likely = bad / self.clumps.estimate();
        self.not_worse
            .bet(|_| on_share(share, likely, part(asked.smallest), part(1.0)));
        self.not_worse.cut(RULED_OUT);
    }

    fn measure(&mut self, asked: Question, stable: Side, candidate: Side) {
        // what the stable color has at present is nobody's fault but the incident's, seen at once and forgotten slowly
        let present = stable.rate().max(self.stable_now.rate());
        let borne = asked.floor.max(asked.margin() * present);
        let times = candidate.rate() / borne;
        self.above.bet(|place| {
            let stake = STAKES.get(place).copied().unwrap_or(0.0);
            1.0 - stake + stake * times
        });
        let far = asked.floor * FAR_BELOW;
        let ratio = candidate.requests * (asked.floor - far) + candidate.bad * FAR_BELOW.ln();
        let ratio = ratio / self.clumps.estimate();
        self.below.bet(|_| ratio.exp());
        self.below.cut(RULED_OUT);
    }

    fn keep_time(&mut self, asked: Question, from: Timestamp, to: Timestamp) {
        let recent = self.candidate_now;
        // half a bad request would be expected at the floor: fewer requests say nothing about it
        let enough = recent.requests * asked.floor >= 0.5;
        self.spell =
            (enough && recent.rate() > asked.floor).then(|| Spell::with(self.spell, from, to));
    }

    /// The figures that show a regression best, stable first: those of this step where the candidate does worse in it than on the whole.
    pub(super) fn worst(&self) -> (Side, Side) {
        if self.step_candidate.rate() > self.candidate.rate() {
            (self.step_stable, self.step_candidate)
        } else {
            (self.stable, self.candidate)
        }
    }

    /// The evidence of a regression: an e-value, 1 at the beginning.
    pub(super) fn evidence(&self) -> f64 {
        COMPARISON * self.worse.value() + (1.0 - COMPARISON) * self.above.value()
    }

    /// True if what speaks against the candidate is the comparison more than its rate alone.
    pub(super) fn is_by_comparison(&self) -> bool {
        COMPARISON * self.worse.value() >= (1.0 - COMPARISON) * self.above.value()
    }

    /// True if a regression that matters is ruled out: the ratio is, or the candidate stays far enough below the floor by itself
    /// while nothing speaks for it being worse than the stable color.
    pub(super) fn is_ruled_out(&self) -> bool {
        // one burst on the candidate alone is worth up to 4, two are above this
        let leans = 10.0;
        self.not_worse.value() >= RULED_OUT
            || (self.below.value() >= RULED_OUT && self.evidence() < leans)
    }

    /// How much of the way to ruling it out is gone, 0 to 1.
    pub(super) fn way_to_ruled_out(&self) -> f64 {
        let best = self.not_worse.value().max(self.below.value());
        (best.max(1.0).ln() / RULED_OUT.ln()).clamp(0.0, 1.0)
    }
}
