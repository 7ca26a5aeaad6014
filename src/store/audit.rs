//! The audit log, `deployments.jsonl`: one line for each change that was asked for, for people and their tools.
//!
//! Nothing is ever recovered from it, so a torn line is skipped and the rest stands. It is appended to under the change
//! lock only.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, disk};
use crate::domain::{Color, ServiceName};

const FILE: &str = "deployments.jsonl";
/// At some 300 bytes a line, more than fifty thousand changes; then it becomes `.1` and a new one begins.
const ROTATE_AT: u64 = 16 << 20;
/// Rotation keeps files far below it; what is longer was not written here.
const READ_LIMIT: u64 = 64 << 20;

/// A line of `deployments.jsonl` (CONTRACT 3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// When it ended.
    pub timestamp: Timestamp,
    /// The service; `None` for what concerns all of them.
    pub service: Option<ServiceName>,
    /// The color concerned, as it is after the change.
    pub environment: Option<Color>,
    /// The version that color runs, if known.
    pub version: Option<String>,
    /// The verb.
    pub action: String,
    /// Whether it was done.
    pub success: bool,
    /// `-m`, or why it failed.
    pub message: String,
    /// Who.
    pub actor: String,
    /// From the command to its answer.
    pub duration_ms: u64,
}

impl Store {
    /// The last `limit` entries, newest first: those of one service (and those that concern all), or every one. Lines that
    /// are torn are left out. Needs no lock.
    pub fn history(
        &self,
        service: Option<&ServiceName>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let newest = self.dir().join(FILE);
        let mut entries = Vec::new();
        for path in [newest.clone(), rotated(&newest)] {
            if entries.len() >= limit {
                break;
            }
            let Some(bytes) = disk::read(&path, READ_LIMIT)? else {
                continue;
            };
            let lines = bytes.split(|byte| *byte == b'\n').rev();
            let readable = lines.filter_map(|line| serde_json::from_slice::<AuditEntry>(line).ok());
            let wanted = readable.filter(|entry| {
                service.is_none() || entry.service.is_none() || entry.service.as_ref() == service
            });
            entries.extend(wanted.take(limit - entries.len()));
        }
        Ok(entries)
    }
}

fn rotated(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

/// Appends one line and syncs it.
pub(super) fn append(directory: &Path, entry: &AuditEntry) -> Result<(), StoreError> {
    let path = directory.join(FILE);
    let mut line = serde_json::to_vec(entry)
        .map_err(|error| disk::failed("encode an entry of", &path)(error.into()))?;
    line.push(b'\n');

    rotate(directory, &path)?;
    // appending is checked by `open_existing`, so a link or FIFO in the file's place is refused here too
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    let opened = disk::open_existing(&path, &mut options)?;
    let is_new = opened.is_none();
    let mut file = match opened {
        Some(file) => file,
        None => disk::open_or_create(&path)?,
    };
    let end = file
        .seek(SeekFrom::End(0))
        .map_err(disk::failed("read", &path))?;
    if end > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))
            .and_then(|_| file.read_exact(&mut last))
            .map_err(disk::failed("read", &path))?;
        if last != *b"\n" {
            // what a killed process or a full disk left of its line stays a line of its own
            line.insert(0, b'\n');
        }
    }
    file.write_all(&line)
        .map_err(disk::failed("write", &path))?;
    file.sync_data().map_err(disk::failed("sync", &path))?;
    if is_new {
        disk::sync_directory(directory)?;
    }
    Ok(())
}

fn rotate(directory: &Path, path: &Path) -> Result<(), StoreError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.len() >= ROTATE_AT => {
            disk::rename(path, &rotated(path))?;
            disk::sync_directory(directory)
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(disk::failed("look at", path)(error))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
