//! How a candidate does: what is known without asking, what the source says, and what the judge makes of it at the end of an
//! interval or, where it may, before.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::super::task::Task;
use super::first::within;
use super::settle::ROLLOUT;
use super::source::{Feed, Look, Purpose, between, on_own_clock};
use super::{Asking, LONGEST_LOOK, SEEN_KEPT, SOURCE};
use crate::balancer::Balancer;
use crate::domain::{CanarySource, Decision, Paired, Verdict};
use crate::rollout::{Event, Phase, RolloutId, Status};

/// An answer of a source.
#[derive(Debug)]
pub(in crate::controller) struct Looked {
    id: RolloutId,
    what: Result<Vec<Paired>, String>,
    then: Then,
}

/// What a look is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// To have seen it.
    Watch,
    /// The verdict at the end of an interval.
    Judge,
}

/// What is known without asking any source.
enum Plain {
    /// Nothing against it.
    Nothing,
    /// No server of the candidate is healthy.
    CandidateDown(String),
    /// Nobody can be compared with, or nothing is served.
    Unclear(String),
}

/// What asking a source comes to.
enum Asked {
    /// Its answer.
    Now(Result<Vec<Paired>, String>),
    /// It comes later.
    Later,
}

/// How the problem of one begins whose source does not tell, or not enough.
fn no_figures(id: &RolloutId) -> String {
    format!("{ROLLOUT}{id} holds: ")
}

impl<B: Balancer> Task<B> {
    /// The end of an interval: what is known without a source, then the source, then the judge.
    pub(super) fn judge_rollout(&mut self, id: &RolloutId) -> Option<Event> {
        match self.plainly(id)? {
            Plain::CandidateDown(reason) => Some(self.word(id, Decision::RollBack, reason)),
            Plain::Unclear(reason) => Some(self.hold(id, reason)),
            Plain::Nothing => match self.look_at_source(id, Then::Judge)? {
                Asked::Now(what) => self.judged(id, what),
                Asked::Later => {
                    // until the answer is there, which is never long
                    self.later(id, SOURCE + LONGEST_LOOK);
                    None
                }
            },
        }
    }

    /// A verdict that is not the judge's, kept like one of its.
    fn word(&mut self, id: &RolloutId, decision: Decision, reason: String) -> Event {
        let at = self.rollouts.clock.now();
        if let Some(running) = self.rollouts.running.get_mut(id) {
            running.record.said(Verdict {
                at,
                decision,
                reason: reason.clone(),
                evidence: Vec::new(),
            });
        }
        Event::Judged(decision, reason)
    }

    /// A verdict that nothing can be said.
    fn hold(&mut self, id: &RolloutId, reason: String) -> Event {
        self.word(id, Decision::Hold, reason.clone());
        Event::SourceDown(reason)
    }

    /// The verdict once the source has spoken.
    fn judged(&mut self, id: &RolloutId, what: Result<Vec<Paired>, String>) -> Option<Event> {
        self.seen(id, what);
        if let Some(Plain::Unclear(reason)) = self.plainly(id) {
            return Some(self.hold(id, reason));
        }
        let now = self.rollouts.clock.now();
        let running = self.rollouts.running.get_mut(id)?;
        if let Some(reason) = running.down.clone() {
            Some(self.hold(id, reason))
        } else {
            let verdict = running.record.verdict(now);
            Some(Event::Judged(verdict.decision, verdict.reason))
        }
    }

    /// A look between two intervals, also while a step or promotion waits for the change lock or the balancer.
    pub(super) async fn watch_rollout(&mut self, id: &RolloutId) {
        let Some(running) = self.rollouts.running.get_mut(id) else {
            return;
        };
        running.look = Instant::now() + running.looks_every();
        if !matches!(
            running.record.walk.phase(),
            Phase::Observing { .. } | Phase::Shifting { .. } | Phase::Promoting { .. }
        ) {
            return;
        }
        if let Some(Plain::CandidateDown(reason)) = self.plainly(id) {
            let event = self.word(id, Decision::RollBack, reason);
            self.happen(id, event).await;
            return;
        }
        if let Some(Asked::Now(what)) = self.look_at_source(id, Then::Watch) {
            self.watched(id, what).await;
        }
    }

    async fn watched(&mut self, id: &RolloutId, what: Result<Vec<Paired>, String>) {
        let was_down = self.seen(id, what);
        self.keep_seen(id, SEEN_KEPT);
        if let Some(event) = self.source_turned(id, was_down) {
            self.happen(id, event).await;
        }
        if let Some(Plain::Unclear(_)) = self.plainly(id) {
            // whatever the figures say, there is nothing to go back to
            return;
        }
        let now = self.rollouts.clock.now();
        let Some(running) = self.rollouts.running.get_mut(id) else {
            return;
        };
        // where nobody tells how the candidate does, what was told before is no reason to go back now
        let alarm = match running.down {
            Some(_) => None,
            None => running.record.judge.alarm(now),
        };
        if let Some(verdict) = alarm {
            let event = Event::Judged(verdict.decision, verdict.reason.clone());
            running.record.said(verdict);
            self.happen(id, event).await;
        }
    }

    /// What to say of a source amid an interval: that it is gone, or back.
    fn source_turned(&self, id: &RolloutId, was_down: bool) -> Option<Event> {
        let running = self.rollouts.running.get(id)?;
        match &running.down {
            None => was_down.then_some(Event::SourceBack),
            // a step that came into force meanwhile knows nothing of it
            Some(reason) => (!was_down || running.record.walk.status() == Status::Progressing)
                .then(|| Event::SourceLost(reason.clone())),
        }
    }

