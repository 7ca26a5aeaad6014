//! The audit log, `deployments.jsonl`: one line for each change that was asked for, for people and their tools.
//!
//! Nothing is ever recovered from it, so a torn line is skipped and the rest stands. Each line is one write to its end; it is
//! rotated under the change lock only. Reading goes backwards, so that the last lines cost the same however long the log is.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, disk};
use crate::domain::{Color, ServiceName};

const FILE: &str = "deployments.jsonl";
/// At some 300 bytes a line, more than fifty thousand changes; then it becomes `.1` and a new one begins.
const ROTATE_AT: u64 = 16 << 20;
/// What is read at once, from the end on.
const BLOCK: usize = 64 << 10;
/// A line that is longer was not written here: a message has at most 64 KiB on its way in.
const LONGEST_LINE: usize = 1 << 20;

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
        self.recent(service, limit, u64::MAX)
    }

    /// The same, of the last `within` bytes of the log alone.
    pub fn recent(
        &self,
        service: Option<&ServiceName>,
        limit: usize,
        within: u64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let newest = self.dir().join(FILE);
        let mut entries = Vec::new();
        let mut left = within;
        for path in [newest.clone(), rotated(&newest)] {
            let Some(file) = disk::open_existing(&path, OpenOptions::new().read(true))? else {
                continue;
            };
            let mut lines = Backwards::of(file).map_err(disk::failed("read", &path))?;
            while entries.len() < limit && left > 0 {
                let Some(line) = lines.next().map_err(disk::failed("read", &path))? else {
                    break;
                };
                left = left.saturating_sub(line.len() as u64 + 1);
                if let Ok(entry) = serde_json::from_slice::<AuditEntry>(&line)
                    && (service.is_none()
                        || entry.service.is_none()
                        || entry.service.as_ref() == service)
                {
                    entries.push(entry);
                }
            }
        }
        Ok(entries)
    }

    /// Appends the line of a change that did not get the change lock.
    pub fn audit_without_lock(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        write(self.dir(), &self.dir().join(FILE), entry)
    }
}

/// The lines of a file, the last one first. One that is too long is left out.
struct Backwards {
    file: File,
    /// Where what was read begins.
    at: u64,
    /// What was read and not given out yet.
    held: Vec<u8>,
}

impl Backwards {
    fn of(mut file: File) -> std::io::Result<Self> {
        let at = file.seek(SeekFrom::End(0))?;
        Ok(Self {
            file,
            at,
            held: Vec::new(),
        })
    }

    fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let unsearched = self.held.len() - searched;
            if let Some(end) = self.held[..unsearched]
                .iter()
                .rposition(|byte| *byte == b'\n')
            {
                let line = self.held.split_off(end + 1);
                self.held.truncate(end);
                return Ok(Some(line));
            }
            if self.at == 0 {
                let first = std::mem::take(&mut self.held);
                return Ok((!first.is_empty()).then_some(first));
            }
            if self.held.len() > LONGEST_LINE {
                self.held.clear();
            }
            searched = self.held.len();
            let size = usize::try_from(self.at).map_or(BLOCK, |left| left.min(BLOCK));
            self.at -= size as u64;
            let mut block = vec![0; size];
            self.file.seek(SeekFrom::Start(self.at))?;
            self.file.read_exact(&mut block)?;
            block.append(&mut self.held);
            self.held = block;
        }
    }
}

fn rotated(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

/// Appends one line and syncs it; under the change lock.
pub(super) fn append(directory: &Path, entry: &AuditEntry) -> Result<(), StoreError> {
    let path = directory.join(FILE);
    rotate(directory, &path)?;
    write(directory, &path, entry)
}

fn write(directory: &Path, path: &Path, entry: &AuditEntry) -> Result<(), StoreError> {
    let mut line = serde_json::to_vec(entry)
        .map_err(|error| disk::failed("encode an entry of", path)(error.into()))?;
    line.push(b'\n');

    // appending is checked by `open_existing`, so a link or FIFO in the file's place is refused here too
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    let opened = disk::open_existing(path, &mut options)?;
    let is_new = opened.is_none();
    let mut file = match opened {
        Some(file) => file,
        None => disk::open_or_create(path)?,
    };
    let end = file
        .seek(SeekFrom::End(0))
        .map_err(disk::failed("read", path))?;
    if end > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))
            .and_then(|_| file.read_exact(&mut last))
            .map_err(disk::failed("read", path))?;
        if last != *b"\n" {
            // what a killed process or a full disk left of its line stays a line of its own
            line.insert(0, b'\n');
        }
    }
    file.write_all(&line).map_err(disk::failed("write", path))?;
    file.sync_data().map_err(disk::failed("sync", path))?;
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
