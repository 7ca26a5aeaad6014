//! The files that turnout owns in somebody else's folder: replaced whole or not at all, and put back byte for byte.
//!
//! Order of a replacement: what stands there is kept in `STATE_DIR/last-good` first; then a temporary dot-file beside the
//! target (which no `*.conf` glob reads) gets owner, mode and extended attributes of the old file, its bytes, an fsync, the
//! rename, and an fsync of the folder. A crash leaves either the old or the new file, and `last-good` marked as open, so
//! that the next change does not take an unproved file for a good one. The caller holds the change lock. Nothing here
//! knows what the text means, but for the head that says whether a file was edited.

mod folder;
mod last_good;
mod replace;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{ApplyError, Foreign, RenderedFile};
use crate::domain::Generation;
use crate::render::Head;

pub(super) use folder::Folder;
pub(super) use last_good::{Ended, LastGood};
use replace::{Manner, name, remove, replace};
pub(super) use replace::{hand_over, make_private_dir, parent, sweep, temporary};

const REPLACED: &str = "replaced";

/// Why files could not be installed. Whatever was begun has been undone.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstallError {
    #[error(
        "{path} is a symbolic link to {target}: a replacement would cut the link. Configure the real path instead"
    )]
    Symlink { path: PathBuf, target: PathBuf },
    #[error("{path} is not a regular file")]
    NotRegular { path: PathBuf },
    #[error("the folder {parent} does not exist: make it, or configure another place for {path}")]
    MissingParent { path: PathBuf, parent: PathBuf },
    #[error(
        "{path} cannot be replaced because it is a mount point of its own (a single file mounted into a container): mount \
         the directory {parent} instead"
    )]
    Busy { path: PathBuf, parent: PathBuf },
    #[error("{path} {what}")]
    Edited { path: PathBuf, what: String },
    #[error("not permitted to {action} {path} as {user}")]
    Denied {
        action: &'static str,
        path: PathBuf,
        user: String,
        #[source]
        source: io::Error,
    },
    #[error("failed to {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl InstallError {
    pub(super) fn of(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Denied {
                action,
                path,
                user: user(),
                source,
            }
        } else if source.kind() == io::ErrorKind::ResourceBusy {
            Self::Busy {
                parent: parent(&path).to_owned(),
                path,
            }
        } else {
            Self::Io {
                action,
                path,
                source,
            }
        }
    }
}

impl From<InstallError> for ApplyError {
    fn from(error: InstallError) -> Self {
        match error {
            InstallError::Edited { path, what } => Self::Edited { path, what },
            InstallError::Denied { ref source, .. } => Self::NotPermitted {
                message: format!(
                    "{error}: {source}. Run turnout as root, or give that user the folder"
                ),
            },
            InstallError::Io {
                action,
                path,
                source,
            } => Self::Unchanged {
                message: format!("failed to {action} {}", path.display()),
                source: Some(source),
            },
            InstallError::Symlink { .. }
            | InstallError::NotRegular { .. }
            | InstallError::MissingParent { .. }
            | InstallError::Busy { .. } => Self::Unchanged {
                message: error.to_string(),
                source: None,
            },
        }
    }
}

/// The user that this process acts as, for messages.
pub(super) fn user() -> String {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => format!("{} (uid {uid})", user.name),
        Ok(None) | Err(_) => format!("uid {uid}"),
    }
}

/// A file that an apply replaces or removes, as it stood before.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) path: &'a Path,
    /// What is to stand there; `None`: nothing.
    pub(super) text: Option<&'a str>,
    /// `None`: there is none.
    pub(super) before: Option<Vec<u8>>,
    /// Somebody else's work is in it, of this kind.
    foreign: Option<String>,
}

/// Looks at every target: which of `files` differ from what stands there, and which of `gone` stand there still. Refuses
/// links, devices, missing folders, and (unless `foreign` permits it) what turnout did not write. Changes nothing.
pub(super) fn targets<'a>(
    files: &'a [RenderedFile],
    gone: &'a [PathBuf],
    foreign: Foreign,
) -> Result<Vec<Target<'a>>, InstallError> {
    let wanted = files
        .iter()
        .map(|file| (file.path.as_path(), Some(file.text.as_str())))
        .chain(gone.iter().map(|path| (path.as_path(), None)));
    let mut targets = Vec::new();
    for (path, text) in wanted {
        let before = before(path)?;
        if before.as_deref() == text.map(str::as_bytes) {
            continue;
        }
        let edited = before.as_deref().and_then(not_ours);
        if let (Some(what), Foreign::Refuse) = (&edited, foreign) {
            return Err(InstallError::Edited {
                path: path.to_owned(),
                what: what.clone(),
            });
        }
        targets.push(Target {
            path,
            text,
            before,
            foreign: edited,
        });
    }
    Ok(targets)
}

