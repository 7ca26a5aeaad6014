//! The callers of the daemon's controller: in which order they have their turn, and when each is answered.
//!
//! Who waits for the change lock or for a drain waits out here, never inside of a change, so that probes, failover and
//! questions go on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::handle::Proof;
use super::health::BY_ITSELF;
use super::task::{APPLY, Shape, Task};
use super::{ChangeError, LockError, Origin, Outcome, Request};
use crate::balancer::{Balancer, Progress};

/// A change that waits for the change lock, and its caller.
pub(super) struct Waiting {
    pub(super) until: Instant,
    pub(super) request: Box<Request>,
    pub(super) answer: oneshot::Sender<Result<Outcome, ChangeError>>,
}

impl<B: Balancer> Task<B> {
    /// The first of those that wait for the change lock tries again, and those whose time is over for the last time.
    pub(super) async fn again(&mut self) {
        if let Some(waiting) = self.waiting.pop_front() {
            self.attempt(waiting).await;
        }
        let now = Instant::now();
        while let Some(place) = self.waiting.iter().position(|waiting| waiting.until <= now) {
            if let Some(waiting) = self.waiting.remove(place) {
                self.attempt(waiting).await;
            }
        }
    }

    /// One try at a change. While somebody else holds the lock the request waits in the queue and not in here, so that
    /// probes, failover and questions go on.
    pub(super) async fn attempt(&mut self, waiting: Waiting) {
        let mut request = (*waiting.request).clone();
        request.lock_wait = Duration::ZERO;
        let result = self.controller.make(&request, Progress::silent()).await;
        if matches!(&result, Err(ChangeError::Lock(LockError::Held { .. })))
            && Instant::now() < waiting.until
        {
            self.waiting.push_front(waiting);
            return;
        }
        if result.is_ok() && waiting.request.origin == Origin::Person {
            self.controller.forget(BY_ITSELF);
        }
        let is_done = matches!(&result, Ok(outcome) if outcome.changed);
        if is_done {
            // every change puts the whole present shape into force
            self.shape = Shape::InForce;
            self.patience = None;
            self.controller.forget(APPLY);
        }
        let is_told = matches!(&result, Ok(outcome) if is_done && self.publish_moved(outcome));
        if !is_told {
            self.publish().await;
        }
        if is_done {
            self.proof.send_replace(Proof::Seen);
        }
        self.answer(waiting, result);
    }

    /// One proved move into the last status, whose other services it leaves as they are: to read the state anew and look at each
    /// of two thousand services costs more than the move. False, and nothing told, where more than that is to be said: other
    /// services went along, or something did not agree before.
    fn publish_moved(&self, outcome: &Outcome) -> bool {
        let Some(moved) = &outcome.service else {
            return false;
        };
        let is_alone = outcome
            .plan
            .steps
            .iter()
            .all(|step| step.service == moved.service);
        let place = {
            let status = self.status.borrow();
            let is_as_before = status.generation == outcome.plan.from
                && status.drift.is_empty()
                && status.fallback.is_none();
            let place = status
                .services
                .binary_search_by(|service| service.service.cmp(&moved.service));
            place.ok().filter(|_| is_alone && is_as_before)
        };
        let Some(place) = place else {
            return false;
        };
        self.status.send_modify(|status| {
            let status = Arc::make_mut(status);
            status.generation = outcome.generation;
            for service in &mut status.services {
                service.generation = outcome.generation;
            }
            status.services[place] = moved.clone();
            status.problems = self.controller.problems_now();
        });
        true
    }

    /// Answers the caller of a change, at once or when the color that was left has drained. One that hung up is not waited
    /// for: what was done is in status, journal and audit log.
    fn answer(&mut self, waiting: Waiting, result: Result<Outcome, ChangeError>) {
        let mut answer = waiting.answer;
        let drain = result
            .as_ref()
            .ok()
            .and_then(|outcome| self.controller.drain_after(&waiting.request, outcome));
        match (drain, result) {
            (Some(drain), Ok(outcome)) => {
                self.draining.spawn(async move {
                    tokio::select! {
                        () = answer.closed() => {}
                        drained = drain.wait() => drop(answer.send(drained.map(|()| outcome))),
                    }
                });
            }
            (_, result) => drop(answer.send(result)),
        }
    }
}
