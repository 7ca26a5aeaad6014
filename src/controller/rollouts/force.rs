//! A rollout's weight into force: one change like any other, from lock to record. What it asks for may be in force already.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::change::milliseconds;
use super::super::decide::{Decided, Scope};
use super::super::events::Happening;
use super::super::told::{Ended, tell};
use super::super::{ChangeError, Controller, Request, Verb, desired};
use super::BY_ITSELF;
use super::ask::RolloutWish;
use crate::balancer::{Balancer, Foreign, FrontDoor, Progress};
use crate::domain::{Color, Position, Split, Weight, describe};
use crate::rollout::{Phase, Record};
use crate::store::{AuditEntry, ChangeLock, Governed, Holder, Loaded};

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
        let way = Way::of(record, goal, actor);
        let what = format!("{} {}", self.command, way.action);
        let holder = Holder::current(&what, Some(way.message.clone()));
        let mut lock = self.store.lock(holder, Duration::ZERO).await?;
        let (decided, loaded) = match self.ready(&mut lock, record, goal, &way).await {
            Ok(Ready::Went(went)) => return Ok(went),
            Ok(Ready::Change(decided, loaded)) => (decided, loaded),
            Err(error) => {
                // what turnout does by itself it does again and again: its failures are in status and log
                if actor != BY_ITSELF {
                    let told = format!("{}: {}", way.message, describe(&error));
                    let entry = way.entry(record, Err(told), started);
                    self.record(&mut lock, &entry, Ended::Failed, None);
                }
                return Err(error);
            }
        };
        let result = self
            .put_into_force(&mut lock, &decided, &loaded, Progress::silent())
            .await;
        let (ended, generation, told) = match &result {
            Ok((_, applied)) => {
                let mut told = vec![way.message.clone()];
                told.extend(applied.warnings().iter().cloned());
                let generation = decided.target.generation;
                (Ended::Done, Some(generation), Ok(told.join("; ")))
            }
            Err(error) => {
                let told = format!("{}: {}", way.message, describe(error));
                (Ended::Failed, None, Err(told))
            }
        };
        let entry = way.entry(record, told, started);
        self.record(&mut lock, &entry, ended, generation);
        result.map(|_| Went::Done)
    }

    /// What the goal makes of the state.
    async fn ready(
        &mut self,
        lock: &mut ChangeLock,
        record: &Record,
        goal: Goal,
        way: &Way,
    ) -> Result<Ready, ChangeError> {
        let subject = &record.subject;
        let loaded = self.settle(lock, way.foreign, Progress::silent()).await?;
        if let Some((reason, weight)) = self.lost(record, &loaded) {
            return Ok(Ready::Went(Went::Elsewhere(reason, weight)));
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
            return Ok(Ready::Went(Went::Done));
        }
        let gains = position.split().weight(candidate) > from.position.split().weight(candidate);
        let asks = gains || from.overlay.is_some();
        if goal != Goal::Return && asks {
            let request = Request::new(Verb::Apply, way.actor.as_str());
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
            return Ok(Ready::Went(Went::Done));
        }
        target.services.insert(name.clone(), arrived);
        let decided = Decided {
            action: way.action,
            actor: way.actor.clone(),
            message: Some(way.message.clone()),
            service: Some(name.clone()),
            target,
            changed: vec![name],
            front_door: way.front_door,
            scope: Scope::Changed,
            foreign: way.foreign,
            staged: None,
        };
        Ok(Ready::Change(Box::new(decided), Box::new(loaded)))
    }

    /// The audit line of what a person asked of a rollout that moves no traffic.
    pub(super) fn audit_rollout(&self, record: &Record, action: &str, actor: &str) {
        let told = format!("rollout {}: {}", record.id, record.walk.reason());
        let color = record.subject.candidate;
        let entry = entry(record, (action, actor, color), Ok(told), Duration::ZERO);
        self.audit_without(&entry, Ended::Done);
    }

    /// The audit line of what a person asked for and waited for in vain.
    pub(super) fn audit_in_vain(&self, record: &Record, wish: RolloutWish, actor: &str, why: &str) {
        let (action, color) = match wish {
            RolloutWish::Begun => ("rollout", record.subject.candidate),
            RolloutWish::Promoted => ("promote", record.subject.candidate),
            RolloutWish::TakenBack => ("rollback", !record.subject.candidate),
        };
        let told = format!("rollout {}: {why}", record.id);
        let entry = entry(record, (action, actor, color), Err(told), Duration::ZERO);
        self.audit_without(&entry, Ended::Failed);
    }

    /// Somebody may hold the change lock for long, and what was asked for is not to be left out for that.
    fn audit_without(&self, entry: &AuditEntry, ended: Ended) {
        let written = self.store.audit_without_lock(entry);
        tell(entry, ended, None, written);
        self.events.tell(&Happening::Audit(entry));
    }
}

/// How a goal is brought about, and as what it is told.
struct Way {
    action: &'static str,
    actor: String,
    message: String,
    /// The color that gains.
    color: Color,
    foreign: Foreign,
    front_door: FrontDoor,
}

/// What a goal makes of the state.
enum Ready {
    /// Nothing is to be done.
    Went(Went),
    /// This, of that state.
    Change(Box<Decided>, Box<Loaded>),
}

impl Way {
    fn of(record: &Record, goal: Goal, actor: &str) -> Self {
        let (action, foreign, front_door) = match (goal, record.walk.phase()) {
            (Goal::Weight(_), Phase::Starting { .. }) => {
                ("rollout", Foreign::Refuse, FrontDoor::Ask)
            }
            (Goal::Weight(_), _) => ("weights", Foreign::Refuse, FrontDoor::Ask),
            (Goal::Promote, _) => ("promote", Foreign::Refuse, FrontDoor::Ask),
            (Goal::Return, _) => ("rollback", Foreign::Replace, FrontDoor::Turnout),
        };
        let candidate = record.subject.candidate;
        Self {
            action,
            actor: actor.to_owned(),
            message: format!("rollout {}: {}", record.id, record.walk.reason()),
            color: match goal {
                Goal::Weight(_) | Goal::Promote => candidate,
                Goal::Return => !candidate,
            },
            foreign,
            front_door,
        }
    }

    fn entry(&self, record: &Record, told: Result<String, String>, started: Instant) -> AuditEntry {
        let what = (self.action, self.actor.as_str(), self.color);
        entry(record, what, told, started.elapsed())
    }
}

/// A line for an action, by an actor, for the color that gains: what is told of it where it was done, or was not.
fn entry(
    record: &Record,
    (action, actor, color): (&str, &str, Color),
    told: Result<String, String>,
    took: Duration,
) -> AuditEntry {
    AuditEntry {
        timestamp: Timestamp::now(),
        service: Some(record.subject.service.clone()),
        environment: Some(color),
        version: version_of(record, color),
        action: action.to_owned(),
        success: told.is_ok(),
        message: told.unwrap_or_else(|why| why),
        actor: actor.to_owned(),
        duration_ms: milliseconds(took),
    }
}

fn version_of(record: &Record, color: Color) -> Option<String> {
    if color == record.subject.candidate {
        Some(record.subject.new_version.clone())
    } else {
        record.subject.baseline_version.clone()
    }
}
