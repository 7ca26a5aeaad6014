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
pub(super) use last_good::LastGood;
use replace::{like_the_old, name, replace};
pub(super) use replace::{make_private_dir, parent, sweep, temporary};

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

/// A file that an apply replaces, as it stood before.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) file: &'a RenderedFile,
    /// `None`: there is none.
    pub(super) before: Option<Vec<u8>>,
    /// Somebody else's work is in it, of this kind.
    foreign: Option<String>,
}

/// Looks at every target: which of `files` differ from what stands there. Refuses links, devices, missing folders, and
/// (unless `foreign` permits it) what turnout did not write. Changes nothing.
pub(super) fn targets(
    files: &[RenderedFile],
    foreign: Foreign,
) -> Result<Vec<Target<'_>>, InstallError> {
    let mut targets = Vec::new();
    for file in files {
        let path = &file.path;
        let before = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => {
                return Err(InstallError::Symlink {
                    target: fs::read_link(path)
                        .map_err(|source| InstallError::of("read", path, source))?,
                    path: path.clone(),
                });
            }
            Ok(metadata) if !metadata.is_file() => {
                return Err(InstallError::NotRegular { path: path.clone() });
            }
            Ok(_) => Some(fs::read(path).map_err(|source| InstallError::of("read", path, source))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = parent(path);
                if !parent.is_dir() {
                    return Err(InstallError::MissingParent {
                        path: path.clone(),
                        parent: parent.to_owned(),
                    });
                }
                None
            }
            Err(source) => return Err(InstallError::of("look at", path, source)),
        };
        if before.as_deref() == Some(file.text.as_bytes()) {
            continue;
        }
        let edited = before.as_deref().and_then(not_ours);
        if let (Some(what), Foreign::Refuse) = (&edited, foreign) {
            return Err(InstallError::Edited {
                path: path.clone(),
                what: what.clone(),
            });
        }
        targets.push(Target {
            file,
            before,
            foreign: edited,
        });
    }
    Ok(targets)
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

/// Replaces the targets in their order. Foreign ones are copied to `replaced/` first; the returned lines say where. If one
/// fails, those before it are put back.
pub(super) fn install(
    state_dir: &Path,
    generation: Generation,
    targets: &[Target<'_>],
    last_good: &LastGood,
) -> Result<Vec<String>, InstallError> {
    let mut warnings = Vec::new();
    let replaced = targets.iter().try_for_each(|target| {
        let path = &target.file.path;
        if let (Some(what), Some(before)) = (&target.foreign, &target.before) {
            let dir = state_dir.join(REPLACED);
            make_private_dir(&dir)?;
            let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
            let copy = dir.join(format!("{}.{generation}.{time}", name(path)));
            replace(&copy, before, None)?;
            warnings.push(format!(
                "{} {what}; it was replaced, and a copy is {}",
                path.display(),
                copy.display()
            ));
        }
        let old = like_the_old(path)?;
        replace(path, target.file.text.as_bytes(), old.as_ref())
    });
    match replaced {
        Ok(()) => Ok(warnings),
        Err(error) => {
            // the first failure is the one to tell; what cannot be put back now is still marked open in last-good
            last_good.restore().ok();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
