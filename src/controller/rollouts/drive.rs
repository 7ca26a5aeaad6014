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
use super::view::RolloutStatus;
use super::{BY_ITSELF, LOCK_AGAIN, WRITE_AGAIN};
use crate::balancer::Balancer;
use crate::domain::{Weight, describe};
use crate::rollout::{Action, Event, Phase, Refusal, RolloutId};

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
            self.happen(&id, Event::Due).await;
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
            let written = !is_news || self.write_rollout(id);
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
                if !written && goal != Goal::Return {
                    self.later(id, WRITE_AGAIN);
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
        let (record, actor) = (running.record.clone(), running.actor.clone());
        match self.controller.force(&record, goal, &actor).await {
            Ok(Went::Done) => {
                // every change puts the whole present shape into force
                self.shape = Shape::InForce;
                self.patience = None;
                self.controller.forget(APPLY);
                self.publish().await;
                self.proof.send_replace(Proof::Seen);
                if let Some(running) = self.rollouts.running.get_mut(id) {
                    BY_ITSELF.clone_into(&mut running.actor);
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
                self.give_up_waiting(id, &error);
                self.later(id, LOCK_AGAIN);
                None
            }
            Err(error) => {
                let text = describe(&error);
                tracing::warn!(
                    rollout = %id, service = %record.subject.service, error = text,
                    "a rollout could not move the traffic"
                );
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
