//! The wire between a running daemon and the one that takes over from it: a unix socket in the state directory over which
//! every listening socket goes (`SCM_RIGHTS`). Carries descriptors and two words; decides nothing.
//!
//! ```text
//!  successor                               predecessor
//!  connect ──────────────────────────────► stops being the writer (API, controller, lock), serves on
//!          ◄── sockets ─────────────────── "yours"
//!  takes the lock, proves, accepts
//!          ─── ready ────────────────────► stops accepting, `Connection: close`, drains, ends
//!          ─── told to end before that ──► takes the lock back, and ends if it was told to, too
//!          ─── end of stream before that ► takes the lock back and goes on
//! ```
//!
//! The same socket in two processes has one queue, so nothing that waits in it is lost. `SO_REUSEPORT` would give each a queue
//! of its own, and closing the older one resets what waits there (measured: 93 of 200).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};

/// The name in the state directory.
const NAME: &str = "handover.sock";
/// What goes with the last of the sockets.
const LAST: u8 = b'L';
/// What goes with sockets that others follow.
const MORE: u8 = b'M';
/// What a successor says when it serves.
const READY: u8 = b'R';
/// What it says when it was told to end before that.
const TOLD: u8 = b'T';
/// The kernel takes at most 253 descriptors in one message (`SCM_MAX_FD`).
const AT_ONCE: usize = 200;

/// Where a successor asks.
#[derive(Debug)]
pub(super) struct Door(UnixListener);

impl Door {
    /// Opens it, in place of that of a predecessor. The file stays when the daemon ends: it is the next one's, or nobody
    /// answers there.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let path = path(state_dir);
        let mut beside = path.clone().into_os_string();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        // of a process that died between the next two lines and had this id
        drop(std::fs::remove_file(&beside));
        let listener = UnixListener::bind(&beside)?;
        // a daemon of root's and one of nobody's must not take each other's sockets
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&beside, &path)?;
        Ok(Self(listener))
    }

    /// Waits for a successor of the same user. Cancel-safe.
    pub(super) async fn knocked(&self) -> Successor {
        loop {
            match self.0.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == nix::unistd::geteuid().as_raw() => {
                        return Successor {
                            stream,
                            pid: peer.pid(),
                        };
                    }
                    Ok(peer) => tracing::warn!(uid = peer.uid(), "a handover was refused"),
                    Err(error) => tracing::warn!(%error, "a handover was refused"),
                },
                Err(error) => {
                    tracing::warn!(%error, "no handover is possible any more");
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// A process that wants to take over.
#[derive(Debug)]
pub(super) struct Successor {
    stream: UnixStream,
    /// Its process id, where the system says it.
    pub(super) pid: Option<i32>,
}

/// How a handover ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Succession {
    /// The successor serves.
    Taken,
    /// It was told to end before it served.
    Told,
    /// It is gone, and nothing was taken.
    Abandoned,
}

impl Successor {
    /// Sends the sockets.
    pub(super) async fn give(&self, sockets: &[OwnedFd]) -> io::Result<()> {
        let mut parts: Vec<&[OwnedFd]> = sockets.chunks(AT_ONCE).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for (place, part) in parts.iter().enumerate() {
            let mark = if place + 1 == parts.len() { LAST } else { MORE };
            let descriptors: Vec<BorrowedFd<'_>> = part.iter().map(AsFd::as_fd).collect();
            self.stream
                .async_io(Interest::WRITABLE, || {
                    send(&self.stream, mark, &descriptors)
                })
                .await?;
        }
        Ok(())
    }

    /// Waits until it serves or is gone. Cancel-safe: there is but one byte to read.
    pub(super) async fn outcome(&mut self) -> Succession {
        match self.stream.read_u8().await {
            Ok(READY) => Succession::Taken,
            Ok(TOLD) => Succession::Told,
            Ok(_) | Err(_) => Succession::Abandoned,
        }
    }
}

/// A daemon that runs and gives its sockets away.
#[derive(Debug)]
pub(super) struct Predecessor {
    stream: UnixStream,
    /// Its process id, where the system says it.
    pub(super) pid: Option<i32>,
}

impl Predecessor {
    /// The daemon of this state directory; `None` where none runs.
    pub(super) async fn find(state_dir: &Path) -> io::Result<Option<Self>> {
        match UnixStream::connect(path(state_dir)).await {
            Ok(stream) => {
                let pid = stream.peer_cred()?.pid();
                Ok(Some(Self { stream, pid }))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for its sockets: until a change that is under way there has ended.
    pub(super) async fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut all = Vec::new();
        loop {
            let mark = self
                .stream
                .async_io(Interest::READABLE, || receive(&self.stream, &mut all))
                .await?;
            if mark == LAST {
                return Ok(all);
            }
        }
    }

    /// Says that this process serves.
    pub(super) async fn ready(mut self) -> io::Result<()> {
        self.stream.write_u8(READY).await
    }

    /// Says that this process was told to end, and has let go of everything.
    pub(super) async fn told(mut self) -> io::Result<()> {
        self.stream.write_u8(TOLD).await
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

fn send(stream: &UnixStream, mark: u8, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many sockets for one message"));
    }
    sendmsg(
        stream,
        &[IoSlice::new(&[mark])],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

fn receive(stream: &UnixStream, all: &mut Vec<OwnedFd>) -> io::Result<u8> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut mark = [0];
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut mark)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            all.extend(descriptors);
        }
    }
    Ok(mark[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_arrive_listening_and_the_outcome_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Predecessor::find(folder.path()).await.unwrap().is_none());
        let door = Door::open(folder.path()).unwrap();
        let listeners: Vec<_> = (0..AT_ONCE + 3)
            .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        let given: Vec<OwnedFd> = listeners.into_iter().map(OwnedFd::from).collect();
        let old = tokio::spawn(async move {
            let mut successor = door.knocked().await;
            successor.give(&given).await.unwrap();
            let first = successor.outcome().await;
            let mut second = door.knocked().await;
            second.give(&[]).await.unwrap();
            let mut third = door.knocked().await;
            third.give(&[]).await.unwrap();
            (first, second.outcome().await, third.outcome().await)
        });
        let predecessor = Predecessor::find(folder.path()).await.unwrap().unwrap();
        let taken = predecessor.sockets().await.unwrap();
        let seen: Vec<_> = taken
            .into_iter()
            .map(|fd| std::net::TcpListener::from(fd).local_addr().unwrap())
            .collect();
        assert_eq!(seen, addresses);
        predecessor.ready().await.unwrap();
        let gone = Predecessor::find(folder.path()).await.unwrap().unwrap();
        assert!(gone.sockets().await.unwrap().is_empty());
        drop(gone);
        let told = Predecessor::find(folder.path()).await.unwrap().unwrap();
        assert!(told.sockets().await.unwrap().is_empty());
        told.told().await.unwrap();
        assert_eq!(
            old.await.unwrap(),
            (Succession::Taken, Succession::Abandoned, Succession::Told)
        );
    }
}
