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

use super::client::Connection;
use super::deadline::about_now;
use super::upstream::Lease;
use super::view::LocalRoute;
use crate::domain::Color;

/// Any error, as bodies have it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer that a [`super::LocalService`] gives.
pub type LocalAnswer = BoxBody<Bytes, BoxError>;

/// One request that is counted as in flight until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    route: Rc<LocalRoute>,
    color: Color,
}

impl InFlight {
    pub(super) fn begin(route: Rc<LocalRoute>, color: Color) -> Self {
        route.entry.counters.begin(route.shard, color);
        Self { route, color }
    }

    pub(super) fn fail(&self) {
        self.route.entry.counters.fail(self.route.shard, self.color);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.route.entry.counters.end(self.route.shard, self.color);
    }
}

/// What a client gets.
#[derive(Debug)]
pub(super) struct Answer {
    source: Source,
    in_flight: Option<InFlight>,
    connection: Rc<Connection>,
}

#[derive(Debug)]
enum Source {
    Server {
        body: Incoming,
        lease: Option<Lease>,
        ended: bool,
    },
    Text(Option<Bytes>),
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
            },
            in_flight: Some(in_flight),
            connection: Rc::clone(connection),
        }
    }

    pub(super) fn text(text: Bytes, connection: &Rc<Connection>) -> Self {
        Self {
            source: Source::Text(Some(text)),
            in_flight: None,
            connection: Rc::clone(connection),
        }
    }

    pub(super) fn local(body: LocalAnswer, connection: &Rc<Connection>) -> Self {
        Self {
            source: Source::Local(body),
            in_flight: None,
            connection: Rc::clone(connection),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Source::Server { body, lease, ended } = &mut self.source
            && (*ended || body.is_end_stream())
            && let Some(lease) = lease.take()
        {
            lease.give_back();
        }
        self.connection.answered();
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match &mut this.source {
            Source::Server { body, ended, .. } => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Err(error))) => {
                    if let Some(in_flight) = &this.in_flight {
                        in_flight.fail();
                    }
                    Poll::Ready(Some(Err(error.into())))
                }
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
                Poll::Ready(None) => {
                    *ended = true;
                    Poll::Ready(None)
                }
                Poll::Pending => Poll::Pending,
            },
            Source::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Source::Local(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Server { body, .. } => body.is_end_stream(),
            Source::Text(text) => text.is_none(),
            Source::Local(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Server { body, .. } => body.size_hint(),
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
    pub(super) moved: Cell<Instant>,
}

/// What a server gets.
#[derive(Debug)]
pub(super) struct Upload {
    body: Option<Incoming>,
    progress: Rc<Progress>,
}

impl Upload {
    /// `None` where there is no body.
    pub(super) fn new(body: Option<Incoming>) -> Self {
        let progress = Rc::new(Progress {
            sent: Cell::new(body.is_none()),
            // set when it is sent
            moved: Cell::new(about_now()),
        });
        Self { body, progress }
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
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            this.progress.moved.set(Instant::now());
            if frame.is_none() {
                this.progress.sent.set(true);
            }
        }
        polled
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
