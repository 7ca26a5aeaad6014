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

/// A folder in the state directory, for its owner alone: configurations can hold secrets.
pub(in crate::balancer) fn make_private_dir(dir: &Path) -> Result<(), InstallError> {
    fs::create_dir_all(dir).map_err(|source| InstallError::of("make the folder", dir, source))?;
    let opened = open_dir(dir)?;
    opened
        .set_permissions(Permissions::from_mode(0o700))
        .map_err(|source| InstallError::of("protect", dir, source))?;
    adopt(&opened, dir)
}

/// Gives a folder that root made in another user's state directory to that user.
pub(in crate::balancer) fn hand_over(dir: &Path) -> Result<(), InstallError> {
    adopt(&open_dir(dir)?, dir)
}

/// The folder itself: root must not follow a link that the owner of the state directory put there.
fn open_dir(dir: &Path) -> Result<File, InstallError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(dir)
        .map_err(|source| InstallError::of("open", dir, source))
}

/// What root makes in another user's folder belongs to that user, or their daemon could not go on with it.
fn adopt(made: &File, path: &Path) -> Result<(), InstallError> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let failed = |source| InstallError::of("hand to its folder's owner", path, source);
    let folder = fs::metadata(parent(path)).map_err(failed)?;
    let now = made.metadata().map_err(failed)?;
    if (now.uid(), now.gid()) == (folder.uid(), folder.gid()) {
        return Ok(());
    }
    fchown(made, Some(folder.uid()), Some(folder.gid())).map_err(failed)
}

/// Whose a new file is, and who may read it.
pub(super) enum Manner<'a> {
    /// Owner, mode and attributes of the file that it replaces.
    Like { path: &'a Path, metadata: Metadata },
    /// A first one in a folder of nginx's: who writes it owns it, and everybody may read it.
    New,
    /// A copy in a folder of the state directory: that folder's owner alone.
    Kept,
}

impl<'a> Manner<'a> {
    /// As what stands at `path`, if anything does.
    pub(super) fn of_the_old(path: &'a Path) -> Result<Self, InstallError> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Self::Like { path, metadata }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::New),
            Err(source) => Err(InstallError::of("look at", path, source)),
        }
    }
}

/// Writes `bytes` to `path` by temporary file, fsync, rename, fsync of the folder.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a manner is for one replacement: the next one has another old file"
)]
pub(super) fn replace(path: &Path, bytes: &[u8], manner: Manner<'_>) -> Result<(), InstallError> {
    let temporary = temporary(path);
    let written = write_temporary(&temporary, bytes, &manner).and_then(|()| {
        fs::rename(&temporary, path).map_err(|source| InstallError::of("replace", path, source))
    });
    if written.is_err() {
        // the first failure is the one to tell, and the next change sweeps
        fs::remove_file(&temporary).ok();
    }
    written?;
    sync_dir(parent(path))
}

fn write_temporary(
    temporary: &Path,
    bytes: &[u8],
    manner: &Manner<'_>,
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
    match manner {
        Manner::Like {
            path,
            metadata: old,
        } => {
            let now = file.metadata().map_err(failed("look at"))?;
            if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))
                    .map_err(failed("keep the owner of"))?;
            }
            file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))
                .map_err(failed("keep the mode of"))?;
            copy_attributes(path, &file);
        }
        Manner::New => file
            .set_permissions(Permissions::from_mode(0o644))
            .map_err(failed("set the mode of"))?,
        // made with mode 600
        Manner::Kept => adopt(&file, temporary)?,
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
            // one that this user may not set is left out: see above
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
