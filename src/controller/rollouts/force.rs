//! A rollout's weight into force: one change like any other, from lock to record. What it asks for may be in force already.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::change::milliseconds;
use super::super::decide::{Decided, Scope};
use super::super::events::Happening;
use super::super::told::Ended;
use super::super::{ChangeError, Controller, Request, Verb, desired};
use crate::balancer::{Balancer, Foreign, FrontDoor, Progress};
use crate::domain::{Color, Position, Split, Weight, describe};
use crate::rollout::{Phase, Record};
use crate::store::{AuditEntry, Governed, Holder, Loaded};

/// Where the traffic is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// This much to the candidate.
    Weight(Weight),
    /// All of it, for good.
    Promote,
    /// Nothing.
    Return,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Went {
    /// It is in force.
    Done,
    /// The traffic is not the rollout's any more: why, and what the candidate has.
    Elsewhere(String, Weight),
}

impl<B: Balancer> Controller<B> {
    /// Whether the rollout still has the traffic of its service, by what is recorded: why not, and what the candidate has then.
    /// One that is about to begin has it where everything is on the stable color.
    pub(super) fn lost(&self, record: &Record, loaded: &Loaded) -> Option<(String, Weight)> {
        let subject = &record.subject;
        if !self.config.services.contains_key(&subject.service) {
            let why = format!("{} is not configured any more", subject.service);
            return Some((why, Weight::ZERO));
        }
        let complete = self.complete(&loaded.state);
        let known = complete.services.get(&subject.service)?;
        let weight = known.position.split().weight(subject.candidate);
        let governs = |governed: &Governed| governed.id == record.id;
        if known.rollout.as_ref().is_some_and(governs) {
            return None;
        }
        let begins = matches!(record.walk.phase(), Phase::Starting { .. })
            && known.rollout.is_none()
            && known.position.split() == Split::all(!subject.candidate);
        let why = "the traffic was moved by something else";
        (!begins).then(|| (why.to_owned(), weight))
    }

