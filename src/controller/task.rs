//! The daemon's controller: one task that owns the [`Controller`], fed by a bounded queue, watched through a `watch`.
//!
//! Cancel-safe by construction: the loop awaits only its queue and its clock in `select!`, and a change, once begun, is
//! awaited to its end whether or not its caller is still there. A failed probe, a changed file and a command all come in
//! as messages; nothing is done to the traffic anywhere else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::{ChangeError, Controller, Origin, Outcome, Request, Status, Verb, Verification};
use crate::balancer::{ApplyError, Balancer, Progress, Served, ServerHealthUse};
use crate::config::Config;
use crate::domain::{Color, HealthEvent, describe};

/// Room for a burst of probe reports (at most 256 probes are in flight at once) without holding probes up.
const QUEUE: usize = 512;

/// How often disk and balancer are looked at for drift, and an unproved start is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Something that happened outside.
#[derive(Debug)]
pub enum Fact {
    /// The configuration was read anew: `Err` is the text of all its problems, and the last good one stays.
    Config(Result<Arc<Config>, String>),
    /// A template was changed on disk.
    Template,
    /// The followed file names this color (or cannot be read).
    Followed(Result<Color, String>),
    /// Somebody else wrote the state file.
    State,
    /// A probe came back.
    Probed(crate::probe::Report),
}

enum Message {
    Change(Box<Request>, oneshot::Sender<Result<Outcome, ChangeError>>),
    Verify(oneshot::Sender<Result<Verification, ChangeError>>),
    Fact(Fact),
}

/// Whether what the state says has been seen served since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Not yet.
    Pending,
    /// Yes.
    Seen,
}

/// The way to a running controller. Cheap to clone; the controller ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Handle {
    queue: mpsc::Sender<Message>,
    status: watch::Receiver<Arc<Status>>,
    proof: watch::Receiver<Proof>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Change(request, _) => f.debug_tuple("Change").field(request).finish(),
            Self::Verify(_) => f.write_str("Verify"),
            Self::Fact(fact) => f.debug_tuple("Fact").field(fact).finish(),
        }
    }
}

impl Handle {
    /// Asks for a change and waits for its outcome. The change goes on if the caller goes away.
    pub async fn change(&self, request: Request) -> Result<Outcome, ChangeError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Change(Box::new(request), answer))
            .await?;
        answered.await.unwrap_or(Err(ChangeError::ShuttingDown))
    }

    /// The latest status; never waits.
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// For being told of each new status.
    pub fn watch(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// For being told of the first proof since the start.
    pub fn proof(&self) -> watch::Receiver<Proof> {
        self.proof.clone()
    }

    /// Looks at disk and balancer now. Also shows that the controller is alive.
    pub async fn verify(&self) -> Result<Verification, ChangeError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Verify(answer)).await?;
        answered.await.unwrap_or(Err(ChangeError::ShuttingDown))
    }

    /// Hands in a fact. Waits only while the queue is full; says so when the controller has ended.
    pub async fn fact(&self, fact: Fact) -> Result<(), ChangeError> {
        self.send(Message::Fact(fact)).await
    }

    async fn send(&self, message: Message) -> Result<(), ChangeError> {
        match self.queue.send(message).await {
            Ok(()) => Ok(()),
            // the message comes back when the controller has ended; its sender is told by the error
            Err(mpsc::error::SendError(_)) => Err(ChangeError::ShuttingDown),
        }
    }
}

/// Starts the task. It brings the recorded position into force first, and goes on trying while that fails.
pub async fn spawn<B: Balancer>(
    mut controller: Controller<B>,
) -> Result<(Handle, JoinHandle<()>), ChangeError> {
    let status = controller.daemon_status().await?;
    let (queue, messages) = mpsc::channel(QUEUE);
    let (status_out, status_in) = watch::channel(Arc::new(status));
    let (proof_out, proof_in) = watch::channel(Proof::Pending);
    let task = Task {
        controller,
        messages,
        status: status_out,
        proof: proof_out,
    };
    let running = tokio::spawn(task.run());
    Ok((
        Handle {
            queue,
            status: status_in,
            proof: proof_in,
        },
        running,
    ))
}

struct Task<B> {
    controller: Controller<B>,
    messages: mpsc::Receiver<Message>,
    status: watch::Sender<Arc<Status>>,
    proof: watch::Sender<Proof>,
}

