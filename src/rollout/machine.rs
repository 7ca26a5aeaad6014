//! The machine of a rollout: `step(self, event, now) -> (self, actions)`. Pure: no clock, no file, no balancer.
//!
//! ```text
//!             applied            verdict: advance            applied
//! Starting ───────────► Observing ───────────────► Shifting ─────────► Observing (one step further)
//!    │ failed             │  ▲  │ ▲                │ │  ▲
//!    ▼                    │  └──┘ │   failed:      │ └──┘ outdated, pause: to the weight where it is
//! Over: cancelled         │   │   └────────────────┘
//!                         │   │     holding, where it was
//!                         │   └ verdict: hold; source down; source lost; pause
//!                         │
//!                         ├── verdict: advance, at the last step ─┐          applied
//!                         ├── promote, by a person ───────────────┴► Promoting ─────► Over: promoted
//!                         │                                             │ failed: Observing, holding, or paused as it was
//!                         │                                             │ outdated, pause: Shifting, to the weight where it is
//!                         │                                             ▼
//!                         ├── verdict: roll back ─► Returning ─ applied ─► Over: rolled back
//!                         └── cancel, by a person ► Returning ─ applied ─► Over: cancelled
//!                                                      └─ failed: again, until it is done
//! ```
//!
//! What is asked of the traffic is written down before it is done ([`Phase`]), and asking twice does no harm: after a crash the
//! phase alone says what to do. The order of precedence is abort > pause > promote > advance: a cancel or a bad verdict counts
//! in every phase before the last; a pause takes a promotion that is not in force yet back; a paused rollout is watched on, and
//! a bad verdict takes it back. One whose first weight is not in force yet is neither promoted nor paused. A verdict holds for an interval: a step or promotion that waited longer (for the change lock, or
//! for turnout itself) is outdated, and judged anew. All deadlines are absolute. A superseded rollout asks for nothing more: its
//! traffic is somebody else's by now.

use std::time::Duration;

use jiff::Timestamp;

use super::phase::{End, Mood, Phase, Status};
use super::walk::{Walk, later};
use crate::domain::{Decision, Weight};

/// Until a way back that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// `until` has come.
    Due,
    /// The judge has spoken.
    Judged(Decision, String),
    /// What was asked of the traffic last is in force, and proved.
    Applied,
    /// It is not, and everything is as it was before that.
    Failed(String),
    /// A person stops it where it is.
    Pause(String),
    /// A person lets it go on.
    Resume(String),
    /// A person has seen enough.
    Promote(String),
    /// A person ends it.
    Cancel(String),
    /// At the end of an interval: nobody can be asked how the candidate does.
    SourceDown(String),
    /// The same amid an interval, which goes on.
    SourceLost(String),
    /// Somebody can again.
    SourceBack,
    /// The step or promotion that is to be made was decided too long ago ([`Walk::is_outdated`]), or whoever wanted it has been
    /// told that it was not made.
    Outdated(String),
    /// Something else moved the traffic; the candidate has this weight by now.
    Superseded(String, Weight),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// This weight to the candidate; answered with `Applied` or `Failed`.
    SetWeight(Weight),
    /// Everything to the candidate, which becomes active; answered likewise.
    Promote,
    /// Everything to the stable color, whatever becomes of the candidate; answered likewise.
    Return,
    /// A verdict; answered with `Judged` or `SourceDown`.
    Judge,
    /// The judge forgets what it saw before this step.
    NewStep,
    /// Whoever asked for it is told that it cannot be.
    Refuse(Refusal),
}

/// Why a person's wish is not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The rollout has ended.
    Over(Status),
    /// It is on its way back.
    Returning,
    /// Its first weight is not in force yet: nothing is there that could be promoted or stopped.
    NotBegun,
}

impl Walk {
    /// One event. What does not concern the phase that it comes in changes nothing.
    #[must_use]
    pub fn step(self, event: Event, now: Timestamp) -> (Self, Vec<Action>) {
        match event {
            Event::Due => self.due(),
            Event::Judged(decision, reason) => self.judged(decision, reason, now),
            Event::Applied => self.applied(now),
            Event::Failed(reason) => self.failed(reason, now),
            Event::Pause(reason) => self.pause(reason, now),
            Event::Resume(reason) => self.resume(reason, now),
            Event::Promote(reason) => self.promote(reason, now),
            Event::Cancel(reason) => self.cancel(reason, now),
            Event::SourceDown(reason) => self.source_down(reason, now),
            Event::SourceLost(reason) => self.source_lost(reason, now),
            Event::SourceBack => self.source_back(now),
            Event::Outdated(reason) => self.outdated(reason, now),
            Event::Superseded(reason, weight) => self.superseded(reason, weight, now),
        }
    }

