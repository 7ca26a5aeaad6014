//! Bodies on the way, and what happens when they end: the answer gives its connection back to the pool and ends the
//! request's count, the upload tells when it was sent. Streams only; nothing is ever gathered.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::client::{Connection, Order};
use super::deadline::about_now;
use super::in_flight::InFlight;
use super::record::{Ended, Record};
use super::upstream::Lease;

/// Any error, as bodies have it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer that a [`super::LocalService`] gives.
pub type LocalAnswer = BoxBody<Bytes, BoxError>;

/// The color was left, and the time for what was in flight on it is over.
#[derive(Debug, thiserror::Error)]
#[error("the drain deadline has passed")]
struct DrainedAway;

/// What a client gets.
#[derive(Debug)]
pub(super) struct Answer {
    source: Source,
    in_flight: Option<InFlight>,
    connection: Rc<Connection>,
    record: Option<Record>,
}

#[derive(Debug)]
enum Source {
    Server {
        body: Incoming,
        lease: Option<Lease>,
        ended: bool,
        /// Why it breaks off, until what came before that is on its way.
        broken: Option<hyper::Error>,
    },
    Text(Option<Bytes>),
    Nothing,
    Local(LocalAnswer),
}

impl Answer {
    pub(super) fn server(
        body: Incoming,
        lease: Lease,
        in_flight: InFlight,
        connection: &Rc<Connection>,
    ) -> Self {
        Self {
            source: Source::Server {
                body,
                lease: Some(lease),
                ended: false,
                broken: None,
            },
            in_flight: Some(in_flight),
            connection: Rc::clone(connection),
            record: None,
        }
    }

    pub(super) fn text(text: Bytes, connection: &Rc<Connection>) -> Self {
        Self {
            source: Source::Text(Some(text)),
            in_flight: None,
            connection: Rc::clone(connection),
            record: None,
        }
    }

    pub(super) fn nothing(connection: &Rc<Connection>) -> Self {
        Self {
            source: Source::Nothing,
            in_flight: None,
            connection: Rc::clone(connection),
            record: None,
        }
    }

    pub(super) fn local(body: LocalAnswer, connection: &Rc<Connection>) -> Self {
        Self {
            source: Source::Local(body),
            in_flight: None,
            connection: Rc::clone(connection),
            record: None,
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Source::Server {
            body, lease, ended, ..
        } = &mut self.source
            && (*ended || body.is_end_stream())
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
        let whole = self.is_end_stream();
        if let Some(record) = &mut self.record {
            if whole {
                record.end(Ended::Complete);
            } else if self.connection.order() == Order::Cut {
                record.end(Ended::Cut);
            }
        }
        self.connection.answered();
    }
}

impl Answer {
    /// Writes down how it ends.
    pub(super) fn recorded(mut self, record: Option<Record>) -> Self {
        self.record = record;
        self
    }

    fn write_down(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, BoxError>>>) {
        let (Some(record), Poll::Ready(polled)) = (&mut self.record, polled) else {
            return;
        };
        match polled {
            Some(Ok(frame)) => record.count(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) if error.is::<DrainedAway>() => record.end(Ended::Cut),
            Some(Err(_)) => record.end(Ended::Broken),
            None => record.end(Ended::Complete),
        }
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.source {
            Source::Server {
                broken: broken @ Some(_),
                ..
            } => Poll::Ready(broken.take().map(|error| Err(error.into()))),
            Source::Server {
                body,
                lease,
                ended,
                broken,
            } => match drawn(body, lease.as_mut(), cx) {
                Poll::Ready(Some(Err(error))) => {
                    if let Some(in_flight) = &self.in_flight {
                        in_flight.fail();
                    }
                    // hyper drops what it has not written when a body fails, and writes it when one pauses
                    *broken = Some(error);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
                Poll::Ready(None) => {
                    *ended = true;
                    Poll::Ready(None)
                }
                Poll::Pending => match &self.in_flight {
                    Some(in_flight) => in_flight
                        .poll_cut(cx)
                        .map(|()| Some(Err(DrainedAway.into()))),
                    None => Poll::Pending,
                },
            },
            Source::Nothing => Poll::Ready(None),
            Source::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Source::Local(body) => Pin::new(body).poll_frame(cx),
        }
    }
}

/// The next part of a server's answer, for which its connection is driven if there is none yet.
fn drawn(
    body: &mut Incoming,
    lease: Option<&mut Lease>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let Some(lease) = lease else {
        return Pin::new(body).poll_frame(cx);
    };
    let here = lease.quietly(|cx| Pin::new(&mut *body).poll_frame(cx));
    if here.is_ready() {
        return here;
    }
    lease.poll(cx);
    lease.quietly(|cx| Pin::new(body).poll_frame(cx))
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.connection.has_enough() {
            // asked again once the client has taken it
            return Poll::Pending;
        }
        let polled = this.poll_source(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len);
            this.connection.hand(length);
            if let Some(in_flight) = &this.in_flight {
                in_flight.count(length);
            }
        }
        this.write_down(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Server { body, .. } => body.is_end_stream(),
            Source::Nothing => true,
            Source::Text(text) => text.is_none(),
            Source::Local(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Server { body, .. } => body.size_hint(),
            Source::Nothing => SizeHint::with_exact(0),
            Source::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Source::Local(body) => body.size_hint(),
        }
    }
}

/// How far a request body has come.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) sent: Cell<bool>,
    /// More came than may come.
    pub(super) too_large: Cell<bool>,
    /// The client went away in its middle, or sent what is no body.
    pub(super) broke: Cell<bool>,
    pub(super) moved: Cell<Instant>,
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
