//! One rollout's place on its way: what it was asked for, what it is at, since when and until when. Moved by `machine` alone.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::machine::Action;
use super::phase::{Course, End, Mood, Phase, Status};
use crate::domain::Weight;

/// One rollout's place on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    pub(super) course: Course,
    #[serde(flatten)]
    pub(super) phase: Phase,
    /// Of the candidate, in force and proved.
    pub(super) weight: Weight,
    /// Steps up so far.
    pub(super) step: u32,
    pub(super) step_began: Timestamp,
    pub(super) reason: String,
    /// Why the way back is not done yet.
    #[serde(default)]
    pub(super) trouble: Option<String>,
    pub(super) since: Timestamp,
    pub(super) until: Option<Timestamp>,
}

impl Walk {
    /// At its beginning, with the first thing to do.
    pub fn begin(course: Course, now: Timestamp) -> (Self, Vec<Action>) {
        let walk = Self {
            course,
            phase: Phase::Starting {
                then: Mood::Progressing,
            },
            weight: Weight::ZERO,
            step: 0,
            step_began: now,
            reason: format!("the candidate is about to get {} %", course.initial),
            trouble: None,
            since: now,
            until: Some(now),
        };
        (walk, vec![Action::SetWeight(course.initial)])
    }

    /// What was asked for.
    pub const fn course(&self) -> &Course {
        &self.course
    }

    /// What it is at.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// How it stands.
    pub const fn status(&self) -> Status {
        self.phase.status()
    }

    /// The candidate's weight, in force and proved.
    pub const fn weight(&self) -> Weight {
        self.weight
    }

    /// Steps up so far.
    pub const fn step_number(&self) -> u32 {
        self.step
    }

    /// When the present weight came into force.
    pub const fn step_began(&self) -> Timestamp {
        self.step_began
    }

    /// Why it stands as it stands.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Why the way back is not done yet, where it has been tried in vain; it is tried again until it is.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// True if the step or promotion that is yet to be made was decided longer ago than an interval: so long a verdict holds.
    pub fn is_outdated(&self, now: Timestamp) -> bool {
        let goes_on = match self.phase {
            Phase::Shifting { to, .. } => to > self.weight,
            Phase::Promoting { .. } => true,
            Phase::Starting { .. }
            | Phase::Observing { .. }
            | Phase::Returning { .. }
            | Phase::Over { .. } => false,
        };
        goes_on && now > later(self.since, self.course.interval)
    }

    /// Since when it stands like that.
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// When it does something by itself next; `None`: never.
    pub const fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// After a restart: a clock that was set back meanwhile must not make a deadline of years out of an interval.
    #[must_use]
    pub fn resumed(mut self, now: Timestamp) -> Self {
        let latest = later(now, self.course.interval);
        self.until = self.until.map(|until| until.min(latest));
        self.step_began = self.step_began.min(now);
        self.since = self.since.min(now);
        self
    }

    pub(super) fn over(mut self, end: End, reason: String, now: Timestamp) -> Self {
        self = self.to(Phase::Over { end }, reason, now);
        self.until = None;
        self
    }

    pub(super) fn to(mut self, phase: Phase, reason: String, now: Timestamp) -> Self {
        if phase != self.phase {
            self.since = now;
        }
        self.phase = phase;
        self.reason = reason;
        self.trouble = None;
        self
    }

    pub(super) const fn at_once(mut self, now: Timestamp) -> Self {
        self.until = Some(now);
        self
    }

    /// From the deadline that was, so that late looks do not add up; from now where even that is over.
    pub(super) fn next_interval(mut self, now: Timestamp) -> Self {
        let interval = self.course.interval;
        let next = self.until.map(|until| later(until, interval));
        let next = next.filter(|next| *next > now && *next <= later(now, interval));
        self.until = Some(next.unwrap_or_else(|| later(now, interval)));
        self
    }
}

/// As far ahead as time goes.
pub(super) fn later(now: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