impl<B: Balancer> Task<B> {
    async fn run(mut self) {
        self.reconcile().await;
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
                _ = look.tick() => {
                    if *self.proof.borrow() == Proof::Pending {
                        self.reconcile().await;
                    } else {
                        self.publish().await;
                    }
                }
            }
        }
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Change(request, answer) => {
                let result = self.controller.change(&request, Progress::silent()).await;
                self.publish().await;
                if matches!(&result, Ok(outcome) if outcome.changed) {
                    self.proof.send_replace(Proof::Seen);
                }
                // the caller may have hung up; what was done is in status, journal and audit log
                drop(answer.send(result));
            }
            Message::Verify(answer) => {
                // a caller that hung up does not want the answer
                drop(answer.send(self.controller.verify().await));
            }
            Message::Fact(fact) => self.learn(fact).await,
        }
    }

    async fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Config(Ok(config)) => {
                self.controller.take_config(config);
                self.reconcile().await;
            }
            Fact::Config(Err(problems)) => {
                tracing::error!(
                    problems,
                    "the configuration was not taken, the last good one stays"
                );
                self.controller.refuse_config(&problems);
                self.publish().await;
            }
            Fact::Template => self.reconcile().await,
            Fact::Followed(Ok(color)) => self.follow(color).await,
            Fact::Followed(Err(problem)) => {
                tracing::error!(problem, "the followed file changes nothing");
                self.controller
                    .problems
                    .retain(|known| !known.starts_with(FOLLOWED));
                self.controller
                    .problems
                    .push(format!("{FOLLOWED}{problem}"));
                self.publish().await;
            }
            Fact::State => self.publish().await,
            Fact::Probed(report) => self.probed(&report).await,
        }
    }

    /// Brings the recorded position and the present shape into force, if they are not.
    async fn reconcile(&mut self) {
        match self.bring_into_force().await {
            Ok(()) => {
                self.controller
                    .problems
                    .retain(|known| !known.starts_with(APPLY));
                self.proof.send_replace(Proof::Seen);
            }
            Err(error) => {
                let text = format!("{APPLY}{}", describe(&error));
                if !self.controller.problems.contains(&text) {
                    tracing::error!(
                        error = describe(&error),
                        "what is recorded could not be put into force; trying again"
                    );
                }
                self.controller
                    .problems
                    .retain(|known| !known.starts_with(APPLY));
                self.controller.problems.push(text);
            }
        }
        self.publish().await;
    }

    async fn bring_into_force(&mut self) -> Result<(), ChangeError> {
        if self.controller.balancer.server_health() == ServerHealthUse::Probes {
            self.controller.resume().await?;
        } else if let Served::Unreachable { reason } =
            self.controller.balancer.observe().await.served
        {
            // no intent for something that cannot be begun
            return Err(ApplyError::Unreachable { message: reason }.into());
        }
        let request = Request {
            origin: Origin::Turnout,
            ..Request::new(Verb::Apply, "turnout")
        };
        self.controller
            .change(&request, Progress::silent())
            .await
            .map(|_| ())
    }

    async fn follow(&mut self, color: Color) {
        self.controller
            .problems
            .retain(|known| !known.starts_with(FOLLOWED));
        let Some(follow) = self.controller.config.follow.clone() else {
            return;
        };
        let verb = Verb::Switch {
            service: Some(follow.service),
            to: Some(color),
        };
        let actor = format!("follow {}", follow.file.display());
        let request = Request {
            origin: Origin::Followed,
            ..Request::new(verb, actor)
        };
        if let Err(error) = self.controller.change(&request, Progress::silent()).await {
            let text = describe(&error);
            tracing::error!(error = text, %color, "the followed file names a color that was not switched to");
            self.controller.problems.push(format!("{FOLLOWED}{text}"));
        }
        self.publish().await;
    }

    async fn probed(&mut self, report: &crate::probe::Report) {
        let Some(event) = self.controller.take_probe(report) else {
            return;
        };
        match event {
            HealthEvent::Same => {}
            HealthEvent::BecameHealthy => {
                tracing::info!(service = %report.service, color = %report.color, server = %report.server, "server is healthy");
            }
            HealthEvent::BecameUnhealthy => {
                tracing::warn!(
                    service = %report.service, color = %report.color, server = %report.server,
                    reason = self.controller.reason(report), "server is unhealthy"
                );
            }
        }
        if event != HealthEvent::Same && *self.proof.borrow() == Proof::Seen {
            if let Err(error) = self.controller.heed_health().await {
                tracing::error!(
                    error = describe(&error),
                    "failover could not be put into force"
                );
                self.controller
                    .problems
                    .retain(|known| !known.starts_with(FAILOVER));
                self.controller
                    .problems
                    .push(format!("{FAILOVER}{}", describe(&error)));
            } else {
                self.controller
                    .problems
                    .retain(|known| !known.starts_with(FAILOVER));
            }
            self.publish().await;
        } else {
            self.publish_health();
        }
    }

    async fn publish(&mut self) {
        match self.controller.daemon_status().await {
            Ok(status) => {
                self.status.send_replace(Arc::new(status));
            }
            Err(error) => {
                let text = describe(&error);
                let mut status = (**self.status.borrow()).clone();
                if !status.problems.contains(&text) {
                    tracing::error!(error = text, "the status cannot be told");
                    status.problems.push(text);
                    self.status.send_replace(Arc::new(status));
                }
            }
        }
    }

    /// New health into the last status: no file is read and no balancer asked, so that probes cost nothing else.
    fn publish_health(&self) {
        self.status.send_modify(|status| {
            self.controller.refresh_health(Arc::make_mut(status));
        });
    }
}

