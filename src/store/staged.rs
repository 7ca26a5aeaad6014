//! What `render` leaves for `reload`: the rendered files and the positions that they were rendered from.
//!
//! `staged/staged.json` is what `reload` reads. The texts beside it, under their own names, are there to be looked at;
//! nothing is ever read back from them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::wire::{self, Defect};
use super::{ChangeLock, Store, StoreError, disk};
use crate::domain::{Generation, Position, ServiceName};

pub(super) const STAGED: &str = "staged";
const FILE: &str = "staged.json";
/// Two thousand services render to some 4 MiB.
const LIMIT: u64 = 256 << 20;

/// What was rendered and not yet installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The generation that it makes.
    pub generation: Generation,
    /// Where each file is to be installed, and its text, in the order of installing.
    pub files: Vec<(PathBuf, String)>,
    /// The position of each service that it was rendered from.
    pub positions: BTreeMap<ServiceName, Position>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StagedWire {
    generation: Generation,
    positions: BTreeMap<ServiceName, Position>,
    files: Vec<FileWire>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWire {
    path: PathBuf,
    text: String,
}

impl Store {
    /// The folder of what is staged.
    pub fn staged_dir(&self) -> PathBuf {
        self.dir().join(STAGED)
    }

    /// What is staged; `None` if nothing is. Needs no lock.
    pub fn load_staged(&self) -> Result<Option<Staged>, StoreError> {
        let path = self.staged_dir().join(FILE);
        let Some(bytes) = disk::read(&path, LIMIT)? else {
            return Ok(None);
        };
        match wire::unseal::<StagedWire>("version", &bytes) {
            Ok(wire) => Ok(Some(Staged {
                generation: wire.generation,
                files: wire
                    .files
                    .into_iter()
                    .map(|file| (file.path, file.text))
                    .collect(),
                positions: wire.positions,
            })),
            Err(Defect::Newer(found)) => Err(StoreError::Newer {
                path,
                found,
                known: wire::VERSION,
            }),
            Err(Defect::Damaged(reason)) => Err(StoreError::Unsafe {
                path,
                reason: format!("{reason}; run `turnout render` again"),
            }),
        }
    }
}

impl ChangeLock {
    /// Keeps what was rendered, in place of what was staged before.
    pub fn save_staged(&mut self, staged: &Staged) -> Result<(), StoreError> {
        self.clear_staged()?;
        let folder = self.directory().join(STAGED);
        disk::make_directory(&folder, disk::Readers::Group)?;
        let mut taken = BTreeSet::from([FILE.to_owned()]);
        for (number, (path, text)) in staged.files.iter().enumerate() {
            let plain = path.file_name().unwrap_or_default().to_string_lossy();
            let mut name = plain.into_owned();
            while !taken.insert(name.clone()) {
                name = format!("{number}-{name}");
            }
            disk::replace(&folder.join(name), text.as_bytes())?;
        }
        let wire = StagedWire {
            generation: staged.generation,
            positions: staged.positions.clone(),
            files: staged
                .files
                .iter()
                .map(|(path, text)| FileWire {
                    path: path.clone(),
                    text: text.clone(),
                })
                .collect(),
        };
        let path = folder.join(FILE);
        let bytes = wire::seal("version", &wire)
            .and_then(|sealed| serde_json::to_vec_pretty(&sealed))
            .map_err(|error| disk::failed("encode", &path)(error.into()))?;
        // last, so that it never speaks of files that are not there
        disk::replace(&path, &bytes)?;
        disk::sync_directory(&folder)
    }

    /// Forgets what is staged; that nothing is, is fine.
    pub fn clear_staged(&mut self) -> Result<(), StoreError> {
        let folder = self.directory().join(STAGED);
        disk::remove(&folder.join(FILE))?;
        for name in disk::names_in(&folder)? {
            disk::remove(&folder.join(name))?;
        }
        Ok(())
    }
}
