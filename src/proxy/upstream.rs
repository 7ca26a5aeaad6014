//! One server's connections on one thread: taking one from the pool, making one, one exchange on it, giving it back.
//!
//! Retry is not decided here; an exchange that failed says what a retry needs to know: whether the request went out, and
//! whether anything came back.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::again::read_back;
use super::deadline::{Deadline, about_now};
use super::early::{Before, Early};
use super::listen::keepalive;
use super::room::{LATER, MOST, Room, SMALL_PART};
use super::upload::{Progress, Upload};
use super::wire::Wire;
use crate::domain::Server;

/// Idle connections kept for one server by one thread; more than the 64 of nginx's documentation, because a thread that
/// opens and closes connections at each peak pays a handshake for each.
const KEEP: usize = 256;
/// How long an idle one is kept. Shorter than the 60 s and 75 s at which common servers close, longer than their bursts.
const KEEP_FOR: Duration = Duration::from_secs(30);
/// Bytes of an answer's head, so that endless headers end; nginx takes 4 or 8 KiB by default.
const ANSWER_HEAD: usize = 32 * 1024;

/// The idle connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    server: Server,
    idle: RefCell<Vec<Idle>>,
    /// The server is no longer in the snapshot: what comes back is closed.
    retired: Cell<bool>,
}

#[derive(Debug)]
struct Idle {
    wire: Box<Wire>,
    since: Instant,
}

/// One connection while a request has it.
#[derive(Debug)]
pub(super) struct Lease {
    /// In a box, because a lease is handed on more than once and hyper's state is large.
    wire: Box<Wire>,
    pool: Rc<Pool>,
    /// It served another request before.
    pub(super) reused: bool,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// Not a byte of it went out; here it is again.
    Unsent(Box<Request<Upload>>),
    /// It went out, and the connection ended before anything came back.
    Silent,
    /// The answer began and broke, or is not HTTP.
    Broken,
    /// No answer within `timeouts.response` after the request, or nothing of its body was taken for `timeouts.idle`.
    Timeout,
    /// The client sent nothing of its body for `timeouts.idle`, or went away in its middle.
    SlowBody,
    /// The client sent more of it than `limits.body`.
    LargeBody,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("failed to connect")]
    Refused(#[source] io::Error),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("failed to begin HTTP")]
    Handshake(#[source] hyper::Error),
}

impl Pool {
    pub(super) const fn new(server: Server) -> Self {
        Self {
            server,
            idle: RefCell::new(Vec::new()),
            retired: Cell::new(false),
        }
    }

    /// The connection that was used last, so that the others can age. `sure`: the request could not be repeated, so what the
    /// kernel already knows of the connection's end is read first (one pass of the runtime over its sockets).
    pub(super) async fn take(self: &Rc<Self>, sure: bool) -> Option<Lease> {
        if sure && !self.idle.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        loop {
            let mut wire = self.idle.borrow_mut().pop()?.wire;
            wire.catch_up();
            if wire.sender.is_ready() {
                return Some(Lease {
                    wire,
                    pool: Rc::clone(self),
                    reused: true,
                });
            }
        }
    }

    /// A new connection. Each address of a name is tried; `timeout` is for all of them.
    pub(super) async fn connect(self: &Rc<Self>, timeout: Duration) -> Result<Lease, ConnectError> {
        let stream = tokio::time::timeout(timeout, async {
            match self.server.socket_addr() {
                Some(address) => TcpStream::connect(address).await,
                None => TcpStream::connect((self.server.host(), self.server.port())).await,
            }
        })
        .await
        .map_err(|_elapsed| ConnectError::Timeout(timeout))?
        .map_err(ConnectError::Refused)?;
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        SockRef::from(&stream)
            .set_tcp_keepalive(&keepalive())
            .map_err(ConnectError::Refused)?;
        let passed = Rc::new(Passed::default());
        let io = ServerIo {
            stream,
            passed: Rc::clone(&passed),
            room: Room::default(),
        };
        let (sender, http) = Builder::new()
            .max_buf_size(MOST)
            .max_header_size(ANSWER_HEAD)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Handshake)?;
        let wire = Box::new(Wire::new(sender, http, passed));
        Ok(Lease {
            wire,
            pool: Rc::clone(self),
            reused: false,
        })
    }

    /// Closes what has been idle for too long or has ended.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain_mut(|idle| {
            idle.wire.catch_up();
            !idle.wire.sender.is_closed() && now.saturating_duration_since(idle.since) < KEEP_FOR
        });
    }

    /// Closes all that is idle, and later what comes back.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.idle.borrow_mut().clear();
    }
}

impl Lease {
    /// For the next request. Only after the answer was read to its end; if the request is still on its way, the connection ends.
    pub(super) fn give_back(mut self) {
        self.wire.rest();
        let mut idle = self.pool.idle.borrow_mut();
        if !self.pool.retired.get() && self.wire.sender.is_ready() && idle.len() < KEEP {
            idle.push(Idle {
                wire: self.wire,
                since: about_now(),
            });
        }
    }

    /// Moves what is under way on it: the rest of the request, more of the answer.
    pub(super) fn poll(&mut self, cx: &Context<'_>) {
        // an end shows in the answer, too
        let _ended = self.wire.poll(cx);
    }

    /// How far the body of the request has come, where it has one.
    pub(super) fn upload(&self) -> Option<Rc<Progress>> {
        self.wire.passed.upload.borrow().clone()
    }

    /// True while some of it has not gone out.
    pub(super) fn is_uploading(&self) -> bool {
        self.wire.passed.is_uploading()
    }

    /// `look` without being woken by what it sets off on this connection: for what is followed by [`Self::poll`] before
    /// anybody waits.
    pub(super) fn quietly<T>(&self, look: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.wire
            .quietly(|| look(&mut Context::from_waker(Waker::noop())))
    }

