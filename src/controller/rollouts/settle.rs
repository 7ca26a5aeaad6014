//! What is asked of a rollout taken, and what becomes of it: written down, forgotten where it never began, ended when somebody
//! else has moved its traffic, and gone on with after a restart.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::task::Task;
use super::ask::{RolloutError, RolloutRequest, RolloutVerb, RolloutWish};
use super::begin::Next;
use super::view::RolloutStatus;
use super::waiting::Waiting;
use super::{Answer, Written};
use crate::balancer::Balancer;
use crate::domain::{CanarySource, Sample, ServiceName, describe};
use crate::rollout::{Event, Phase, Record, Refusal, RolloutId};
use crate::store::State;

/// How the problem of a rollout begins.
pub(super) const ROLLOUT: &str = "rollout: ";
/// How that of one begins that the state file knows and nothing else does.
const MISSED: &str = "rollout: the state says that the rollout ";

fn refused(id: RolloutId, refusal: Refusal) -> RolloutError {
    match refusal {
        Refusal::Over(status) => RolloutError::Over { id, status },
        Refusal::Returning => RolloutError::Returning { id },
        Refusal::NotBegun => RolloutError::NotBegun { id },
    }
}

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
        match request.what.clone() {
            RolloutVerb::Begin(ask) => {
                let until = Instant::now() + request.lock_wait;
                self.begin_rollout(Next::new(*ask, request, answer, until))
                    .await;
            }
            RolloutVerb::Push(id, sample) => self.push_sample(id, sample, answer),
            RolloutVerb::Pause(id) => {
                let event = Event::Pause(by("paused"));
                let result = self.steer(id, event, "pause", &request.actor).await;
                drop(answer.send(result));
            }
            RolloutVerb::Resume(id) => {
                let event = Event::Resume(by("resumed"));
                let result = self.steer(id, event, "resume", &request.actor).await;
                drop(answer.send(result));
            }
            RolloutVerb::Promote(id) => {
                let event = Event::Promote(by("promoted"));
                let wish = RolloutWish::Promoted;
                self.wait_for(id, event, wish, request, answer).await;
            }
            RolloutVerb::Cancel(id) => {
                let event = Event::Cancel(by("cancelled"));
                let wish = RolloutWish::TakenBack;
                self.wait_for(id, event, wish, request, answer).await;
            }
        }
    }

    /// What takes a change of traffic: answered when that is made.
    async fn wait_for(
        &mut self,
        id: RolloutId,
        event: Event,
        wish: RolloutWish,
        request: RolloutRequest,
        answer: Answer,
    ) {
        let Some(running) = self.rollouts.running.get_mut(&id) else {
            drop(answer.send(Err(self.gone(id))));
            return;
        };
        let is_returning = matches!(running.record.walk.phase(), Phase::Returning { .. });
        if wish == RolloutWish::TakenBack && !is_returning {
            running.back_by = Some(request.actor.clone());
        }
        running.waiting.push(Waiting {
            answer,
            actor: request.actor,
            until: Instant::now() + request.lock_wait,
            wish,
        });
        if let Some(refusal) = self.happen(&id, event).await
            && let Some(running) = self.rollouts.running.get_mut(&id)
            && let Some(waiting) = running.waiting.pop()
        {
            drop(waiting.answer.send(Err(refused(id, refusal))));
        }
    }

    /// What is so as soon as it is said.
    async fn steer(
        &mut self,
        id: RolloutId,
        event: Event,
        action: &str,
        actor: &str,
    ) -> Result<Arc<RolloutStatus>, RolloutError> {
        if !self.rollouts.running.contains_key(&id) {
            return Err(self.gone(id));
        }
        if let Some(refusal) = self.happen(&id, event).await {
            return Err(refused(id, refusal));
        }
        let Some(running) = self.rollouts.running.get(&id) else {
            return Err(self.gone(id));
        };
        let record = running.record.clone();
        self.controller.audit_rollout(&record, action, actor);
        Ok(Arc::new(RolloutStatus::of(&record)))
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
            Some(running) if running.record.source != CanarySource::Pushed => {
                let judged_by = running.record.source;
                drop(answer.send(Err(RolloutError::NotPushed { id, judged_by })));
            }
            Some(running) => {
                running.record.push(Sample { at, ..sample });
                self.rollouts.pushed.push((id, answer));
            }
            None => drop(answer.send(Err(self.gone(id)))),
        }
    }

    /// Writes down what was pushed, however many came together, and answers who pushed it.
    pub(in crate::controller) fn keep_samples(&mut self) {
        if self.rollouts.pushed.is_empty() {
            return;
        }
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
    pub(super) fn write_rollout(&mut self, id: &RolloutId) -> Written {
        let Some(running) = self.rollouts.running.get_mut(id) else {
            return Written::Not;
        };
        let kind = format!("{ROLLOUT}{id} cannot be written down: ");
        let before = self.controller.forget(&kind);
        running.written = match self.controller.store.save_rollout(&running.record) {
            Ok(()) => Written::Whole,
            Err(error) => {
                let text = format!("{kind}{}", describe(&error));
                if before.as_ref() != Some(&text) {
                    tracing::error!(error = text, rollout = %id, "a rollout cannot be written down: it moves no traffic but back");
                }
                self.controller.problems.push(text);
                Written::Not
            }
        };
        running.unsaved = None;
        running.written
    }

    /// Writes down what was seen longer ago than that and is not on disk.
    pub(super) fn keep_seen(&mut self, id: &RolloutId, longer_than: Duration) {
        let running = self.rollouts.running.get(id);
        let since = running.and_then(|running| running.unsaved);
        if since.is_some_and(|since| since.elapsed() >= longer_than) {
            self.write_rollout(id);
        }
    }

    /// At the end: what was seen is gone on from by whoever comes next.
    pub(in crate::controller) fn keep_all_seen(&mut self) {
        let running: Vec<_> = self.rollouts.running.keys().cloned().collect();
        for id in running {
            self.keep_seen(&id, Duration::ZERO);
        }
    }

    /// As if it had never been asked for.
    pub(super) fn forget_rollout(&mut self, id: &RolloutId) {
        let Some(running) = self.rollouts.running.remove(id) else {
            return;
        };
        self.controller
            .walks
            .remove(&running.record.subject.service);
        self.leave_no_file(running.record);
        self.rollouts.show();
        self.publish_rollouts();
    }

    /// Removes what is on disk of one that has not begun.
    pub(super) fn leave_no_file(&mut self, mut record: Record) {
        let (store, id) = (&self.controller.store, record.id.clone());
        if let Err(error) = store.remove_rollout(&id) {
            // what is found at the next start begins then, unless it is over
            let refused = Event::Failed("it was refused".to_owned());
            record.step(refused, self.rollouts.clock.now());
            if store.save_rollout(&record).is_err() {
                self.controller.note(format!(
                    "{ROLLOUT}{id} was refused, and its file cannot be removed ({}): remove rollouts/{id}.json from the state \
                     directory, or it begins when turnout is started again",
                    describe(&error)
                ));
            }
        }
    }

    /// Ends those whose traffic somebody else has moved; `by` says who, where that is known.
    pub(in crate::controller) async fn heed_rollouts(&mut self, by: Option<(&ServiceName, &str)>) {
        let missed = self.controller.problems.iter();
        let missed = missed.filter(|text| text.starts_with(MISSED)).count();
        if self.rollouts.running.is_empty() && missed == 0 {
            return;
        }
        let Ok(loaded) = self.controller.load().await else {
            // what is not known moves nothing
            return;
        };
        if missed > 0 {
            let services = loaded.state.services.values();
            let governed: Vec<_> = services
                .filter_map(|known| known.rollout.as_ref())
                .collect();
            let is_so = |text: &String| governed.iter().any(|one| text.contains(one.id.as_str()));
            let problems = &mut self.controller.problems;
            problems.retain(|text| !text.starts_with(MISSED) || is_so(text));
        }
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
                    "{MISSED}{} has the traffic of {name}, and its file is gone or cannot be \
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
