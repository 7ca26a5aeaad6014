//! What a request comes to: the state as it will be, the services that move, and whether their new colors are healthy. Nothing
//! is changed here; a dry run ends here.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::change::milliseconds;
use super::request::{Origin, Provided};
use super::{ChangeError, Controller, Outcome, Request, Verb, desired};
use crate::balancer::{ApplyError, Balancer, Foreign, FrontDoor, TrafficUse};
use crate::domain::{
    Color, Health, HealthEvent, ProbeOutcome, Server, Service, ServiceName, Traffic, Weight,
};
use crate::plan::Plan;
use crate::probe::Report;
use crate::store::{Loaded, Staged, State};

/// A change that was decided and not yet made.
pub(super) struct Decided {
    /// The verb, for journal and audit.
    pub(super) action: &'static str,
    /// Who wants it.
    pub(super) actor: String,
    /// `-m`.
    pub(super) message: Option<String>,
    /// The service that was named; `None`: a whole apply, or what health asks for.
    pub(super) service: Option<ServiceName>,
    /// The state as it will be.
    pub(super) target: State,
    /// The services whose traffic moves.
    pub(super) changed: Vec<ServiceName>,
    /// Whether front doors are asked.
    pub(super) front_door: FrontDoor,
    /// Whether only those of services that changed are asked.
    pub(super) scope: Scope,
    /// Whether a hand-edited file may be replaced.
    pub(super) foreign: Foreign,
    /// What `reload` puts into force.
    pub(super) staged: Option<Staged>,
}

/// Whose front doors a proof asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of every service: its shape may be new to the balancer.
    All,
    /// Those of services that changed.
    Changed,
}

/// What a person who names one service is told of the others.
pub(super) fn taken_along(plan: &Plan, named: Option<&ServiceName>) -> Vec<String> {
    let others = named
        .map(|named| plan.taken_along(named))
        .unwrap_or_default();
    if others.is_empty() {
        return Vec::new();
    }
    let others: Vec<_> = others.iter().map(|name| name.as_str()).collect();
    vec![format!(
        "the edited configuration of {} goes into force as well",
        others.join(", ")
    )]
}

/// What a gate saw, as a probe of the daemon's would tell it.
fn report(shape: &Service, color: Color, server: &Server, outcome: &ProbeOutcome) -> Report {
    Report {
        service: shape.name.clone(),
        color,
        server: server.clone(),
        outcome: outcome.clone(),
        at: Timestamp::now(),
    }
}