    /// The socket after a 101, with what the server said behind it; `None` if it broke meanwhile.
    pub(super) async fn into_stream(mut self) -> Option<(TcpStream, Bytes)> {
        poll_fn(|cx| self.wire.poll(cx)).await;
        self.wire.into_stream()
    }

    /// The request that was sent last, once more; `None` if it was not kept, or not whole.
    pub(super) fn sent(&self) -> Option<Request<Upload>> {
        read_back(&self.wire.passed.head.borrow())
    }

    /// Sends a request and waits for the head of its answer; what comes before that goes to `early`. `response` counts from the end of the request; while its body
    /// is on the way, `stall` counts from the last part of it.
    pub(super) async fn exchange(
        &mut self,
        request: Box<Request<Upload>>,
        keeping: Keeping,
        (response, stall): (Duration, Duration),
        early: &Early,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let progress = request.body().progress();
        self.wire.passed.begin(keeping, &progress);
        progress.moved.set(Instant::now());
        let due = || progress.moved.get() + if progress.sent.get() { response } else { stall };
        let wire = &mut self.wire;
        let sent = wire.send(*request);
        // without a budget: it is ready when the connection has made it so, and must not wait for a turn that nobody gives it
        let mut answer = pin!(unconstrained(sent));
        let mut deadline = Deadline::at(due());
        let exchanged = poll_fn(|cx| {
            // sends, reads, and with that makes the answer ready: nobody else does, so nobody need be woken by it
            let ended = wire.poll(cx);
            wire.passed.before.pass(early);
            let mut asleep = Context::from_waker(Waker::noop());
            if let Poll::Ready(answered) = answer.as_mut().poll(&mut asleep) {
                wire.passed.before.end();
                return Poll::Ready(Ok(answered));
            }
            debug_assert!(ended.is_pending(), "an ended connection has answered");
            while Pin::new(&mut deadline).poll(cx).is_ready() {
                if due() > deadline.due() {
                    deadline.reset(due());
                } else if progress.waits_for_the_server() {
                    return Poll::Ready(Err(ExchangeError::Timeout));
                } else {
                    return Poll::Ready(Err(ExchangeError::SlowBody));
                }
            }
            Poll::Pending
        });
        let mut failed = match exchanged.await? {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        Err(match failed.take_message() {
            _ if progress.too_large.get() => ExchangeError::LargeBody,
            // hyper ends the connection for it, which is not the server's doing
            _ if progress.broke.get() => ExchangeError::SlowBody,
            Some(request) => ExchangeError::Unsent(Box::new(request)),
            None if self.wire.passed.received.get() => ExchangeError::Broken,
            None => ExchangeError::Silent,
        })
    }
}

/// Whether [`Lease::sent`] will be wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Keeping {
    #[default]
    Nothing,
    Head,
}

/// What passed over a connection since the last request.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// Whether anything came.
    received: Cell<bool>,
    keeping: Cell<Keeping>,
    /// The socket had nothing to read when it was last looked at, and the bell has not rung since.
    dry: Cell<bool>,
    /// What was to be written first: hyper puts a whole head into one write.
    head: RefCell<Vec<u8>>,
    /// The request's body, if it has one.
    upload: RefCell<Option<Rc<Progress>>>,
    before: Before,
}

impl Passed {
    fn begin(&self, keeping: Keeping, upload: &Rc<Progress>) {
        self.upload
            .replace((!upload.sent.get()).then(|| Rc::clone(upload)));
        self.received.set(false);
        self.before.begin();
        self.keeping.set(keeping);
        self.head.borrow_mut().clear();
    }

    fn wrote(&self, bytes: usize) {
        if let Some(upload) = self.upload.borrow().as_ref() {
            upload.went(bytes);
        }
    }

    fn is_uploading(&self) -> bool {
        let upload = self.upload.borrow();
        upload.as_ref().is_some_and(|upload| upload.is_under_way())
    }

    /// The bell rang: there may be something to read.
    pub(super) fn heard(&self) {
        self.dry.set(false);
    }
}

/// The server's socket, which remembers what passed.
#[derive(Debug)]
pub(super) struct ServerIo {
    pub(super) stream: TcpStream,
    passed: Rc<Passed>,
    room: Room,
}

impl AsyncRead for ServerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // hyper looks up to five times for each answer; who waits is known already, since it is always the bell
        if self.passed.dry.get() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        // in large parts, hyper would not ask for the answer again until the client takes of it, and by that the upload goes on
        let may_fill = if self.passed.is_uploading() {
            buf.remaining() <= SMALL_PART
        } else {
            self.room.may_fill(buf.remaining())
        };
        let polled = if may_fill {
            let most = if self.passed.received.get() {
                LATER
            } else {
                u64::MAX
            };
            Pin::new(&mut (&mut self.stream).take(most)).poll_read(cx, buf)
        } else {
            let mut space = [const { MaybeUninit::uninit() }; SMALL_PART];
            let mut part = ReadBuf::uninit(&mut space);
            let polled = Pin::new(&mut self.stream).poll_read(cx, &mut part);
            buf.put_slice(part.filled());
            polled
        };
        self.passed.dry.set(polled.is_pending());
        if buf.filled().len() > before {
            self.passed.received.set(true);
            self.passed.before.look(&buf.filled()[before..]);
        }
        polled
    }
}

/// Not vectored, as the client's side.
impl AsyncWrite for ServerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.passed.keeping.replace(Keeping::Nothing) == Keeping::Head {
            self.passed.head.borrow_mut().extend_from_slice(bytes);
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(bytes)) = polled {
            self.passed.wrote(bytes);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
