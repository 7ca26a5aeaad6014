//! The daemon's controller: one task that owns the [`Controller`], fed by a bounded queue, watched through a `watch`.
//!
//! Cancel-safe by construction: the loop awaits only its queue and its clock in `select!`, and a change, once begun, is
//! awaited to its end whether or not its caller is still there. What may last (the change lock that somebody else holds, a
//! color that drains) is never awaited in here. A failed probe, a changed file and a command all come in as messages; nothing
//! is done to the traffic anywhere else.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::facts::Taken;
use super::handle::{Counting, Fact, Handle, Message, Proof};
use super::heed::Heed;
use super::patience::Patience;
use super::queue::Waiting;
use super::relief::Relief;
use super::rollouts::{First, Looked, Rollouts};
use super::{ChangeError, Controller, Origin, Request, Status, Verb};
use crate::balancer::{ApplyError, Balancer, Progress, Served, ServerHealthUse};
use crate::domain::{Color, describe};

/// Room for the probes that end while all services are looked at once: with 10,000 of them that takes longer than a burst of
/// 256 probes, and each burst that waited would be a look of its own.
const QUEUE: usize = 16 * 1024;

/// How often disk and balancer are looked at for drift, and an unproved start is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Between two tries at a change lock that somebody else holds.
const LOCK_AGAIN: Duration = Duration::from_millis(50);
/// For the lock, where turnout acts by itself: it tries again at the next look or probe.
pub(super) const OWN_LOCK_WAIT: Duration = Duration::from_secs(1);

/// Starts the task. It brings the recorded position into force first, and goes on trying while that fails.
pub async fn spawn<B: Balancer>(
    mut controller: Controller<B>,
) -> Result<(Handle, JoinHandle<()>), ChangeError> {
    let status = controller.daemon_status().await?;
    let (rollouts, shown, problems) = Rollouts::load(&controller.store);
    for problem in problems {
        controller.note(problem);
    }
    let events = controller.events.clone();
    let (queue, messages) = mpsc::channel(QUEUE);
    let (status_out, status_in) = watch::channel(Arc::new(status));
    let (proof_out, proof_in) = watch::channel(Proof::Pending);
    let (meter, counting) = (controller.meter.clone(), Counting::of(&controller.balancer));
    let task = Task {
        controller,
        messages,
        status: status_out,
        proof: proof_out,
        shape: Shape::Due,
        patience: None,
        waiting: VecDeque::new(),
        draining: JoinSet::new(),
        refused: None,
        follows_later: None,
        health: Heed::Done,
        relief: Relief::default(),
        rollouts,
        looking: JoinSet::new(),
        firsts: JoinSet::new(),
    };
    let running = tokio::spawn(task.run());
    Ok((
        Handle {
            queue,
            status: status_in,
            proof: proof_in,
            events,
            meter,
            counting,
            rollouts: shown,
        },
        running,
    ))
}

pub(super) struct Task<B> {
    pub(super) controller: Controller<B>,
    messages: mpsc::Receiver<Message>,
    pub(super) status: watch::Sender<Arc<Status>>,
    pub(super) proof: watch::Sender<Proof>,
    /// Whether the present configuration still has to be brought into force.
    pub(super) shape: Shape,
    /// Since it was tried in vain.
    pub(super) patience: Option<Patience>,
    /// Changes that wait for the change lock, in the order in which they came.
    pub(super) waiting: VecDeque<Waiting>,
    /// Callers whose change is made and who wait for the color that was left. They end with this task.
    pub(super) draining: JoinSet<()>,
    /// The color that the followed file names and that could not be switched to; tried again at each look.
    pub(super) refused: Option<Color>,
    /// Since that was tried in vain.
    pub(super) follows_later: Option<Patience>,
    /// Whether failover waits for the change lock.
    pub(super) health: Heed,
    /// What is known of a balancer that may be gone.
    pub(super) relief: Relief,
    /// The walks of candidates.
    pub(super) rollouts: Rollouts,
    /// Questions to sources outside of this process.
    pub(super) looking: JoinSet<Looked>,
    /// Rollouts that begin once their source has answered.
    pub(super) firsts: JoinSet<First>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    InForce,
    Due,
}

