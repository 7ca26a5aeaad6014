//! The rollouts, `rollouts/ID.json`: a file for each, running or over, written whole after each event of it.
//!
//! Whether a rollout governs a service's traffic is said by the state file ([`super::Governed`]), together with the position and
//! with the same care; what stands here is how it came there and goes on. The daemon, which holds the serve lock, is the only
//! writer, so no other lock is needed. The first line has version and checksum of the second, byte for byte: what was computed
//! in floating point need not read back to the same digits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::wire::{VERSION, sum};
use super::{Store, StoreError, disk};
use crate::domain::describe;
use crate::rollout::{Record, RolloutId};

const FOLDER: &str = "rollouts";
/// A rollout with all that it keeps has 1 to 2 MiB, and 16 MiB where every reason is as long as a message may be.
const LIMIT: u64 = 64 << 20;
/// Rollouts that are kept when they are over.
pub const OVER_KEPT: usize = 100;

#[derive(Serialize, Deserialize)]
struct Head {
    version: u64,
    sha256: String,
}

/// What was found of the rollouts.
#[derive(Debug, Default)]
pub struct Found {
    /// Newest first.
    pub records: Vec<Record>,
    /// A sentence for each file that cannot be read, and is left as it is.
    pub problems: Vec<String>,
}

fn encode(record: &Record) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::to_vec(record)?;
    let head = Head {
        version: VERSION,
        sha256: sum(&body),
    };
    let mut bytes = serde_json::to_vec(&head)?;
    bytes.push(b'\n');
    bytes.extend(body);
    bytes.push(b'\n');
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Record, String> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(head), Some(body)) = (lines.next(), lines.next()) else {
        return Err("it has less than two lines".to_owned());
    };
    let head: Head =
        serde_json::from_slice(head).map_err(|error| format!("its first line: {error}"))?;
    if head.version > VERSION {
        return Err(format!(
            "it has version {}, and this turnout knows versions up to {VERSION}",
            head.version
        ));
    }
    if head.sha256 != sum(body) {
        return Err("its checksum does not match".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

impl Store {
    fn rollouts_dir(&self) -> PathBuf {
        self.dir().join(FOLDER)
    }

    fn rollout_path(&self, id: &RolloutId) -> PathBuf {
        self.rollouts_dir().join(format!("{id}.json"))
    }

    /// Writes a rollout down, on disk when this returns. For the holder of the serve lock alone.
    pub fn save_rollout(&self, record: &Record) -> Result<(), StoreError> {
        let path = self.rollout_path(&record.id);
        let bytes = encode(record).map_err(|error| disk::failed("encode", &path)(error.into()))?;
        let folder = self.rollouts_dir();
        disk::make_directory(&folder, disk::Readers::Group)?;
        disk::replace(&path, &bytes)?;
        disk::sync_directory(&folder)
    }

    /// Forgets a rollout; that there is none is fine. For the holder of the serve lock alone.
    pub fn remove_rollout(&self, id: &RolloutId) -> Result<(), StoreError> {
        disk::remove(&self.rollout_path(id))
    }

    /// All that are kept and can be read. Needs no lock: files are replaced whole. Fails where the folder cannot be listed.
    pub fn load_rollouts(&self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let folder = self.rollouts_dir();
        for name in disk::names_in(&folder)? {
            let id = name
                .strip_suffix(".json")
                .and_then(|stem| stem.parse().ok());
            let Some(id) = id else {
                continue;
            };
            let path = self.rollout_path(&id);
            let bytes = match disk::read(&path, LIMIT) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(error) => {
                    found.problems.push(describe(&error));
                    continue;
                }
            };
            match decode(&bytes) {
                Ok(record) if record.id == id => found.records.push(record),
                Ok(record) => found.problems.push(format!(
                    "{} is the rollout {}, which belongs under its own name",
                    path.display(),
                    record.id
                )),
                Err(reason) => found
                    .problems
                    .push(format!("{} cannot be read: {reason}", path.display())),
            }
        }
        let newest = |record: &Record| (record.created_at, record.id.clone());
        found
            .records
            .sort_by_key(|record| std::cmp::Reverse(newest(record)));
        Ok(found)
    }

    /// Forgets the oldest of those that are over, beyond what is kept. For the holder of the serve lock alone.
    pub fn prune_rollouts(&self, records: &mut Vec<Record>) -> Result<(), StoreError> {
        let mut over = 0;
        let mut gone = Vec::new();
        records.retain(|record| {
            over += usize::from(record.walk.status().is_over());
            let stays = !record.walk.status().is_over() || over <= OVER_KEPT;
            if !stays {
                gone.push(record.id.clone());
            }
            stays
        });
        for id in gone {
            self.remove_rollout(&id)?;
        }
        Ok(())
    }
}
