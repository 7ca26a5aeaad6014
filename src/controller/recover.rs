//! What a killed process left behind, settled before anything else is done (invariant 10): the journal says what was
//! meant, the balancer is asked what came of it, and the state file follows.
//!
//! | journal | served | what is done |
//! |---|---|---|
//! | no open intent | – | nothing (the lock has brought the files up to date) |
//! | open | the intent's generation | finished: proved again as it is, then recorded |
//! | open, first apply ever | anything else | finished: there is nothing to go back to |
//! | open | anything else | undone: what was in force before is put back as it was, and proved |
//! | open | nobody can be asked | left open, and the command fails: whatever is served later decides |
//!
//! The configuration may have been edited since, so neither way renders anything where the balancer still has it: an edit is
//! a change of its own. Only what the balancer has nothing of any more (the embedded proxy of a new process) is rendered.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::change::outcome_of;
use super::events::Happening;
use super::told::Ended;
use super::{ChangeError, Controller};
use crate::balancer::{
    Applied, ApplyError, Balancer, Change, Foreign, FrontDoor, Progress, Served, Step,
};
use crate::domain::{Generation, Position, RoutingTable, Strategy, describe};
use crate::store::{
    AuditEntry, Begun, ChangeLock, DoorSeen, Intent, Loaded, Origin, Outcome, ServiceState, State,
    StoreError,
};

/// How the problem of a state begins that is not read as it should be.
const STATE: &str = "state: ";

impl<B: Balancer> Controller<B> {
    /// What is remembered. A state that nothing in the state directory can tell any more is read off the balancer.
    pub(super) async fn load(&mut self) -> Result<Loaded, ChangeError> {
        let mut found = Vec::new();
        let loaded = match self.store.load() {
            Ok(loaded) => loaded,
            Err(StoreError::Corrupt { path, reason }) => {
                let error = StoreError::Corrupt {
                    path: path.clone(),
                    reason: reason.clone(),
                };
                let Some(state) = self.state_as_served().await else {
                    return Err(ChangeError::NeedsPerson {
                        what: format!(
                            "{} cannot be read ({reason}), and neither its backup, nor the journal, nor the balancer says where the traffic is",
                            path.display()
                        ),
                        advice: format!(
                            "See which color clients get. Then either put good copies of state.json, state.json.bak and journal.jsonl back into {dir}, or start the balancer and try again, so that it can say; or, to start anew, make that color `active` in the configuration, move all three files away (`mkdir {dir}/broken && mv {dir}/state.json* {dir}/journal.jsonl* {dir}/broken/`) and run `turnout apply --force`",
                            dir = self.store.dir().display()
                        ),
                        source: Some(Box::new(error)),
                    });
                };
                found.push(format!(
                    "{STATE}{} cannot be read ({reason}): the positions were read off the balancer",
                    path.display()
                ));
                let used = state.generation;
                Loaded {
                    state,
                    origin: Origin::Journal(reason),
                    open: None,
                    used,
                    warnings: Vec::new(),
                }
            }
            Err(error) => return Err(error.into()),
        };
        match &loaded.origin {
            Origin::Backup(reason) | Origin::Journal(reason) => {
                found.push(format!("{STATE}the state file was not used: {reason}"));
            }
            Origin::Fresh | Origin::File => {}
        }
        let warnings = loaded.warnings.iter();
        found.extend(warnings.map(|warning| format!("{STATE}{warning}")));
        // what was mended since is a problem no more
        self.problems
            .retain(|known| !known.starts_with(STATE) || found.contains(known));
        for problem in found {
            self.note(problem);
        }
        Ok(loaded)
    }

    /// Says something to people once, however often it is found.
    pub(super) fn note(&mut self, problem: String) {
        if !self.problems.contains(&problem) {
            tracing::warn!("{problem}");
            self.problems.push(problem);
        }
    }

