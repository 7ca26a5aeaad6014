//! What nginx writes into its error log while a change is under way. A hint for messages, never a proof: the log can be
//! rotated, be a pipe, or belong to somebody else, and every line of one reload carries the same time.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bytes that are looked at.
const TAIL: u64 = 64 * 1024;

/// The place in a log from which on lines are new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ErrorLog {
    path: PathBuf,
    inode: u64,
    offset: u64,
}

impl ErrorLog {
    /// The log that the master `pid` writes to, from its end: the file behind its stderr, where nginx puts it, else the one
    /// that `configured` names.
    pub(super) fn of(pid: i32, configured: Option<&Path>) -> Option<Self> {
        fs::read_link(format!("/proc/{pid}/fd/2"))
            .ok()
            .and_then(|path| Self::at(&path))
            .or_else(|| Self::at(configured?))
    }

    fn at(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            path: path.to_owned(),
            inode: metadata.ino(),
            offset: metadata.len(),
        })
    }

    /// The new `[emerg]` lines, each once, without time and process number.
    pub(super) fn emergencies(&self) -> Vec<String> {
        let mut emergencies: Vec<String> = Vec::new();
        for line in self.new_text().unwrap_or_default().lines() {
            let Some((_, message)) = line.split_once("[emerg] ") else {
                continue;
            };
            let message = message.split_once(": ").map_or(message, |(_, text)| text);
            if !emergencies.iter().any(|known| known == message) {
                emergencies.push(message.to_owned());
            }
        }
        emergencies
    }

    fn new_text(&self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let metadata = file.metadata().ok()?;
        // rotated or truncated: everything in it is new
        let from = if metadata.ino() == self.inode && metadata.len() >= self.offset {
            self.offset
        } else {
            0
        };
        file.seek(SeekFrom::Start(from)).ok()?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// True if nginx has given up with this line; it tries again where an address is in use, and only there.
pub(super) fn is_final(emergency: &str) -> bool {
    !(emergency.starts_with("bind() to ") && emergency.contains("(98: "))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_new_emergencies_are_told_and_each_once() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "2026/11/21 03:00:00 [emerg] 1#1: old").unwrap();
        let log = ErrorLog::at(file.path()).unwrap();
        for _ in 0..5 {
            writeln!(
                file,
                "2026/11/21 03:00:01 [emerg] 7#7: bind() to 0.0.0.0:80 failed (98: Address already in use)"
            )
            .unwrap();
        }
        writeln!(file, "2026/11/21 03:00:01 [notice] 7#7: x").unwrap();
        writeln!(
            file,
            "2026/11/21 03:00:01 [emerg] 7#7: still could not bind()"
        )
        .unwrap();
        let said = log.emergencies();
        assert_eq!(
            said,
            [
                "bind() to 0.0.0.0:80 failed (98: Address already in use)",
                "still could not bind()"
            ]
        );
        assert!(!is_final(&said[0]) && is_final(&said[1]));
    }
}
