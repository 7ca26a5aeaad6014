//! The writing end of the journal: append and sync, cut off, begin anew.
//!
//! Only who holds the change lock has one. What could not be appended whole is cut off again, and where even that fails the
//! next line still begins on a line of its own.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::journal::{self, Record};
use super::{StoreError, disk};

/// The writing end, for who holds the change lock.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    /// Opened by the first append.
    file: Option<File>,
    end: u64,
    /// What stands between the end and the next line: a newline where a rest could not be cut off.
    separator: &'static [u8],
}

impl Writer {
    /// Writes behind `end`, which `journal::read` found.
    pub(super) fn new(directory: &Path, end: u64) -> Self {
        Self {
            path: directory.join(journal::FILE),
            file: None,
            end,
            separator: b"",
        }
    }

    /// Where the next line goes.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one record and syncs it. On an error the journal ends where it did, as far as the disk still obeys.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), StoreError> {
        let record = record
            .encode()
            .map_err(|error| disk::failed("encode a record of", &self.path)(error.into()))?;
        let line = [self.separator, &record].concat();
        let file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        let appended = write_at(&file, &self.path, &line, self.end);
        match &appended {
            Ok(()) => {
                self.end += line.len() as u64;
                self.separator = b"";
            }
            // the error being told is the one that matters. A rest that cannot be cut off stays, as a torn line, an
            // intent without outcome, or a `done` that the `failed` behind it takes back
            Err(_) => {
                if cut(&file, &self.path, self.end).is_err()
                    && let Ok(metadata) = file.metadata()
                    && metadata.len() > self.end
                {
                    self.end = metadata.len();
                    self.separator = b"\n";
                }
            }
        }
        self.file = Some(file);
        appended
    }

    fn open(&self) -> Result<File, StoreError> {
        let file = disk::open_or_create(&self.path)?;
        if self.end == 0
            && let Some(directory) = self.path.parent()
        {
            disk::sync_directory(directory)?;
        }
        Ok(file)
    }

    /// Cuts off what was appended since `end`.
    pub(super) fn truncate(&mut self, end: u64) -> Result<(), StoreError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        file.set_len(end)
            .map_err(disk::failed("shorten", &self.path))?;
        self.end = end;
        self.separator = b"";
        file.sync_all().map_err(disk::failed("sync", &self.path))
    }

    /// Puts the journal aside as `journal.jsonl.1` and begins a new one with `snapshot`. At any instant there is a whole one.
    pub(super) fn rotate(&mut self, snapshot: &Record) -> Result<(), StoreError> {
        let first = snapshot
            .encode()
            .map_err(|error| disk::failed("encode a record of", &self.path)(error.into()))?;
        let aside = self.path.with_extension("jsonl.1");
        disk::keep_as(&self.path, &aside, journal::READ_LIMIT)?;
        disk::replace(&self.path, &first)?;
        self.file = None;
        self.end = first.len() as u64;
        self.separator = b"";
        match self.path.parent() {
            Some(directory) => disk::sync_directory(directory),
            None => Ok(()),
        }
    }
}

fn write_at(file: &File, path: &Path, line: &[u8], end: u64) -> Result<(), StoreError> {
    let length = file
        .metadata()
        .map_err(disk::failed("look at", path))?
        .len();
    if length != end {
        // a torn line of a process that died
        file.set_len(end).map_err(disk::failed("shorten", path))?;
    }
    file.write_all_at(line, end)
        .map_err(disk::failed("write", path))?;
    file.sync_data().map_err(disk::failed("sync", path))
}

fn cut(file: &File, path: &Path, end: u64) -> Result<(), StoreError> {
    file.set_len(end)
        .and_then(|()| file.sync_all())
        .map_err(disk::failed("shorten", path))
}
