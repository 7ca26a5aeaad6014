//! Before a rollout that rests on a Prometheus begins: whether that answers all that will be asked of it. It is asked outside of the
//! controller's task, which goes on meanwhile; what it cannot answer is refused before any traffic moves.

use std::time::Duration;

use tokio::task::JoinSet;

use super::super::desired;
use super::super::task::Task;
use super::ask::{RolloutError, RolloutRequest, RolloutVerb};
use super::begin::terms;
use super::source::{Feed, Look, Looking, Purpose, Silence};
use super::{Answer, SOURCE};
use crate::balancer::Balancer;
use crate::domain::{CanarySource, Paired, ServiceName};

/// A request whose source was asked first.
#[derive(Debug)]
pub(in crate::controller) struct First {
    request: RolloutRequest,
    answer: Answer,
    service: ServiceName,
    said: Result<(), Silence>,
}

impl<B: Balancer> Task<B> {
    /// Takes a request, once its source has answered: at once where there is none to ask.
    pub(in crate::controller) async fn hear_rollout(
        &mut self,
        request: RolloutRequest,
        answer: Answer,
    ) {
        let Some((look, feed)) = self.first_look(&request) else {
            return self.take_rollout(request, answer).await;
        };
        let service = look.service.clone();
        let asking = feed.ask(look);
        self.firsts.spawn(async move {
            First {
                said: within(asking).await.map(drop),
                request,
                answer,
                service,
            }
        });
    }

    /// The source has answered.
    pub(in crate::controller) async fn heard(&mut self, first: First) {
        let First {
            request,
            answer,
            service,
            said,
        } = first;
        match said {
            Ok(()) => self.take_rollout(request, answer).await,
            Err(Silence { why, passes }) => {
                let error = RolloutError::NoFigures {
                    service,
                    why,
                    passes,
                };
                drop(answer.send(Err(error)));
            }
        }
    }

    /// What to ask whom first. What cannot begin for another reason is refused without that.
    fn first_look(&self, request: &RolloutRequest) -> Option<(Look, Feed)> {
        let RolloutVerb::Begin(ask) = &request.what else {
            return None;
        };
        let config = &self.controller.config;
        let (name, _) = desired::pick(config, ask.service.as_ref()).ok()?;
        config.services.get(name)?.prometheus.as_ref()?;
        let terms = terms(config, name, ask, self.who_counts()).ok()?;
        if terms.source != CanarySource::Prometheus {
            return None;
        }
        let slow_from = terms.policy.slow_from_ms();
        let status = self.status.borrow();
        let mut services = status.services.iter();
        let active = services.find(|service| service.service == *name)?.active;
        let look = Look {
            source: CanarySource::Prometheus,
            purpose: Purpose::Begin,
            service: name.clone(),
            candidate: !active,
            since: jiff::Timestamp::now(),
            slow_from: slow_from.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()),
        };
        Some((look, self.controller.feed.clone()?))
    }
}

/// An answer in time. What breaks on the way is the reason why there is none, and not the end of all looks.
pub(super) async fn within(asking: Looking) -> Result<Vec<Paired>, Silence> {
    let mut asked = JoinSet::new();
    asked.spawn(asking);
    match tokio::time::timeout(SOURCE, asked.join_next()).await {
        Ok(Some(Ok(what))) => what,
        Ok(Some(Err(error))) => Err(format!("the look at the source broke: {error}").into()),
        Ok(None) | Err(_) => {
            Err(format!("the source did not answer within {} s", SOURCE.as_secs()).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_that_breaks_is_an_answer() {
        let said = within(Box::pin(async { panic!("the feed is broken") })).await;
        let reason = said.unwrap_err().why;
        assert!(
            reason.starts_with("the look at the source broke: task ")
                && reason.contains("the feed is broken"),
            "{reason}"
        );
        assert_eq!(
            within(Box::pin(async { Ok(Vec::new()) })).await,
            Ok(Vec::new())
        );
    }
}
