//! What becomes of a rollout: written down, answered to who waits, put away when it is over, ended when somebody else has moved
//! its traffic, and gone on with after a restart.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::task::Task;
use super::super::{ChangeError, LockError};
use super::ask::{RolloutError, RolloutRequest, RolloutVerb};
use super::view::RolloutStatus;
use super::{Answer, Waiting};
use crate::balancer::Balancer;
use crate::domain::{Sample, ServiceName, describe};
use crate::rollout::{Event, Phase, Refusal, RolloutId};
use crate::store::{OVER_KEPT, State};

/// How the problem of a rollout begins that cannot be written down or read.
const ROLLOUT: &str = "rollout: ";

impl<B: Balancer> Task<B> {
    /// One request, answered once what it asks for is so.
    pub(in crate::controller) async fn take_rollout(
        &mut self,
        request: RolloutRequest,
        answer: Answer,
    ) {
        let by = |what: &str| match &request.message {
            Some(why) => format!("{what} by {}: {why}", request.actor),
            None => format!("{what} by {}", request.actor),
        };
        let (id, event) = match request.what.clone() {
            RolloutVerb::Begin(ask) => {
                self.begin_rollout(*ask, &request, answer).await;
                return;
            }
            RolloutVerb::Push(id, sample) => {
                self.push_sample(id, sample, answer);
                return;
            }
            RolloutVerb::Pause(id) => (id, Event::Pause(by("paused"))),
            RolloutVerb::Resume(id) => (id, Event::Resume(by("resumed"))),
            RolloutVerb::Promote(id) => (id, Event::Promote(by("promoted"))),
            RolloutVerb::Cancel(id) => (id, Event::Cancel(by("cancelled"))),
        };
        let waits = matches!(event, Event::Promote(_) | Event::Cancel(_));
        let Some(running) = self.rollouts.running.get_mut(&id) else {
            drop(answer.send(Err(self.gone(id))));
            return;
        };
        let until = Instant::now() + request.lock_wait;
        running.waiting.push(Waiting { answer, until });
        if waits {
            running.actor.clone_from(&request.actor);
        }
        let refusal = self.happen(&id, event).await;
        let error = match refusal {
            Some(Refusal::Over(status)) => Some(RolloutError::Over {
                id: id.clone(),
                status,
            }),
            Some(Refusal::Returning) => Some(RolloutError::Returning { id: id.clone() }),
            None => None,
        };
        let Some(running) = self.rollouts.running.get_mut(&id) else {
            return;
        };
        if let Some(error) = error {
            if let Some(waiting) = running.waiting.pop() {
                drop(waiting.answer.send(Err(error)));
            }
        } else if !waits {
            let status = Arc::new(RolloutStatus::of(&running.record));
            if let Some(waiting) = running.waiting.pop() {
                drop(waiting.answer.send(Ok(status)));
            }
            let record = running.record.clone();
            let action = match request.what {
                RolloutVerb::Pause(_) => "pause",
                RolloutVerb::Begin(_)
                | RolloutVerb::Resume(_)
                | RolloutVerb::Promote(_)
                | RolloutVerb::Cancel(_)
                | RolloutVerb::Push(..) => "resume",
            };
            self.controller
                .audit_rollout(&record, action, &request.actor)
                .await;
        }
    }

    /// Why nothing can be asked of it.
    fn gone(&self, id: RolloutId) -> RolloutError {
        let over = self.rollouts.over.iter().find(|over| over.id == id);
        match over {
            Some(over) => RolloutError::Over {
                status: over.status,
                id,
            },
            None => RolloutError::Unknown { id },
        }
    }

    fn push_sample(&mut self, id: RolloutId, sample: Sample, answer: Answer) {
        let at = self.rollouts.clock.now();
        match self.rollouts.running.get_mut(&id) {
            Some(running) => {
                running.record.push(Sample { at, ..sample });
                self.rollouts.pushed.push((id, answer));
            }
            None => drop(answer.send(Err(self.gone(id)))),
        }
    }

    /// Writes down what was pushed, however many came together, and answers who pushed it.
    pub(in crate::controller) fn keep_samples(&mut self) {
        let mut pushed = std::mem::take(&mut self.rollouts.pushed);
        pushed.sort_by(|left, right| left.0.cmp(&right.0));
        for of_one in pushed.chunk_by(|left, right| left.0 == right.0) {
            if let Some((id, _)) = of_one.first() {
                self.write_rollout(id);
            }
        }
        for (id, answer) in pushed {
            let running = self.rollouts.running.get(&id);
            let result = running.map(|running| Arc::new(RolloutStatus::of(&running.record)));
            drop(answer.send(result.ok_or_else(|| self.gone(id))));
        }
        self.rollouts.show();
    }

    /// On disk. A failure is told once, and until it is over.
    pub(super) fn write_rollout(&mut self, id: &RolloutId) -> bool {
        let Some(running) = self.rollouts.running.get(id) else {
            return false;
        };
        let before = self.controller.forget(ROLLOUT);
        match self.controller.store.save_rollout(&running.record) {
            Ok(()) => true,
            Err(error) => {
                let text = format!("{ROLLOUT}{}", describe(&error));
                if before.as_ref() != Some(&text) {
                    tracing::error!(error = text, rollout = %id, "a rollout cannot be written down: it moves no traffic but back");
                }
                self.controller.problems.push(text);
                false
            }
        }
    }

