//! The thread that empties the socket: datagrams in, counts into the ledger. Nothing else may be done here, since a balancer that
//! finds no room drops its line.
//!
//! The kernel does not say how many those were. But the queue was never full if it was seen empty twice with fewer datagrams in
//! between than it has room for; a row that is longer may have lost some, and is noted.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, recvmsg};

use super::ledger::Ledger;
use super::line::Line;
use super::peers::Peers;
use super::socket::{Socket, SocketError};

/// What is read of a datagram. nginx's have about 90 bytes, HAProxy's 256.
const LONGEST: usize = 512;
/// Counted under one lock.
const AT_ONCE: usize = 64;
/// How soon the thread sees that it is to end.
const GLANCE: Duration = Duration::from_millis(100);

/// What the thread has seen of the queue.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// A row was as long as the queue since this was last looked at.
    full: AtomicBool,
    /// Datagrams of users who are not believed.
    strangers: AtomicU64,
    end: AtomicBool,
    ended: AtomicBool,
}

impl Flow {
    /// Whether the queue may have been full since this was last asked.
    pub(super) fn take_full(&self) -> bool {
        self.full.swap(false, Ordering::Relaxed)
    }

    pub(super) fn strangers(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed)
    }

    /// The thread is gone.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// The thread, ended when this is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    flow: Arc<Flow>,
    thread: Option<JoinHandle<()>>,
    socket: Option<Socket>,
}

impl Reader {
    pub(super) fn begin(
        mut socket: Socket,
        ledger: Arc<Ledger>,
        flow: Arc<Flow>,
        peers: Peers,
    ) -> Result<Self, SocketError> {
        let datagrams = again(&socket.datagrams).map_err(SocketError::Read)?;
        let mut work = Work {
            datagrams,
            room: u64::from(socket.room),
            ledger,
            flow: Arc::clone(&flow),
            peers,
            row: 0,
        };
        let (begun, begins) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("traffic".to_owned())
            .spawn(move || {
                // who waits for it is there
                begun.send(nix::unistd::gettid()).ok();
                work.run();
                work.flow.ended.store(true, Ordering::Release);
            })
            .map_err(SocketError::Read)?;
        if let Ok(thread) = begins.recv()
            && let Err(error) = socket.announce(thread)
        {
            flow.end.store(true, Ordering::Release);
            return Err(error);
        }
        Ok(Self {
            flow,
            thread: Some(thread),
            socket: Some(socket),
        })
    }

    /// The socket once more, for another process.
    pub(super) fn descriptor(&self) -> Option<UnixDatagram> {
        self.socket.as_ref()?.datagrams.try_clone().ok()
    }

    fn stop(&mut self) {
        self.flow.end.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that counts the traffic broke");
        }
    }
}

/// The same socket, waiting for what comes.
fn again(socket: &UnixDatagram) -> std::io::Result<UnixDatagram> {
    let socket = socket.try_clone()?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(GLANCE))?;
    Ok(socket)
}

impl Drop for Reader {
    fn drop(&mut self) {
        // first nobody writes, then nobody reads
        if let Some(socket) = self.socket.take() {
            socket.leave();
        }
        self.stop();
    }
}

struct Work {
    datagrams: UnixDatagram,
    room: u64,
    ledger: Arc<Ledger>,
    flow: Arc<Flow>,
    peers: Peers,
    /// Datagrams since the queue was last seen empty.
    row: u64,
}

/// What came of asking for one datagram.
enum Came {
    /// So many bytes, from somebody who is believed.
    Line(usize),
    Stranger,
    Nothing,
    Broken(Errno),
}

impl Work {
    fn run(&mut self) {
        let mut texts = vec![[0_u8; LONGEST]; AT_ONCE];
        let mut lengths = [0_usize; AT_ONCE];
        while !self.flow.end.load(Ordering::Acquire) {
            let mut count = 0;
            // waits for the first, takes what else there is
            let mut flags = RecvFlags::empty();
            while count < AT_ONCE {
                match self.receive(&mut texts[count], flags) {
                    Came::Line(length) => {
                        lengths[count] = length;
                        count += 1;
                        self.row += 1;
                    }
                    Came::Stranger => {
                        self.flow.strangers.fetch_add(1, Ordering::Relaxed);
                        self.row += 1;
                    }
                    Came::Nothing => {
                        self.row = 0;
                        break;
                    }
                    Came::Broken(error) => {
                        tracing::error!(%error, "the datagram socket of the traffic broke: nothing is counted any more");
                        return;
                    }
                }
                if self.row >= self.room {
                    self.flow.full.store(true, Ordering::Relaxed);
                }
                flags = RecvFlags::DONTWAIT;
            }
            if count > 0 {
                let read = texts.iter().zip(lengths).take(count);
                let lines = read.map(|(text, length)| Line::of(&text[..length]));
                let at = self.ledger.place(Timestamp::now());
                self.ledger.count(lines, at);
            }
        }
    }

    fn receive(&mut self, text: &mut [u8], flags: RecvFlags) -> Came {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut said = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.datagrams,
            &mut [IoSliceMut::new(text)],
            &mut said,
            flags,
        );
        let bytes = match received {
            Ok(RecvMsg { bytes, .. }) => bytes,
            // the time-out of a socket that waits is EAGAIN as well
            Err(Errno::AGAIN | Errno::INTR) => return Came::Nothing,
            Err(error) => return Came::Broken(error),
        };
        let user = said.drain().find_map(|said| {
            if let RecvAncillaryMessage::ScmCredentials(of) = said {
                Some(of.uid.as_raw())
            } else {
                None
            }
        });
        if user.is_some_and(|user| self.peers.believes(user)) {
            Came::Line(bytes)
        } else {
            Came::Stranger
        }
    }
}
