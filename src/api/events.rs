//! `GET /events`: what happens, as server-sent events. Each has an id, its kind as its name, and JSON with the API's field
//! names; a comment every 15 s shows that the line is alive; `Last-Event-ID` goes on where a reader was.
//!
//! A reader costs a task, [`QUEUE`] frames that all readers share, and the send buffer of its connection. One that does not
//! take a frame within [`PATIENCE`], or is further behind than the controller remembers, is cut off: its connection is closed
//! under it, since hyper would wait for it for ever. Nobody waits for a reader but its own task, and no reader holds a way to
//! the controller, which could not end otherwise.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Frame;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::error::Problem;
use super::routes::Api;
use crate::controller::{Event, Gap, Reader, Since};

/// Readers at once. Of 256 connections to the API that leaves 192 to whoever asks and changes something.
const MOST: usize = 64;
/// Frames that wait for the connection to take them.
const QUEUE: usize = 8;
/// For a reader to take one frame.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two comments. Proxies on the way give up on a silent connection after 30 to 60 s.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// For the last frames to be taken when the daemon ends.
const LAST_FRAMES: Duration = Duration::from_millis(200);
/// The first thing on the line: how long a browser waits before it connects again.
const HELLO: &[u8] = b"retry: 2000\n\n";
/// Said once to a reader that named an event which is not known any more: it has to look at the state anew.
const MISSED: &[u8] = b"event: missed\ndata: {}\n\n";

/// Who may listen: how many more, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Audience {
    seats: Arc<Semaphore>,
    /// Ends with the API.
    open: watch::Receiver<()>,
}

impl Audience {
    /// An audience that stays until the sender is dropped.
    pub(super) fn new() -> (Self, watch::Sender<()>) {
        let (closing, open) = watch::channel(());
        let seats = Arc::new(Semaphore::new(MOST));
        (Self { seats, open }, closing)
    }

    /// Nobody may listen.
    pub(super) fn none() -> Self {
        let (audience, _closing) = Self::new();
        audience
    }
}

/// Closes the connection that a request came on. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut(Arc<Notify>);

impl Cut {
    fn now(&self) {
        self.0.notify_one();
    }

    /// Returns when the connection is to be closed.
    pub(super) async fn wanted(&self) {
        self.0.notified().await;
    }
}

/// Every journal event, as it happens.
#[utoipa::path(get, path = "/events", tag = "turnout", responses(
    (status = 200, description = "Server-sent events. A reader that is too slow is cut off.", body = String,
     content_type = "text/event-stream"),
    (status = 503, description = "There are too many readers already.", body = super::wire::ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn events(
    State(api): State<Api>,
    Extension(cut): Extension<Cut>,
    headers: HeaderMap,
) -> Response {
    let Ok(seat) = Arc::clone(&api.audience.seats).try_acquire_owned() else {
        let full = Problem::not_ready(format!(
            "{MOST} readers listen to the events already; close one of them, or ask /v1/status instead"
        ));
        let mut response = full.into_response();
        let wait = HeaderValue::from_static("10");
        response.headers_mut().insert(header::RETRY_AFTER, wait);
        return response;
    };
    let after = headers
        .get(HeaderName::from_static("last-event-id"))
        .and_then(|value| value.to_str().ok());
    let (reader, gap) = api.handle.events().subscribe(after);
    let (frames, waiting) = mpsc::channel(QUEUE);
    let (alive, gone) = oneshot::channel();
    let line = Line {
        reader,
        frames,
        gone,
        cut,
        _seat: seat,
    };
    tokio::spawn(line.run(gap, api.audience.open.clone()));
    let stream = Stream {
        waiting,
        _alive: alive,
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // nginx in front would gather the events otherwise
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::new(stream)).into_response()
}

/// One reader, from the controller's ring to its connection.
struct Line {
    reader: Reader,
    frames: mpsc::Sender<Bytes>,
    /// Ends when the connection has no use for the stream any more.
    gone: oneshot::Receiver<()>,
    cut: Cut,
    _seat: OwnedSemaphorePermit,
}

/// Why a line ended.
enum Ended {
    /// The reader is too slow.
    Slow,
    /// There is nothing more to come.
    Over,
}

impl Line {
    async fn run(mut self, gap: Gap, mut open: watch::Receiver<()>) {
        let ended = tokio::select! {
            ended = relay(&mut self.reader, &self.frames, gap) => ended,
            // an error is the end of the API
            _ = open.changed() => Ended::Over,
            _ = &mut self.gone => return,
        };
        match ended {
            Ended::Slow => self.cut.now(),
            Ended::Over => {
                drop(self.frames);
                if timeout(LAST_FRAMES, self.gone).await.is_err() {
                    self.cut.now();
                }
            }
        }
    }
}

async fn relay(reader: &mut Reader, frames: &mpsc::Sender<Bytes>, gap: Gap) -> Ended {
    let mut beat = interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    if let Err(ended) = deliver(frames, Bytes::from_static(HELLO)).await {
        return ended;
    }
    if gap == Gap::Missed
        && let Err(ended) = deliver(frames, Bytes::from_static(MISSED)).await
    {
        return ended;
    }
    loop {
        let Since::News(news) = reader.news() else {
            return Ended::Slow;
        };
        for event in news {
            if let Err(ended) = deliver(frames, frame(&reader.id(&event), &event)).await {
                return ended;
            }
        }
        tokio::select! {
            is_alive = reader.changed() => if !is_alive {
                return Ended::Over;
            },
            _ = beat.tick() => {
                if let Err(ended) = deliver(frames, Bytes::from_static(b":\n\n")).await {
                    return ended;
                }
            }
        }
    }
}

async fn deliver(frames: &mpsc::Sender<Bytes>, frame: Bytes) -> Result<(), Ended> {
    match timeout(PATIENCE, frames.send(frame)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_gone)) => Err(Ended::Over),
        Err(_elapsed) => Err(Ended::Slow),
    }
}

/// JSON has no line breaks of its own, so one `data:` holds it.
fn frame(id: &str, event: &Event) -> Bytes {
    Bytes::from(format!(
        "id: {id}\nevent: {}\ndata: {}\n\n",
        event.name, event.data
    ))
}

/// The body of the answer.
struct Stream {
    waiting: mpsc::Receiver<Bytes>,
    _alive: oneshot::Sender<()>,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.waiting
            .poll_recv(cx)
            .map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}