    fn due(self) -> (Self, Vec<Action>) {
        let action = match self.phase {
            Phase::Starting { .. } => Action::SetWeight(self.course.initial),
            Phase::Observing { .. } => Action::Judge,
            Phase::Shifting { to, .. } => Action::SetWeight(to),
            Phase::Promoting { .. } => Action::Promote,
            Phase::Returning { .. } => Action::Return,
            Phase::Over { .. } => return (self, Vec::new()),
        };
        (self, vec![action])
    }

    fn judged(self, decision: Decision, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        match (decision, self.phase) {
            (_, Phase::Starting { .. } | Phase::Returning { .. } | Phase::Over { .. })
            | (
                Decision::Advance | Decision::Hold,
                Phase::Shifting { .. } | Phase::Promoting { .. },
            ) => (self, Vec::new()),
            (
                Decision::RollBack,
                Phase::Observing { .. } | Phase::Shifting { .. } | Phase::Promoting { .. },
            ) => {
                let end = End::RolledBack;
                let walk = self.to(Phase::Returning { end }, reason, now).at_once(now);
                (walk, vec![Action::Return])
            }
            (Decision::Advance | Decision::Hold, Phase::Observing { mood: Mood::Paused }) => {
                (self.next_interval(now), Vec::new())
            }
            (Decision::Hold, Phase::Observing { .. }) => {
                let mood = Mood::Holding;
                let walk = self.to(Phase::Observing { mood }, reason, now);
                (walk.next_interval(now), Vec::new())
            }
            (Decision::Advance, Phase::Observing { .. }) => self.advance(reason, now),
        }
    }

    fn advance(self, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        let next = self.course.after(self.weight);
        let next = next.filter(|_| self.step < self.course.max_steps);
        if let Some(to) = next {
            let then = Mood::Progressing;
            let walk = self.to(Phase::Shifting { to, then }, reason, now);
            (walk.at_once(now), vec![Action::SetWeight(to)])
        } else {
            let then = Mood::Progressing;
            let walk = self.to(Phase::Promoting { then }, reason, now);
            (walk.at_once(now), vec![Action::Promote])
        }
    }

