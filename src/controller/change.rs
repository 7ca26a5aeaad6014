//! One change, from the lock to the record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::request::Origin;
use super::status::HealthBook;
use super::{ChangeError, Outcome, Request, Verb, desired};
use crate::balancer::{
    Applied, ApplyError, Balancer, Change, Disk, Drained, Foreign, FrontDoor, Progress, Rendered,
    ServerHealthUse,
};
use crate::config::Config;
use crate::domain::{Color, Generation, RoutingTable, ServiceName};
use crate::plan::Plan;
use crate::store::{AuditEntry, ChangeLock, Holder, Intent, Loaded, Staged, State, Store};

/// The one owner of the state.
#[derive(Debug)]
pub struct Controller<B> {
    pub(super) config: Arc<Config>,
    pub(super) store: Store,
    pub(super) balancer: B,
    /// What probes found; empty where no daemon probes.
    pub(super) health: HealthBook,
    /// The table that this process saw proved last.
    pub(super) proved: Option<RoutingTable>,
    /// What a person should know: a configuration that was not taken, a state read from its backup.
    pub(super) problems: Vec<String>,
    /// The command line that stands in the lock while it is held.
    command: String,
}

/// A change that was decided and not yet made.
pub(super) struct Decided {
    /// The verb, for journal and audit.
    pub(super) action: &'static str,
    /// Who wants it.
    pub(super) actor: String,
    /// `-m`.
    pub(super) message: Option<String>,
    /// The service that was named.
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

impl<B: Balancer> Controller<B> {
    /// A controller over a state directory. `command` is what the lock says of its holder, such as `turnout serve`.
    pub fn new(config: Arc<Config>, store: Store, balancer: B, command: impl Into<String>) -> Self {
        Self {
            config,
            store,
            balancer,
            health: HealthBook::new(),
            proved: None,
            problems: Vec::new(),
            command: command.into(),
        }
    }

    /// The configuration in use.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// One change, from lock to record. Whatever happens, the audit log has a line of it unless the lock was not had or
    /// it was a dry run.
    pub async fn change(
        &mut self,
        request: &Request,
        progress: Progress<'_>,
    ) -> Result<Outcome, ChangeError> {
        let started = Instant::now();
        if request.dry_run {
            return self.rehearse(request, started).await;
        }
        let holder = Holder::current(
            &format!("{} {}", self.command, request.change.as_str()),
            request.message.clone(),
        );
        let mut lock = self.store.lock(holder, request.lock_wait).await?;
        let result = self
            .change_locked(&mut lock, request, progress, started)
            .await;
        self.audit(&mut lock, request, &result, started);
        result
    }

    async fn change_locked(
        &mut self,
        lock: &mut ChangeLock,
        request: &Request,
        progress: Progress<'_>,
        started: Instant,
    ) -> Result<Outcome, ChangeError> {
        let loaded = self.settle(lock).await?;
        let decided = self.decide(request, &loaded).await?;
        let current = self.complete(&loaded.state);
        if decided.changed.is_empty()
            && decided.staged.is_none()
            && self.in_force(&loaded.state).await
        {
            return self.outcome(
                request,
                &decided,
                &loaded.state,
                Plan::empty(current.generation),
                started,
            );
        }
        let (plan, applied, mut warnings) = self
            .put_into_force(lock, &decided, &loaded, progress)
            .await?;
        warnings.extend(applied.warnings().iter().cloned());
        if decided.staged.is_some()
            && let Err(error) = lock.clear_staged()
        {
            warnings.push(format!("what was staged could not be removed: {error}"));
        }
        if let (true, Some(name)) = (request.wait_drained, &decided.service)
            && let Some(state) = decided.target.services.get(name)
        {
            self.wait_drained(name, !state.position.active()).await?;
        }
        let mut outcome = self.outcome(request, &decided, &decided.target, plan, started)?;
        outcome.changed = true;
        outcome.evidence = applied.evidence().to_vec();
        outcome.warnings = warnings;
        Ok(outcome)
    }

