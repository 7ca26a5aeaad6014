//! hyper's half of a connection to a server, and who drives it: the request that has it, in its own task. A task for each
//! connection would be woken by each request and wake it again: two turns of the scheduler for each request.
//!
//! Everything on the connection wakes its [`Bell`], the same for as long as it lives, so that nothing is registered anew when
//! another request takes it; the bell wakes whoever polled last. An idle connection has nobody to wake: the bell remembers that it rang,
//! and the next look at the connection, by a request or by the sweep, finds what came of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::upload::Upload;
use super::upstream::{Passed, ServerIo};

/// One connection to a server.
pub(super) struct Wire {
    pub(super) sender: SendRequest<Upload>,
    pub(super) passed: Rc<Passed>,
    http: Http,
    bell: Arc<Bell>,
    /// The bell as wakers have it.
    waker: Waker,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every one runs, and a box would be one more step for each request"
)]
enum Http {
    Runs(Connection<TokioIo<ServerIo>, Upload>),
    /// Ended well: the socket and what was read ahead on it.
    Left(TcpStream, Bytes),
    Over,
}

/// Who is woken by a connection.
#[derive(Debug, Default)]
struct Bell {
    task: Mutex<Option<Waker>>,
    /// It rang, and the connection was not looked at since.
    rang: AtomicBool,
    quiet: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Relaxed);
        if !self.quiet.load(Ordering::Relaxed) {
            let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(task) = task.as_ref() {
                task.wake_by_ref();
            }
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("sender", &self.sender)
            .field("bell", &self.bell)
            .finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(
        sender: SendRequest<Upload>,
        http: Connection<TokioIo<ServerIo>, Upload>,
        passed: Rc<Passed>,
    ) -> Self {
        let bell = Arc::new(Bell::default());
        Self {
            sender,
            passed,
            http: Http::Runs(http),
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        }
    }

    /// Gives hyper a request, which goes out with the next [`Self::poll`].
    pub(super) fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> + use<>
    {
        self.bell.quiet.store(true, Ordering::Relaxed);
        let sent = self.sender.try_send_request(request);
        self.bell.quiet.store(false, Ordering::Relaxed);
        sent
    }

    /// Does what can be done, and has `cx` woken for the rest. Ready when HTTP is over on it.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let mut task = self
            .bell
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !task
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *task = Some(cx.waker().clone());
        }
        drop(task);
        self.advance()
    }

    fn advance(&mut self) -> Poll<()> {
        let Http::Runs(http) = &mut self.http else {
            return Poll::Ready(());
        };
        if self.bell.rang.load(Ordering::Relaxed) {
            self.bell.rang.store(false, Ordering::Relaxed);
            self.passed.heard();
        }
        let Poll::Ready(ended) = Pin::new(http).poll(&mut Context::from_waker(&self.waker)) else {
            return Poll::Pending;
        };
        // its error also reaches the request that has the connection; an idle one's end is nobody's business. What still
        // waits in it is told by its end
        if let Http::Runs(http) = std::mem::replace(&mut self.http, Http::Over)
            && ended.is_ok()
        {
            let parts = http.into_parts();
            self.http = Http::Left(parts.io.into_inner().stream, parts.read_buf);
        }
        Poll::Ready(())
    }

    /// Finds out what happened while nobody was looking.
    pub(super) fn catch_up(&mut self) {
        if self.bell.rang.load(Ordering::Relaxed) {
            // its end shows in the sender
            let _ended = self.advance();
        }
    }

    /// Has nobody woken from here on.
    pub(super) fn rest(&mut self) {
        let task = self
            .bell
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(task);
        if !self.sender.is_ready() {
            // the end of an answer may be all that is left to be seen
            let _ended = self.advance();
        }
    }

    /// `look` without waking anybody by what it sets off here.
    pub(super) fn quietly<T>(&self, look: impl FnOnce() -> T) -> T {
        self.bell.quiet.store(true, Ordering::Relaxed);
        let seen = look();
        self.bell.quiet.store(false, Ordering::Relaxed);
        seen
    }

    pub(super) fn into_stream(self) -> Option<(TcpStream, Bytes)> {
        match self.http {
            Http::Left(stream, ahead) => Some((stream, ahead)),
            Http::Runs(_) | Http::Over => None,
        }
    }
}
