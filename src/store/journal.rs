//! The journal, `journal.jsonl`: intents and their outcomes, one sealed JSON object a line, each synced before what follows.
//!
//! A line is only ever added at the end, and cut off again only by who added it and could not go on. A last line without
//! its newline was torn by a crash: readers drop it, and the next writer cuts it off. What the records add up to is
//! `recover`'s to say.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::wire::{self, Defect, ServiceWire, StateWire};
use super::{AliasState, ServiceState, State, StoreError, disk};
use crate::domain::{Generation, ServiceName};

pub(super) const FILE: &str = "journal.jsonl";
/// A switch is about 1 KiB, so some hundred of them; then the journal begins anew with a snapshot, unless that is half as long
/// itself. Each command decodes all of it.
pub(super) const ROTATE_AT: u64 = 128 << 10;
/// One intent for thousands of services may be some MiB long and stand behind `ROTATE_AT`; more was not written here.
pub(super) const READ_LIMIT: u64 = 64 << 20;
/// A balancer's message may be endless.
const ERROR_LIMIT: usize = 4096;

/// What is about to be done: enough to finish it, or to see that it was never done.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// The generation that it makes.
    pub generation: Generation,
    /// The generation that it starts from.
    pub base: Generation,
    /// When.
    pub time: Timestamp,
    /// The verb: `switch`, `weights`, `apply`, `failover` …
    pub action: String,
    /// Who: a token's name, `user@host (cli)`, `turnout` for what it does by itself.
    pub actor: String,
    /// `-m`.
    pub message: Option<String>,
    /// The balancer.
    pub balancer: String,
    /// The state of the services that it changes, as it will be.
    pub changes: BTreeMap<ServiceName, ServiceState>,
    /// All services behind an alias, as they will be; `None`: as they were. What a caller gives is replaced by what the target says.
    pub aliases: Option<BTreeMap<ServiceName, AliasState>>,
}

/// How an intent ended without a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was touched.
    Unchanged,
    /// It was undone, and that was proved.
    Restored,
    /// It could not be undone.
    NotRestored,
}

/// An intent with what the journal needs besides, so that its outcome can be computed from the line alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) intent: Intent,
    pub(super) scope: Scope,
}

/// What an intent says about the services that it does not name.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scope {
    /// They stay as they were in the base, without these.
    Rest { removed: Vec<ServiceName> },
    /// There are none: what was before could not be read.
    Whole,
}

impl Entry {
    /// The state once this is done, from the state at its base.
    pub(super) fn outcome(&self, base: State) -> State {
        let aliases = self.intent.aliases.clone();
        let aliases = aliases.unwrap_or_else(|| match &self.scope {
            Scope::Whole => BTreeMap::new(),
            Scope::Rest { .. } => base.aliases.clone(),
        });
        let mut services = match &self.scope {
            Scope::Whole => BTreeMap::new(),
            Scope::Rest { removed } => {
                let mut services = base.services;
                services.retain(|name, _| !removed.contains(name));
                services
            }
        };
        services.extend(self.intent.changes.clone());
        State {
            generation: self.intent.generation,
            balancer: Some(self.intent.balancer.clone()),
            services,
            aliases,
        }
    }
}

/// One line.
#[derive(Debug)]
pub(super) enum Record {
    /// The whole state, at the beginning of a journal that followed another.
    Snapshot { state: State, used: Generation },
    /// Something is about to be done.
    Intent(Entry),
    /// It was done and proved.
    Done { generation: Generation },
    /// It came to nothing; where it stands behind a `done` of its generation, that was not done after all.
    Failed {
        generation: Generation,
        outcome: Outcome,
        error: String,
    },
    /// A whole line, with this number from 1, that cannot be read.
    Damaged { line: usize },
}

