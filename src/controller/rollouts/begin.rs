//! A new rollout: whether it may be, by the configuration and by what is recorded; and the first move.

use std::time::Duration;

use tokio::time::Instant;

use super::super::task::Task;
use super::super::{ChangeError, LockError, Request, Verb, desired};
use super::ask::{BeginRollout, OtherRollout, RolloutError, RolloutRequest, RolloutWish};
use super::waiting::Waiting;
use super::{Answer, LOCK_AGAIN, Running, looks_every};
use crate::balancer::Balancer;
use crate::config::Config;
use crate::domain::{CanaryAsk, CanarySource, Color, Service, ServiceName, describe};
use crate::rollout::{Course, Event, Phase, Record, RolloutId, Subject, Terms, TermsError, Told};
use crate::store::Holder;

/// A rollout that was asked for and has not begun.
#[derive(Debug)]
pub(super) struct Next {
    ask: BeginRollout,
    request: RolloutRequest,
    answer: Answer,
    /// For the change lock.
    until: Instant,
    /// When to look again whether it can begin.
    pub(super) again: Instant,
    /// The color that it was asked for; `None`: nobody has looked yet.
    candidate: Option<Color>,
}

impl Next {
    pub(super) fn new(
        ask: BeginRollout,
        request: RolloutRequest,
        answer: Answer,
        until: Instant,
    ) -> Self {
        Self {
            ask,
            request,
            answer,
            until,
            again: until,
            candidate: None,
        }
    }
}

impl<B: Balancer> Task<B> {
    /// Begins one, and answers once its first weight is in force. Where it supersedes another it waits for the change lock before
    /// that is touched: one that comes to nothing in time must not end the one that runs.
    pub(super) async fn begin_rollout(&mut self, mut next: Next) {
        let (record, running) = match self.new_rollout(&next).await {
            Ok(new) => new,
            Err(error) => {
                drop(next.answer.send(Err(error)));
                return;
            }
        };
        next.candidate = Some(record.subject.candidate);
        if let Some(running) = running {
            if next.ask.other == OtherRollout::Stays {
                let runs = ChangeError::RolloutRuns {
                    service: record.subject.service.clone(),
                    id: running,
                };
                drop(next.answer.send(Err(runs.into())));
                return;
            }
            if let Err(error) = self.supersede(&running, &record).await {
                self.wait_on(next, &record, error);
                return;
            }
        }
        let Next {
            request,
            answer,
            until,
            ..
        } = next;
        // intent before effect: after a crash it is begun again
        if let Err(error) = self.controller.store.save_rollout(&record) {
            drop(answer.send(Err(RolloutError::Store(error))));
            return;
        }
        let id = record.id.clone();
        let mut running = Running::new(record, &self.rollouts.clock);
        running.waiting.push(Waiting {
            answer,
            actor: request.actor,
            until,
            wish: RolloutWish::Begun,
        });
        self.rollouts.running.insert(id.clone(), running);
        self.rollouts.show();
        self.happen(&id, Event::Due).await;
    }

    /// Takes the one that runs back, once all is well that can be known before: a new one that comes to nothing must not end it.
    async fn supersede(&mut self, running: &RolloutId, new: &Record) -> Result<(), RolloutError> {
        let version = &new.subject.new_version;
        let record = self.rollouts.running.get(running);
        let phase = record.map(|running| running.record.walk.phase());
        // one that is on its way back already is tried again by itself
        if !matches!(phase, Some(Phase::Returning { .. })) {
            self.may_begin(new).await?;
            if let Some(running) = self.rollouts.running.get_mut(running) {
                running.back_by = Some(new.subject.actor.clone());
            }
            let reason = format!("superseded by {} of {version}", new.id);
            self.happen(running, Event::Cancel(reason)).await;
        }
        let Some(running) = self.rollouts.running.get(running) else {
            return Ok(());
        };
        let walk = &running.record.walk;
        let error = RolloutError::NotBackYet {
            version: version.clone(),
            id: running.record.id.clone(),
            why: walk.trouble().unwrap_or(walk.reason()).to_owned(),
        };
        // it begins under another name, if it does
        self.leave_no_file(new.clone());
        Err(error)
    }

