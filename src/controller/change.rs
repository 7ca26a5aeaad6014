//! One change, from the lock to the record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::alias::AliasBook;
use super::decide::{Decided, Scope, taken_along};
use super::events::{Events, Happening};
use super::health::Unmet;
use super::status::HealthBook;
use super::{ChangeError, Feed, Meter, Outcome, Request, RolloutStatus, Verb, desired};
use crate::balancer::{Applied, ApplyError, Balancer, Change, Disk, Foreign, Progress, Rendered};
use crate::config::Config;
use crate::domain::{Color, HealthEvent, RoutingTable, ServiceName, ShapeDigest};
use crate::plan::Plan;
use crate::render::Head;
use crate::store::{
    ChangeLock, DoorSeen, Holder, Intent, Loaded, Origin as Recorded, Outcome as Undone, State,
    Store,
};

/// The one owner of the state.
#[derive(Debug)]
pub struct Controller<B> {
    pub(super) config: Arc<Config>,
    /// The digests of its services.
    pub(super) shapes: BTreeMap<ServiceName, ShapeDigest>,
    pub(super) store: Store,
    /// Shared with the waits for a drain, which outlast the change.
    pub(super) balancer: Arc<B>,
    /// What probes found; empty where no daemon probes.
    pub(super) health: HealthBook,
    /// What was seen of aliases.
    pub(super) aliases: AliasBook,
    /// The table that this process saw proved last.
    pub(super) proved: Option<RoutingTable>,
    /// Services whose forced color was seen healthy since they were moved then, so that failover may act again although that
    /// is not recorded yet.
    pub(super) healed: BTreeMap<ServiceName, Timestamp>,
    /// What health asks for and could not be brought about.
    pub(super) unmet: Option<Unmet>,
    /// Changes of health that were seen in gates, which nobody has heeded yet.
    pub(super) learned: Vec<(crate::probe::Report, HealthEvent)>,
    /// The color that the followed file named last: where a service begins of which nothing is recorded.
    pub(super) followed: Option<Color>,
    /// What a person should know: a configuration that was not taken, a state read from its backup.
    pub(super) problems: Vec<String>,
    /// Who listens hears what is done here.
    pub(super) events: Events,
    /// The command line that stands in the lock while it is held.
    pub(super) command: String,
    /// What is counted for metrics.
    pub(super) meter: Meter,
    /// The newest rollout of each service that has had one, in brief.
    pub(super) walks: BTreeMap<ServiceName, Arc<RolloutStatus>>,
    /// Who tells how both colors of a rollout do, where the balancer does not count in this process.
    pub(super) feed: Option<Feed>,
}

impl<B: Balancer> Controller<B> {
    /// A controller over a state directory. `command` is what the lock says of its holder, such as `turnout serve`.
    pub fn new(config: Arc<Config>, store: Store, balancer: B, command: impl Into<String>) -> Self {
        Self {
            shapes: desired::shapes(&config),
            config,
            store,
            balancer: Arc::new(balancer),
            health: HealthBook::new(),
            aliases: AliasBook::new(),
            proved: None,
            healed: BTreeMap::new(),
            unmet: None,
            learned: Vec::new(),
            followed: None,
            problems: Vec::new(),
            events: Events::default(),
            command: command.into(),
            meter: Meter::default(),
            walks: BTreeMap::new(),
            feed: None,
        }
    }

    /// What the followed file says now, if it says anything: a service of which nothing is recorded begins there and not at the
    /// configuration's `active`.
    #[must_use]
    pub fn following(self, followed: Option<Color>) -> Self {
        Self { followed, ..self }
    }

    /// Who tells how both colors of a rollout do, in the place of what the balancer counts itself.
    #[must_use]
    pub fn fed_by(self, feed: Feed) -> Self {
        Self {
            feed: Some(feed),
            ..self
        }
    }

    /// The configuration in use.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// One change, from lock to record, and the wait for the color that was left where that is asked for.
    pub async fn change(
        &mut self,
        request: &Request,
        progress: Progress<'_>,
    ) -> Result<Outcome, ChangeError> {
        // on the heap: it is held across two waits here
        let result = Box::pin(self.make(request, progress)).await;
        self.audit_without_lock(request, &result);
        let outcome = result?;
        if let Some(drain) = self.drain_after(request, &outcome) {
            drain.wait().await?;
        }
        Ok(outcome)
    }

    /// One change, from lock to record; waits for no drain. Whatever happens, the audit log has a line of it unless it was a
    /// dry run, or the lock was not had: who gives up waiting for it writes that line (`audit_without_lock`).
    pub(super) async fn make(
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
        let loaded = self.settle(lock, request.foreign(), progress).await?;
        let decided = self.decide(request, &loaded).await?;
        let current = self.complete(&loaded.state);
        if decided.changed.is_empty()
            && decided.staged.is_none()
            // a state that was not read from its file is written anew
            && matches!(loaded.origin, Recorded::Fresh | Recorded::File)
            && self.in_force(&loaded.state).await
        {
            let mut outcome = self.outcome(
                request,
                &decided,
                &loaded.state,
                Plan::empty(current.generation),
                started,
            )?;
            if request.change == Verb::Reload {
                outcome.warnings.extend(forget_staged(lock));
            }
            return Ok(outcome);
        }
        let (plan, applied) = self
            .put_into_force(lock, &decided, &loaded, progress)
            .await?;
        let mut warnings = taken_along(&plan, decided.service.as_ref());
        warnings.extend_from_slice(applied.warnings());
        if decided.staged.is_some() {
            warnings.extend(forget_staged(lock));
        }
        let mut outcome = self.outcome(request, &decided, &decided.target, plan, started)?;
        outcome.changed = true;
        outcome.evidence = applied.evidence().to_vec();
        outcome.warnings = warnings;
        Ok(outcome)
    }

