//! The wire between a running daemon and the one that takes over from it: a unix socket in the state directory over which
//! every listening socket goes (`SCM_RIGHTS`), and later what both, while both serve, have to know of each other
//! ([`crate::proxy::Word`], a line of JSON each). Carries; decides nothing.
//!
//! ```text
//!  successor                               predecessor
//!  connect ──────────────────────────────► stops being the writer (API, controller, lock), serves on
//!          ◄── sockets ─────────────────── "yours", and whether it understands what is below
//!  takes the lock
//!          ─── where the traffic is ─────► routes by it, too
//!          ◄── that it does, in flight ───
//!  proves, accepts
//!          ─── ready ────────────────────► stops accepting, `Connection: close`, drains, ends
//!          ─── told to end before that ──► takes the lock back, and ends if it was told to, too
//!          ─── end of stream before that ► takes the lock back and goes on
//!          ─── where the traffic is ─────► until it has drained
//! ```
//!
//! The same socket in two processes has one queue, so nothing that waits in it is lost. `SO_REUSEPORT` would give each a queue
//! of its own, and closing the older one resets what waits there (measured: 93 of 200).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

use crate::proxy::{Reply, Wire, Word};

/// The name in the state directory.
const NAME: &str = "handover.sock";
/// What goes with the last of the sockets.
const LAST: u8 = b'L';
/// What goes with sockets that others follow.
const MORE: u8 = b'M';
/// Goes before them, from a process that understands words. Builds before it read one byte at a time and took any but [`LAST`] for
/// [`MORE`]; those of them that do not say it ended at the first word that they got.
const WORDS: u8 = b'W';
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
                            heard: BytesMut::new(),
                            number: 0,
                            told: Reply::default(),
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
    /// What came and was not looked at yet.
    heard: BytesMut,
    /// Of its last word; 0: it has said none, and may not listen.
    pub(super) number: u64,
    /// What it was told last of this process.
    pub(super) told: Reply,
    /// Its process id, where the system says it.
    pub(super) pid: Option<i32>,
}

/// What a successor says.
#[derive(Debug)]
pub(super) enum Said {
    /// It serves.
    Serves,
    /// It was told to end before it served.
    WasTold,
    /// What it has put into force.
    Word(Box<Word>),
    /// The same, of this number, in a way that cannot be read here: of another version.
    Unread(u64),
    /// Nothing any more: it is gone.
    Gone,
}

impl Successor {
    /// Sends the sockets.
    pub(super) async fn give(&self, sockets: &[OwnedFd]) -> io::Result<()> {
        let parts: Vec<&[OwnedFd]> = sockets.chunks(AT_ONCE).collect();
        let (last, more) = parts
            .split_last()
            .map_or((&[][..], &[][..]), |(last, more)| (*last, more));
        let more = more.iter().map(|part| (MORE, *part));
        let marked = std::iter::once((WORDS, &[][..]))
            .chain(more)
            .chain([(LAST, last)]);
        for (mark, part) in marked {
            let descriptors: Vec<BorrowedFd<'_>> = part.iter().map(AsFd::as_fd).collect();
            self.stream
                .async_io(Interest::WRITABLE, || {
                    send(&self.stream, mark, &descriptors)
                })
                .await?;
        }
        Ok(())
    }

    /// Waits for what it says next. Cancel-safe: half a line is kept.
    pub(super) async fn says(&mut self) -> Said {
        loop {
            match self.heard.first() {
                Some(&READY) => {
                    self.heard.advance(1);
                    return Said::Serves;
                }
                Some(&TOLD) => return Said::WasTold,
                Some(_) | None => {}
            }
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line = self.heard.split_to(end + 1);
                match serde_json::from_slice::<Box<Word>>(&line) {
                    Ok(word) => {
                        self.number = word.number();
                        return Said::Word(word);
                    }
                    // no end of it: it has the sockets and serves by them
                    Err(error) => {
                        tracing::warn!(%error, "what the successor says is not understood, and not done here");
                        if let Some(number) = number_of(&line) {
                            self.number = number;
                            return Said::Unread(number);
                        }
                    }
                }
                continue;
            }
            match self.stream.read_buf(&mut self.heard).await {
                Ok(0) | Err(_) => return Said::Gone,
                Ok(_) => {}
            }
        }
    }

    /// Tells it what this process goes by, and has in flight.
    pub(super) async fn tell(&mut self, reply: Reply) {
        // who is gone need not know, and that it is shows in what it says
        if let Ok(line) = line(&reply)
            && self.stream.write_all(&line).await.is_ok()
        {
            self.told = reply;
        }
    }
}