    /// A state from what the balancer serves: the splits it shows, under the configuration's strategies.
    async fn state_as_served(&self) -> Option<State> {
        let Served::Generation { generation, splits } = self.balancer.observe().await.served else {
            return None;
        };
        if generation == Generation::default() {
            return None;
        }
        let now = Timestamp::now();
        let mut services = BTreeMap::new();
        for (name, service) in &self.config.services {
            // one that the balancer does not know yet begins like any new one
            let Some(split) = splits.get(name).copied() else {
                continue;
            };
            let position = match (service.initial.strategy(), split.whole()) {
                (Strategy::BlueGreen, Some(active)) => Position::BlueGreen { active },
                // divided traffic can only have come from canary, whatever the configuration starts with
                (Strategy::BlueGreen | Strategy::Canary, _) => {
                    Position::canary(service.initial.active(), split)
                }
            };
            services.insert(
                name.clone(),
                ServiceState {
                    position,
                    previous: None,
                    overlay: None,
                    refused: BTreeSet::new(),
                    forced: None,
                    shape: None,
                    door: DoorSeen::default(),
                    traffic: crate::domain::Traffic::Open,
                    versions: crate::domain::Colors::default(),
                    rollout: None,
                    since: now,
                },
            );
        }
        Some(State {
            generation,
            balancer: Some(self.balancer.kind().to_owned()),
            services,
            aliases: std::collections::BTreeMap::new(),
        })
    }

    /// Loads, and settles what a dead process left open. The change lock is held, so nobody is at work on it. What a person
    /// has edited since is replaced only where `foreign` says so.
    ///
    /// That is told before it is begun, because whoever stops a change goes by whether a step was told.
    pub(super) async fn settle(
        &mut self,
        lock: &mut ChangeLock,
        foreign: Foreign,
        progress: Progress<'_>,
    ) -> Result<Loaded, ChangeError> {
        let mut loaded = self.load().await?;
        let Some(intent) = loaded.open.take() else {
            return Ok(loaded);
        };
        let observed = self.balancer.observe().await;
        let forward = match &observed.served {
            Served::Generation { generation, .. } if *generation == intent.generation => true,
            Served::Unreachable { reason } => {
                return Err(ApplyError::Unreachable {
                    message: format!(
                        "a {} of generation {} was interrupted, and what came of it cannot be told: {reason}",
                        intent.action, intent.generation
                    ),
                }
                .into());
            }
            Served::Generation { .. } | Served::Foreign { .. } => {
                intent.base == Generation::default()
            }
        };
        progress.tell(
            Step::Restore,
            &format!(
                "an interrupted {} (generation {}) is {} first",
                intent.action,
                intent.generation,
                if forward { "finished" } else { "undone" }
            ),
        );
        let settled = if forward {
            self.finish(lock, &intent, &loaded.state, foreign).await
        } else {
            self.take_back(lock, &intent, &loaded.state, foreign).await
        }?;
        let is_done = settled.generation == intent.generation;
        tracing::warn!(
            action = intent.action,
            generation = intent.generation.0,
            outcome = if is_done { "finished" } else { "undone" },
            "an interrupted change was settled"
        );
        self.audit_settled(lock, &intent, is_done);
        loaded.state = settled;
        Ok(loaded)
    }

    /// The audit line that the dead process did not come to.
    fn audit_settled(&self, lock: &mut ChangeLock, intent: &Intent, is_done: bool) {
        let mut changes = intent.changes.iter();
        let only = match (changes.next(), changes.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        };
        let after = only.filter(|_| is_done).map(|(_, state)| state);
        let active = after.map(|state| state.position.active());
        let message = if is_done {
            "interrupted, and finished by the next command"
        } else {
            "interrupted, and undone by the next command"
        };
        let entry = AuditEntry {
            timestamp: Timestamp::now(),
            service: only.map(|(name, _)| name.clone()),
            environment: active,
            version: after.and_then(|state| state.versions[state.position.active()].clone()),
            action: intent.action.clone(),
            success: is_done,
            message: match &intent.message {
                Some(said) => format!("{said} ({message})"),
                None => message.to_owned(),
            },
            actor: intent.actor.clone(),
            duration_ms: u64::try_from(Timestamp::now().duration_since(intent.time).as_millis())
                .unwrap_or(0),
        };
        self.events.tell(&if is_done {
            Happening::Done(intent)
        } else {
            Happening::Failed(intent, Outcome::Restored, message)
        });
        let ended = if is_done { Ended::Done } else { Ended::Failed };
        self.record(lock, &entry, ended, is_done.then_some(intent.generation));
    }