    /// Journal, balancer, journal, state file.
    pub(super) async fn put_into_force(
        &mut self,
        lock: &mut ChangeLock,
        decided: &Decided,
        loaded: &Loaded,
        progress: Progress<'_>,
    ) -> Result<(Plan, Applied), ChangeError> {
        let table = self.table(&decided.target);
        let rendered = self.balancer.render(&table)?;
        let current = self.current_table(&loaded.state);
        let plan = self.plan_to(&loaded.state, &table)?;
        let intent = Intent {
            aliases: None,
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
        let begun = lock.begin(intent.clone(), &decided.target)?;
        self.events.tell(&Happening::Intent(&intent));
        // who names a service wants its clients moved; a whole apply only writes what they will come through
        let unseen = match &decided.service {
            None => pending(&decided.target),
            Some(_) => BTreeSet::new(),
        };
        let change = Change {
            desired: &table,
            rendered: &rendered,
            previous: match decided.scope {
                Scope::All => self.proved.as_ref(),
                Scope::Changed => current.as_ref(),
            },
            front_door: decided.front_door,
            unseen: &unseen,
            foreign: decided.foreign,
            progress,
        };
        let applied = match self.apply(change).await {
            Ok(applied) => applied,
            Err(error) => {
                let text = crate::domain::describe(&error);
                let outcome = outcome_of(&error);
                self.events
                    .tell(&Happening::Failed(&intent, outcome, &text));
                if let Err(second) = lock.give_up(begun, outcome, &text) {
                    // how the balancer was left is what has to be told; the intent stays open, and whoever comes next looks
                    tracing::warn!(
                        error = crate::domain::describe(&second),
                        "the journal could not be written"
                    );
                }
                return Err(error.into());
            }
        };
        match lock.commit(&begun, &applied) {
            Ok(()) => {
                self.proved = Some(table);
                self.events.tell(&Happening::Done(&intent));
                Ok((plan, applied))
            }
            Err(error) => {
                let text = crate::domain::describe(&error);
                let error = self.undo(lock, begun, &loaded.state, error).await;
                let outcome = if matches!(error, ChangeError::NeedsPerson { .. }) {
                    Undone::NotRestored
                } else {
                    Undone::Restored
                };
                self.events
                    .tell(&Happening::Failed(&intent, outcome, &text));
                Err(error)
            }
        }
    }

    /// A file that is not as turnout left it stops a change before its intent is written.
    pub(super) async fn refuse_edited(&self, rendered: &Rendered) -> Result<(), ApplyError> {
        let (path, what) = match self.balancer.observe().await.disk {
            Some(Disk::Edited { generation, path }) => (
                path,
                format!("was edited by hand since generation {generation}"),
            ),
            Some(Disk::Foreign) => {
                let mut files = rendered.files.iter();
                let foreign = files.find(|file| is_foreign(&file.path));
                let path = foreign.or(rendered.files.first());
                let path = path.map(|file| file.path.clone()).unwrap_or_default();
                (path, "was not written by turnout".to_owned())
            }
            Some(Disk::Intact { .. } | Disk::Absent | Disk::Unreadable { .. }) | None => {
                return Ok(());
            }
        };
        Err(ApplyError::Edited { path, what })
    }
}

/// True if somebody else's work stands there: of several files that is the one to name.
fn is_foreign(path: &Path) -> bool {
    std::fs::read_to_string(path)
        .is_ok_and(|text| !text.trim().is_empty() && matches!(Head::of(&text), Head::Foreign))
}

/// What was staged is in force, so that a second `reload` has nothing to do. That it cannot be removed unmakes nothing.
fn forget_staged(lock: &mut ChangeLock) -> Option<String> {
    let error = lock.clear_staged().err()?;
    Some(format!("what was staged could not be removed: {error}"))
}

/// The services whose front door was never seen to lead to turnout.
pub(super) fn pending(state: &State) -> BTreeSet<ServiceName> {
    state
        .services
        .iter()
        .filter(|(_, known)| known.door == DoorSeen::Pending)
        .map(|(name, _)| name.clone())
        .collect()
}

/// How an error leaves things, in the journal's words.
pub(super) fn outcome_of(error: &ApplyError) -> Undone {
    match error {
        ApplyError::Refused { .. }
        | ApplyError::Unreachable { .. }
        | ApplyError::NotPermitted { .. }
        | ApplyError::Edited { .. }
        | ApplyError::Unchanged { .. } => Undone::Unchanged,
        ApplyError::Restored { .. } => Undone::Restored,
        ApplyError::NotRestored { .. } => Undone::NotRestored,
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
