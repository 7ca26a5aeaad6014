//! The body of an answer on its way, and what happens when it ends: it gives its connection back to the pool and ends the
//! request's count. A stream only; nothing is ever gathered.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;

use super::client::{Connection, Order};
use super::deadline::{Deadline, about_now};
use super::in_flight::InFlight;
use super::part::Part;
use super::record::{Ended, Record};
use super::room::{SMALL_PART, is_short};
use super::upstream::Lease;

/// Any error, as bodies have it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer that a [`super::LocalService`] gives.
pub type LocalAnswer = BoxBody<Bytes, BoxError>;

/// The color was left, and the time for what was in flight on it is over.
#[derive(Debug, thiserror::Error)]
#[error("the drain deadline has passed")]
struct DrainedAway;

/// The server says nothing more, in the middle of an answer of known length.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the answer did not come in time")]
struct FellSilent;

/// The client says nothing more of its request, in the middle of an answer that came early and goes on.
#[derive(Debug, thiserror::Error)]
#[error("the rest of the request did not come in time")]
struct UploadStalled;

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
        /// When more of it is due, once something was waited for. Only where it is known how much is to come, or the client has not
        /// sent all of its request: nobody can tell an event stream without an event from a server that hangs.
        due: Option<Deadline>,
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
                due: None,
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
            } else if self.connection.order() == Order::Cut
                || self.in_flight.as_ref().is_some_and(InFlight::is_cut)
            {
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
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) => record.count(data.len()),
                None => record.end(Ended::Complete),
            },
            Some(Err(error)) if error.is::<DrainedAway>() => record.end(Ended::Cut),
            Some(Err(error)) if error.is::<FellSilent>() || error.is::<UploadStalled>() => {
                record.end(Ended::Timeout);
            }
            Some(Err(_)) => record.end(Ended::Broken),
            None => record.end(Ended::Complete),
        }
    }

    /// Moves the rest of the request meanwhile, for a client that sends all of it before it reads. No more of the answer is read than
    /// hyper has room for.
    fn upload(&mut self, cx: &Context<'_>) {
        if let Source::Server {
            lease: Some(lease), ..
        } = &mut self.source
            && lease.is_uploading()
        {
            lease.poll(cx);
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
                due,
            } => match drawn(body, lease.as_mut(), cx) {
                Poll::Ready(Some(Err(error))) => {
                    if let Some(in_flight) = &self.in_flight {
                        in_flight.fail();
                    }
                    self.connection.breaks_off();
                    // hyper drops what it has not written when a body fails, and writes it when one pauses
                    *broken = Some(error);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // hyper never asks what comes after them
                    *ended = frame.is_trailers();
                    if let (Some(due), Some(in_flight)) = (due, &self.in_flight) {
                        due.reset(about_now() + in_flight.patience());
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
                Poll::Ready(None) => {
                    *ended = true;
                    Poll::Ready(None)
                }
                Poll::Pending => {
                    let cut = cut_off(self.in_flight.as_ref(), cx);
                    let Some(in_flight) = &self.in_flight else {
                        return cut;
                    };
                    if cut.is_ready() {
                        return cut;
                    }
                    let upload = lease.as_ref().and_then(Lease::upload);
                    let is_the_clients = upload
                        .as_ref()
                        .is_some_and(|upload| !upload.waits_for_the_server());
                    if !is_the_clients && body.size_hint().exact().is_none() {
                        *due = None;
                        return cut;
                    }
                    let patience = in_flight.patience();
                    let due = due.get_or_insert_with(|| Deadline::at(about_now() + patience));
                    // a part of the request is a sign of life as well
                    let moved = upload.map(|upload| upload.moved.get() + patience);
                    if let Some(moved) = moved.filter(|moved| *moved > due.due()) {
                        due.reset(moved);
                    }
                    ready!(Pin::new(due).poll(cx));
                    self.connection.breaks_off();
                    Poll::Ready(Some(Err(if is_the_clients {
                        UploadStalled.into()
                    } else {
                        in_flight.fail();
                        FellSilent.into()
                    })))
                }
            },
            Source::Nothing => Poll::Ready(None),
            Source::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Source::Local(body) => Pin::new(body).poll_frame(cx),
        }
    }
}

/// Ready with the end where what is left is to be cut off.
fn cut_off(
    in_flight: Option<&InFlight>,
    cx: &Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    match in_flight {
        Some(in_flight) => in_flight
            .poll_cut(cx)
            .map(|()| Some(Err(DrainedAway.into()))),
        None => Poll::Pending,
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

/// A small part is a slice of all that was read, and would keep that in memory for as long as the client does not take it.
fn alone(frame: Frame<Bytes>) -> Frame<Bytes> {
    if is_short() {
        frame.map_data(|part| {
            if part.len() <= SMALL_PART {
                Bytes::copy_from_slice(&part)
            } else {
                part
            }
        })
    } else {
        frame
    }
}

impl Body for Answer {
    type Data = Part;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Part>, BoxError>>> {
        let this = self.get_mut();
        let polled = if this.connection.has_enough(cx) {
            this.upload(cx);
            // asked again once the client has taken it
            cut_off(this.in_flight.as_ref(), cx)
        } else {
            this.poll_source(cx).map_ok(alone)
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len);
            if let Some(in_flight) = &this.in_flight {
                in_flight.count(length);
            }
        }
        this.write_down(&polled);
        polled.map_ok(|frame| frame.map_data(|bytes| Part::of(&this.connection, bytes)))
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