    /// Whether the change lock is free, a server of the candidate healthy, and the rollout on disk; it stays there if so.
    async fn may_begin(&mut self, new: &Record) -> Result<(), RolloutError> {
        let subject = &new.subject;
        let command = format!("{} rollout", self.controller.command);
        let holder = Holder::current(&command, subject.message.clone());
        let free = self.controller.store.lock(holder, Duration::ZERO).await;
        drop(free.map_err(ChangeError::from)?);
        let config = std::sync::Arc::clone(&self.controller.config);
        let (name, shape) = desired::pick(&config, Some(&subject.service))?;
        let request = Request::new(Verb::Apply, subject.actor.clone());
        let gate = self.controller.gate(&request, shape, subject.candidate);
        if let Err(reasons) = gate.await {
            return Err(RolloutError::Change(ChangeError::Unhealthy {
                service: name.clone(),
                color: subject.candidate,
                reasons,
            }));
        }
        let saved = self.controller.store.save_rollout(new);
        saved.map_err(RolloutError::Store)
    }

    /// Tries it again while there is time, else tells why it did not begin.
    fn wait_on(&mut self, mut next: Next, new: &Record, error: RolloutError) {
        let now = Instant::now();
        let is_in_the_way = matches!(
            error,
            RolloutError::NotBackYet { .. }
                | RolloutError::Change(ChangeError::Lock(LockError::Held { .. }))
        );
        if is_in_the_way && now < next.until {
            next.again = now + LOCK_AGAIN;
            self.rollouts.next.push(next);
        } else {
            let (wish, actor) = (RolloutWish::Begun, &new.subject.actor);
            let why = describe(&error);
            self.controller.audit_in_vain(new, wish, actor, &why);
            drop(next.answer.send(Err(error)));
        }
    }

    pub(super) fn who_counts(&self) -> WhoCounts {
        match self.controller.balancer.counted() {
            Some(_) => WhoCounts::Here,
            None => WhoCounts::Elsewhere,
        }
    }

    /// Why nobody will ever tell of the requests of a service; `None`: somebody may.
    fn untold(&self, name: &ServiceName, shape: &Service) -> Option<String> {
        if shape.metrics {
            return self.controller.balancer.untold();
        }
        let why = "says that its requests are not counted (`true` counts them)";
        Some(format!("`services.{name}.metrics: false` {why}"))
    }