/// What stands at `path`, if that is a file, or if one can be put there.
fn before(path: &Path) -> Result<Option<Vec<u8>>, InstallError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(InstallError::Symlink {
            target: fs::read_link(path).map_err(|source| InstallError::of("read", path, source))?,
            path: path.to_owned(),
        }),
        Ok(metadata) if !metadata.is_file() => Err(InstallError::NotRegular {
            path: path.to_owned(),
        }),
        Ok(_) => {
            let bytes = fs::read(path).map_err(|source| InstallError::of("read", path, source))?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = parent(path);
            if parent.is_dir() {
                Ok(None)
            } else {
                Err(InstallError::MissingParent {
                    path: path.to_owned(),
                    parent: parent.to_owned(),
                })
            }
        }
        Err(source) => Err(InstallError::of("look at", path, source)),
    }
}

/// What is not turnout's about these bytes. An empty file is nobody's work.
fn not_ours(bytes: &[u8]) -> Option<String> {
    if bytes.trim_ascii().is_empty() {
        return None;
    }
    let head = std::str::from_utf8(bytes).map_or(Head::Foreign, Head::of);
    match head {
        Head::Intact { .. } => None,
        Head::Edited {
            generation: Some(generation),
        } => Some(format!("was edited by hand since generation {generation}")),
        Head::Edited { generation: None } => {
            Some("was edited by hand since turnout wrote it".to_owned())
        }
        Head::Foreign => Some("was not written by turnout".to_owned()),
    }
}

/// The generation that a file of turnout's was written as, edited since or not; the default one for anybody else's.
pub(super) fn generation_of(bytes: &[u8]) -> Generation {
    match std::str::from_utf8(bytes).map(Head::of) {
        Ok(Head::Intact { generation, .. } | Head::Edited { generation }) => {
            generation.unwrap_or_default()
        }
        Ok(Head::Foreign) | Err(_) => Generation::default(),
    }
}

/// A file of the state directory, written whole.
pub(super) fn write_kept(path: &Path, bytes: &[u8]) -> Result<(), InstallError> {
    replace(path, bytes, Manner::Kept)
}

/// Keeps a copy of what somebody else wrote in `replaced/`; the line says where.
fn keep_copy(
    state_dir: &Path,
    generation: Generation,
    path: &Path,
    bytes: &[u8],
    what: &str,
) -> Result<String, InstallError> {
    let dir = state_dir.join(REPLACED);
    make_private_dir(&dir)?;
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let copy = dir.join(format!("{}.{generation}.{time}", name(path)));
    replace(&copy, bytes, Manner::Kept)?;
    Ok(format!(
        "{} {what}; it was replaced, and a copy is {}",
        path.display(),
        copy.display()
    ))
}

/// Replaces and removes the targets in their order. Foreign ones are copied to `replaced/` first; the returned lines say
/// where. If one fails, those before it are put back.
pub(super) fn install(
    state_dir: &Path,
    generation: Generation,
    targets: &[Target<'_>],
    last_good: &LastGood,
) -> Result<Vec<String>, NotInstalled> {
    let mut warnings = Vec::new();
    let replaced = targets.iter().try_for_each(|target| {
        let path = target.path;
        if let (Some(what), Some(before)) = (&target.foreign, &target.before) {
            warnings.push(keep_copy(state_dir, generation, path, before, what)?);
        }
        match target.text {
            Some(text) => replace(path, text.as_bytes(), Manner::of_the_old(path)?),
            None => remove(path),
        }
    });
    match replaced {
        Ok(()) => Ok(warnings),
        Err(failure) => Err(match last_good.restore() {
            Ok(()) => NotInstalled::Undone(failure),
            Err(undo) => NotInstalled::Halfway {
                failure: Box::new(failure),
                undo: Box::new(undo),
            },
        }),
    }
}

/// Why nothing was installed.
#[derive(Debug)]
pub(super) enum NotInstalled {
    /// Whatever was begun has been undone.
    Undone(InstallError),
    /// Some files could not be put back; last-good stays open.
    Halfway {
        failure: Box<InstallError>,
        undo: Box<InstallError>,
    },
}

#[cfg(test)]
mod tests;
