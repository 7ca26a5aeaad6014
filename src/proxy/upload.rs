//! The body of a request on its way to a server: how far it has come, how much of it may come, and how much of it may wait. A
//! stream only; nothing is ever gathered.
//!
//! hyper copies what it is given into one buffer of up to what it may read of an answer, and a connection keeps the largest that
//! it ever had. So no more is given than [`AHEAD`] and the part that is added last, until the socket has taken it.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::BoxError;
use super::deadline::about_now;

/// Bytes of a body that may wait for a server that does not take them, beside the part that is added last, which is of up to
/// 32 KiB.
const AHEAD: usize = 32 * 1024;

/// How far a request body has come.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) sent: Cell<bool>,
    /// More came than may come.
    pub(super) too_large: Cell<bool>,
    /// The client went away in its middle, or sent what is no body.
    pub(super) broke: Cell<bool>,
    pub(super) moved: Cell<Instant>,
    /// Bytes that were handed over and have not gone out.
    waiting: Cell<usize>,
    /// Who asked for more of it while enough waited.
    asked: RefCell<Option<Waker>>,
}

impl Progress {
    /// True while enough waits for the server; whoever asks is woken when that is over.
    fn has_enough(&self, cx: &Context<'_>) -> bool {
        let enough = self.waiting.get() >= AHEAD;
        if enough {
            self.asked.replace(Some(cx.waker().clone()));
        }
        enough
    }

    /// True if it is the server that does not take what has come.
    pub(super) fn waits_for_the_server(&self) -> bool {
        self.sent.get() || self.waiting.get() >= AHEAD
    }

    /// True until all of it is handed over and has gone out.
    pub(super) fn is_under_way(&self) -> bool {
        !self.sent.get() || self.waiting.get() > 0
    }

    fn hand(&self, frame: &Frame<Bytes>) {
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.waiting.set(self.waiting.get() + length);
    }

    /// So many bytes went out. Heads and the sizes of chunks are among them, so never fewer than were handed over: all is gone
    /// at the latest when nothing is left to write.
    pub(super) fn went(&self, bytes: usize) {
        let left = self.waiting.get().saturating_sub(bytes);
        self.waiting.set(left);
        if left < AHEAD
            && let Some(asked) = self.asked.take()
        {
            asked.wake();
        }
    }
}

/// What a server gets.
#[derive(Debug)]
pub(super) struct Upload {
    body: Option<Incoming>,
    /// Bytes that may still come.
    left: u64,
    progress: Rc<Progress>,
}

/// The body is longer than `limits.body`.
#[derive(Debug, thiserror::Error)]
#[error("the request body is too large")]
struct TooLarge;

impl Upload {
    /// `None` where there is no body; of one, up to `limit` bytes.
    pub(super) fn new(body: Option<Incoming>, limit: Option<u64>) -> Self {
        let progress = Rc::new(Progress {
            sent: Cell::new(body.is_none()),
            too_large: Cell::new(false),
            broke: Cell::new(false),
            // set when it is sent
            moved: Cell::new(about_now()),
            waiting: Cell::new(0),
            asked: RefCell::new(None),
        });
        Self {
            body,
            left: limit.unwrap_or(u64::MAX),
            progress,
        }
    }

    pub(super) fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    /// True if it can be sent a second time: there is nothing to send.
    pub(super) const fn is_empty(&self) -> bool {
        self.body.is_none()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // hyper drops a body of known length after its last byte, without asking for an end
        if !self.progress.sent.replace(true) {
            self.progress.moved.set(Instant::now());
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if this.progress.has_enough(cx) {
            return Poll::Pending;
        }
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            this.progress.moved.set(Instant::now());
            match frame {
                None => this.progress.sent.set(true),
                Some(Ok(frame)) => {
                    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                    let Some(left) = this.left.checked_sub(length) else {
                        this.progress.too_large.set(true);
                        return Poll::Ready(Some(Err(TooLarge.into())));
                    };
                    this.left = left;
                    this.progress.hand(frame);
                }
                Some(Err(_)) => this.progress.broke.set(true),
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::Bell;
    use super::*;

    #[test]
    fn a_body_waits_for_a_server_that_does_not_take_it_and_goes_on_when_it_does() {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let cx = Context::from_waker(&waker);
        let progress = Upload::new(None, None).progress();
        let part = |bytes: usize| Frame::data(Bytes::from(vec![b'x'; bytes]));
        progress.hand(&part(AHEAD - 1));
        assert!(!progress.has_enough(&cx));
        progress.hand(&part(20_000));
        assert!(progress.has_enough(&cx));
        progress.went(19_999);
        assert!(progress.has_enough(&cx));
        assert_eq!(bell.rung(), 0);
        progress.went(1);
        assert_eq!(bell.rung(), 1);
        assert!(!progress.has_enough(&cx));
        // the head and the sizes of chunks pass as well
        progress.hand(&part(AHEAD));
        assert!(progress.has_enough(&cx));
        progress.went(10 * AHEAD);
        assert_eq!(bell.rung(), 2);
        assert!(!progress.has_enough(&cx));
        // nobody waits, so nobody is woken
        progress.went(1);
        assert_eq!(bell.rung(), 2);
        // all was handed over, and not all has gone
        progress.hand(&part(2));
        assert!(progress.is_under_way());
        progress.went(2);
        assert!(!progress.is_under_way());
    }
}