    fn applied(mut self, now: Timestamp) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Starting { then } => {
                let to = self.course.initial;
                self.arrived(to, then, now)
            }
            Phase::Shifting { to, then } => {
                if to > self.weight {
                    self.step += 1;
                }
                self.arrived(to, then, now)
            }
            Phase::Promoting { .. } => {
                self.weight = Weight::WHOLE;
                let reason = format!("promoted: {}", self.reason);
                (self.over(End::Promoted, reason, now), Vec::new())
            }
            Phase::Returning { end } => {
                self.weight = Weight::ZERO;
                let reason = self.reason.clone();
                (self.over(end, reason, now), Vec::new())
            }
            Phase::Observing { .. } | Phase::Over { .. } => (self, Vec::new()),
        }
    }

    fn arrived(mut self, weight: Weight, mood: Mood, now: Timestamp) -> (Self, Vec<Action>) {
        self.weight = weight;
        self.step_began = now;
        let reason = match mood {
            Mood::Paused => self.reason.clone(),
            Mood::Progressing | Mood::Holding => format!("{weight} % is in force"),
        };
        self = self.to(Phase::Observing { mood }, reason, now);
        self.until = Some(later(now, self.course.interval));
        (self, vec![Action::NewStep])
    }

    fn failed(mut self, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Starting { .. } => (self.over(End::Cancelled, reason, now), Vec::new()),
            Phase::Shifting { then, .. } | Phase::Promoting { then } => {
                let mood = match then {
                    Mood::Paused => Mood::Paused,
                    Mood::Progressing | Mood::Holding => Mood::Holding,
                };
                let walk = self.to(Phase::Observing { mood }, reason, now);
                (walk.next_interval(now), Vec::new())
            }
            Phase::Returning { .. } => {
                self.until = Some(later(now, AGAIN));
                self.trouble = Some(reason);
                (self, Vec::new())
            }
            Phase::Observing { .. } | Phase::Over { .. } => (self, Vec::new()),
        }
    }

    fn pause(self, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        let paused = Mood::Paused;
        match self.phase {
            // who hears "it is paused" does not expect its first traffic a moment later
            Phase::Starting { .. } => (self, vec![Action::Refuse(Refusal::NotBegun)]),
            Phase::Observing { .. } => {
                let phase = Phase::Observing { mood: paused };
                (self.to(phase, reason, now), Vec::new())
            }
            Phase::Shifting { .. } | Phase::Promoting { .. } => self.stay(paused, reason, now),
            Phase::Returning { .. } => (self, vec![Action::Refuse(Refusal::Returning)]),
            Phase::Over { .. } => self.refuse_over(),
        }
    }

    /// Where it is. Whether a step came into force before a crash is not known here, so that weight is asked for anew.
    fn stay(self, then: Mood, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        let to = self.weight;
        let phase = Phase::Shifting { to, then };
        let walk = self.to(phase, reason, now).at_once(now);
        (walk, vec![Action::SetWeight(to)])
    }

    fn outdated(self, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Shifting { to, then } if to > self.weight => self.stay(then, reason, now),
            Phase::Promoting { then } => self.stay(then, reason, now),
            Phase::Starting { .. }
            | Phase::Observing { .. }
            | Phase::Shifting { .. }
            | Phase::Returning { .. }
            | Phase::Over { .. } => (self, Vec::new()),
        }
    }

    fn resume(mut self, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        let then = Mood::Progressing;
        match self.phase {
            Phase::Starting { then: Mood::Paused } => {
                let phase = Phase::Starting { then };
                (self.to(phase, reason, now), Vec::new())
            }
            Phase::Shifting {
                to,
                then: Mood::Paused,
            } => {
                let phase = Phase::Shifting { to, then };
                (self.to(phase, reason, now), Vec::new())
            }
            Phase::Observing { mood: Mood::Paused } => {
                self = self.to(Phase::Observing { mood: then }, reason, now);
                self.until = Some(later(now, self.course.interval));
                (self, Vec::new())
            }
            // it goes on already
            Phase::Starting { .. }
            | Phase::Observing { .. }
            | Phase::Shifting { .. }
            | Phase::Promoting { .. } => (self, Vec::new()),
            Phase::Returning { .. } => (self, vec![Action::Refuse(Refusal::Returning)]),
            Phase::Over { .. } => self.refuse_over(),
        }
    }

    fn promote(self, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Starting { .. } => (self, vec![Action::Refuse(Refusal::NotBegun)]),
            Phase::Observing { mood: then } | Phase::Shifting { then, .. } => {
                let walk = self.to(Phase::Promoting { then }, reason, now);
                (walk.at_once(now), vec![Action::Promote])
            }
            Phase::Promoting { .. } => (self, vec![Action::Promote]),
            Phase::Returning { .. } => (self, vec![Action::Refuse(Refusal::Returning)]),
            Phase::Over { .. } => self.refuse_over(),
        }
    }

    fn cancel(self, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Over { .. } => self.refuse_over(),
            // how it ends was decided first; that it is wanted again is a reason not to wait
            Phase::Returning { .. } => (self, vec![Action::Return]),
            Phase::Starting { .. }
            | Phase::Observing { .. }
            | Phase::Shifting { .. }
            | Phase::Promoting { .. } => {
                let end = End::Cancelled;
                let walk = self.to(Phase::Returning { end }, reason, now).at_once(now);
                (walk, vec![Action::Return])
            }
        }
    }

    fn source_down(self, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Observing { mood: Mood::Paused } => (self.next_interval(now), Vec::new()),
            Phase::Observing { .. } => {
                let mood = Mood::Holding;
                let walk = self.to(Phase::Observing { mood }, reason, now);
                (walk.next_interval(now), Vec::new())
            }
            Phase::Starting { .. }
            | Phase::Shifting { .. }
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::Over { .. } => (self, Vec::new()),
        }
    }

    fn source_lost(self, reason: String, now: Timestamp) -> (Self, Vec<Action>) {
        let until = self.until;
        let (mut walk, actions) = self.source_down(reason, now);
        walk.until = until;
        (walk, actions)
    }

    fn source_back(self, now: Timestamp) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Observing {
                mood: Mood::Holding,
            } => {
                let mood = Mood::Progressing;
                let reason = "the source of its figures is back".to_owned();
                (self.to(Phase::Observing { mood }, reason, now), Vec::new())
            }
            Phase::Observing { .. }
            | Phase::Starting { .. }
            | Phase::Shifting { .. }
            | Phase::Promoting { .. }
            | Phase::Returning { .. }
            | Phase::Over { .. } => (self, Vec::new()),
        }
    }

    fn superseded(mut self, reason: String, weight: Weight, now: Timestamp) -> (Self, Vec<Action>) {
        let end = match self.phase {
            Phase::Over { .. } => return (self, Vec::new()),
            // what was asked for before a crash had come into force
            Phase::Promoting { .. } if weight == Weight::WHOLE => End::Promoted,
            Phase::Returning { end } if weight == Weight::ZERO => end,
            Phase::Starting { .. }
            | Phase::Observing { .. }
            | Phase::Shifting { .. }
            | Phase::Promoting { .. }
            | Phase::Returning { .. } => End::Cancelled,
        };
        let reason = if end == End::Cancelled && !matches!(self.phase, Phase::Returning { .. }) {
            reason
        } else {
            self.reason.clone()
        };
        self.weight = weight;
        (self.over(end, reason, now), Vec::new())
    }

    fn refuse_over(self) -> (Self, Vec<Action>) {
        let status = self.status();
        (self, vec![Action::Refuse(Refusal::Over(status))])
    }
}

#[cfg(test)]
#[path = "machine_sequences_tests.rs"]
mod sequences;
#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
