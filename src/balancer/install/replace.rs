//! One file replaced whole: temporary dot-file, owner, mode and attributes, fsync, rename, fsync of the folder.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::libc;

use super::InstallError;

/// The end of the name of every temporary file; the beginning is a dot.
const TEMPORARY: &str = ".turnout-tmp";

/// Removes what a killed turnout left beside the targets.
pub(in crate::balancer) fn sweep<'a>(paths: impl IntoIterator<Item = &'a Path>) {
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
pub(in crate::balancer) fn temporary(path: &Path) -> PathBuf {
    parent(path).join(format!(".{}{TEMPORARY}", name(path)))
}

pub(in crate::balancer) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

pub(super) fn name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// A folder in the state directory, for this user alone: configurations can hold secrets.
pub(in crate::balancer) fn make_private_dir(dir: &Path) -> Result<(), InstallError> {
    fs::create_dir_all(dir).map_err(|source| InstallError::of("make the folder", dir, source))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))
        .map_err(|source| InstallError::of("protect", dir, source))
}

/// Owner, mode and attributes that a replacement of `path` is to have.
pub(super) struct Like<'a> {
    path: &'a Path,
    metadata: Metadata,
}

pub(super) fn like_the_old(path: &Path) -> Result<Option<Like<'_>>, InstallError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(Like { path, metadata })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(InstallError::of("look at", path, source)),
    }
}

/// Writes `bytes` to `path` by temporary file, fsync, rename, fsync of the folder.
pub(super) fn replace(
    path: &Path,
    bytes: &[u8],
    like: Option<&Like<'_>>,
) -> Result<(), InstallError> {
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

/// Copies extended attributes (a security label, an ACL) as far as the file system and this user's rights go: a file
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

pub(super) fn remove(path: &Path) -> Result<(), InstallError> {
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