    /// What the change would be, without the lock and without touching anything.
    async fn rehearse(
        &mut self,
        request: &Request,
        started: Instant,
    ) -> Result<Outcome, ChangeError> {
        let loaded = self.load().await?;
        let decided = self.decide(request, &loaded).await?;
        let table = self.table(&decided.target);
        let rendered = self.balancer.render(&table)?;
        let current = self.current_table(&loaded.state);
        let mut plan = Plan::between(current.as_ref(), &table);
        let mut warnings = Vec::new();
        let shape_differs = !self.files_agree(&loaded.state)?;
        if plan.is_empty() && !shape_differs {
            plan.to = plan.from;
        } else {
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
    async fn decide(&mut self, request: &Request, loaded: &Loaded) -> Result<Decided, ChangeError> {
        let now = Timestamp::now();
        let mut target = desired::complete(&self.config, &loaded.state, now);
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
                | Verb::Shift { .. } => Scope::Changed,
            },
            // the way back does not wait for somebody to look at an edited file: a copy of it is kept
            foreign: match request.change {
                Verb::Rollback { .. } => Foreign::Replace,
                _ if request.force => Foreign::Replace,
                _ => Foreign::Refuse,
            },
            staged: None,
        };
        let named = match &request.change {
            Verb::Apply => return Ok(decided),
            Verb::Reload => {
                let staged = self.staged(&loaded.state, &decided.target)?;
                decided.target.generation = staged.generation;
                decided.staged = Some(staged);
                return Ok(decided);
            }
            Verb::Switch { service, .. }
            | Verb::Rollback { service }
            | Verb::Strategy { service, .. }
            | Verb::Weights { service, .. }
            | Verb::Shift { service, .. } => service.as_ref(),
        };
        let (name, shape) = desired::pick(&self.config, named)?;
        if let Some(follow) = &self.config.follow
            && follow.service == *name
            && request.origin != Origin::Followed
        {
            return Err(ChangeError::Followed {
                service: name.clone(),
                file: follow.file.clone(),
            });
        }
        let Some(from) = decided.target.services.get(name).cloned() else {
            return Err(ChangeError::WhichService {
                known: name.to_string(),
            });
        };
        let position = desired::moved(name, &from, &request.change)?;
        let split_now = from
            .overlay
            .map_or(from.position.split(), crate::domain::Split::all);
        let gaining: Vec<_> = desired::gaining(split_now, position.split()).collect();
        for color in gaining {
            if let Err(reasons) = self.gate(shape, color).await {
                if !request.force {
                    return Err(ChangeError::Unhealthy {
                        service: name.clone(),
                        color,
                        reasons,
                    });
                }
                decided.front_door = FrontDoor::Skip;
            }
        }
        if position != from.position || from.overlay.is_some() {
            decided.changed.push(name.clone());
            decided
                .target
                .services
                .insert(name.clone(), desired::arrived(&from, position, now));
        }
        decided.service = Some(name.clone());
        Ok(decided)
    }

    /// One healthy server of `color`, asked now; else each server's reason. The way back thus depends on nothing but the
    /// color it leads to.
    async fn gate(&self, shape: &crate::domain::Service, color: Color) -> Result<(), String> {
        let mut reasons = Vec::new();
        for (server, outcome) in super::look::probe_all(shape, color).await {
            match outcome {
                crate::domain::ProbeOutcome::Pass { .. } => return Ok(()),
                crate::domain::ProbeOutcome::Fail(failure) => {
                    reasons.push(format!("{server}: {failure}"));
                }
            }
        }
        Err(reasons.join("; "))
    }