    async fn finish(
        &mut self,
        lock: &mut ChangeLock,
        intent: &Intent,
        state: &State,
        foreign: Foreign,
    ) -> Result<State, ChangeError> {
        let mut target = state.clone();
        target.generation = intent.generation;
        target.balancer = Some(intent.balancer.clone());
        target.services.extend(intent.changes.clone());
        if let Some(aliases) = &intent.aliases {
            target.aliases.clone_from(aliases);
        }
        match self.bring_back(&target, foreign).await {
            Ok(applied) => Ok(lock.settle_done(intent, &applied)?),
            Err(error) if intent.base == Generation::default() => {
                lock.settle_failed(intent, outcome_of(&error), &describe(&error))?;
                Ok(state.clone())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn take_back(
        &mut self,
        lock: &mut ChangeLock,
        intent: &Intent,
        state: &State,
        foreign: Foreign,
    ) -> Result<State, ChangeError> {
        drop(self.bring_back(state, foreign).await?);
        lock.settle_failed(intent, Outcome::Restored, "interrupted")?;
        Ok(state.clone())
    }

    /// The generation of `state` in force, byte for byte as it was; rendered anew only if the balancer has nothing of it.
    async fn bring_back(&mut self, state: &State, foreign: Foreign) -> Result<Applied, ApplyError> {
        match self.balancer.revert(state.generation, foreign).await? {
            Some(applied) => {
                for warning in applied.warnings() {
                    tracing::warn!("{warning}");
                }
                Ok(applied)
            }
            None => self.put(&self.table(&self.complete(state)), foreign).await,
        }
    }

    /// Puts a table back without asking front doors: its colors may be down by now.
    async fn put(&mut self, table: &RoutingTable, foreign: Foreign) -> Result<Applied, ApplyError> {
        let rendered = self
            .balancer
            .render(table)
            .map_err(|error| ApplyError::Unchanged {
                message: describe(&error),
                source: None,
            })?;
        let change = Change {
            desired: table,
            rendered: &rendered,
            previous: None,
            front_door: FrontDoor::Skip,
            unseen: &BTreeSet::new(),
            foreign,
            progress: Progress::silent(),
        };
        let applied = self.balancer.apply(change).await?;
        for warning in applied.warnings() {
            tracing::warn!("{warning}");
        }
        self.proved = Some(table.clone());
        Ok(applied)
    }

    /// A balancer that lives in this process starts empty: the recorded table goes back into it as it was, which is no
    /// change and gets no generation.
    pub(super) async fn resume(&mut self) -> Result<(), ChangeError> {
        let holder = crate::store::Holder::current("turnout serve", None);
        let mut lock = self
            .store
            .lock(holder, std::time::Duration::from_secs(10))
            .await?;
        let loaded = self
            .settle(&mut lock, Foreign::Refuse, Progress::silent())
            .await?;
        let Some(table) = self.current_table(&loaded.state) else {
            return Ok(());
        };
        if self.proved.as_ref() != Some(&table) {
            drop(self.put(&table, Foreign::Refuse).await?);
        }
        Ok(())
    }

    /// The state file could not be written after the proof: the balancer goes back to what the state says.
    pub(super) async fn undo(
        &mut self,
        lock: &mut ChangeLock,
        begun: Begun,
        state: &State,
        error: StoreError,
    ) -> ChangeError {
        let undone = if state.generation == Generation::default() {
            // nothing is recorded that could be rendered
            match self
                .balancer
                .revert(state.generation, Foreign::Replace)
                .await
            {
                Ok(None) => return self.unrecorded_first(error),
                reverted => reverted.map(|_applied| ()),
            }
        } else {
            self.bring_back(state, Foreign::Replace)
                .await
                .map(|_applied| ())
        };
        match undone {
            Ok(()) => {
                if let Err(second) = lock.give_up(begun, Outcome::Restored, &describe(&error)) {
                    // the journal still holds the intent, open; the next command sees the old generation served and closes it
                    tracing::warn!(
                        error = describe(&second),
                        "the journal could not be written"
                    );
                }
                error.into()
            }
            Err(second) => ChangeError::NeedsPerson {
                what: format!(
                    "the change could not be recorded ({}) and could not be undone ({})",
                    describe(&error),
                    describe(&second)
                ),
                advice: format!(
                    "Make {} writable, then run `turnout verify` and `turnout apply`",
                    self.store.dir().display()
                ),
                source: Some(Box::new(error)),
            },
        }
    }

    fn unrecorded_first(&self, error: StoreError) -> ChangeError {
        ChangeError::NeedsPerson {
            what: format!(
                "the balancer serves the first configuration, but that could not be recorded: {}",
                describe(&error)
            ),
            advice: format!(
                "Make {} writable, then run `turnout apply`, which finishes it",
                self.store.dir().display()
            ),
            source: Some(Box::new(error)),
        }
    }
}