const APPLY: &str = "not in force: ";
const FOLLOWED: &str = "followed file: ";
const FAILOVER: &str = "failover: ";

impl<B: Balancer> Controller<B> {
    /// The status as a daemon gives it: health by its probes alone.
    async fn daemon_status(&mut self) -> Result<Status, ChangeError> {
        let mut status = self.status_with(&[], super::look::Probing::Known).await?;
        status.daemon = Some(std::process::id());
        Ok(status)
    }

    /// Takes a configuration that was read anew.
    fn take_config(&mut self, config: Arc<Config>) {
        self.problems.retain(|known| !known.starts_with(CONFIG));
        for (name, book) in &mut self.health {
            let Some(service) = config.services.get(name) else {
                continue;
            };
            book.blue
                .retain(|server, _| service.shape.servers.blue.contains(server));
            book.green
                .retain(|server, _| service.shape.servers.green.contains(server));
        }
        self.health
            .retain(|name, _| config.services.contains_key(name));
        self.config = config;
    }

    fn refuse_config(&mut self, problems: &str) {
        self.problems.retain(|known| !known.starts_with(CONFIG));
        self.problems.push(format!("{CONFIG}{problems}"));
    }

    /// Takes a probe's report into the book; `None` for a server that is not configured any more.
    fn take_probe(&mut self, report: &crate::probe::Report) -> Option<HealthEvent> {
        let service = self.config.services.get(&report.service)?;
        if !service.shape.servers[report.color].contains(&report.server) {
            return None;
        }
        let book = self.health.entry(report.service.clone()).or_default();
        let known = book[report.color]
            .entry(report.server.clone())
            .or_insert_with(|| (crate::domain::ServerHealth::default(), report.at));
        known.1 = report.at;
        Some(known.0.observe(&service.shape.health, &report.outcome))
    }

    fn reason(&self, report: &crate::probe::Report) -> String {
        self.health
            .get(&report.service)
            .and_then(|book| book[report.color].get(&report.server))
            .and_then(|(health, _)| health.last_failure())
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Puts failover into force, or takes it out, where health asks for it; and tells a balancer that leaves out single
    /// servers by turnout's probes which those are.
    async fn heed_health(&mut self) -> Result<(), ChangeError> {
        let loaded = self.load().await?;
        let wanted = self.wanted_overlays(&loaded.state);
        if !wanted.is_empty() {
            return self.overlay(wanted).await;
        }
        if self.balancer.server_health() == ServerHealthUse::Own {
            return Ok(());
        }
        let table = self.table(&self.complete(&loaded.state));
        if self.proved.as_ref() == Some(&table)
            || !matches!(
                self.balancer.observe().await.served,
                Served::Generation { .. }
            )
        {
            return Ok(());
        }
        self.put_again(table).await
    }
}

const CONFIG: &str = "configuration: ";