    /// Journal, balancer, journal, state file.
    pub(super) async fn put_into_force(
        &mut self,
        lock: &mut ChangeLock,
        decided: &Decided,
        loaded: &Loaded,
        progress: Progress<'_>,
    ) -> Result<(Plan, Applied, Vec<String>), ChangeError> {
        let table = self.table(&decided.target);
        let rendered = self.balancer.render(&table)?;
        let current = self.current_table(&loaded.state);
        let plan = Plan::between(current.as_ref(), &table);
        let intent = Intent {
            generation: table.generation,
            base: loaded.state.generation,
            time: Timestamp::now(),
            action: decided.action.to_owned(),
            actor: decided.actor.clone(),
            message: decided.message.clone(),
            balancer: self.balancer.kind().to_owned(),
            changes: decided
                .target
                .services
                .iter()
                .filter(|(name, state)| loaded.state.services.get(*name) != Some(state))
                .map(|(name, state)| (name.clone(), state.clone()))
                .collect(),
        };
        if decided.foreign == Foreign::Refuse {
            self.refuse_edited(&rendered).await?;
        }
        let begun = lock.begin(intent, &decided.target)?;
        let change = Change {
            desired: &table,
            rendered: &rendered,
            previous: match decided.scope {
                Scope::All => self.proved.as_ref(),
                Scope::Changed => current.as_ref(),
            },
            front_door: decided.front_door,
            foreign: decided.foreign,
            progress,
        };
        let applied = match self.balancer.apply(change).await {
            Ok(applied) => applied,
            Err(error) => {
                let text = crate::domain::describe(&error);
                lock.give_up(begun, outcome_of(&error), &text)?;
                return Err(error.into());
            }
        };
        match lock.commit(&begun, &applied) {
            Ok(warnings) => {
                self.proved = Some(table);
                Ok((plan, applied, warnings))
            }
            Err(error) => Err(self.undo(lock, begun, &loaded.state, error).await),
        }
    }

    /// A file that is not as turnout left it stops a change before its intent is written.
    async fn refuse_edited(&self, rendered: &Rendered) -> Result<(), ApplyError> {
        let what = match self.balancer.observe().await.disk {
            Some(Disk::Edited { generation }) => {
                format!("was edited by hand since generation {generation}")
            }
            Some(Disk::Foreign) => "was not written by turnout".to_owned(),
            Some(Disk::Intact { .. } | Disk::Absent | Disk::Unreadable { .. }) | None => {
                return Ok(());
            }
        };
        let path = rendered
            .files
            .first()
            .map(|file| file.path.clone())
            .unwrap_or_default();
        Err(ApplyError::Edited { path, what })
    }

    /// Waits for the color that was left, where that was asked for.
    async fn wait_drained(&self, name: &ServiceName, left: Color) -> Result<(), ChangeError> {
        let (_, shape) = desired::pick(&self.config, Some(name))?;
        // a second more than the drain itself, for the balancer to be seen to have done it
        let within = shape.timeouts.drain + Duration::from_secs(1);
        match self.balancer.drained(name, left, within).await {
            Drained::Done => Ok(()),
            Drained::Busy { what } => Err(ChangeError::NotDrained {
                service: name.clone(),
                color: left,
                what,
            }),
        }
    }

    /// The audit line of a change that was made or refused. A failure to write it does not unmake the change, so it is
    /// logged and no more.
    fn audit(
        &self,
        lock: &mut ChangeLock,
        request: &Request,
        result: &Result<Outcome, ChangeError>,
        started: Instant,
    ) {
        // what turnout tries by itself it tries again: its failures are in status and log
        if matches!(result, Ok(outcome) if !outcome.changed)
            || (result.is_err() && request.origin == Origin::Turnout)
        {
            return;
        }
        let status = result
            .as_ref()
            .ok()
            .and_then(|outcome| outcome.service.as_ref());
        let named = match &request.change {
            Verb::Switch { service, .. }
            | Verb::Rollback { service }
            | Verb::Strategy { service, .. }
            | Verb::Weights { service, .. }
            | Verb::Shift { service, .. } => desired::pick(&self.config, service.as_ref())
                .ok()
                .map(|(name, _)| name.clone()),
            Verb::Apply | Verb::Reload => None,
        };
        let entry = AuditEntry {
            timestamp: Timestamp::now(),
            service: named,
            environment: status.map(|status| status.active),
            version: status.and_then(|status| status.versions[status.active].clone()),
            action: request.change.as_str().to_owned(),
            success: result.is_ok(),
            message: match result {
                Ok(_) => request.message.clone().unwrap_or_default(),
                Err(error) => crate::domain::describe(error),
            },
            actor: request.actor.clone(),
            duration_ms: milliseconds(started.elapsed()),
        };
        if let Err(error) = lock.audit(&entry) {
            tracing::warn!(
                error = crate::domain::describe(&error),
                "the audit log could not be written"
            );
        }
    }

