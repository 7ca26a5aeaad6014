//! The datagram socket that balancers write to: bound here, or taken from whoever held it while turnout was away; and the link
//! beside it that says that somebody reads.
//!
//! The link leads to the reading thread in `/proc`, so it leads nowhere the moment that is gone, however it ended (the process
//! itself would stay there as a zombie until somebody takes note of its end). Everybody may write to the socket, because workers have users of their own: who is believed is `peers`' matter. The file stays when turnout ends; a
//! balancer that finds nobody there drops its lines.

use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

/// Datagrams that wait in a socket of one's own, where the system allows it. systemd sets as many for all of a host.
const WAITING: u32 = 512;
/// How many that is, of each network namespace; read when a socket is made. The kernel's default of 10 is two milliseconds of 5,000
/// requests a second.
const SETTING: &str = "/proc/sys/net/unix/max_dgram_qlen";
/// What one sender may have waiting: 212,992 bytes (`net.core.wmem_default`), of which a line of HAProxy's takes 1,280.
const OF_ONE_SENDER: u32 = 166;
/// How often a socket is tried to be given more memory; it is the sender's that counts, so this is only not to be the bound.
const MEMORY: usize = 4 * 1024 * 1024;

/// Where the socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The socket.
    pub socket: PathBuf,
    /// The link that is there while somebody reads.
    pub reader: PathBuf,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Its folder, or itself.
    #[error("failed to bind the datagram socket {path}")]
    Bind {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The thread that reads.
    #[error("failed to begin to read the datagram socket")]
    Read(#[source] io::Error),
    /// The link.
    #[error("failed to write the link {path}")]
    Link {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A socket that is read.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) datagrams: UnixDatagram,
    /// A row of so many without a pause may have been all that there was room for.
    pub(super) room: u32,
    reader: PathBuf,
    /// Where the link leads.
    to: Option<PathBuf>,
}

impl Socket {
    /// `given`: one that is bound already.
    pub(super) fn open(paths: &Paths, given: Option<UnixDatagram>) -> Result<Self, SocketError> {
        let bind = |source| SocketError::Bind {
            path: paths.socket.clone(),
            source,
        };
        let (datagrams, waiting) = match given {
            Some(given) => (given, setting().unwrap_or(WAITING)),
            None => bound(&paths.socket).map_err(bind)?,
        };
        rustix::net::sockopt::set_socket_passcred(&datagrams, true)
            .map_err(|error| bind(error.into()))?;
        // less is enough
        rustix::net::sockopt::set_socket_recv_buffer_size(&datagrams, MEMORY).ok();
        Ok(Self {
            datagrams,
            room: waiting.min(OF_ONE_SENDER),
            reader: paths.reader.clone(),
            to: None,
        })
    }

    /// Says that this thread of the process reads.
    pub(super) fn announce(&mut self, thread: Pid) -> Result<(), SocketError> {
        let to = PathBuf::from(format!("/proc/{}/task/{thread}", std::process::id()));
        point(&self.reader, &to).map_err(|source| SocketError::Link {
            path: self.reader.clone(),
            source,
        })?;
        self.to = Some(to);
        Ok(())
    }

    /// Nobody reads any more.
    pub(super) fn leave(self) {
        if std::fs::read_link(&self.reader).is_ok_and(|to| Some(to) == self.to) {
            // one that is left leads nowhere once the thread has ended
            std::fs::remove_file(&self.reader).ok();
        }
    }
}

/// Puts the link in place at once, whatever was there.
fn point(link: &Path, to: &Path) -> io::Result<()> {
    let beside = beside(link);
    folder(link)?;
    symlink(to, &beside)?;
    std::fs::rename(&beside, link)
}

/// With the room that its queue has. In place at once: a balancer never finds no socket there.
fn bound(path: &Path) -> io::Result<(UnixDatagram, u32)> {
    folder(path)?;
    let beside = beside(path);
    let (socket, waiting) = with_room(|| UnixDatagram::bind(&beside))?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o666))?;
    std::fs::rename(&beside, path)?;
    Ok((socket, waiting))
}

/// A name for what is being made, which nothing of a process that died has.
fn beside(path: &Path) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    std::fs::remove_file(&beside).ok();
    beside
}

/// The folder, where others pass and nobody else writes.
fn folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.exists()) else {
        return Ok(());
    };
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))
}

fn setting() -> Option<u32> {
    std::fs::read_to_string(SETTING).ok()?.trim().parse().ok()
}

fn set(value: u32) -> io::Result<()> {
    let mut setting = std::fs::OpenOptions::new().write(true).open(SETTING)?;
    setting.write_all(value.to_string().as_bytes())
}

/// Makes a socket while the setting is large enough, and puts it back: the kernel looks at it only then. Who may not change it
/// gets what there is.
fn with_room<T>(make: impl FnOnce() -> io::Result<T>) -> io::Result<(T, u32)> {
    let before = setting().unwrap_or(WAITING);
    if before >= WAITING || set(WAITING).is_err() {
        return Ok((make()?, before));
    }
    let made = make();
    if let Err(error) = set(before) {
        tracing::warn!(%error, "{SETTING} was {before} and stays at {WAITING}, which systemd has as well");
    }
    Ok((made?, WAITING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_there_as_long_as_the_reader_and_the_socket_is_for_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths {
            socket: folder.path().join("traffic/socket"),
            reader: folder.path().join("traffic/reader"),
        };
        let mut first = Socket::open(&paths, None).unwrap();
        let own = PathBuf::from(format!("/proc/{0}/task/{0}", std::process::id()));
        first.announce(nix::unistd::getpid()).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client.send_to(b"one", &paths.socket).unwrap();
        let mut read = [0; 8];
        assert_eq!(first.datagrams.recv(&mut read).unwrap(), 3);
        let mode = std::fs::metadata(&paths.socket)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o666);
        assert_eq!(std::fs::read_link(&paths.reader).unwrap(), own);
        // one that is given is read on, and one that was left behind is replaced
        let given = first.datagrams.try_clone().unwrap();
        let second = Socket::open(&paths, Some(given)).unwrap();
        client.send_to(b"two!", &paths.socket).unwrap();
        assert_eq!(second.datagrams.recv(&mut read).unwrap(), 4);
        first.leave();
        assert!(!paths.reader.exists());
        drop(second);
        Socket::open(&paths, None).unwrap().leave();
        assert_eq!(
            std::fs::read_dir(folder.path().join("traffic"))
                .unwrap()
                .count(),
            1
        );
    }
}