impl<B: Balancer> Controller<B> {
    /// What the change would be, without the lock and without touching anything.
    pub(super) async fn rehearse(
        &mut self,
        request: &Request,
        started: Instant,
    ) -> Result<Outcome, ChangeError> {
        let loaded = self.load().await?;
        let decided = self.decide(request, &loaded).await?;
        let table = self.table(&decided.target);
        let rendered = self.balancer.render(&table)?;
        let mut plan = self.plan_to(&loaded.state, &table)?;
        let mut warnings = taken_along(&plan, decided.service.as_ref());
        if plan.steps.is_empty() && self.files_agree(&loaded.state)? {
            plan.to = plan.from;
        } else {
            if decided.foreign == Foreign::Refuse {
                self.refuse_edited(&rendered).await?;
            }
            match self.balancer.check(&table, &rendered).await {
                Ok(found) => warnings.extend(found),
                Err(ApplyError::Unreachable { message }) => {
                    warnings.push(format!("not checked by the balancer: {message}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let mut outcome = self.outcome(request, &decided, &loaded.state, plan, started)?;
        outcome.dry_run = true;
        outcome.warnings = warnings;
        Ok(outcome)
    }

    /// What a request makes of the state: pure but for the health of the colors that would gain traffic.
    pub(super) async fn decide(
        &mut self,
        request: &Request,
        loaded: &Loaded,
    ) -> Result<Decided, ChangeError> {
        let now = Timestamp::now();
        let mut target = self.complete(&loaded.state);
        desired::note_shapes(&self.shapes, &mut target);
        target.generation = loaded.used.next();
        target.balancer = Some(self.balancer.kind().to_owned());
        let mut decided = Decided {
            action: request.change.as_str(),
            actor: request.actor.clone(),
            message: request.message.clone(),
            service: None,
            target,
            changed: Vec::new(),
            front_door: FrontDoor::Ask,
            scope: match request.change {
                Verb::Apply | Verb::Reload => Scope::All,
                Verb::Switch { .. }
                | Verb::Rollback { .. }
                | Verb::Strategy { .. }
                | Verb::Weights { .. }
                | Verb::Shift { .. }
                | Verb::Traffic { .. } => Scope::Changed,
            },
            foreign: request.foreign(),
            staged: None,
        };
        let named = match &request.change {
            Verb::Apply => return Ok(decided),
            Verb::Reload => {
                decided.staged = self.staged(&loaded.state, &decided.target).await?;
                if let Some(staged) = &decided.staged {
                    decided.target.generation = staged.generation;
                }
                return Ok(decided);
            }
            Verb::Switch { service, .. }
            | Verb::Rollback { service }
            | Verb::Strategy { service, .. }
            | Verb::Weights { service, .. }
            | Verb::Shift { service, .. }
            | Verb::Traffic { service, .. } => service.as_ref(),
        };
        let (name, shape) = desired::pick(&self.config, named)?;
        let (name, shape) = (&name.clone(), Arc::clone(shape));
        let Some(from) = decided.target.services.get(name).cloned() else {
            return Err(ChangeError::WhichService {
                known: name.to_string(),
            });
        };
        if let Verb::Traffic { to, .. } = &request.change {
            self.stop_or_open(&mut decided, name, to)?;
            return Ok(decided);
        }
        let is_rollback = matches!(request.change, Verb::Rollback { .. });
        if let Some(governed) = &from.rollout
            && !request.force
            && !is_rollback
        {
            return Err(ChangeError::RolloutRuns {
                service: name.clone(),
                id: governed.id.clone(),
            });
        }
        // decided under the lock: what ran when it was asked for may have been promoted since
        if request.provided == Provided::RolloutRuns && from.rollout.is_none() {
            return Err(ChangeError::NoRollout {
                service: name.clone(),
            });
        }
        let position = desired::moved(name, &from, &request.change)?;
        let is_active = position.active() == from.position.active();
        if request.origin == Origin::Followed && is_active {
            // the file says which color is active, and neither weights nor a failover are its business
            decided.service = Some(name.clone());
            return Ok(decided);
        }
        self.leave_to_the_file(request, name, is_active)?;
        let split_now = from
            .overlay
            .map_or(from.position.split(), crate::domain::Split::all);
        let gaining: Vec<_> =
            desired::gaining(split_now, &from.refused, position.split()).collect();
        // where nobody gains, what a person insists on still carries the traffic, and failover is to leave it there
        let mut forced = from.forced.filter(|color| {
            gaining.is_empty()
                && position.split().weight(*color) > Weight::ZERO
                && self.healed.get(name) != Some(&from.since)
        });
        for color in gaining {
            if let Err(reasons) = self.gate(request, &shape, color).await {
                if !request.force {
                    return Err(ChangeError::Unhealthy {
                        service: name.clone(),
                        color,
                        reasons,
                    });
                }
                decided.front_door = FrontDoor::Skip;
                // failover is not to undo what a person insists on
                forced = Some(color);
            }
        }
        if position != from.position
            || from.overlay.is_some()
            || !from.refused.is_empty()
            || from.rollout.is_some()
        {
            decided.changed.push(name.clone());
            let mut arrived = desired::arrived(&from, position, now);
            arrived.forced = forced;
            decided.target.services.insert(name.clone(), arrived);
        }
        decided.service = Some(name.clone());
        Ok(decided)
    }

    /// Which color is active is the followed file's alone to say; the rest of a position is not in it.
    fn leave_to_the_file(
        &self,
        request: &Request,
        name: &ServiceName,
        is_active: bool,
    ) -> Result<(), ChangeError> {
        let names_the_active = match request.change {
            Verb::Switch { .. } | Verb::Rollback { .. } => true,
            Verb::Strategy { .. } | Verb::Weights { .. } | Verb::Shift { .. } => !is_active,
            Verb::Traffic { .. } | Verb::Apply | Verb::Reload => false,
        };
        match &self.config.follow {
            Some(follow)
                if names_the_active
                    && follow.service == *name
                    && request.origin != Origin::Followed =>
            {
                Err(ChangeError::Followed {
                    service: name.clone(),
                    file: follow.file.clone(),
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// An operator's overlay: the position is not touched, and nobody gains traffic, so nobody is asked. A balancer that knows
    /// nothing but open traffic refuses the others.
    fn stop_or_open(
        &self,
        decided: &mut Decided,
        name: &ServiceName,
        to: &Traffic,
    ) -> Result<(), ChangeError> {
        if !to.is_open() && self.balancer.traffic_use() == TrafficUse::OpenOnly {
            return Err(ChangeError::NotHere {
                what: to.mode().as_str(),
                balancer: self.balancer.kind(),
            });
        }
        if let Some(known) = decided.target.services.get_mut(name)
            && known.traffic != *to
        {
            known.traffic = to.clone();
            decided.changed.push(name.clone());
        }
        decided.service = Some(name.clone());
        Ok(())
    }

    /// One healthy server of `color`, asked now; else each server's reason. The way back thus depends on nothing but the
    /// color it leads to. What is seen goes into the health book: a server that a daemon knows as unhealthy has to pass
    /// `healthy_after` times first, or its traffic would be sent elsewhere at once.
    pub(super) async fn gate(
        &mut self,
        request: &Request,
        shape: &Service,
        color: Color,
    ) -> Result<(), String> {
        let mut reasons = Vec::new();
        let mut healthy = 0_usize;
        for (server, outcome) in super::look::probe_all(shape, color).await {
            let book = self.health.get(&shape.name);
            let mut known = book
                .and_then(|book| book[color].get(&server))
                .map(|(known, _)| known.clone())
                .unwrap_or_default();
            let event = known.observe(&shape.health, &outcome);
            let health = known.health();
            // a rehearsal teaches nothing
            if !request.dry_run {
                if event != HealthEvent::Same {
                    self.learned
                        .push((report(shape, color, &server, &outcome), event));
                }
                let book = self.health.entry(shape.name.clone()).or_default();
                book[color].insert(server.clone(), (known, Timestamp::now()));
            }
            match (outcome, health) {
                (ProbeOutcome::Pass { .. }, Health::Healthy | Health::Unknown) => healthy += 1,
                (ProbeOutcome::Pass { .. }, Health::Unhealthy) => reasons.push(format!(
                    "{server}: it passes again, and counts as healthy after {} in a row",
                    shape.health.healthy_after
                )),
                (ProbeOutcome::Fail(failure), _) => reasons.push(format!("{server}: {failure}")),
            }
        }
        if healthy > 0 {
            Ok(())
        } else {
            Err(reasons.join("; "))
        }
    }

    pub(super) fn outcome(
        &self,
        request: &Request,
        decided: &Decided,
        state: &State,
        plan: Plan,
        started: Instant,
    ) -> Result<Outcome, ChangeError> {
        let service = match &decided.service {
            Some(name) => Some(self.service_status(name, state, &self.complete(state))?),
            None => None,
        };
        Ok(Outcome {
            action: request.change.as_str().to_owned(),
            changed: false,
            dry_run: false,
            generation: state.generation,
            plan,
            service,
            evidence: Vec::new(),
            warnings: Vec::new(),
            duration_ms: milliseconds(started.elapsed()),
        })
    }
}