    fn outcome(
        &self,
        request: &Request,
        decided: &Decided,
        state: &State,
        plan: Plan,
        started: Instant,
    ) -> Result<Outcome, ChangeError> {
        let service = match &decided.service {
            Some(name) => Some(self.service_status(name, state)?),
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

    /// The configuration for the current position, rendered and not installed (`render --to`, `diff`). With the
    /// generation in force, so that what is the same renders the same.
    pub async fn render(&mut self) -> Result<Rendered, ChangeError> {
        let loaded = self.load().await?;
        Ok(self
            .balancer
            .render(&self.table(&self.complete(&loaded.state)))?)
    }

    /// The next generation, rendered and kept under `state.dir/staged` for `reload`. Returns it and its folder.
    pub async fn stage(
        &mut self,
        message: Option<String>,
        lock_wait: Duration,
    ) -> Result<(Rendered, std::path::PathBuf), ChangeError> {
        let holder = Holder::current(&format!("{} render", self.command), message);
        let mut lock = self.store.lock(holder, lock_wait).await?;
        let loaded = self.settle(&mut lock).await?;
        let mut target = self.complete(&loaded.state);
        target.generation = loaded.used.next();
        let rendered = self.balancer.render(&self.table(&target))?;
        let staged = Staged {
            generation: rendered.generation,
            files: rendered
                .files
                .iter()
                .map(|file| (file.path.clone(), file.text.clone()))
                .collect(),
            positions: self
                .config
                .services
                .keys()
                .filter_map(|name| {
                    target
                        .services
                        .get(name)
                        .map(|state| (name.clone(), state.position))
                })
                .collect(),
        };
        lock.save_staged(&staged)?;
        Ok((rendered, self.store.dir().join("staged")))
    }

    /// What is staged, if it is what would be rendered now.
    fn staged(&self, state: &State, target: &State) -> Result<Staged, ChangeError> {
        let staged = self
            .store
            .load_staged()?
            .ok_or(ChangeError::NothingStaged)?;
        let outdated = |why: &str| {
            Err(ChangeError::StagedOutdated {
                staged: staged.generation,
                why: why.to_owned(),
            })
        };
        if staged.generation <= state.generation {
            return outdated(&format!("generation {} is in force", state.generation));
        }
        let mut then = target.clone();
        then.generation = staged.generation;
        let now = self.balancer.render(&self.table(&then))?;
        let same = now.files.len() == staged.files.len()
            && now
                .files
                .iter()
                .zip(&staged.files)
                .all(|(now, (path, text))| now.path == *path && now.text == *text);
        if same {
            Ok(staged)
        } else {
            outdated("configuration, template or position have changed since it was staged")
        }
    }

    pub(super) fn complete(&self, state: &State) -> State {
        desired::complete(&self.config, state, Timestamp::now())
    }

    pub(super) fn table(&self, state: &State) -> RoutingTable {
        let none = HealthBook::new();
        let health = match self.balancer.server_health() {
            ServerHealthUse::Probes => &self.health,
            ServerHealthUse::Own => &none,
        };
        desired::table(&self.config, state, state.generation, health)
    }

    /// The table in force, with the shapes of the present configuration; `None` before the first apply.
    pub(super) fn current_table(&self, state: &State) -> Option<RoutingTable> {
        if state.generation == Generation::default() {
            return None;
        }
        let mut table = self.table(state);
        table
            .routes
            .retain(|name, _| state.services.contains_key(name));
        Some(table)
    }
}

/// How an error leaves things, in the journal's words.
pub(super) fn outcome_of(error: &ApplyError) -> crate::store::Outcome {
    match error {
        ApplyError::Refused { .. }
        | ApplyError::Unreachable { .. }
        | ApplyError::NotPermitted { .. }
        | ApplyError::Edited { .. }
        | ApplyError::Unchanged { .. } => crate::store::Outcome::Unchanged,
        ApplyError::Restored { .. } => crate::store::Outcome::Restored,
        ApplyError::NotRestored { .. } => crate::store::Outcome::NotRestored,
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
