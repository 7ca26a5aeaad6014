//! What the files in the state directory add up to, whatever a crash, a full disk or a flipped bit left of them.
//!
//! The journal decides, and the state file is where its replay starts. There are up to three starts, tried in this order:
//! the state file, its backup, and nothing at all (where the journal reaches back to the beginning, or begins with a
//! snapshot). A start is good if every change in the journal that is later than it follows from it without a gap, and if the
//! journal does not say that the start's own generation came to nothing. Where no start is good, nothing is guessed.
//!
//! The order of reading makes this safe without a lock: state file first, journal second, and writers do it the other way
//! round, so a state is never seen without its `done`.

use std::collections::BTreeSet;
use std::path::Path;

use super::journal::{self, Entry, Record, Records, Scope};
use super::kept::Read;
use super::wire::{self, Defect};
use super::{Loaded, Origin, State, StoreError, disk};
use crate::domain::Generation;

pub(super) const STATE: &str = "state.json";
pub(super) const BACKUP: &str = "state.json.bak";
/// Two thousand services are below 1 MiB.
pub(super) const STATE_LIMIT: u64 = 16 << 20;

/// Everything that is known of the state directory.
#[derive(Debug)]
pub(super) struct Survey {
    /// The answer for readers. Its error is always [`StoreError::Corrupt`].
    pub(super) outcome: Result<Loaded, StoreError>,
    /// The open intent with what is needed to finish it.
    pub(super) open: Option<Entry>,
    /// How the state file itself is.
    pub(super) file: StateFile,
    /// The highest generation that is mentioned anywhere.
    pub(super) used: Generation,
    /// Whether the journal has lines that cannot be read.
    pub(super) journal: Journal,
    /// Where its next line goes.
    pub(super) journal_end: u64,
}

/// How the state file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateFile {
    /// There is none.
    Absent,
    /// There is none yet: the first change of all is done, and this is what comes next.
    Unwritten,
    /// It says what is so.
    Current,
    /// It is good, and the journal has a later outcome.
    Behind,
    /// It is damaged, or contradicts the journal. It is kept aside when it is replaced.
    Unusable,
}

/// How the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Journal {
    /// Every line can be read.
    Whole,
    /// Some lines cannot.
    Damaged,
}

/// One place that a state can be read from.
enum Start {
    Missing,
    Damaged(String),
    Read(State),
}

/// The state file, decoded anew only if it has changed.
fn main_start(path: &Path, bytes: Option<&[u8]>, kept: &mut Read) -> Result<Start, StoreError> {
    if let (Some(bytes), Some((known, state))) = (bytes, &kept.state)
        && bytes == known
    {
        return Ok(Start::Read(state.clone()));
    }
    let start = start(path, bytes)?;
    kept.state = match (bytes, &start) {
        (Some(bytes), Start::Read(state)) => Some((bytes.to_owned(), state.clone())),
        (Some(_) | None, _) => None,
    };
    Ok(start)
}

fn start(path: &Path, bytes: Option<&[u8]>) -> Result<Start, StoreError> {
    let Some(bytes) = bytes else {
        return Ok(Start::Missing);
    };
    match wire::decode(bytes) {
        Ok(state) => Ok(Start::Read(state)),
        Err(Defect::Damaged(reason)) => Ok(Start::Damaged(reason)),
        Err(Defect::Newer(found)) => Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known: wire::VERSION,
        }),
    }
}

/// Reads it all. Changes nothing.
pub(super) fn survey(directory: &Path, kept: &mut Read) -> Result<Survey, StoreError> {
    let path = directory.join(STATE);
    let mut bytes = disk::read(&path, STATE_LIMIT)?;
    loop {
        let main = main_start(&path, bytes.as_deref(), kept)?;
        let survey = survey_from(directory, main, kept)?;
        if survey.file == StateFile::Current || survey.file == StateFile::Behind {
            return Ok(survey);
        }
        // a change may have come in between the two readings; the file itself is what tells
        let again = disk::read(&path, STATE_LIMIT)?;
        if again == bytes {
            return Ok(survey);
        }
        bytes = again;
    }
}

