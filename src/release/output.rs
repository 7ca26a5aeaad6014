//! What a workload prints, line by line into the log.
//!
//! Through a file and not a pipe: a pipe breaks when turnout dies, and the workload would die of SIGPIPE with its next line.
//! The file is emptied whenever it was read to its end and has grown past [`KEEP`]; a line printed in the microseconds
//! between is lost. It is an aid, not a record: lines printed while no turnout runs stay in the file only.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::domain::{Color, ServiceName};

/// Bytes after which the file is emptied.
const KEEP: u64 = 1024 * 1024;
/// Bytes read at once, and the longest line that is kept whole.
const PART: usize = 64 * 1024;

/// The reading end of a workload's output.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    read: u64,
    line: Vec<u8>,
}

impl Output {
    /// The output of a process that is about to start, and the file that it is to print into.
    pub(super) fn fresh(path: &Path) -> io::Result<(Self, File)> {
        let output = Self::open(path, 0)?;
        output.file.set_len(0)?;
        // appending: whoever prints goes on at the new end when the file is emptied
        let end = OpenOptions::new().append(true).open(path)?;
        Ok((output, end))
    }

    /// The output of a process that runs already, from its next line on.
    pub(super) fn resumed(path: &Path) -> io::Result<Self> {
        let written = std::fs::metadata(path).map_or(0, |file| file.len());
        Self::open(path, written)
    }

    fn open(path: &Path, read: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        Ok(Self {
            file,
            read,
            line: Vec::new(),
        })
    }

    /// Logs the lines that were completed since the last time. At most [`KEEP`] bytes, so that a flood cannot hold its caller.
    pub(super) fn pass_on(&mut self, service: &ServiceName, color: Color) -> io::Result<()> {
        self.lines(|line| tracing::info!(target: "workload", %service, %color, "{line}"))
    }

    fn lines(&mut self, mut tell: impl FnMut(&str)) -> io::Result<()> {
        let mut part = vec![0; PART];
        self.file.seek(SeekFrom::Start(self.read))?;
        let mut budget = KEEP;
        while budget > 0 {
            let length = self.file.read(&mut part)?;
            if length == 0 {
                if self.read > KEEP {
                    self.file.set_len(0)?;
                    self.read = 0;
                }
                break;
            }
            self.read += length as u64;
            budget = budget.saturating_sub(length as u64);
            for byte in &part[..length] {
                if *byte != b'\n' {
                    self.line.push(*byte);
                }
                if *byte == b'\n' || self.line.len() == PART {
                    tell(&String::from_utf8_lossy(&self.line));
                    self.line.clear();
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(output: &mut Output) -> Vec<String> {
        let mut lines = Vec::new();
        output.lines(|line| lines.push(line.to_owned())).unwrap();
        lines
    }

    #[test]
    fn lines_come_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop-blue.out");
        let (mut output, mut end) = Output::fresh(&path).unwrap();
        end.write_all(b"one\ntw").unwrap();
        assert_eq!(lines(&mut output), ["one"]);
        end.write_all(b"o\n\xff\n").unwrap();
        assert_eq!(lines(&mut output), ["two", "\u{fffd}"]);
        let mut resumed = Output::resumed(&path).unwrap();
        end.write_all(b"three\n").unwrap();
        assert_eq!(lines(&mut resumed), ["three"]);
    }

    #[test]
    fn a_file_that_was_read_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop-blue.out");
        let (mut output, mut end) = Output::fresh(&path).unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        for _ in 0..1025 {
            end.write_all(line.as_bytes()).unwrap();
        }
        let mut count = lines(&mut output).len();
        count += lines(&mut output).len();
        assert_eq!(count, 1025);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        end.write_all(b"after\n").unwrap();
        assert_eq!(lines(&mut output), ["after"]);
    }
}