/// The form of a line.
#[derive(Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Line {
    Snapshot {
        time: Timestamp,
        used: Generation,
        state: StateWire,
    },
    Intent(IntentLine),
    Done {
        time: Timestamp,
        generation: Generation,
    },
    Failed {
        time: Timestamp,
        generation: Generation,
        outcome: Outcome,
        error: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IntentLine {
    time: Timestamp,
    generation: Generation,
    base: Generation,
    action: String,
    actor: String,
    message: Option<String>,
    balancer: String,
    changes: BTreeMap<ServiceName, ServiceWire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aliases: Option<BTreeMap<ServiceName, AliasState>>,
    /// `None`: the changes are the whole state.
    removed: Option<Vec<ServiceName>>,
}

impl Record {
    fn to_line(&self, time: Timestamp) -> Result<Line, serde_json::Error> {
        Ok(match self {
            Self::Damaged { .. } => {
                return Err(serde::ser::Error::custom("a damaged line is never written"));
            }
            Self::Snapshot { state, used } => Line::Snapshot {
                time,
                used: *used,
                state: StateWire::from(state),
            },
            Self::Intent(Entry { intent, scope }) => Line::Intent(IntentLine {
                time: intent.time,
                generation: intent.generation,
                base: intent.base,
                action: intent.action.clone(),
                actor: intent.actor.clone(),
                message: intent.message.clone(),
                balancer: intent.balancer.clone(),
                changes: wire::to_wire(&intent.changes),
                aliases: intent.aliases.clone(),
                removed: match scope {
                    Scope::Whole => None,
                    Scope::Rest { removed } => Some(removed.clone()),
                },
            }),
            Self::Done { generation } => Line::Done {
                time,
                generation: *generation,
            },
            Self::Failed {
                generation,
                outcome,
                error,
            } => Line::Failed {
                time,
                generation: *generation,
                outcome: *outcome,
                error: error[..error.floor_char_boundary(ERROR_LIMIT)].to_owned(),
            },
        })
    }

    fn from_line(line: Line) -> Self {
        match line {
            Line::Snapshot { used, state, .. } => Self::Snapshot {
                state: state.into(),
                used,
            },
            Line::Intent(line) => Self::Intent(Entry {
                intent: Intent {
                    generation: line.generation,
                    base: line.base,
                    time: line.time,
                    action: line.action,
                    actor: line.actor,
                    message: line.message,
                    balancer: line.balancer,
                    changes: wire::from_wire(line.changes),
                    aliases: line.aliases,
                },
                scope: line
                    .removed
                    .map_or(Scope::Whole, |removed| Scope::Rest { removed }),
            }),
            Line::Done { generation, .. } => Self::Done { generation },
            Line::Failed {
                generation,
                outcome,
                error,
                ..
            } => Self::Failed {
                generation,
                outcome,
                error,
            },
        }
    }

    /// The line with its newline.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let sealed = wire::seal("v", &self.to_line(Timestamp::now())?)?;
        let mut bytes = serde_json::to_vec(&sealed)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// What stands in the journal.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// One for each whole line, in their order.
    pub(super) all: Vec<Record>,
    /// Where the next line goes: behind the last newline.
    pub(super) end: u64,
    /// How many lines there are, empty ones too.
    lines: usize,
}

/// Reads the journal; a missing one is an empty one. What stands in `kept` and is still there is not decoded again.
pub(super) fn read<'k>(
    directory: &Path,
    kept: &'k mut (Vec<u8>, Records),
) -> Result<&'k Records, StoreError> {
    let path = directory.join(FILE);
    let mut bytes = disk::read(&path, READ_LIMIT)?.unwrap_or_default();
    let (known, mut found) = std::mem::take(kept);
    if !bytes.starts_with(&known) {
        found = Records::default();
    }
    let new = usize::try_from(found.end).unwrap_or(0);
    for line in bytes[new..].split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else {
            break;
        };
        found.end += line.len() as u64 + 1;
        found.lines += 1;
        if line.is_empty() {
            continue;
        }
        match wire::unseal("v", line) {
            Ok(line) => found.all.push(Record::from_line(line)),
            Err(Defect::Damaged(_)) => found.all.push(Record::Damaged { line: found.lines }),
            Err(Defect::Newer(version)) => {
                return Err(StoreError::Newer {
                    path,
                    found: version,
                    known: wire::VERSION,
                });
            }
        }
    }
    bytes.truncate(usize::try_from(found.end).unwrap_or(0));
    *kept = (bytes, found);
    Ok(&kept.1)
}