fn survey_from(directory: &Path, main: Start, kept: &mut Read) -> Result<Survey, StoreError> {
    let path = directory.join(STATE);
    let journal = journal::read(directory, &mut kept.journal)?;

    let (file, reason) = match main {
        Start::Missing => (StateFile::Absent, "it is missing".to_owned()),
        Start::Damaged(reason) => (StateFile::Unusable, reason),
        Start::Read(state) => {
            let read = state.generation;
            match replay(state, &journal.all) {
                Ok(replayed) => {
                    let file = if replayed.state.generation == read {
                        StateFile::Current
                    } else {
                        StateFile::Behind
                    };
                    return Ok(conclude(journal, file, Origin::File, replayed));
                }
                Err(reason) => (StateFile::Unusable, reason),
            }
        }
    };

    let backup = directory.join(BACKUP);
    let backup = start(&backup, disk::read(&backup, STATE_LIMIT)?.as_deref())?;
    let has_backup = !matches!(backup, Start::Missing);
    // nothing newer than these stands anywhere, so where the journal's end is in doubt they are not good enough
    if let Start::Read(state) = backup
        && let Ok(replayed) = replay(state, &journal.all)
        && replayed.doubt.is_none()
    {
        return Ok(conclude(journal, file, Origin::Backup(reason), replayed));
    }
    if let Ok(replayed) = replay(State::default(), &journal.all)
        && replayed.doubt.is_none()
    {
        let nothing_done = replayed.state.generation == Generation::default();
        if nothing_done && file == StateFile::Absent && !has_backup {
            return Ok(conclude(journal, file, Origin::Fresh, replayed));
        }
        if file == StateFile::Absent && !has_backup && is_first(&replayed.state, &journal.all) {
            let file = StateFile::Unwritten;
            return Ok(conclude(journal, file, Origin::File, replayed));
        }
        // an empty journal beside damaged files is not a journal that reaches back to the beginning
        if !journal.all.is_empty() {
            return Ok(conclude(journal, file, Origin::Journal(reason), replayed));
        }
    }
    Ok(Survey {
        outcome: Err(StoreError::Corrupt { path, reason }),
        open: None,
        file,
        used: highest(Generation::default(), &journal.all),
        journal: condition(&journal.all),
        journal_end: journal.end,
    })
}

/// Whether `state` is what the first change of all made.
fn is_first(state: &State, records: &[Record]) -> bool {
    let mut done = records.iter().filter_map(|record| match record {
        Record::Done { generation } => Some(*generation),
        Record::Snapshot { state, .. } => Some(state.generation),
        Record::Intent(_) | Record::Failed { .. } | Record::Damaged { .. } => None,
    });
    done.next() == Some(state.generation) && done.next().is_none()
}

fn conclude(journal: &Records, file: StateFile, origin: Origin, replayed: Replayed) -> Survey {
    let used = highest(replayed.state.generation, &journal.all);
    let warnings = damaged(&journal.all).map(|line| {
        if replayed.doubt == Some(line) {
            format!(
                "line {line} of {} cannot be read, and nothing behind it shows that no change is lost with it",
                journal::FILE
            )
        } else {
            format!(
                "line {line} of {} cannot be read; the records around it fit together without it",
                journal::FILE
            )
        }
    });
    Survey {
        outcome: Ok(Loaded {
            state: replayed.state,
            origin,
            open: replayed.open.as_ref().map(|entry| entry.intent.clone()),
            used,
            warnings: warnings.collect(),
        }),
        open: replayed.open,
        file,
        used,
        journal: condition(&journal.all),
        journal_end: journal.end,
    }
}

fn damaged(records: &[Record]) -> impl Iterator<Item = usize> {
    records.iter().filter_map(|record| match record {
        Record::Damaged { line } => Some(*line),
        Record::Snapshot { .. }
        | Record::Intent(_)
        | Record::Done { .. }
        | Record::Failed { .. } => None,
    })
}

fn condition(records: &[Record]) -> Journal {
    if damaged(records).next().is_none() {
        Journal::Whole
    } else {
        Journal::Damaged
    }
}

