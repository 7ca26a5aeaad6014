//! A new rollout: whether it may be, by the configuration and by what is recorded; and the first move.

use std::time::Duration;

use tokio::time::Instant;

use super::super::task::Task;
use super::super::{ChangeError, desired};
use super::ask::{BeginRollout, OtherRollout, RolloutError, RolloutRequest};
use super::{Answer, LONGEST_LOOK, Running, Waiting};
use crate::balancer::Balancer;
use crate::config::Config;
use crate::domain::{CanaryAsk, CanarySource, ServiceName};
use crate::rollout::{Event, Record, RolloutId, Subject, Terms, TermsError, Told};

impl<B: Balancer> Task<B> {
    /// Begins one, and answers once its first weight is in force.
    pub(super) async fn begin_rollout(
        &mut self,
        ask: BeginRollout,
        request: &RolloutRequest,
        answer: Answer,
    ) {
        let until = Instant::now() + request.lock_wait;
        let other = ask.other;
        let (record, running) = match self.new_rollout(ask, request).await {
            Ok(new) => new,
            Err(error) => {
                drop(answer.send(Err(error)));
                return;
            }
        };
        if let Some(running) = running {
            if other == OtherRollout::Stays {
                let error = ChangeError::RolloutRuns {
                    service: record.subject.service,
                    id: running,
                };
                drop(answer.send(Err(error.into())));
                return;
            }
            let reason = format!(
                "superseded by {} of {}",
                record.id, record.subject.new_version
            );
            self.happen(&running, Event::Cancel(reason)).await;
            if self.rollouts.running.contains_key(&running) {
                let error = ChangeError::RolloutRuns {
                    service: record.subject.service,
                    id: running,
                };
                drop(answer.send(Err(error.into())));
                return;
            }
        }
        // intent before effect: after a crash it is begun again
        if let Err(error) = self.controller.store.save_rollout(&record) {
            drop(answer.send(Err(RolloutError::Store(error))));
            return;
        }
        let id = record.id.clone();
        let mut running = Running::new(record, &self.rollouts.clock);
        running.actor.clone_from(&request.actor);
        running.waiting.push(Waiting { answer, until });
        self.rollouts.running.insert(id.clone(), running);
        self.happen(&id, Event::Due).await;
    }

    /// The new rollout, and the one that has the traffic now.
    async fn new_rollout(
        &mut self,
        ask: BeginRollout,
        request: &RolloutRequest,
    ) -> Result<(Record, Option<RolloutId>), RolloutError> {
        let config = std::sync::Arc::clone(&self.controller.config);
        let (name, _) = desired::pick(&config, ask.service.as_ref())?;
        let configured = config.services.get(name).map(|service| &service.canary);
        let below = configured.copied().unwrap_or_default();
        let terms = terms(&config, name, &ask)?;
        if terms.source == CanarySource::Prometheus
            && below.source != Some(CanarySource::Prometheus)
        {
            return Err(RolloutError::NoPrometheus {
                service: name.clone(),
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
                why: format!("{stand_in} stands in for {stable}, which is unhealthy"),
            });
        }
        let strategy = known
            .rollout
            .as_ref()
            .map_or(known.position.strategy(), |governed| governed.strategy);
        let subject = Subject {
            service: name.clone(),
            candidate: !stable,
            new_version: ask.new_version,
            baseline_version: ask
                .baseline_version
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
) -> Result<Terms, TermsError> {
    let below = config.services.get(name).map(|service| service.canary);
    let below = below.unwrap_or_default();
    let terms = CanaryAsk {
        source: ask.terms.source.or(below.source),
        judge: ask.terms.judge.or(below.judge),
        strategy: ask.terms.strategy.over(below.strategy),
        policy: ask.terms.policy.over(below.policy),
    };
    Terms::of(terms, told(config, name, terms.source.unwrap_or_default()))
}

/// How the source of a service tells, by the configuration.
fn told(config: &Config, name: &ServiceName, source: CanarySource) -> Option<Told> {
    match source {
        CanarySource::Pushed => None,
        CanarySource::Traffic => Some(Told {
            // the proxy of this process is looked at as often as that at least
            window: config.balancer.bucket.max(LONGEST_LOOK),
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
