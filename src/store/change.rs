//! Writing one change: intent, outcome, `active/SERVICE`, state file, in that order and each synced before the next.
//!
//! What fails before the state file is renamed is undone, so that an error means "nothing changed". A sync that failed is
//! never tried again as if it might have succeeded: the kernel may have thrown the pages away and say yes the next time.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::active::{self, ACTIVE};
use super::journal::{self, Entry, Record, Scope};
use super::lock::LockFile;
use super::recover::{BACKUP, Journal, STATE, STATE_LIMIT, StateFile, Survey, survey};
use super::staged::STAGED;
use super::writer::Writer;
use super::{AuditEntry, DoorSeen, Intent, Outcome, State, Store, StoreError, audit, disk, wire};
use crate::balancer::Applied;
use crate::domain::Generation;

/// Held for one change. Everything that is written goes through it.
#[derive(Debug)]
pub struct ChangeLock {
    directory: PathBuf,
    lock: LockFile,
    journal: Writer,
    condition: Journal,
    file: StateFile,
    /// `None`: it could not be made out.
    state: Option<State>,
    open: Option<Entry>,
    used: Generation,
}

/// An intent that is on disk and not yet settled.
#[derive(Debug)]
#[must_use = "an intent must be committed or given up"]
pub struct Begun {
    target: State,
    active: active::Staged,
    journal_end: u64,
}

impl ChangeLock {
    pub(super) fn new(store: &Store, lock: LockFile) -> Result<Self, StoreError> {
        let directory = store.dir();
        let Survey {
            outcome,
            open,
            file,
            used,
            journal,
            journal_end,
        } = survey(directory, &mut store.kept.read())?;
        let mut taken = Self {
            directory: directory.to_owned(),
            lock,
            journal: Writer::new(directory, journal_end),
            condition: journal,
            file,
            state: outcome.ok().map(|loaded| loaded.state),
            open,
            used,
        };
        taken.sweep()?;
        taken.catch_up()?;
        Ok(taken)
    }

    /// The highest generation that any change ever had, failed ones too.
    pub fn used(&self) -> Generation {
        self.used
    }

    /// Removes what a killed process left behind. Temporaries only.
    fn sweep(&self) -> Result<(), StoreError> {
        for name in [STATE, BACKUP, journal::FILE, "journal.jsonl.1"] {
            disk::remove(&disk::temporary_for(&self.directory.join(name)))?;
        }
        for folder in [ACTIVE, STAGED] {
            let folder = self.directory.join(folder);
            for name in disk::names_in(&folder)? {
                if disk::is_temporary(&name) {
                    disk::remove(&folder.join(name))?;
                }
            }
        }
        Ok(())
    }

