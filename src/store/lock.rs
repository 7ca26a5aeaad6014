//! The change lock (one writer at a time) and the serve lock (one daemon for each state directory).
//!
//! The lock is the kernel's (`flock`), so it is free the instant its holder dies; the file's existence and content mean
//! nothing. The content only names the holder, for the one who waits. Lock files are never removed; who finds that
//! somebody else did so takes the lock anew, or refuses to go on under it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nix::unistd::{User, geteuid};
use serde::{Deserialize, Serialize};

use super::{ChangeLock, Store, StoreError, disk};

const CHANGE: &str = "change.lock";
const SERVE: &str = "serve.lock";
/// Short against a change (a tenth of a second and more), long against the system call.
const POLL: Duration = Duration::from_millis(20);
/// `lock_status` takes the lock, shared, for some microseconds: a refusal counts only when it lasts longer than that.
const GRACE: Duration = Duration::from_millis(60);
/// A holder is some 200 bytes and its message.
const CONTENT_LIMIT: u64 = 64 << 10;

/// Who holds a lock; written into the lock file for the one who waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id; 0 if the file does not say.
    pub pid: u32,
    /// What it runs, such as `turnout switch green`.
    pub command: String,
    /// The user's name, or number.
    pub user: String,
    /// Since when.
    pub since: Timestamp,
    /// `-m`.
    pub message: Option<String>,
}

impl Holder {
    /// This process, from now on.
    pub fn current(command: &str, message: Option<String>) -> Self {
        let user = geteuid();
        let name = match User::from_uid(user) {
            Ok(Some(user)) => user.name,
            // a container may run as a number that no user has
            Ok(None) | Err(_) => user.to_string(),
        };
        Self {
            pid: std::process::id(),
            command: command.to_owned(),
            user: name,
            since: Timestamp::now(),
            message,
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} (pid {}, `{}`) since {:.0}",
            self.user, self.pid, self.command, self.since
        )
    }
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it. Exit 75, status 423.
    #[error("{path} is held by {}", holder.as_ref().map_or_else(|| "an unknown process".to_owned(), ToString::to_string))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What it says about its holder; `None` if that is unreadable.
        holder: Option<Holder>,
    },
    /// The lock file could not be opened, or what it guards is not to be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Held for the life of a daemon.
#[derive(Debug)]
pub struct ServeLock {
    _file: LockFile,
}

/// Whether the locks are held, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockStatus {
    /// The change lock's holder; `None`: free.
    pub change: Option<Holder>,
    /// The daemon; `None`: none runs.
    pub serve: Option<Holder>,
}

impl Store {
    /// Takes the change lock, waiting up to `wait`. Makes the state directory if there is none, and finishes what a process
    /// that died after its `done` left of its state file. Refuses where [`Store::load`] refuses, but for
    /// [`StoreError::Corrupt`]: there a change can still write a whole new state.
    pub async fn lock(&self, holder: Holder, wait: Duration) -> Result<ChangeLock, LockError> {
        disk::make_directory(self.dir(), disk::Readers::Group)?;
        let deadline = tokio::time::Instant::now().checked_add(wait.max(GRACE));
        loop {
            if let Some(file) = LockFile::take(self.dir(), CHANGE, &holder)? {
                return Ok(ChangeLock::new(self, file)?);
            }
            if deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) {
                return Err(held(self.dir().join(CHANGE)));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes the serve lock at once or not at all. Makes the state directory if there is none.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as `lock`: a holder says since when, so it is made for one lock and not kept"
    )]
    pub fn serve_lock(&self, holder: Holder) -> Result<ServeLock, LockError> {
        disk::make_directory(self.dir(), disk::Readers::Group)?;
        let deadline = std::time::Instant::now() + GRACE;
        loop {
            if let Some(file) = LockFile::take(self.dir(), SERVE, &holder)? {
                return Ok(ServeLock { _file: file });
            }
            if std::time::Instant::now() >= deadline {
                return Err(held(self.dir().join(SERVE)));
            }
            std::thread::sleep(POLL);
        }
    }

    /// The file of the change lock, for who has to look for its holder.
    pub fn change_lock(&self) -> PathBuf {
        self.dir().join(CHANGE)
    }

    /// Who holds what. Changes nothing.
    pub fn lock_status(&self) -> Result<LockStatus, StoreError> {
        Ok(LockStatus {
            change: holder_of(&self.dir().join(CHANGE))?,
            serve: holder_of(&self.dir().join(SERVE))?,
        })
    }
}

fn held(path: PathBuf) -> LockError {
    let holder = read_holder(&path);
    LockError::Held { path, holder }
}

/// What a lock file says; torn, empty or unreadable: nothing.
fn read_holder(path: &Path) -> Option<Holder> {
    let bytes = disk::read(path, CONTENT_LIMIT).ok()??;
    serde_json::from_slice(&bytes).ok()
}

fn holder_of(path: &Path) -> Result<Option<Holder>, StoreError> {
    let Some(file) = disk::open_existing(path, OpenOptions::new().read(true))? else {
        return Ok(None);
    };
    match file.try_lock_shared() {
        // free, and let go of again with `file`
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let changed = file.metadata().and_then(|metadata| metadata.modified());
            Ok(Some(read_holder(path).unwrap_or_else(|| Holder {
                pid: 0,
                command: "unknown".to_owned(),
                user: "unknown".to_owned(),
                since: timestamp(changed.unwrap_or(SystemTime::UNIX_EPOCH)),
                message: None,
            })))
        }
        Err(TryLockError::Error(error)) => Err(disk::failed("probe the lock of", path)(error)),
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A lock file that is locked. Dropped: cleared and free.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    path: PathBuf,
}

impl LockFile {
    /// Takes the lock now; `None` if another has it (or has just removed the file).
    fn take(directory: &Path, name: &str, holder: &Holder) -> Result<Option<Self>, StoreError> {
        let path = directory.join(name);
        let file = disk::open_or_create(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(disk::failed("lock", &path)(error)),
        }
        let taken = Self { file, path };
        if !taken.is_in_place() {
            return Ok(None);
        }
        let content = serde_json::to_vec(holder)
            .map_err(|error| disk::failed("encode the holder of", &taken.path)(error.into()))?;
        taken
            .file
            .set_len(0)
            .and_then(|()| taken.file.write_all_at(&content, 0))
            .map_err(disk::failed("write", &taken.path))?;
        Ok(Some(taken))
    }

    /// Whether the path still names the file that is locked, so that nobody else can lock another one there.
    fn is_in_place(&self) -> bool {
        let named = fs::symlink_metadata(&self.path);
        let opened = self.file.metadata();
        match (named, opened) {
            (Ok(named), Ok(opened)) => (named.dev(), named.ino()) == (opened.dev(), opened.ino()),
            (Err(_), _) | (_, Err(_)) => false,
        }
    }

    /// Refuses to go on where somebody removed the file, and another process may hold the one in its place.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.is_in_place() {
            return Ok(());
        }
        Err(StoreError::OutOfOrder {
            path: self.path.clone(),
            reason: "it was removed or replaced while it was held, so another change may be under way: never remove \
                     lock files, a dead holder's lock is free by itself"
                .to_owned(),
        })
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // the lock goes with the file; a name that stays behind is read by nobody, since the lock is free
        drop(self.file.set_len(0));
    }
}