fn highest(state: Generation, records: &[Record]) -> Generation {
    let mentioned = records.iter().map(|record| match record {
        Record::Snapshot { used, .. } => *used,
        Record::Intent(entry) => entry.intent.generation,
        Record::Done { generation } | Record::Failed { generation, .. } => *generation,
        Record::Damaged { .. } => Generation::default(),
    });
    mentioned.fold(state, Ord::max)
}

/// A start brought up to date.
struct Replayed {
    state: State,
    open: Option<Entry>,
    /// A damaged line behind which nothing shows that no change was lost with it.
    doubt: Option<usize>,
}

/// The journal's last word on one generation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastWord {
    None,
    Done,
    NotDone,
}

/// The places of each `done` that a `failed` of the same generation takes back: its state file could not be written.
fn taken_back(records: &[Record]) -> BTreeSet<usize> {
    let mut back = BTreeSet::new();
    let mut last = None;
    for (place, record) in records.iter().enumerate() {
        match record {
            Record::Done { generation } => last = Some((place, *generation)),
            Record::Failed { generation, .. } => back.extend(
                last.take_if(|(_, done)| done == generation)
                    .map(|(place, _)| place),
            ),
            Record::Intent(_) | Record::Snapshot { .. } => last = None,
            Record::Damaged { .. } => {}
        }
    }
    back
}

/// Brings `start` up to date, or says why it is not a state to start from.
fn replay(start: State, records: &[Record]) -> Result<Replayed, String> {
    let first = start.generation;
    let mut word = LastWord::None;
    let mut state = start;
    let mut open: Option<&Entry> = None;
    let mut gap = None;
    let mut doubt = None;
    let taken_back = taken_back(records);

    for (place, record) in records.iter().enumerate() {
        match record {
            Record::Damaged { line } => doubt = Some(*line),
            Record::Snapshot {
                state: snapshot, ..
            } => {
                if snapshot.generation == first {
                    word = LastWord::Done;
                }
                if snapshot.generation >= state.generation {
                    state = snapshot.clone();
                    gap = None;
                }
                (open, doubt) = (None, None);
            }
            Record::Intent(entry) => {
                let intent = &entry.intent;
                open = Some(entry);
                if intent.generation == first {
                    word = LastWord::NotDone;
                }
                if intent.base == first {
                    // nothing is begun on what was not done, so this stands in for a `done` that cannot be read
                    word = LastWord::Done;
                }
                if intent.generation <= state.generation || intent.base == state.generation {
                    doubt = None;
                } else {
                    gap.get_or_insert_with(|| {
                        format!(
                            "it leads to generation {}, and the journal goes on from generation {}",
                            state.generation, intent.base
                        )
                    });
                }
            }
            Record::Done { .. } if taken_back.contains(&place) => {}
            Record::Done { generation } => {
                let entry = open
                    .take()
                    .filter(|entry| entry.intent.generation == *generation);
                if *generation == first {
                    word = LastWord::Done;
                }
                if *generation <= state.generation {
                    doubt = None;
                } else if let Some(entry) = entry {
                    if entry.scope == Scope::Whole {
                        gap = None;
                    }
                    doubt = None;
                    state = entry.outcome(std::mem::take(&mut state));
                } else {
                    gap.get_or_insert_with(|| {
                        format!("the journal does not say what generation {generation} is")
                    });
                }
            }
            Record::Failed { generation, .. } => {
                if *generation == first {
                    word = LastWord::NotDone;
                }
                if open
                    .take_if(|entry| entry.intent.generation == *generation)
                    .is_some()
                {
                    doubt = None;
                }
            }
        }
    }
    if let Some(gap) = gap {
        return Err(gap);
    }
    // a damaged line may have been that word, and a state file is only ever written after it
    if word == LastWord::NotDone && state.generation == first && doubt.is_none() {
        return Err(format!(
            "the journal does not say that its generation {first} was done"
        ));
    }
    let open = open.filter(|entry| entry.intent.generation > state.generation);
    Ok(Replayed {
        state,
        open: open.cloned(),
        doubt,
    })
}
