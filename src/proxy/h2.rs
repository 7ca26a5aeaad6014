//! HTTP/2 from clients: each stream becomes a request like any other, HTTP/1.1 to the server. What HTTP/2 says in frames is
//! put into the form that `forward` reads (`Host` from `:authority`, one `Cookie` line); what it forbids (headers that are
//! meant for one connection) the crate h2 refuses by itself. `Expect: 100-continue` is removed and never answered, since hyper has no
//! 100 in HTTP/2: a client that waits for one sends its body after a time-out of its own.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::accept::drive_pinned;
use super::answer::Refusal;
use super::body::Answer;
use super::client::{Connection, Standing};
use super::deadline::{Deadline, about_now};
use super::refused::Reason;
use super::snapshot::Bounds;
use super::strict::Fault;
use super::thread::Thread;
use super::transport::ClientIo;
use super::{forward, strict};

/// Streams of one connection at once: what RFC 9113, 6.5.2 asks for at least, and what HAProxy has. Each may keep a part of an answer
/// waiting.
const STREAMS: u32 = 100;
/// Streams that a client may open and reset before they were looked at (CVE-2023-44487); then the connection ends.
const RESETS: usize = 20;
/// Streams that may end because of the client's own errors; then the connection ends.
const ERRORS: usize = 128;
/// Bytes of bodies that a connection, and one stream of it, may have on the way to servers that do not take them.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes of an answer that h2 has, after which no more of it is taken: one frame. Up to two parts come on top, the one that was added last
/// and one that hyper has asked for and keeps until there is room. `backlog` counts what waits of all streams together.
const SEND_BUFFER: usize = 16 * 1024;

pub(super) async fn serve(
    thread: Rc<Thread>,
    connection: &Rc<Connection>,
    io: ClientIo,
    bounds: Bounds,
) {
    let service = service_fn(|request| {
        let (thread, connection) = (Rc::clone(&thread), Rc::clone(connection));
        async move { Ok::<_, Infallible>(stream(thread, connection, request, bounds).await) }
    });
    let streams = Streams {
        thread: Rc::clone(&thread),
        connection: Rc::clone(connection),
    };
    let serving = Builder::new(streams)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(ERRORS)
        .max_header_list_size(u32::try_from(bounds.head_bytes).unwrap_or(u32::MAX))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(io), service);
    drive_pinned(connection, pin!(serving), |serving| {
        serving.graceful_shutdown();
    })
    .await;
}

async fn stream(
    thread: Rc<Thread>,
    connection: Rc<Connection>,
    mut request: Request<Incoming>,
    bounds: Bounds,
) -> Response<Answer> {
    let refusal = if request.headers().len() > bounds.header_lines {
        Some((Reason::HeadTooLarge, Refusal::HeadTooLarge))
    } else {
        let fault = fault(&mut request, bounds.head).await;
        fault.map(|fault| (Reason::Ambiguous, Refusal::Ambiguous(fault)))
    };
    // not before, and nothing is awaited between this and `asked`: who was not counted in must not be counted out
    let asking = Asking(Some(Rc::clone(&connection)));
    let mut response = if let Some((reason, refusal)) = refusal {
        // the end of the answer ends it, as with every request; bytes have no verdict in HTTP/2
        let (Ok(()) | Err(_)) = connection.asked();
        thread.refuse(reason);
        refusal.answer(&connection)
    } else {
        to_http1(&mut request);
        forward::serve(thread, connection, request).await
    };
    asking.answered();
    response.headers_mut().remove(header::CONNECTION);
    response
}

/// A stream that the client may reset before there is an answer, whose end would count it out.
struct Asking(Option<Rc<Connection>>);

impl Asking {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.answered();
        }
    }
}

/// What a header would be to a server that looks at letters alone; that HTTP/1 refuses, and a framing header of HTTP/1 itself h2
/// refuses or compares.
fn lookalike(name: &HeaderName) -> Option<Fault> {
    if *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING {
        return None;
    }
    strict::lookalike(name.as_str().as_bytes())
}

