//! The files that turnout owns in somebody else's folder: replaced whole or not at all, and put back byte for byte.
//!
//! Order of a replacement: what stands there is kept in `STATE_DIR/last-good` first; then a temporary dot-file beside the
//! target (which no `*.conf` glob reads) gets owner, mode and extended attributes of the old file, its bytes, an fsync, the
//! rename, and an fsync of the folder. A crash leaves either the old or the new file, and `last-good` marked as open, so
//! that the next change does not take an unproved file for a good one. The caller holds the change lock. Nothing here
//! knows what the text means, but for the head that says whether a file was edited.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::libc;
use serde::{Deserialize, Serialize};

use super::{ApplyError, Foreign, RenderedFile};
use crate::domain::Generation;
use crate::render::Head;

/// The end of the name of every temporary file; the beginning is a dot.
const TEMPORARY: &str = ".turnout-tmp";

const LAST_GOOD: &str = "last-good";
const REPLACED: &str = "replaced";
const MANIFEST: &str = "manifest.json";

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
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied {
                action,
                path,
                user: user(),
                source,
            },
            io::ErrorKind::ResourceBusy => Self::Busy {
                parent: parent(&path).to_owned(),
                path,
            },
            _ => Self::Io {
                action,
                path,
                source,
            },
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

/// What stood in the targets before, kept in memory and under `last-good`.
#[derive(Debug)]
#[must_use = "an install ends with `settle` or `restore`"]
pub(super) struct LastGood {
    dir: PathBuf,
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
}

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
    pub(super) fn keep(state_dir: &Path, targets: &[Target<'_>]) -> Result<Self, InstallError> {
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
    pub(super) fn settle(self) -> Result<(), InstallError> {
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
    pub(super) fn restore(&self) -> Result<(), InstallError> {
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
    pub(super) fn by_hand(&self) -> String {
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
fn unsettled(dir: &Path) -> Result<Vec<(PathBuf, Option<Vec<u8>>)>, InstallError> {
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

/// Removes what a killed turnout left beside the targets.
pub(super) fn sweep<'a>(paths: impl IntoIterator<Item = &'a Path>) {
    let parents: std::collections::BTreeSet<_> = paths.into_iter().map(parent).collect();
    for entry in parents
        .into_iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten()
    {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(TEMPORARY) {
            // a leftover harms nobody; whoever cannot remove it will fail to install with a better message
            fs::remove_file(entry.path()).ok();
        }
    }
}

/// The hidden name beside `path` that a sweep recognises.
pub(super) fn temporary(path: &Path) -> PathBuf {
    parent(path).join(format!(".{}{TEMPORARY}", name(path)))
}

pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// A folder in the state directory, for this user alone: configurations can hold secrets.
pub(super) fn make_private_dir(dir: &Path) -> Result<(), InstallError> {
    fs::create_dir_all(dir).map_err(|source| InstallError::of("make the folder", dir, source))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))
        .map_err(|source| InstallError::of("protect", dir, source))
}

/// Owner, mode and attributes that a replacement of `path` is to have.
struct Like<'a> {
    path: &'a Path,
    metadata: Metadata,
}

fn like_the_old(path: &Path) -> Result<Option<Like<'_>>, InstallError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(Like { path, metadata })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(InstallError::of("look at", path, source)),
    }
}

/// Writes `bytes` to `path` by temporary file, fsync, rename, fsync of the folder.
fn replace(path: &Path, bytes: &[u8], like: Option<&Like<'_>>) -> Result<(), InstallError> {
    let temporary = temporary(path);
    let written = write_temporary(&temporary, bytes, like).and_then(|()| {
        fs::rename(&temporary, path).map_err(|source| InstallError::of("replace", path, source))
    });
    if written.is_err() {
        // nothing depends on it being gone, and the first failure is the one to tell
        fs::remove_file(&temporary).ok();
    }
    written?;
    sync_dir(parent(path))
}

fn write_temporary(
    temporary: &Path,
    bytes: &[u8],
    like: Option<&Like<'_>>,
) -> Result<(), InstallError> {
    let failed = |action| move |source| InstallError::of(action, temporary, source);
    let mut file = match open_new(temporary) {
        // left by a killed turnout; the caller holds the lock, so it is nobody's
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(temporary).and_then(|()| open_new(temporary))
        }
        opened => opened,
    }
    .map_err(failed("create"))?;
    file.write_all(bytes).map_err(failed("write"))?;
    if let Some(like) = like {
        let (now, old) = (file.metadata().map_err(failed("look at"))?, &like.metadata);
        if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid())).map_err(failed("keep the owner of"))?;
        }
        file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))
            .map_err(failed("keep the mode of"))?;
        copy_attributes(like.path, &file);
    } else {
        file.set_permissions(Permissions::from_mode(0o644))
            .map_err(failed("set the mode of"))?;
    }
    file.sync_all().map_err(failed("sync"))
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Copies extended attributes (an SELinux label, an ACL) as far as the file system and this user's rights go: a file
/// system that has none is the usual case, and no reason to refuse a change.
fn copy_attributes(from: &Path, to: &File) {
    let mut names = vec![0_u8; 4096];
    let Ok(length) = rustix::fs::llistxattr(from, &mut names[..]) else {
        return;
    };
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0_u8; 4096];
        if let Ok(length) = rustix::fs::lgetxattr(from, name, &mut value[..]) {
            rustix::fs::fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty()).ok();
        }
    }
}

fn remove(path: &Path) -> Result<(), InstallError> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(InstallError::of("remove", path, source)),
    }
}

fn sync_dir(dir: &Path) -> Result<(), InstallError> {
    File::open(dir)
        .and_then(|opened| opened.sync_all())
        .map_err(|source| InstallError::of("sync", dir, source))
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