/// A daemon that runs and gives its sockets away.
#[derive(Debug)]
pub(super) struct Predecessor {
    /// `None` once somebody listens to it, or where it would not understand what is said to it.
    reading: Option<OwnedReadHalf>,
    writing: Arc<Mutex<OwnedWriteHalf>>,
    /// Its process id, where the system says it.
    pub(super) pid: Option<i32>,
}

impl Predecessor {
    /// The daemon of this state directory; `None` where none runs.
    pub(super) async fn find(state_dir: &Path) -> io::Result<Option<Self>> {
        match UnixStream::connect(path(state_dir)).await {
            Ok(stream) => {
                let pid = stream.peer_cred()?.pid();
                let (reading, writing) = stream.into_split();
                Ok(Some(Self {
                    reading: Some(reading),
                    writing: Arc::new(Mutex::new(writing)),
                    pid,
                }))
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
    pub(super) async fn sockets(&mut self) -> io::Result<Vec<OwnedFd>> {
        let mut all = Vec::new();
        let Some(reading) = &self.reading else {
            return Ok(all);
        };
        let stream = reading.as_ref();
        let mut marks = Vec::new();
        while marks.last() != Some(&LAST) {
            let mark = stream
                .async_io(Interest::READABLE, || receive(stream, &mut all))
                .await?;
            marks.push(mark);
        }
        if !marks.contains(&WORDS) {
            tracing::warn!(
                "the daemon before is of a version that is not told of changes: what it still finishes goes where the traffic is now"
            );
            self.reading = None;
        }
        Ok(all)
    }

    /// Has it route by what is put into force here, for as long as it serves, if it understands that. Only once its sockets are here.
    pub(super) fn follows(&mut self, wire: Wire) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        let Wire { mut words, replies } = wire;
        let writing = Arc::clone(&self.writing);
        tokio::spawn(async move {
            // an error is the end of the proxy, or of the other process, and what that means is known where replies are read
            while words.changed().await.is_ok() {
                let word = words.borrow_and_update().clone();
                let Some(Ok(line)) = word.map(|word| line(&*word)) else {
                    continue;
                };
                if writing.lock().await.write_all(&line).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let mut lines = BufReader::new(reading).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str(&line) {
                    Ok(reply) => drop(replies.send_replace(reply)),
                    Err(error) => {
                        tracing::warn!(%error, "the daemon before is not understood: what it has in flight is not known");
                        if let Some(number) = number_of(line.as_bytes()) {
                            replies.send_replace(Reply::to(number));
                        }
                    }
                }
            }
        });
    }

    /// Says that this process serves.
    pub(super) async fn ready(self) -> io::Result<()> {
        self.writing.lock().await.write_u8(READY).await
    }

    /// Says that this process was told to end, and has let go of everything.
    pub(super) async fn told(self) -> io::Result<()> {
        self.writing.lock().await.write_u8(TOLD).await
    }
}

fn line(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// The number in a message that cannot be read otherwise.
fn number_of(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        number: u64,
    }
    serde_json::from_slice(line)
        .ok()
        .map(|Numbered { number }| number)
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
            let first = successor.says().await;
            let mut second = door.knocked().await;
            second.give(&[]).await.unwrap();
            let mut third = door.knocked().await;
            third.give(&[]).await.unwrap();
            (first, second.says().await, third.says().await)
        });
        let mut predecessor = Predecessor::find(folder.path()).await.unwrap().unwrap();
        let taken = predecessor.sockets().await.unwrap();
        let seen: Vec<_> = taken
            .into_iter()
            .map(|fd| std::net::TcpListener::from(fd).local_addr().unwrap())
            .collect();
        assert_eq!(seen, addresses);
        predecessor.ready().await.unwrap();
        let mut gone = Predecessor::find(folder.path()).await.unwrap().unwrap();
        assert!(gone.sockets().await.unwrap().is_empty());
        drop(gone);
        let mut told = Predecessor::find(folder.path()).await.unwrap().unwrap();
        assert!(told.sockets().await.unwrap().is_empty());
        told.told().await.unwrap();
        let said = old.await.unwrap();
        assert!(
            matches!(said, (Said::Serves, Said::Gone, Said::WasTold)),
            "{said:?}"
        );
    }

    #[tokio::test]
    async fn what_is_put_into_force_arrives_and_so_does_what_is_in_flight() {
        let folder = tempfile::tempdir().unwrap();
        let door = Door::open(folder.path()).unwrap();
        let old = tokio::spawn(async move {
            let mut successor = door.knocked().await;
            successor.give(&[]).await.unwrap();
            let Said::Word(word) = successor.says().await else {
                panic!("no word");
            };
            successor.tell(Reply::to(word.number())).await;
            (successor.says().await, successor)
        });
        let mut predecessor = Predecessor::find(folder.path()).await.unwrap().unwrap();
        predecessor.sockets().await.unwrap();
        let word = r#"{"number":7,"generation":3,"routes":{},"aliases":{}}"#;
        let word: Word = serde_json::from_str(word).unwrap();
        let (words, told) = tokio::sync::watch::channel(None);
        let (heard, mut replies) = tokio::sync::watch::channel(Reply::default());
        predecessor.follows(Wire {
            words: told,
            replies: heard,
        });
        words.send_replace(Some(Arc::new(word.clone())));
        let reply = replies.wait_for(|reply| reply.number == 7).await.unwrap();
        assert_eq!(*reply, Reply::to(7));
        drop(reply);
        predecessor.ready().await.unwrap();
        let (said, successor) = old.await.unwrap();
        assert!(matches!(said, Said::Serves), "{said:?}");
        // its end is seen
        drop(successor);
        replies.changed().await.unwrap_err();
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_read_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let door = Door::open(folder.path()).unwrap();
        let mut stream = UnixStream::connect(path(folder.path())).await.unwrap();
        let mut successor = door.knocked().await;
        let strange = r#"{"number":7,"generation":"three"}"#;
        let word = r#"{"number":8,"generation":3,"routes":{},"aliases":{}}"#;
        let said = format!("?\n{strange}\n{word}\nR");
        stream.write_all(said.as_bytes()).await.unwrap();
        let unread = successor.says().await;
        assert!(matches!(unread, Said::Unread(7)), "{unread:?}");
        assert_eq!(successor.number, 7);
        let read = successor.says().await;
        assert!(
            matches!(&read, Said::Word(word) if word.number() == 8),
            "{read:?}"
        );
        assert_eq!(successor.number, 8);
        let serves = successor.says().await;
        assert!(matches!(serves, Said::Serves), "{serves:?}");
        drop(stream);
        let gone = successor.says().await;
        assert!(matches!(gone, Said::Gone), "{gone:?}");
    }

    #[tokio::test]
    async fn one_that_does_not_say_that_it_understands_words_gets_none() {
        let folder = tempfile::tempdir().unwrap();
        let door = Door::open(folder.path()).unwrap();
        let mut predecessor = Predecessor::find(folder.path()).await.unwrap().unwrap();
        let mut successor = door.knocked().await;
        send(&successor.stream, LAST, &[]).unwrap();
        predecessor.sockets().await.unwrap();
        let word = r#"{"number":7,"generation":3,"routes":{},"aliases":{}}"#;
        let word: Word = serde_json::from_str(word).unwrap();
        let (_words, told) = tokio::sync::watch::channel(Some(Arc::new(word)));
        let (heard, mut replies) = tokio::sync::watch::channel(Reply::default());
        predecessor.follows(Wire {
            words: told,
            replies: heard,
        });
        // as one that is gone: nobody waits for it
        replies.changed().await.unwrap_err();
        predecessor.ready().await.unwrap();
        let said = successor.says().await;
        assert!(matches!(said, Said::Serves), "{said:?}");
    }
}
