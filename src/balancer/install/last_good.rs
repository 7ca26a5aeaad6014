//! The last good files: what stood in the targets before a change, in memory for the way back and under `last-good` for the
//! next process, should this one die.
//!
//! The manifest says whether a change is open. While it is, what stands on disk is unproved, so a next change keeps the
//! older files as the last good ones instead of taking the unproved for good.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::replace::{like_the_old, make_private_dir, name, remove, replace};
use super::{InstallError, Target};

const LAST_GOOD: &str = "last-good";
const MANIFEST: &str = "manifest.json";

/// What stood in the targets before, kept in memory and under `last-good`.
#[derive(Debug)]
#[must_use = "an install ends with `settle` or `restore`"]
pub(in crate::balancer) struct LastGood {
    dir: PathBuf,
    files: Vec<Before>,
}

/// A path, and its bytes; `None`: there was no file.
type Before = (PathBuf, Option<Vec<u8>>);

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// A change was begun, and neither proved nor undone.
    open: bool,
    files: Vec<Kept>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    /// The copy's name in `last-good`; `None`: there was no file.
    copy: Option<String>,
}

impl LastGood {
    /// Keeps what stands in `targets`. Where an earlier change was never settled, its last good files stay the last good.
    pub(in crate::balancer) fn keep(
        state_dir: &Path,
        targets: &[Target<'_>],
    ) -> Result<Self, InstallError> {
        let dir = state_dir.join(LAST_GOOD);
        make_private_dir(&dir)?;
        let mut files = unsettled(&dir)?;
        for target in targets {
            if !files.iter().any(|(path, _)| *path == target.file.path) {
                files.push((target.file.path.clone(), target.before.clone()));
            }
        }
        let mut kept = Vec::with_capacity(files.len());
        for (place, (path, bytes)) in files.iter().enumerate() {
            let copy = bytes.as_ref().map(|_| format!("{place}-{}", name(path)));
            if let (Some(copy), Some(bytes)) = (&copy, bytes) {
                replace(&dir.join(copy), bytes, None)?;
            }
            kept.push(Kept {
                path: path.clone(),
                copy,
            });
        }
        let last_good = Self { dir, files };
        last_good.mark(true, kept)?;
        Ok(last_good)
    }

    /// The change was proved, or undone: what stands on disk is good.
    pub(in crate::balancer) fn settle(self) -> Result<(), InstallError> {
        let kept = self
            .files
            .iter()
            .enumerate()
            .map(|(place, (path, bytes))| Kept {
                path: path.clone(),
                copy: bytes.as_ref().map(|_| format!("{place}-{}", name(path))),
            })
            .collect();
        self.mark(false, kept)
    }

    fn mark(&self, open: bool, files: Vec<Kept>) -> Result<(), InstallError> {
        let path = self.dir.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&Manifest { open, files })
            .map_err(|error| InstallError::of("write", &path, io::Error::other(error)))?;
        replace(&path, &text, None)
    }

    /// Puts everything back, last installed first. Goes on after a failure and reports the first one.
    pub(in crate::balancer) fn restore(&self) -> Result<(), InstallError> {
        let mut result = Ok(());
        for (path, bytes) in self.files.iter().rev() {
            let restored = match bytes {
                Some(bytes) if fs::read(path).is_ok_and(|now| now == *bytes) => Ok(()),
                Some(bytes) => {
                    like_the_old(path).and_then(|old| replace(path, bytes, old.as_ref()))
                }
                None => remove(path),
            };
            result = result.and(restored);
        }
        result
    }

    /// Shell commands by which a person puts everything back.
    pub(in crate::balancer) fn by_hand(&self) -> String {
        let commands: Vec<_> = self
            .files
            .iter()
            .enumerate()
            .map(|(place, (path, bytes))| {
                if bytes.is_some() {
                    let copy = self.dir.join(format!("{place}-{}", name(path)));
                    format!("cp {} {}", copy.display(), path.display())
                } else {
                    format!("rm -f {}", path.display())
                }
            })
            .collect();
        commands.join(" && ")
    }
}

/// The last good files of a change that was never settled.
fn unsettled(dir: &Path) -> Result<Vec<Before>, InstallError> {
    let path = dir.join(MANIFEST);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(InstallError::of("read", &path, source)),
    };
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| InstallError::of("read", &path, io::Error::other(error)))?;
    if !manifest.open {
        return Ok(Vec::new());
    }
    manifest
        .files
        .into_iter()
        .map(|kept| {
            let bytes = kept
                .copy
                .map(|copy| {
                    let copy = dir.join(copy);
                    fs::read(&copy).map_err(|source| InstallError::of("read", &copy, source))
                })
                .transpose()?;
            Ok((kept.path, bytes))
        })
        .collect()
}
