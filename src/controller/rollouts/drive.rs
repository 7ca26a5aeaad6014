//! Events to the machines, and what comes out of them done: written down first, then brought about, then judged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::super::events::Happening;
use super::super::task::{APPLY, Shape, Task};
use super::super::{ChangeError, LockError, Proof};
use super::ask::RolloutError;
use super::force::{Goal, Went};
use super::settle::ROLLOUT;
use super::view::RolloutStatus;
use super::{LOCK_AGAIN, WRITE_AGAIN, Written};
use crate::balancer::Balancer;
use crate::domain::{Weight, describe};
use crate::rollout::{Action, Event, Phase, Refusal, RolloutId};

/// How the problem of one begins whose traffic cannot be taken back.
fn not_back(id: &RolloutId) -> String {
    format!("{ROLLOUT}{id} cannot be taken back to the stable color: ")
}

impl<B: Balancer> Task<B> {
    /// What is due by now.
    pub(in crate::controller) async fn drive_rollouts(&mut self) {
        let now = Instant::now();
        let running = self.rollouts.running.iter();
        let due: Vec<_> = running
            .filter(|(_, running)| running.due <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            let event = self.outdated(&id).unwrap_or(Event::Due);
            self.happen(&id, event).await;
        }
        let now = Instant::now();
        let running = self.rollouts.running.iter();
        let look: Vec<_> = running
            .filter(|(_, running)| running.look <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in look {
            self.watch_rollout(&id).await;
        }
        let next = &mut self.rollouts.next;
        let again: Vec<_> = next.extract_if(.., |next| next.again <= now).collect();
        for next in again {
            self.begin_rollout(next).await;
        }
    }

    /// A verdict that came to nothing for longer than it holds, and that no person stands for.
    fn outdated(&self, id: &RolloutId) -> Option<Event> {
        let walk = &self.rollouts.running.get(id)?.record.walk;
        let now = self.rollouts.clock.now();
        if !walk.is_outdated(now) || self.is_asked_for(id) {
            return None;
        }
        let seconds = now.duration_since(walk.since()).as_secs();
        Some(Event::Outdated(format!(
            "what was to be done ({}) waited for {seconds} s, longer than a verdict holds: it is judged anew",
            walk.reason()
        )))
    }

    /// One event, and all that follows from it at once. Says why a wish was not granted.
    pub(super) async fn happen(&mut self, id: &RolloutId, event: Event) -> Option<Refusal> {
        let mut refusal = None;
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.rollouts.clock.now();
            let Some(running) = self.rollouts.running.get_mut(id) else {
                break;
            };
            let before = (running.record.walk.clone(), running.record.verdicts.len());
            let actions = running.record.step(event, now);
            let is_news = before != (running.record.walk.clone(), running.record.verdicts.len());
            let until = running.record.walk.until().unwrap_or(Timestamp::MAX);
            running.due = self.rollouts.clock.instant(until);
            let written = if is_news || running.written == Written::Not {
                self.write_rollout(id)
            } else {
                Written::Whole
            };
            if is_news {
                self.tell_rollout(id);
            }
            for action in actions {
                let goal = match action {
                    Action::NewStep => continue,
                    Action::Refuse(why) => {
                        refusal = Some(why);
                        continue;
                    }
                    Action::Judge => {
                        events.extend(self.judge_rollout(id));
                        continue;
                    }
                    Action::SetWeight(weight) => Goal::Weight(weight),
                    Action::Promote => Goal::Promote,
                    Action::Return => Goal::Return,
                };
                // what is not written down is not done, but for the way back
                if written == Written::Not && goal != Goal::Return {
                    self.later(id, WRITE_AGAIN);
                    events.extend(self.give_up_unwritten(id));
                    continue;
                }
                events.extend(self.bring_about(id, goal).await);
            }
        }
        self.file_rollout(id);
        refusal
    }

    /// Moves the traffic, and says what came of it; nothing while somebody else holds the change lock.
    async fn bring_about(&mut self, id: &RolloutId, goal: Goal) -> Option<Event> {
        let running = self.rollouts.running.get(id)?;
        let (record, actor) = (running.record.clone(), running.wanted_by(goal).to_owned());
        match self.controller.force(&record, goal, &actor).await {
            Ok(Went::Done) => {
                // every change puts the whole present shape into force
                self.shape = Shape::InForce;
                self.patience = None;
                self.controller.forget(APPLY);
                self.controller.forget(&not_back(id));
                self.publish().await;
                self.proof.send_replace(Proof::Seen);
                if let Some(running) = self.rollouts.running.get_mut(id) {
                    // what is counted from now on is this weight's
                    running.look = Instant::now();
                }
                Some(Event::Applied)
            }
            // it came into force before a crash, or never had any traffic
            Ok(Went::Elsewhere(_, Weight::ZERO)) if goal == Goal::Return => Some(Event::Applied),
            Ok(Went::Elsewhere(_, Weight::WHOLE)) if goal == Goal::Promote => Some(Event::Applied),
            Ok(Went::Elsewhere(reason, weight)) => {
                self.answer_with(id, || RolloutError::Superseded {
                    candidate: record.subject.candidate,
                    reason: reason.clone(),
                });
                Some(Event::Superseded(reason, weight))
            }
            Err(ChangeError::Lock(error @ LockError::Held { .. })) => {
                let event = self.give_up_lock(id, &error);
                self.later(id, LOCK_AGAIN);
                event
            }
            Err(error) => {
                let text = describe(&error);
                if goal == Goal::Return {
                    // tried again each second, and told when something else is in the way
                    let kind = not_back(id);
                    let problem = format!("{kind}{text}; it is tried again until it is done");
                    if !self.controller.problems.contains(&problem) {
                        self.controller.forget(&kind);
                        self.controller.note(problem);
                    }
                } else {
                    tracing::warn!(
                        rollout = %id, service = %record.subject.service, error = text,
                        "a rollout could not move the traffic"
                    );
                }
                let begins = matches!(record.walk.phase(), Phase::Starting { .. });
                let told = self.answer_once(id, error);
                self.publish().await;
                if begins && told {
                    // whoever asked for it knows that there is none
                    self.forget_rollout(id);
                    return None;
                }
                Some(Event::Failed(text))
            }
        }
    }

    pub(super) fn later(&mut self, id: &RolloutId, by: Duration) {
        if let Some(running) = self.rollouts.running.get_mut(id) {
            running.due = Instant::now() + by;
        }
    }

    /// To everybody: the list, the status of the service, who listens.
    pub(super) fn tell_rollout(&mut self, id: &RolloutId) {
        let Some(running) = self.rollouts.running.get(id) else {
            return;
        };
        let status = RolloutStatus::of(&running.record).brief();
        let service = status.service_name.clone();
        tracing::info!(
            rollout = %id, service = %service, status = status.status.as_str(), phase = status.phase,
            weight = %status.weight, reason = status.reason, "rollout"
        );
        self.controller.events.tell(&Happening::Rollout(&status));
        self.controller.walks.insert(service, Arc::new(status));
        self.rollouts.show();
        self.publish_rollouts();
    }
}