    /// An answer of a source that was asked outside of this task.
    pub(in crate::controller) async fn rollout_looked(&mut self, looked: Looked) {
        let Looked { id, what, then } = looked;
        if let Some(running) = self.rollouts.running.get_mut(&id) {
            running.asking = Asking::Nobody;
        }
        match then {
            Then::Watch => self.watched(&id, what).await,
            Then::Judge => {
                if let Some(event) = self.judged(&id, what) {
                    self.happen(&id, event).await;
                }
            }
        }
    }

    /// Takes what a source said. True: it could not be asked before.
    fn seen(&mut self, id: &RolloutId, what: Result<Vec<Paired>, String>) -> bool {
        let Some(running) = self.rollouts.running.get_mut(id) else {
            return false;
        };
        let before = match &what {
            Ok(_) => running.down.take(),
            Err(reason) => running.down.replace(reason.clone()),
        };
        match what {
            Ok(pairs) => {
                if !pairs.is_empty() {
                    running.unsaved.get_or_insert_with(Instant::now);
                }
                for pair in pairs {
                    running.record.observe(pair);
                }
                if before.is_some() {
                    self.controller.forget(&no_figures(id));
                }
            }
            Err(reason) if before.as_ref() != Some(&reason) => {
                let service = running.record.subject.service.clone();
                if before.is_none() {
                    tracing::warn!(rollout = %id, reason, "the source of a rollout's figures cannot be asked: it holds");
                }
                let kind = no_figures(id);
                self.controller.forget(&kind);
                let problem = format!("{kind}the figures of {service} cannot be had: {reason}");
                self.controller.problems.push(problem);
            }
            Err(_) => {}
        }
        before.is_some()
    }

    /// What probes and the position say, in the last status.
    fn plainly(&self, id: &RolloutId) -> Option<Plain> {
        let subject = &self.rollouts.running.get(id)?.record.subject;
        let status = self.status.borrow();
        let found = status
            .services
            .binary_search_by(|service| service.service.cmp(&subject.service));
        let Ok(place) = found else {
            return Some(Plain::Nothing);
        };
        let service = &status.services[place];
        let (candidate, stable) = (subject.candidate, !subject.candidate);
        Some(if !service.can_serve(stable) {
            Plain::Unclear(format!(
                "no server of {stable} is healthy, so there is nothing to go back to or to compare with"
            ))
        } else if !service.can_serve(candidate) {
            let mut reasons = service.servers[candidate]
                .iter()
                .filter_map(|server| Some(format!("{}: {}", server.url, server.reason.as_ref()?)));
            let reason = reasons.next().unwrap_or_default();
            Plain::CandidateDown(format!("no server of {candidate} is healthy ({reason})"))
        } else {
            Plain::Nothing
        })
    }

    /// Asks the source, if the rollout has one besides what is pushed.
    fn look_at_source(&mut self, id: &RolloutId, then: Then) -> Option<Asked> {
        let (now, ahead) = (self.rollouts.clock.now(), self.rollouts.clock.ahead());
        let feed = self.controller.feed.clone();
        let running = self.rollouts.running.get_mut(id)?;
        let record = &running.record;
        let slow_from = record.judge.policy().slow_from_ms();
        let since = record.counts.last();
        // of a clock that was set back while turnout was away
        let since = since.map_or(record.created_at, |last| last.to).min(now);
        let look = Look {
            source: record.source,
            purpose: Purpose::Figures,
            service: record.subject.service.clone(),
            candidate: record.subject.candidate,
            since: since.checked_add(ahead).unwrap_or(since),
            slow_from: slow_from.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()),
        };
        if look.source == CanarySource::Pushed {
            return Some(Asked::Now(Ok(Vec::new())));
        }
        let counted = match look.source {
            CanarySource::Traffic => self.controller.balancer.counted(),
            CanarySource::Pushed | CanarySource::Prometheus => None,
        };
        let mut counted = counted.into_iter().flatten();
        if let Some(counted) = counted.find(|counted| counted.service == look.service) {
            let sums = (now, counted.ended);
            let before = running.counted.replace(sums.clone());
            let pair =
                before.and_then(|before| between(&before, &sums, look.candidate, look.slow_from));
            return Some(Asked::Now(Ok(pair.into_iter().collect())));
        }
        // whoever counts here next, it is not from where this balancer left off
        running.counted = None;
        let Some(feed) = feed else {
            let kind = self.controller.balancer.kind();
            return Some(Asked::Now(Err(format!(
                "nobody tells what both colors of {} do: {kind} does not count for turnout, and there is no other source",
                look.service
            ))));
        };
        if running.asking == Asking::Nobody {
            running.asking = Asking::Somebody;
            self.ask_outside(id.clone(), &feed, look, then, ahead);
        } else if then == Then::Judge {
            // the answer to the look that is out comes soon
            self.later(id, Duration::from_millis(100));
            return None;
        }
        Some(Asked::Later)
    }

    fn ask_outside(
        &mut self,
        id: RolloutId,
        feed: &Feed,
        look: Look,
        then: Then,
        ahead: SignedDuration,
    ) {
        let asking = feed.ask(look);
        self.looking.spawn(async move {
            let what = within(asking).await;
            let what = what.map(|pairs| on_own_clock(pairs, Timestamp::now(), ahead));
            let what = what.map_err(|silence| silence.why);
            Looked { id, what, then }
        });
    }
}