impl<B: Balancer> Task<B> {
    async fn run(mut self) {
        self.take_up().await;
        self.reconcile().await;
        self.resume_rollouts().await;
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // one clock for all of them: a busy queue must not begin the wait anew each time
        let mut retry = tokio::time::interval(LOCK_AGAIN);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut come = Vec::new();
        loop {
            tokio::select! {
                count = self.messages.recv_many(&mut come, QUEUE) => {
                    if count == 0 {
                        self.keep_all_seen();
                        return;
                    }
                    self.take_all(&mut come).await;
                }
                _ = retry.tick(), if !self.waiting.is_empty() || self.health == Heed::Due => {
                    // traffic is lost meanwhile, so it is first
                    if self.health == Heed::Due {
                        self.heed().await;
                        if self.health == Heed::Done {
                            self.publish().await;
                        }
                    }
                    self.again().await;
                }
                Some(ended) = self.draining.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a wait for a drain broke");
                    }
                }
                () = self.relief.due() => self.watch_over().await,
                () = self.rollouts.due() => self.drive_rollouts().await,
                Some(looked) = self.looking.join_next() => match looked {
                    Ok(looked) => self.rollout_looked(looked).await,
                    Err(error) => tracing::error!(%error, "a look at a rollout's source broke"),
                },
                Some(first) = self.firsts.join_next() => match first {
                    Ok(first) => self.heard(first).await,
                    Err(error) => tracing::error!(%error, "a first look at a rollout's source broke"),
                },
                _ = look.tick() => {
                    self.look().await;
                    // one that lasts longer than the time between two must not be all that is done
                    look.reset();
                }
            }
            self.heed_gates().await;
        }
    }

    /// Tries again what is due, and looks for drift.
    async fn look(&mut self) {
        // whoever asks is first; no more than there is room for, or a busy queue would put off every look
        let come = std::iter::from_fn(|| self.messages.try_recv().ok());
        let mut come = come.take(QUEUE).collect();
        self.take_all(&mut come).await;
        let is_due = *self.proof.borrow() == Proof::Pending || self.shape == Shape::Due;
        if is_due && self.is_over(self.patience.as_ref()).await {
            self.reconcile().await;
            return;
        }
        if *self.proof.borrow() == Proof::Seen {
            if let Some(color) = self.refused
                && self.is_over(self.follows_later.as_ref()).await
            {
                self.follow(color).await;
            }
            self.controller.tend().await;
            self.heed().await;
            self.heed_rollouts(None).await;
        }
        self.publish().await;
    }

    async fn is_over(&self, patience: Option<&Patience>) -> bool {
        match patience {
            Some(patience) => patience.is_over(&self.controller.balancer.observe().await),
            None => true,
        }
    }

    /// Takes what has come, in its order. Probes that came in a row are one fact: with thousands of servers that become healthy
    /// at the start, a look over all services for each would be quadratic.
    async fn take_all(&mut self, come: &mut Vec<Message>) {
        let mut reports = Vec::new();
        for message in come.drain(..) {
            match message {
                Message::Fact(Fact::Probed(report)) => reports.push(report),
                message @ (Message::Change(..)
                | Message::Rollout(..)
                | Message::Verify(_)
                | Message::Release(..)
                | Message::Fact(_)) => {
                    self.probed(&mut reports).await;
                    self.take(message).await;
                }
            }
        }
        self.probed(&mut reports).await;
        self.keep_samples();
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Change(request, answer) => {
                let waiting = Waiting {
                    until: Instant::now() + request.lock_wait,
                    request,
                    answer,
                };
                // whoever waits already is first
                if self.waiting.is_empty() {
                    self.attempt(waiting).await;
                } else {
                    self.waiting.push_back(waiting);
                }
            }
            Message::Rollout(request, answer) => self.hear_rollout(*request, answer).await,
            Message::Release(actor, answer) => {
                drop(answer.send(self.release(&actor).await));
            }
            // whose caller has hung up does not want an answer
            Message::Verify(answer) if answer.is_closed() => {}
            Message::Verify(answer) => {
                drop(answer.send(self.controller.verify().await));
            }
            Message::Fact(fact) => self.learn(fact).await,
        }
    }

    async fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Config(Ok(config)) => {
                if self.controller.take_config(config) == Taken::New {
                    self.patience = None;
                    self.reconcile().await;
                } else {
                    self.publish().await;
                }
            }
            Fact::Config(Err(problems)) => {
                tracing::error!(
                    problems,
                    "the configuration was not taken, the last good one stays"
                );
                self.controller.refuse_config(&problems);
                self.publish().await;
            }
            Fact::Restart(keys) => {
                self.controller.needs_restart(&keys);
                self.publish().await;
            }
            Fact::Template => {
                self.patience = None;
                self.reconcile().await;
            }
            Fact::Followed(Ok(color)) => {
                self.controller.followed = Some(color);
                self.follow(color).await;
            }
            Fact::Followed(Err(problem)) => {
                tracing::error!(problem, "the followed file changes nothing");
                self.refused = None;
                self.controller.forget(FOLLOWED);
                self.controller
                    .problems
                    .push(format!("{FOLLOWED}{problem}"));
                self.publish().await;
            }
            Fact::State => {
                self.heed_rollouts(None).await;
                self.publish().await;
            }
            Fact::Certificates(problems) => {
                self.controller.take_certificates(problems);
                self.publish().await;
            }
            Fact::Sighted(sighting) => self.sighted(sighting).await,
            Fact::Probed(report) => self.probed(&mut vec![report]).await,
        }
    }

    /// Brings the recorded position and the present shape into force, if they are not. A shape that cannot be (a file was
    /// edited by hand, say) is no reason to watch idly over what is recorded and served: that is proof enough to go on from.
    pub(super) async fn reconcile(&mut self) {
        self.shape = Shape::Due;
        let mut proof = *self.proof.borrow();
        match self.bring_into_force().await {
            Ok(()) => {
                self.shape = Shape::InForce;
                self.patience = None;
                self.controller.forget(APPLY);
                proof = Proof::Seen;
            }
            Err(error) => {
                let text = format!("{APPLY}{}", describe(&error));
                if !self.controller.problems.contains(&text) {
                    tracing::error!(
                        error = describe(&error),
                        "what is recorded could not be put into force; trying again"
                    );
                }
                self.controller.forget(APPLY);
                self.controller.problems.push(text);
                // what never came to the balancer costs nothing
                if let ChangeError::Apply(_) = error {
                    let seen = self.controller.balancer.observe().await;
                    self.patience = Some(Patience::after(self.patience.take(), seen));
                }
                if proof == Proof::Pending && self.controller.serves_record().await {
                    proof = Proof::Seen;
                }
            }
        }
        let before = *self.proof.borrow();
        if let (Proof::Pending, Proof::Seen, Some(color)) =
            (before, proof, self.controller.followed)
        {
            // a start is not over before the color is in force that the file names, or that it cannot be is told
            self.follow(color).await;
        }
        // whoever is told of the proof finds it in the status
        self.publish().await;
        self.proof.send_replace(proof);
        if proof == Proof::Seen {
            // health that was learned while nothing could be done about it
            self.heed().await;
            self.publish().await;
        }
    }

    async fn bring_into_force(&mut self) -> Result<(), ChangeError> {
        if self.controller.balancer.server_health() == ServerHealthUse::Probes {
            if self.controller.proved.is_none() {
                self.controller.resume().await?;
            }
        } else if let Served::Unreachable { reason } =
            self.controller.balancer.observe().await.served
        {
            // no intent for something that cannot be begun
            return Err(ApplyError::Unreachable { message: reason }.into());
        }
        let request = Request {
            origin: Origin::Turnout,
            lock_wait: OWN_LOCK_WAIT,
            ..Request::new(Verb::Apply, "turnout")
        };
        let outcome = self.controller.change(&request, Progress::silent()).await?;
        for warning in outcome.warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }
}

pub(super) const APPLY: &str = "not in force: ";
pub(super) const FOLLOWED: &str = "followed file: ";
