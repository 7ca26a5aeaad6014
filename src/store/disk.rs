//! The only part of the store that touches files: safe opening, whole-file replacement, directory sync.
//!
//! Nothing is ever written into a file that somebody may be reading whole: the new content goes into `.NAME.tmp` beside
//! it, is synced and renamed. Nothing is followed: a symbolic link, FIFO, device, another user's file or one that the
//! world may write is refused, since root reads and writes here. An error names what was tried and where, and leaves no
//! temporary behind.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;

use super::StoreError;

/// Before the umask: the group may read (a monitoring user), nobody else.
const FILE_MODE: u32 = 0o640;
/// Others may pass to what is for them, and may not list what is there.
const DIR_MODE: u32 = 0o751;
/// Of a folder whose files are for scripts of any user.
const PUBLIC_DIR_MODE: u32 = 0o755;
/// Of a file in there.
const PUBLIC_FILE_MODE: u32 = 0o644;

/// Whether a temporary is synced by itself or by one `syncfs` for many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    Now,
    Later,
}

/// Who may read what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// The owner and the group.
    Group,
    /// Anybody: deploy scripts run as users of their own. Nothing that is secret may be made so.
    Anybody,
}

/// Turns the system's error into one that says what was tried and where.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}

fn refused(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Unsafe {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// `.NAME.tmp` in the same directory.
pub(super) fn temporary_for(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

/// Whether [`temporary_for`] makes such names.
pub(super) fn is_temporary(name: &str) -> bool {
    name.strip_prefix('.')
        .is_some_and(|rest| rest.strip_suffix(".tmp").is_some())
}

/// Opens what is there; `None` if nothing is.
pub(super) fn open_existing(
    path: &Path,
    options: &mut OpenOptions,
) -> Result<Option<File>, StoreError> {
    // without O_NONBLOCK the open of a FIFO would wait for its other end
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = options
        .mode(FILE_MODE)
        .custom_flags(flags.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ELOOP) => refused(path, "it is a symbolic link"),
                Some(Errno::EISDIR | Errno::ENXIO) => refused(path, "it is not a regular file"),
                Some(_) | None => failed("open", path)(error),
            });
        }
    };
    let metadata = file.metadata().map_err(failed("look at", path))?;
    check(path, &metadata)?;
    Ok(Some(file))
}

/// Opens what is there for reading and writing, or makes it.
pub(super) fn open_or_create(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    options.truncate(false);
    let file = open_existing(path, &mut options)?
        .ok_or_else(|| failed("create", path)(io::Error::from(io::ErrorKind::NotFound)))?;
    adopt(path, &file)?;
    Ok(file)
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), StoreError> {
    if !metadata.is_file() {
        return Err(refused(path, "it is not a regular file"));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(refused(
            path,
            format!(
                "its mode is {:o}, so anybody may write it: `chmod o-w` it after looking at it",
                metadata.mode() & 0o7777
            ),
        ));
    }
    let owner = metadata.uid();
    if owner == 0 || owner == geteuid().as_raw() {
        return Ok(());
    }
    // who owns the directory can replace any file in it, so nothing is gained by distrusting that user's files
    let directory = fs::metadata(directory_of(path)).map_err(failed("look at", path))?;
    if owner == directory.uid() {
        Ok(())
    } else {
        Err(refused(
            path,
            format!(
                "it belongs to user {owner}, who is neither this user, root nor the directory's owner"
            ),
        ))
    }
}

/// What root makes in another user's state directory belongs to that user, or their daemon could not go on with it.
fn adopt(path: &Path, file: &File) -> Result<(), StoreError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let directory = fs::metadata(directory_of(path)).map_err(failed("look at", path))?;
    let metadata = file.metadata().map_err(failed("look at", path))?;
    if metadata.uid() == directory.uid() {
        return Ok(());
    }
    fchown(file, Some(directory.uid()), Some(directory.gid()))
        .map_err(failed("hand to the directory's owner", path))
}

/// All of a file, up to `limit` bytes; `None` if it is missing.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(file) = open_existing(path, OpenOptions::new().read(true))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(refused(path, format!("it has more than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// Writes a new file. On an error it is gone again.
pub(super) fn write_new(
    path: &Path,
    bytes: &[u8],
    sync: Sync,
    readers: Readers,
) -> Result<(), StoreError> {
    remove(path)?;
    let written = write_into_new(path, bytes, sync, readers);
    if written.is_err() {
        discard(path);
    }
    written
}

fn write_into_new(
    path: &Path,
    bytes: &[u8],
    sync: Sync,
    readers: Readers,
) -> Result<(), StoreError> {
    // O_EXCL follows no link
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(failed("create", path))?;
    adopt(path, &file)?;
    if readers == Readers::Anybody {
        // the umask of a daemon is about what is its own
        file.set_permissions(Permissions::from_mode(PUBLIC_FILE_MODE))
            .map_err(failed("open to all readers", path))?;
    }
    file.write_all(bytes).map_err(failed("write", path))?;
    match sync {
        Sync::Now => file.sync_all().map_err(failed("sync", path)),
        Sync::Later => Ok(()),
    }
}

/// Replaces a file whole: temporary, sync, rename. The directory is not synced.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = temporary_for(path);
    write_new(&temporary, bytes, Sync::Now, Readers::Group)?;
    rename(&temporary, path).inspect_err(|_| discard(&temporary))
}

/// Renames over what is there.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(failed("replace", to))
}

/// Makes `to` a second name of `from`'s content, replacing `to` whole. Where hard links are not to be had (some file
/// systems; another user's file under `fs.protected_hardlinks`) it is a copy.
pub(super) fn keep_as(from: &Path, to: &Path, limit: u64) -> Result<(), StoreError> {
    let temporary = temporary_for(to);
    remove(&temporary)?;
    if fs::hard_link(from, &temporary).is_err() {
        let bytes = read(from, limit)?
            .ok_or_else(|| failed("read", from)(io::Error::from(io::ErrorKind::NotFound)))?;
        write_new(&temporary, &bytes, Sync::Now, Readers::Group)?;
    }
    rename(&temporary, to).inspect_err(|_| discard(&temporary))?;
    // rename(2) does nothing, and leaves the old name, where both are one file already
    remove(&temporary)
}

/// Removes a file; that there is none is fine.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a temporary on the way out of an error that is already being told.
pub(super) fn discard(path: &Path) {
    // what cannot be removed now is swept by the next holder of the change lock
    drop(remove(path));
}

/// Makes renames and new names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    match synced {
        // some network and FUSE file systems have no such thing as syncing a directory
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other.map_err(failed("sync", path)),
    }
}

/// Makes everything durable that was written on the file system of a directory: one call where thousands of files are new.
pub(super) fn sync_file_system(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|directory| rustix::fs::syncfs(&directory).map_err(io::Error::from))
        .map_err(failed("sync", path))
}

/// Makes a directory and those above it, unless it is there. One that is there keeps its mode.
pub(super) fn make_directory(path: &Path, readers: Readers) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(path);
    made.map_err(failed("create", path))?;
    let directory = File::open(path).map_err(failed("open", path))?;
    adopt(path, &directory)?;
    if readers == Readers::Anybody {
        directory
            .set_permissions(Permissions::from_mode(PUBLIC_DIR_MODE))
            .map_err(failed("open to all readers", path))?;
    }
    sync_directory(directory_of(path))
}

/// The names in a folder; none if there is no such folder.
pub(super) fn names_in(folder: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", folder))?;
        // a name that is not UTF-8 is none of turnout's
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}
