//! `active/SERVICE`: exactly `blue` or `green`, for scripts that read a file (the `ACTIVE_ENV_FILE` of old).
//!
//! Derived from the state and never read back as one: a change stands whether or not these could be written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{State, StoreError, disk};
use crate::domain::ServiceName;

pub(super) const ACTIVE: &str = "active";
/// Up to here each file is synced by itself; above, one `syncfs` is cheaper than thousands of waits for the disk.
const SYNC_EACH: usize = 8;

/// Brings every `active/SERVICE` to what `state` says. Only what differs is written; what `state` does not know is removed.
pub(super) fn write(directory: &Path, state: &State) -> Result<(), StoreError> {
    let folder = directory.join(ACTIVE);
    disk::make_directory(&folder)?;
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
    for name in gone {
        disk::remove(&folder.join(name))?;
    }
    if changed.is_empty() {
        return Ok(());
    }
    replace_all(&folder, &changed).inspect_err(|_| {
        for path in changed.keys() {
            disk::discard(&disk::temporary_for(path));
        }
    })
}

/// Writes all temporaries before it renames the first.
fn replace_all(folder: &Path, changed: &BTreeMap<PathBuf, &[u8]>) -> Result<(), StoreError> {
    let sync = if changed.len() > SYNC_EACH {
        disk::Sync::Later
    } else {
        disk::Sync::Now
    };
    for (path, text) in changed {
        disk::write_new(&disk::temporary_for(path), text, sync)?;
    }
    if sync == disk::Sync::Later {
        disk::sync_file_system(folder)?;
    }
    for path in changed.keys() {
        disk::rename(&disk::temporary_for(path), path)?;
    }
    disk::sync_directory(folder)
}