    /// A process may have died between its `done` and its state file, or between that and `active/SERVICE`.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        let Some(state) = self.state.take() else {
            return Ok(());
        };
        match self.file {
            StateFile::Unwritten | StateFile::Behind => {
                self.stage(&state)?;
                self.install()
                    .inspect_err(|_| disk::discard(&self.temporary()))?;
                self.file = StateFile::Current;
            }
            StateFile::Current => {}
            // the next change replaces it and keeps it aside; until then it can be looked at where it is
            StateFile::Absent | StateFile::Unusable => {
                self.state = Some(state);
                return Ok(());
            }
        }
        // a folder that cannot be written is told by the next change, which is refused for it
        drop(active::write(&self.directory, &state));
        self.state = Some(state);
        Ok(())
    }

    /// Writes the intent into the journal, and `target` beside the state file and `active/SERVICE`, and syncs them all. When
    /// this fails nothing has been changed.
    pub fn begin(&mut self, intent: Intent, target: &State) -> Result<Begun, StoreError> {
        self.lock.check()?;
        self.check_order(&intent, target)?;
        self.rotate()?;
        let entry = self.entry(intent, target);
        let journal_end = self.journal.end();
        let active = self.stage_all(target)?;
        if let Err(error) = self.journal.append(&Record::Intent(entry.clone())) {
            self.discard(&active);
            return Err(error);
        }
        self.used = self.used.max(target.generation);
        self.open = Some(entry);
        Ok(Begun {
            target: target.clone(),
            active,
            journal_end,
        })
    }

    fn out_of_order(&self, reason: String) -> StoreError {
        StoreError::OutOfOrder {
            path: self.journal.path().to_owned(),
            reason,
        }
    }

    fn check_order(&self, intent: &Intent, target: &State) -> Result<(), StoreError> {
        if intent.generation != target.generation {
            return Err(self.out_of_order(format!(
                "it says generation {} and makes generation {}",
                intent.generation, target.generation
            )));
        }
        if let Some(open) = &self.open {
            return Err(self.out_of_order(format!(
                "generation {} was begun and neither done nor given up",
                open.intent.generation
            )));
        }
        let Some(state) = &self.state else {
            return Ok(());
        };
        if intent.base != state.generation || intent.generation <= state.generation {
            return Err(self.out_of_order(format!(
                "it goes from generation {} to {}, and generation {} is in force",
                intent.base, intent.generation, state.generation
            )));
        }
        Ok(())
    }

    /// Begins the journal anew where it is long or damaged. The old one stays as `.1`.
    fn rotate(&mut self) -> Result<(), StoreError> {
        let Some(state) = &self.state else {
            return Ok(());
        };
        // a snapshot is as long as the state file
        let file = std::fs::metadata(self.path()).map_or(0, |file| file.len());
        let due = self.journal.end() > journal::ROTATE_AT.max(2 * file)
            || (self.condition == Journal::Damaged && self.file == StateFile::Current);
        if due {
            let snapshot = Record::Snapshot {
                state: state.clone(),
                used: self.used,
            };
            self.journal.rotate(&snapshot)?;
            self.condition = Journal::Whole;
        }
        Ok(())
    }

    /// The intent with every difference between what is in force and `target`, whether the caller named it or not: replay
    /// must end at `target` exactly.
    fn entry(&self, mut intent: Intent, target: &State) -> Entry {
        let Some(state) = &self.state else {
            intent.changes.clone_from(&target.services);
            intent.aliases = Some(target.aliases.clone()).filter(|aliases| !aliases.is_empty());
            return Entry {
                intent,
                scope: Scope::Whole,
            };
        };
        let named = std::mem::take(&mut intent.changes);
        let touched = target.services.iter().filter(|(name, after)| {
            named.contains_key(*name) || state.services.get(*name) != Some(*after)
        });
        intent.changes = touched
            .map(|(name, after)| (name.clone(), after.clone()))
            .collect();
        intent.aliases = (state.aliases != target.aliases).then(|| target.aliases.clone());
        let before = state.services.keys();
        let removed = before.filter(|name| !target.services.contains_key(*name));
        Entry {
            intent,
            scope: Scope::Rest {
                removed: removed.cloned().collect(),
            },
        }
    }

    /// Records a proved outcome: done (fsync), then `active/SERVICE`, then the state file. On an error all three are as
    /// before, and the caller must bring the balancer back to the old table and give the intent up.
    pub fn commit(&mut self, begun: &Begun, applied: &Applied) -> Result<(), StoreError> {
        self.record(&begun.target, &begun.active, applied)
    }

    fn record(
        &mut self,
        staged: &State,
        active: &active::Staged,
        applied: &Applied,
    ) -> Result<(), StoreError> {
        let generation = staged.generation;
        if applied.generation() != generation {
            return Err(self.out_of_order(format!(
                "generation {} is proved, not generation {generation}",
                applied.generation()
            )));
        }
        self.lock.check()?;
        let mut target = staged.clone();
        for (name, state) in &mut target.services {
            if state.door == DoorSeen::Pending && applied.routed().contains(name) {
                state.door = DoorSeen::Seen;
            }
        }
        if target != *staged {
            // journalled as it was begun: a crash between here and the rename forgets what was seen, which asks again
            self.stage(&target)?;
        }
        let journal_end = self.journal.end();
        self.journal.append(&Record::Done { generation })?;
        if let Err(error) = active.install().and_then(|()| self.install()) {
            // where even this fails, the `failed` that follows takes the `done` back
            drop(self.journal.truncate(journal_end));
            if let Some(state) = &self.state {
                // likewise: the next holder of the lock brings them to what is recorded
                drop(active::write(&self.directory, state));
            }
            return Err(error);
        }
        self.file = StateFile::Current;
        self.open = None;
        self.state = Some(target);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.directory.join(STATE)
    }

    fn temporary(&self) -> PathBuf {
        disk::temporary_for(&self.path())
    }

    /// Writes the state beside the state file, so that a full disk shows before anything has an effect.
    fn stage(&self, state: &State) -> Result<(), StoreError> {
        let temporary = self.temporary();
        let bytes = wire::encode(state)
            .map_err(|error| disk::failed("encode", &temporary)(error.into()))?;
        disk::write_new(&temporary, &bytes, disk::Sync::Now, disk::Readers::Group)
    }

    /// The same with `active/SERVICE`.
    fn stage_all(&self, state: &State) -> Result<active::Staged, StoreError> {
        self.stage(state)?;
        active::stage(&self.directory, state).inspect_err(|_| disk::discard(&self.temporary()))
    }

    fn discard(&self, active: &active::Staged) {
        disk::discard(&self.temporary());
        active.discard();
    }

    /// Puts what is staged in the state file's place. On an error the state file is as before.
    fn install(&self) -> Result<(), StoreError> {
        let path = self.path();
        let kept = match self.file {
            StateFile::Absent | StateFile::Unwritten => None,
            StateFile::Current | StateFile::Behind => Some(self.directory.join(BACKUP)),
            StateFile::Unusable => Some(self.aside()),
        };
        if let Some(kept) = &kept {
            disk::keep_as(&path, kept, STATE_LIMIT)?;
        }
        disk::rename(&self.temporary(), &path)?;
        disk::sync_directory(&self.directory).inspect_err(|_| {
            // after a failed sync nobody knows which of the two a power cut would leave; the journal, which is about to
            // lose its `done`, decides in either case
            let back = match &kept {
                Some(kept) => disk::keep_as(kept, &path, STATE_LIMIT),
                None => disk::remove(&path),
            };
            drop(back.and_then(|()| disk::sync_directory(&self.directory)));
        })
    }

    /// A name for a state file that cannot be used and must not be lost.
    fn aside(&self) -> PathBuf {
        let now = Timestamp::now().as_millisecond();
        self.directory.join(format!("{STATE}.corrupt-{now}"))
    }

    /// Records that an intent came to nothing. Where that cannot be recorded the intent is taken out of the journal, unless
    /// the balancer was left in between: then it stays open, so that the next holder of the lock looks.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "what was given up cannot be committed any more"
    )]
    pub fn give_up(
        &mut self,
        begun: Begun,
        outcome: Outcome,
        error: &str,
    ) -> Result<(), StoreError> {
        self.discard(&begun.active);
        let failed = Record::Failed {
            generation: begun.target.generation,
            outcome,
            error: error.to_owned(),
        };
        if let Err(error) = self.journal.append(&failed) {
            match outcome {
                Outcome::Unchanged | Outcome::Restored => {
                    self.journal.truncate(begun.journal_end)?;
                }
                Outcome::NotRestored => return Err(error),
            }
        }
        self.open = None;
        Ok(())
    }

    /// Settles an intent that a dead process left open ([`super::Loaded::open`]): as done (its changes are in force by the
    /// given proof; the state is written) …
    pub fn settle_done(&mut self, intent: &Intent, applied: &Applied) -> Result<State, StoreError> {
        let entry = self.open_entry(intent)?;
        let target = entry.outcome(self.state.clone().unwrap_or_default());
        let active = self.stage_all(&target)?;
        self.record(&target, &active, applied)
            .inspect_err(|_| self.discard(&active))?;
        Ok(target)
    }

    /// … or as never done.
    pub fn settle_failed(
        &mut self,
        intent: &Intent,
        outcome: Outcome,
        error: &str,
    ) -> Result<(), StoreError> {
        let generation = self.open_entry(intent)?.intent.generation;
        self.journal.append(&Record::Failed {
            generation,
            outcome,
            error: error.to_owned(),
        })?;
        self.open = None;
        Ok(())
    }

    fn open_entry(&self, intent: &Intent) -> Result<&Entry, StoreError> {
        self.lock.check()?;
        let open = self.open.as_ref();
        open.filter(|open| open.intent.generation == intent.generation)
            .ok_or_else(|| {
                self.out_of_order(format!("generation {} is not open", intent.generation))
            })
    }

    /// Appends to the audit log.
    pub fn audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        audit::append(&self.directory, entry)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}