/// What the head says of where the body ends, and HTTP/1 would not have let through.
fn framing_fault(headers: &HeaderMap) -> Option<Fault> {
    let lookalike = headers.keys().find_map(lookalike);
    // h2 lets equal ones pass
    let has_twice = || {
        headers.len() > headers.keys_len()
            && headers
                .get_all(header::CONTENT_LENGTH)
                .iter()
                .nth(1)
                .is_some()
    };
    lookalike.or_else(|| has_twice().then_some(Fault::Length))
}

/// What HTTP/1 would not have let through.
async fn fault(request: &mut Request<Incoming>, patience: Duration) -> Option<Fault> {
    let fault = framing_fault(request.headers());
    if fault.is_some() || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return fault;
    }
    // some clients end a request by an empty frame of its own, which may come later
    let mut late = Deadline::at(about_now() + patience);
    let body = request.body_mut();
    poll_fn(|cx| {
        while !body.is_end_stream() {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Poll::Ready(None) => break,
                Poll::Ready(Some(_)) => return Poll::Ready(Some(Fault::Body)),
                Poll::Pending => return Pin::new(&mut late).poll(cx).map(|()| Some(Fault::Body)),
            }
        }
        Poll::Ready(None)
    })
    .await
}

/// `Host` and one `Cookie` line, as HTTP/1 has them (RFC 9113, 8.2.3 and 8.3.1).
fn to_http1<B>(request: &mut Request<B>) {
    let authority = request
        .uri()
        .authority()
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let headers = request.headers_mut();
    if !headers.contains_key(header::HOST)
        && let Some(host) = authority
    {
        headers.insert(header::HOST, host);
    }
    join_cookies(headers);
}

fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let joined = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    // values joined by what a value may hold are a value
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Runs the streams of one connection beside it, on its own thread.
#[derive(Clone)]
struct Streams {
    thread: Rc<Thread>,
    connection: Rc<Connection>,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        let mut stream = Stream {
            of: self.clone(),
            number: self.connection.windows.open(),
            stint: None,
        };
        tokio::task::spawn_local(async move {
            let mut future = pin!(future);
            poll_fn(|cx| stream.poll(future.as_mut(), cx)).await;
        });
    }
}

/// One stream, given up when its client has not made room for its answer for too long, or its drain is over meanwhile: hyper would
/// wait on. What is dropped unfinished is reset by h2, and what h2 has of its answer is let go of.
struct Stream {
    of: Streams,
    number: u32,
    /// Of its request.
    stint: Option<u32>,
}

impl Stream {
    fn poll(&mut self, work: Pin<&mut impl Future<Output = ()>>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = &self.of.connection;
        connection.windows.begin_turn(self.number);
        if work.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.stint = connection.windows.stint().or(self.stint);
        match (connection.after_turn(self.number, cx), self.stint) {
            (Standing::GoesOn, _) | (Standing::Waits, None) => return Poll::Pending,
            (Standing::Waits, Some(stint)) => ready!(connection.stints.poll_cut(stint, cx)),
            (Standing::WaitsTooLong, stint) => {
                self.of.thread.refuse(Reason::Idle);
                if let Some(stint) = stint {
                    connection.stints.cut(stint);
                }
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.of.connection.windows.close(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_reads_like_a_request_of_http_1() {
        let mut request = Request::get("https://shop.example.com/a?b")
            .header("cookie", "a=b")
            .header("cookie", "c=d")
            .header("cookie", "e=f")
            .body(())
            .unwrap();
        to_http1(&mut request);
        let headers = request.headers();
        assert_eq!(headers["host"], "shop.example.com");
        let cookies: Vec<_> = headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=b; c=d; e=f"]);
    }

    #[test]
    fn a_host_that_was_given_stays_for_forward_to_compare() {
        let mut request = Request::get("https://shop.example.com/")
            .header("host", "other")
            .body(())
            .unwrap();
        to_http1(&mut request);
        assert_eq!(request.headers()["host"], "other");
    }
}
