//! The last good files: what stood in the targets before a change, in memory for the way back and under `last-good` for the
//! next process, should this one die.
//!
//! The manifest says whether a change is open. While it is, what stands on disk is unproved, so a next change keeps the
//! older files as the last good ones instead of taking the unproved for good. The files stay after the proof, until the next
//! change: a proof that could not be recorded is taken back with them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::replace::{Manner, make_private_dir, name, remove, replace};
use super::{InstallError, Target, generation_of, keep_copy, not_ours};
use crate::balancer::Foreign;
use crate::domain::{Generation, RoutingTable};

const LAST_GOOD: &str = "last-good";
const MANIFEST: &str = "manifest.json";

/// What stood in the targets before, kept in memory and under `last-good`.
#[derive(Debug)]
#[must_use = "an install ends with `settle` or `restore`"]
pub(in crate::balancer) struct LastGood {
    dir: PathBuf,
    /// The generation that replaced them.
    by: Option<Generation>,
    files: Vec<Before>,
}

/// Whether the change that last-good was kept for came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::balancer) enum Ended {
    /// Proved or undone: what stands on disk is whole.
    Yes,
    /// Neither: its process may have died between two files.
    No,
}

/// A path, and its bytes; `None`: there was no file.
type Before = (PathBuf, Option<Vec<u8>>);

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// A change was begun, and neither proved nor undone.
    open: bool,
    /// The generation of that change.
    by: Option<Generation>,
    files: Vec<Kept>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    /// The copy's name in `last-good`; `None`: there was no file.
    copy: Option<String>,
}

impl LastGood {
    /// Keeps what stands in `targets` before generation `by` replaces it. Where an earlier change was never settled, its last
    /// good files stay the last good, unless it is the one that was `proved` last: then only the mark of its end is missing.
    pub(in crate::balancer) fn keep(
        state_dir: &Path,
        by: Generation,
        proved: Option<&RoutingTable>,
        targets: &[Target<'_>],
    ) -> Result<Self, InstallError> {
        let dir = state_dir.join(LAST_GOOD);
        make_private_dir(&dir)?;
        // the same generation once more is not proved by its own name
        let proved = proved
            .map(|table| table.generation)
            .filter(|proved| *proved != by);
        let mut files = match read(&dir)? {
            Some((Ended::No, earlier)) if proved.is_none() || earlier.by != proved => earlier.files,
            Some((Ended::No | Ended::Yes, _)) | None => Vec::new(),
        };
        for target in targets {
            if !files.iter().any(|(path, _)| path == target.path) {
                files.push((target.path.to_owned(), target.before.clone()));
            }
        }
        let mut kept = Vec::with_capacity(files.len());
        for (place, (path, bytes)) in files.iter().enumerate() {
            let copy = bytes.as_ref().map(|_| format!("{place}-{}", name(path)));
            if let (Some(copy), Some(bytes)) = (&copy, bytes) {
                replace(&dir.join(copy), bytes, Manner::Kept)?;
            }
            kept.push(Kept {
                path: path.clone(),
                copy,
            });
        }
        let by = Some(by);
        let last_good = Self { dir, by, files };
        last_good.mark(true, kept)?;
        Ok(last_good)
    }

    /// What the last change replaced; `None` before the first one.
    pub(in crate::balancer) fn kept(
        state_dir: &Path,
    ) -> Result<Option<(Ended, Self)>, InstallError> {
        read(&state_dir.join(LAST_GOOD))
    }

    /// The generation that replaced these files.
    pub(in crate::balancer) const fn replaced_by(&self) -> Option<Generation> {
        self.by
    }

    /// The generation of what stood at `path`, the default one where nothing of turnout's did; `None` if that was not
    /// replaced.
    pub(in crate::balancer) fn generation(&self, path: &Path) -> Option<Generation> {
        let (_, bytes) = self.files.iter().find(|(kept, _)| kept == path)?;
        Some(
            bytes
                .as_deref()
                .map_or_else(Generation::default, generation_of),
        )
    }

    /// Looks for work of somebody else's that [`restore`](Self::restore) would replace: refused, or copied to `replaced/`;
    /// the lines say where.
    pub(in crate::balancer) fn spare(
        &self,
        state_dir: &Path,
        generation: Generation,
        foreign: Foreign,
    ) -> Result<Vec<String>, InstallError> {
        let mut warnings = Vec::new();
        for (path, kept) in &self.files {
            let now = match fs::read(path) {
                Ok(now) => Some(now),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(InstallError::of("read", path, source)),
            };
            let Some(now) = now.filter(|now| Some(now) != kept.as_ref()) else {
                continue;
            };
            match (not_ours(&now), foreign) {
                (None, _) => {}
                (Some(what), Foreign::Refuse) => {
                    let path = path.clone();
                    return Err(InstallError::Edited { path, what });
                }
                (Some(what), Foreign::Replace) => {
                    warnings.push(keep_copy(state_dir, generation, path, &now, &what)?);
                }
            }
        }
        Ok(warnings)
    }

    /// The change was proved: what stands on disk is good, and what stood there before stays for a revert.
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

    /// The change was undone: there is nothing to go back to any more.
    pub(in crate::balancer) fn clear(mut self) -> Result<(), InstallError> {
        self.by = None;
        self.files.clear();
        self.mark(false, Vec::new())
    }

    fn mark(&self, open: bool, files: Vec<Kept>) -> Result<(), InstallError> {
        let path = self.dir.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&Manifest {
            open,
            by: self.by,
            files,
        })
        .map_err(|error| InstallError::of("write", &path, io::Error::other(error)))?;
        replace(&path, &text, Manner::Kept)
    }

    /// Ends what a dead process left open, once `to` is proved to be served and stands on disk.
    pub(in crate::balancer) fn end(self, to: Generation) -> Result<(), InstallError> {
        if self.by == Some(to) {
            self.settle()
        } else {
            self.clear()
        }
    }

    /// Puts everything back, last installed first. Goes on after a failure and reports the first one.
    pub(in crate::balancer) fn restore(&self) -> Result<(), InstallError> {
        let mut result = Ok(());
        for (path, bytes) in self.files.iter().rev() {
            let restored = match bytes {
                Some(bytes) if fs::read(path).is_ok_and(|now| now == *bytes) => Ok(()),
                Some(bytes) => Manner::of_the_old(path).and_then(|old| replace(path, bytes, old)),
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

/// What the last change kept, and whether that was settled.
fn read(dir: &Path) -> Result<Option<(Ended, LastGood)>, InstallError> {
    let path = dir.join(MANIFEST);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(InstallError::of("read", &path, source)),
    };
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| InstallError::of("read", &path, io::Error::other(error)))?;
    let files = manifest.files.into_iter().map(|kept| {
        let copy = kept.copy.map(|copy| dir.join(copy));
        let bytes = copy
            .map(|copy| fs::read(&copy).map_err(|source| InstallError::of("read", &copy, source)))
            .transpose()?;
        Ok((kept.path, bytes))
    });
    let ended = if manifest.open { Ended::No } else { Ended::Yes };
    let last_good = LastGood {
        dir: dir.to_owned(),
        by: manifest.by,
        files: files.collect::<Result<_, InstallError>>()?,
    };
    Ok(Some((ended, last_good)))
}
