//! One server's connections on one thread: taking one from the pool, making one, one exchange on it, giving it back.
//!
//! Retry is not decided here; an exchange that failed says what a retry needs to know: whether the request went out, and
//! whether anything came back.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::body::Upload;
use super::deadline::{Deadline, about_now};
use crate::domain::Server;

/// Idle connections kept for one server by one thread; more than the 64 of nginx's documentation, because a thread that
/// opens and closes connections at each peak pays a handshake for each.
const KEEP: usize = 256;
/// How long an idle one is kept. Shorter than the 60 s and 75 s at which common servers close, longer than their bursts.
const KEEP_FOR: Duration = Duration::from_secs(30);
/// Bytes of an answer's head, so that endless headers end; and of one read of its body, of which a client that does not read
/// makes the proxy keep two. 256 KiB cost 640 KiB for each slow reader; nginx takes 4 or 8 KiB of head by default.
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
    wire: Wire,
    since: Instant,
}

/// One connection, ready for a request.
#[derive(Debug)]
struct Wire {
    sender: SendRequest<Upload>,
    received: Rc<Cell<bool>>,
    /// Ends with the socket and what was read ahead on it, if HTTP ended well.
    task: JoinHandle<Option<(TcpStream, Bytes)>>,
}

/// One connection while a request has it.
#[derive(Debug)]
pub(super) struct Lease {
    wire: Wire,
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
    /// No answer within `timeouts.response` after the request.
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
            let wire = self.idle.borrow_mut().pop()?.wire;
            if !wire.sender.is_ready() && !wire.sender.is_closed() {
                // its last answer has just ended and its task has not yet looked
                tokio::task::yield_now().await;
            }
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
        let received = Rc::new(Cell::new(false));
        let io = ServerIo {
            stream,
            received: Rc::clone(&received),
        };
        let (sender, mut http) = Builder::new()
            .max_buf_size(ANSWER_HEAD)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Handshake)?;
        let task = tokio::task::spawn_local(async move {
            // its error also reaches the request that has the connection; an idle one's end is nobody's business
            poll_fn(|cx| Pin::new(&mut http).poll(cx)).await.ok()?;
            let parts = http.into_parts();
            Some((parts.io.into_inner().stream, parts.read_buf))
        });
        let wire = Wire {
            sender,
            received,
            task,
        };
        Ok(Lease {
            wire,
            pool: Rc::clone(self),
            reused: false,
        })
    }

    /// Closes what has been idle for too long or has ended.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|idle| {
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
    /// For the next request. Only after the answer was read to its end.
    pub(super) fn give_back(self) {
        let mut idle = self.pool.idle.borrow_mut();
        if !self.pool.retired.get() && !self.wire.sender.is_closed() && idle.len() < KEEP {
            idle.push(Idle {
                wire: self.wire,
                since: about_now(),
            });
        }
    }

    /// The socket after a 101, with what the server said behind it; `None` if it broke meanwhile.
    pub(super) async fn into_stream(self) -> Option<(TcpStream, Bytes)> {
        // an error is a panic of the task, which has said so
        self.wire.task.await.ok().flatten()
    }

    /// Sends a request and waits for the head of its answer. `response` counts from the end of the request; while its body
    /// is on the way, `stall` counts from the last part of it.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Upload>,
        response: Duration,
        stall: Duration,
    ) -> Result<Response<Incoming>, ExchangeError> {
        self.wire.received.set(false);
        let progress = request.body().progress();
        progress.moved.set(Instant::now());
        let due = || progress.moved.get() + if progress.sent.get() { response } else { stall };
        let mut answer = pin!(self.wire.sender.try_send_request(request));
        let mut deadline = Deadline::at(due());
        let mut failed = loop {
            tokio::select! {
                biased;
                answered = &mut answer => match answered {
                    Ok(response) => return Ok(response),
                    Err(error) => break error,
                },
                () = &mut deadline => {
                    if due() > deadline.due() {
                        deadline.reset(due());
                    } else if progress.sent.get() {
                        return Err(ExchangeError::Timeout);
                    } else {
                        return Err(ExchangeError::SlowBody);
                    }
                }
            }
        };
        Err(match failed.take_message() {
            _ if progress.too_large.get() => ExchangeError::LargeBody,
            // hyper ends the connection for it, which is not the server's doing
            _ if progress.broke.get() => ExchangeError::SlowBody,
            Some(request) => ExchangeError::Unsent(Box::new(request)),
            None if self.wire.received.get() => ExchangeError::Broken,
            None => ExchangeError::Silent,
        })
    }
}

/// The server's socket, which remembers whether anything came since the last request.
struct ServerIo {
    stream: TcpStream,
    received: Rc<Cell<bool>>,
}

impl AsyncRead for ServerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.received.set(true);
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
