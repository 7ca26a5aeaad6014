//! `active/SERVICE`: exactly `blue` or `green`, for scripts that read a file (the `ACTIVE_ENV_FILE` of old).
//!
//! Derived from the state and never read back as one. They change with the state or not at all: a script that takes the
//! old color for the active one deploys onto the one that serves. Readable for all, as such scripts are not root's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{State, StoreError, disk};
use crate::domain::ServiceName;

pub(super) const ACTIVE: &str = "active";
/// Up to here each file is synced by itself; above, one `syncfs` is cheaper than thousands of waits for the disk.
const SYNC_EACH: usize = 8;

/// What `state` makes of the folder, written beside the files and synced: a full disk shows before anything has an effect.
#[derive(Debug)]
#[must_use = "what is staged is installed or discarded"]
pub(super) struct Staged {
    folder: PathBuf,
    changed: Vec<PathBuf>,
    gone: Vec<PathBuf>,
}

impl Staged {
    /// Puts the files in their places. On an error some may already say what is new: see [`write()`].
    pub(super) fn install(&self) -> Result<(), StoreError> {
        for path in &self.changed {
            disk::rename(&disk::temporary_for(path), path)?;
        }
        for path in &self.gone {
            disk::remove(path)?;
        }
        if self.changed.is_empty() && self.gone.is_empty() {
            return Ok(());
        }
        disk::sync_directory(&self.folder)
    }

    /// Removes what was not installed.
    pub(super) fn discard(&self) {
        for path in &self.changed {
            disk::discard(&disk::temporary_for(path));
        }
    }
}

/// Brings every `active/SERVICE` to what `state` says.
pub(super) fn write(directory: &Path, state: &State) -> Result<(), StoreError> {
    let staged = stage(directory, state)?;
    staged.install().inspect_err(|_| staged.discard())
}

/// Prepares every `active/SERVICE` for what `state` says. Only what differs is written; what `state` does not know is to go.
pub(super) fn stage(directory: &Path, state: &State) -> Result<Staged, StoreError> {
    let folder = directory.join(ACTIVE);
    disk::make_directory(&folder, disk::Readers::Anybody)?;
    let mut changed = BTreeMap::new();
    for (name, service) in &state.services {
        let path = folder.join(name.as_str());
        let text = service.position.active().as_str().as_bytes();
        // a link, FIFO or directory in its place is not read but replaced (or refused) by the rename
        let found = disk::read(&path, 16).unwrap_or(None);
        if found.as_deref() != Some(text) {
            changed.insert(path, text);
        }
    }
    let gone = disk::names_in(&folder)?.into_iter().filter(|name| {
        name.parse::<ServiceName>()
            .is_ok_and(|name| !state.services.contains_key(&name))
    });
    let staged = Staged {
        gone: gone.map(|name| folder.join(name)).collect(),
        changed: changed.keys().cloned().collect(),
        folder,
    };
    write_temporaries(&staged.folder, &changed).inspect_err(|_| staged.discard())?;
    Ok(staged)
}

fn write_temporaries(folder: &Path, changed: &BTreeMap<PathBuf, &[u8]>) -> Result<(), StoreError> {
    let sync = if changed.len() > SYNC_EACH {
        disk::Sync::Later
    } else {
        disk::Sync::Now
    };
    for (path, text) in changed {
        disk::write_new(
            &disk::temporary_for(path),
            text,
            sync,
            disk::Readers::Anybody,
        )?;
    }
    if sync == disk::Sync::Later {
        disk::sync_file_system(folder)?;
    }
    Ok(())
}