    /// The new rollout, and the one that has the traffic now.
    async fn new_rollout(
        &mut self,
        next: &Next,
    ) -> Result<(Record, Option<RolloutId>), RolloutError> {
        let (ask, request) = (&next.ask, &next.request);
        let config = std::sync::Arc::clone(&self.controller.config);
        let (name, shape) = desired::pick(&config, ask.service.as_ref())?;
        let configured = config.services.get(name).map(|service| &service.canary);
        let below = configured.copied().unwrap_or_default();
        let terms = terms(&config, name, ask, self.who_counts())?;
        if terms.source == CanarySource::Prometheus
            && below.source != Some(CanarySource::Prometheus)
        {
            return Err(RolloutError::NoPrometheus {
                service: name.clone(),
            });
        }
        if terms.source == CanarySource::Traffic
            && let Some(why) = self.untold(name, shape)
        {
            return Err(RolloutError::NoTraffic {
                service: name.clone(),
                why,
            });
        }
        if let Some(follow) = config
            .follow
            .as_ref()
            .filter(|follow| follow.service == *name)
        {
            return Err(ChangeError::Followed {
                service: name.clone(),
                file: follow.file.clone(),
            }
            .into());
        }
        let loaded = self.controller.load().await?;
        let complete = self.controller.complete(&loaded.state);
        let Some(known) = complete.services.get(name) else {
            return Err(ChangeError::WhichService {
                known: name.to_string(),
            }
            .into());
        };
        let of_it = |running: &&Running| running.record.subject.service == *name;
        let running = self.rollouts.running.values().find(of_it);
        let running = running.map(|running| running.record.id.clone());
        if let (None, Some(governed)) = (&running, &known.rollout) {
            return Err(RolloutError::NotAtRest {
                service: name.clone(),
                why: format!(
                    "the state says that the rollout {} has its traffic, and nothing is known of that one: `turnout rollback {name}` ends it",
                    governed.id
                ),
            });
        }
        let stable = known.position.active();
        if next.candidate.is_some_and(|candidate| candidate == stable) {
            return Err(RolloutError::NotAtRest {
                service: name.clone(),
                why: format!(
                    "the rollout that it was to supersede was promoted meanwhile, so {stable} is the active color"
                ),
            });
        }
        if running.is_none() && known.position.split().whole().is_none() {
            return Err(RolloutError::NotAtRest {
                service: name.clone(),
                why: format!(
                    "its traffic is divided already ({}): move all of it with `turnout switch {name} {stable}`",
                    known.position.split()
                ),
            });
        }
        if let Some(stand_in) = known.overlay {
            return Err(RolloutError::NotAtRest {
                service: name.clone(),
                why: format!(
                    "{stand_in} stands in for {stable}, which is unhealthy: `turnout check {name} {stable}` says why, and it can \
                     begin once {stable} is back"
                ),
            });
        }
        let strategy = known
            .rollout
            .as_ref()
            .map_or(known.position.strategy(), |governed| governed.strategy);
        let subject = Subject {
            service: name.clone(),
            candidate: !stable,
            new_version: ask.new_version.clone(),
            baseline_version: ask
                .baseline_version
                .clone()
                .or_else(|| known.versions[stable].clone()),
            strategy,
            actor: request.actor.clone(),
            message: request.message.clone(),
        };
        let id = RolloutId::from_random(rand::random());
        let (record, _) = Record::begin(id, subject, terms, self.rollouts.clock.now());
        Ok((record, running))
    }
}

/// What is asked for over what is configured, whole and checked.
pub(super) fn terms(
    config: &Config,
    name: &ServiceName,
    ask: &BeginRollout,
    who: WhoCounts,
) -> Result<Terms, TermsError> {
    let below = config.services.get(name).map(|service| service.canary);
    let below = below.unwrap_or_default();
    let terms = CanaryAsk {
        source: ask.terms.source.or(below.source),
        judge: ask.terms.judge.or(below.judge),
        strategy: ask.terms.strategy.over(below.strategy),
        policy: ask.terms.policy.over(below.policy),
    };
    Terms::of(terms, told(config, name, terms, who))
}

/// Who counts the requests of `source: traffic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhoCounts {
    /// The proxy of this process, which is looked at.
    Here,
    /// Another one, in stretches.
    Elsewhere,
}

/// How the source of a service tells, by the configuration.
fn told(config: &Config, name: &ServiceName, ask: CanaryAsk, who: WhoCounts) -> Option<Told> {
    match ask.source.unwrap_or_default() {
        CanarySource::Pushed => None,
        CanarySource::Traffic => Some(Told {
            window: match (who, Course::of(ask.strategy)) {
                (WhoCounts::Here, Ok(course)) => looks_every(course.interval),
                (_, _) => config.balancer.bucket,
            },
            lag: Duration::ZERO,
            tells_slow: true,
        }),
        CanarySource::Prometheus => {
            let settings = config.services.get(name)?.prometheus.as_ref()?;
            Some(Told {
                window: settings.window,
                lag: settings.lag,
                tells_slow: settings.queries.contains_key("slow"),
            })
        }
    }
}