    /// Tells the error to the first who waits, and to the others that it came to nothing. False: nobody waits.
    pub(super) fn answer_once(&mut self, id: &RolloutId, error: ChangeError) -> bool {
        let Some(running) = self.rollouts.running.get_mut(id) else {
            return false;
        };
        let text = describe(&error);
        let candidate = running.record.subject.candidate;
        let mut error = Some(error);
        let waiting = std::mem::take(&mut running.waiting);
        let told = !waiting.is_empty();
        for waiting in waiting {
            let error = match error.take() {
                Some(error) => RolloutError::Change(error),
                None => RolloutError::Superseded {
                    candidate,
                    reason: text.clone(),
                },
            };
            drop(waiting.answer.send(Err(error)));
        }
        told
    }

    /// Tells the same to all who wait.
    pub(super) fn answer_with(&mut self, id: &RolloutId, error: impl Fn() -> RolloutError) {
        if let Some(running) = self.rollouts.running.get_mut(id) {
            for waiting in running.waiting.drain(..) {
                drop(waiting.answer.send(Err(error())));
            }
        }
    }

    /// Those whose time for the change lock is over. A rollout that only they knew of is none.
    pub(super) fn give_up_waiting(&mut self, id: &RolloutId, held: &LockError) {
        let (Some(running), LockError::Held { path, holder }) =
            (self.rollouts.running.get_mut(id), held)
        else {
            return;
        };
        let now = Instant::now();
        let over = running
            .waiting
            .extract_if(.., |waiting| waiting.until <= now);
        let mut told = 0;
        for waiting in over {
            told += 1;
            let held = LockError::Held {
                path: path.clone(),
                holder: holder.clone(),
            };
            drop(waiting.answer.send(Err(ChangeError::Lock(held).into())));
        }
        let begins = matches!(running.record.walk.phase(), Phase::Starting { .. });
        if told > 0 && begins && running.waiting.is_empty() {
            self.forget_rollout(id);
        }
    }

    /// As if it had never been asked for.
    pub(super) fn forget_rollout(&mut self, id: &RolloutId) {
        let Some(running) = self.rollouts.running.remove(id) else {
            return;
        };
        if let Err(error) = self.controller.store.remove_rollout(id) {
            // it is found at the next start, and does not begin then: its candidate is not the idle color's any more, or it is
            tracing::warn!(error = describe(&error), rollout = %id, "a rollout that was refused could not be removed");
        }
        self.controller
            .walks
            .remove(&running.record.subject.service);
        self.rollouts.show();
        self.publish_rollouts();
    }

    /// Answers who waits for what is so now, and puts away what is over.
    pub(super) fn file_rollout(&mut self, id: &RolloutId) {
        let Some(running) = self.rollouts.running.get_mut(id) else {
            return;
        };
        let is_over = running.record.walk.status().is_over();
        if is_over || matches!(running.record.walk.phase(), Phase::Observing { .. }) {
            let status = Arc::new(RolloutStatus::of(&running.record));
            for waiting in running.waiting.drain(..) {
                drop(waiting.answer.send(Ok(Arc::clone(&status))));
            }
        }
        if is_over && let Some(running) = self.rollouts.running.remove(id) {
            let over = &mut self.rollouts.over;
            over.push_front(Arc::new(RolloutStatus::of(&running.record)));
            for gone in over.drain(OVER_KEPT.min(over.len())..) {
                if let Err(error) = self.controller.store.remove_rollout(&gone.id) {
                    tracing::warn!(
                        error = describe(&error),
                        "an old rollout could not be removed"
                    );
                }
            }
            self.rollouts.show();
        }
    }

    /// Ends those whose traffic somebody else has moved; `by` says who, where that is known.
    pub(in crate::controller) async fn heed_rollouts(&mut self, by: Option<(&ServiceName, &str)>) {
        if self.rollouts.running.is_empty() {
            return;
        }
        let Ok(loaded) = self.controller.load().await else {
            // what is not known moves nothing
            return;
        };
        if loaded.open.is_some() {
            return;
        }
        let running = self.rollouts.running.values();
        let lost: Vec<_> = running
            .filter_map(|running| {
                let record = &running.record;
                let (reason, weight) = self.controller.lost(record, &loaded)?;
                let reason = match by {
                    Some((service, by)) if *service == record.subject.service => by.to_owned(),
                    Some(_) | None => reason,
                };
                Some((record.id.clone(), Event::Superseded(reason, weight)))
            })
            .collect();
        for (id, event) in lost {
            self.happen(&id, event).await;
        }
    }

    /// At the start: what each of them is at is gone on with.
    pub(in crate::controller) async fn resume_rollouts(&mut self) {
        self.heed_rollouts(None).await;
        if let Ok(loaded) = self.controller.load().await {
            self.miss_rollouts(&loaded.state);
        }
        for status in self.rollouts.shown.borrow().iter().rev() {
            let walks = &mut self.controller.walks;
            walks.insert(status.service_name.clone(), Arc::new(status.brief()));
        }
        self.publish_rollouts();
        self.drive_rollouts().await;
    }

    /// Rollouts that the state file knows and nothing else does: their traffic stays where it is until a person says otherwise.
    fn miss_rollouts(&mut self, state: &State) {
        for (name, known) in &state.services {
            if let Some(governed) = &known.rollout
                && !self.rollouts.running.contains_key(&governed.id)
            {
                self.controller.note(format!(
                    "{ROLLOUT}the state says that the rollout {} has the traffic of {name}, and its file is gone or cannot be \
                     read: the weights stay as they are. `turnout rollback {name}` takes all of it to the stable color",
                    governed.id
                ));
            }
        }
    }

    /// The rollouts into the last status.
    pub(super) fn publish_rollouts(&self) {
        self.status.send_modify(|status| {
            for service in &mut Arc::make_mut(status).services {
                service.rollout = self.controller.walk_of(&service.service, service.since);
            }
        });
    }
}
