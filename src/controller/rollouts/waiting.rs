//! Who waits for what becomes of a rollout, and what they are told: that what they asked for is so, or what came in its place.
//!
//! Nobody is told "done" of something else: a promotion that was paused or taken back meanwhile is none.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::task::Task;
use super::super::{ChangeError, LockError};
use super::Answer;
use super::ask::{RolloutError, RolloutWish};
use super::settle::ROLLOUT;
use super::view::RolloutStatus;
use crate::balancer::Balancer;
use crate::domain::{Weight, describe};
use crate::rollout::{Event, Phase, Record, RolloutId, Status};
use crate::store::OVER_KEPT;

/// Somebody who waits for what becomes of it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) answer: Answer,
    /// Who, for the audit log.
    pub(super) actor: String,
    /// For the change lock, and for a disk that takes nothing.
    pub(super) until: Instant,
    pub(super) wish: RolloutWish,
}

impl RolloutWish {
    fn is_so(self, record: &Record) -> bool {
        let (status, weight) = (record.walk.status(), record.walk.weight());
        match self {
            // one that has ended since has begun; one that was ended before its first weight has not
            Self::Begun => !matches!(status, Status::Cancelled | Status::RolledBack),
            Self::Promoted => status == Status::Promoted,
            Self::TakenBack => status.is_over() && weight == Weight::ZERO,
        }
    }
}

fn otherwise(record: &Record, wish: RolloutWish, reason: &str) -> RolloutError {
    RolloutError::Otherwise {
        id: record.id.clone(),
        wish,
        status: record.walk.status(),
        reason: reason.to_owned(),
    }
}

/// Why it is not done: the error to the first, its text to the others. Who wants a way back hears that it goes on.
fn not_done(
    record: &Record,
    wish: RolloutWish,
    error: Option<ChangeError>,
    text: &str,
) -> RolloutError {
    match (record.walk.phase(), wish, error) {
        (Phase::Returning { .. }, RolloutWish::TakenBack, error) => RolloutError::GoesOn {
            id: record.id.clone(),
            source: error.map(Box::new),
        },
        (_, _, Some(error)) => RolloutError::Change(error),
        (_, _, None) => otherwise(record, wish, text),
    }
}

impl<B: Balancer> Task<B> {
    /// Tells the error to the first who waits, and to the others that it came to nothing. False: nobody waits.
    pub(super) fn answer_once(&mut self, id: &RolloutId, error: ChangeError) -> bool {
        let Some(running) = self.rollouts.running.get_mut(id) else {
            return false;
        };
        let text = describe(&error);
        let mut error = Some(error);
        let waiting = std::mem::take(&mut running.waiting);
        let told = !waiting.is_empty();
        for waiting in waiting {
            let error = not_done(&running.record, waiting.wish, error.take(), &text);
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

    /// Those whose time is over; `held` makes the error for each of them. A rollout that only they knew of is none, and a promotion
    /// that only they wanted is taken back, which is the event: who was told "no" must not find it done later. A cancel is done all
    /// the same.
    pub(super) fn give_up_waiting(
        &mut self,
        id: &RolloutId,
        mut held: impl FnMut() -> Option<ChangeError>,
    ) -> Option<Event> {
        let running = self.rollouts.running.get_mut(id)?;
        let now = Instant::now();
        let over = running
            .waiting
            .extract_if(.., |waiting| waiting.until <= now);
        let mut text = String::new();
        let mut told = 0;
        for waiting in over {
            told += 1;
            let error = held();
            if let Some(error) = &error {
                text = describe(error);
            }
            let error = not_done(&running.record, waiting.wish, error, &text);
            let (record, why) = (&running.record, describe(&error));
            let (wish, actor) = (waiting.wish, &waiting.actor);
            self.controller.audit_in_vain(record, wish, actor, &why);
            drop(waiting.answer.send(Err(error)));
        }
        if told == 0 || !running.waiting.is_empty() {
            return None;
        }
        match running.record.walk.phase() {
            Phase::Starting { .. } => {
                self.forget_rollout(id);
                None
            }
            Phase::Promoting { .. } => Some(Event::Outdated(format!(
                "the promotion was given up: {text}"
            ))),
            Phase::Observing { .. }
            | Phase::Shifting { .. }
            | Phase::Returning { .. }
            | Phase::Over { .. } => None,
        }
    }

    /// The same where somebody else holds the change lock.
    pub(super) fn give_up_lock(&mut self, id: &RolloutId, held: &LockError) -> Option<Event> {
        let LockError::Held { path, holder } = held else {
            return None;
        };
        self.give_up_waiting(id, || {
            Some(ChangeError::Lock(LockError::Held {
                path: path.clone(),
                holder: holder.clone(),
            }))
        })
    }

    /// The same where it cannot be written down, which is tried once more for the reason.
    pub(super) fn give_up_unwritten(&mut self, id: &RolloutId) -> Option<Event> {
        let running = self.rollouts.running.get(id)?;
        let now = Instant::now();
        if running.waiting.iter().all(|waiting| waiting.until > now) {
            return None;
        }
        let saved = self.controller.store.save_rollout(&running.record);
        let mut error = Some(saved.err()?);
        self.give_up_waiting(id, || error.take().map(ChangeError::Store))
    }

    /// True if a person waits for the promotion, so that no verdict has to hold for it.
    pub(super) fn is_asked_for(&self, id: &RolloutId) -> bool {
        let running = self.rollouts.running.get(id);
        running.is_some_and(|running| {
            let mut waiting = running.waiting.iter();
            waiting.any(|waiting| waiting.wish == RolloutWish::Promoted)
        })
    }

    /// Answers who waits for what is so now, and puts away what is over.
    pub(super) fn file_rollout(&mut self, id: &RolloutId) {
        let Some(running) = self.rollouts.running.get_mut(id) else {
            return;
        };
        let record = &running.record;
        let is_over = record.walk.status().is_over();
        if is_over || matches!(record.walk.phase(), Phase::Observing { .. }) {
            let status = Arc::new(RolloutStatus::of(record));
            for waiting in running.waiting.drain(..) {
                let answer = if waiting.wish.is_so(record) {
                    Ok(Arc::clone(&status))
                } else {
                    Err(otherwise(record, waiting.wish, record.walk.reason()))
                };
                drop(waiting.answer.send(answer));
            }
        }
        if is_over && let Some(running) = self.rollouts.running.remove(id) {
            // what kept it from something keeps nobody any more
            self.controller.forget(&format!("{ROLLOUT}{id} "));
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
}