    /// Puts a goal into force. Waits for no lock: [`ChangeError::Lock`] says that somebody holds it.
    ///
    /// The way back asks nobody for their health and leaves nothing to the color that is left: a candidate that hangs or is gone
    /// must not hold it up.
    pub(super) async fn force(
        &mut self,
        record: &Record,
        goal: Goal,
        actor: &str,
    ) -> Result<Went, ChangeError> {
        let started = Instant::now();
        let subject = &record.subject;
        let (action, foreign, front_door) = match (goal, record.walk.phase()) {
            (Goal::Weight(_), Phase::Starting { .. }) => {
                ("rollout", Foreign::Refuse, FrontDoor::Ask)
            }
            (Goal::Weight(_), _) => ("weights", Foreign::Refuse, FrontDoor::Ask),
            (Goal::Promote, _) => ("promote", Foreign::Refuse, FrontDoor::Ask),
            (Goal::Return, _) => ("rollback", Foreign::Replace, FrontDoor::Turnout),
        };
        let message = format!("rollout {}: {}", record.id, record.walk.reason());
        let holder = Holder::current(&format!("{} {action}", self.command), Some(message.clone()));
        let mut lock = self.store.lock(holder, Duration::ZERO).await?;
        let loaded = self.settle(&mut lock, foreign, Progress::silent()).await?;
        if let Some((reason, weight)) = self.lost(record, &loaded) {
            return Ok(Went::Elsewhere(reason, weight));
        }
        let mut target = self.complete(&loaded.state);
        desired::note_shapes(&self.shapes, &mut target);
        target.generation = loaded.used.next();
        target.balancer = Some(self.balancer.kind().to_owned());
        let (name, shape) = desired::pick(&self.config, Some(&subject.service))?;
        let (name, shape) = (name.clone(), std::sync::Arc::clone(shape));
        let Some(from) = target.services.get(&name).cloned() else {
            return Err(ChangeError::WhichService {
                known: name.to_string(),
            });
        };
        let candidate = subject.candidate;
        let (position, rollout) = match goal {
            Goal::Weight(weight) => {
                let position = Position::canary(!candidate, Split::giving(candidate, weight));
                let governed = Governed {
                    id: record.id.clone(),
                    strategy: subject.strategy,
                };
                (position, Some(governed))
            }
            Goal::Promote => (Position::all(subject.strategy, candidate), None),
            Goal::Return => (Position::all(subject.strategy, !candidate), None),
        };
        if from.rollout.is_none() && goal == Goal::Return {
            // it never had any traffic
            return Ok(Went::Done);
        }
        let gains = position.split().weight(candidate) > from.position.split().weight(candidate);
        let asks = gains || from.overlay.is_some();
        if goal != Goal::Return && asks {
            let request = Request::new(Verb::Apply, actor);
            if let Err(reasons) = self.gate(&request, &shape, candidate).await {
                return Err(ChangeError::Unhealthy {
                    service: name,
                    color: candidate,
                    reasons,
                });
            }
        }
        let mut arrived = desired::arrived(&from, position, Timestamp::now());
        if from.position == position {
            arrived.since = from.since;
        }
        arrived.rollout = rollout;
        arrived.versions[candidate] = Some(subject.new_version.clone());
        if subject.baseline_version.is_some() {
            arrived.versions[!candidate].clone_from(&subject.baseline_version);
        }
        if arrived == from && self.in_force(&loaded.state).await {
            return Ok(Went::Done);
        }
        target.services.insert(name.clone(), arrived);
        let decided = Decided {
            action,
            actor: actor.to_owned(),
            message: Some(message.clone()),
            service: Some(name.clone()),
            target,
            changed: vec![name.clone()],
            front_door,
            scope: Scope::Changed,
            foreign,
            staged: None,
        };
        let result = self
            .put_into_force(&mut lock, &decided, &loaded, Progress::silent())
            .await;
        let (ended, generation, told) = match &result {
            Ok((_, applied)) => {
                let mut told = vec![message];
                told.extend(applied.warnings().iter().cloned());
                (
                    Ended::Done,
                    Some(decided.target.generation),
                    told.join("; "),
                )
            }
            Err(error) => (
                Ended::Failed,
                None,
                format!("{message}: {}", describe(error)),
            ),
        };
        let color = match goal {
            Goal::Weight(_) | Goal::Promote => candidate,
            Goal::Return => !candidate,
        };
        let entry = AuditEntry {
            timestamp: Timestamp::now(),
            service: Some(name),
            environment: Some(color),
            version: version_of(record, color),
            action: action.to_owned(),
            success: result.is_ok(),
            message: told,
            actor: decided.actor.clone(),
            duration_ms: milliseconds(started.elapsed()),
        };
        self.record(&mut lock, &entry, ended, generation);
        result.map(|_| Went::Done)
    }

    /// The audit line of what a person asked of a rollout that moves no traffic. That it was done stands, so a failure is only
    /// logged.
    pub(super) async fn audit_rollout(&self, record: &Record, action: &str, actor: &str) {
        let holder = Holder::current(&format!("{} {action}", self.command), None);
        let entry = AuditEntry {
            timestamp: Timestamp::now(),
            service: Some(record.subject.service.clone()),
            environment: Some(record.subject.candidate),
            version: Some(record.subject.new_version.clone()),
            action: action.to_owned(),
            success: true,
            message: format!("rollout {}: {}", record.id, record.walk.reason()),
            actor: actor.to_owned(),
            duration_ms: 0,
        };
        let written = match self.store.lock(holder, Duration::ZERO).await {
            Ok(mut lock) => lock.audit(&entry).map_err(|error| describe(&error)),
            Err(error) => Err(describe(&error)),
        };
        if let Err(error) = written {
            tracing::warn!(error, action, "the audit log could not be written");
        }
        self.events.tell(&Happening::Audit(&entry));
    }
}

fn version_of(record: &Record, color: Color) -> Option<String> {
    if color == record.subject.candidate {
        Some(record.subject.new_version.clone())
    } else {
        record.subject.baseline_version.clone()
    }
}
