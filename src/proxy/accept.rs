//! One client connection from its first byte to its last: PROXY head, TLS, which HTTP it speaks, the requests, the tunnel.
//!
//! HTTP/2 is told by its preface or by ALPN. The first read is the proxy's own, so that telling costs an HTTP/1 client
//! nothing but a copy of its first bytes, once for each connection.
//!
//! Cancel-safety: a connection's task is dropped as a whole, or told by its [`Order`], which every await here is raced with.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::client::{Connection, Farewell, Order, Phase, Protocol};
use super::headers::Peer;
use super::refused::Reason;
use super::snapshot::{Bounds, Door};
use super::thread::{Registered, Thread};
use super::transport::{ClientIo, Transport};
use super::{forward, h2, proxy_protocol, rest, tls, upgrade};

/// What HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a client's message that may be buffered at least: smaller buffers cost large bodies (64 KiB measured best).
const LEAST_BUFFER: usize = 32 * 1024;
/// hyper's own bound, for which it needs no allocation; any other one, even if equal, costs one for each request.
const USUAL_HEADERS: usize = 100;
/// What a TLS record of a handshake begins with.
const HANDSHAKE: u8 = 22;
/// How long, and for how many bytes, a client is read that was refused while it was sending.
pub(super) const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

const LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 30\r\n\
X-Turnout-Error: The request head did not come\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
The request head did not come\n";
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 31\r\n\
X-Turnout-Error: Too many connections\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
There are too many connections\n";
const PLAIN_ON_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 35\r\n\
X-Turnout-Error: Plain HTTP on a TLS port\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
This port speaks TLS: use https://\n";

/// How serving HTTP ended.
enum End {
    Served(hyper::Result<()>),
    Late,
    Cut,
    /// It has been idle for a while, and can be taken out of hyper's hands.
    Rest,
}

/// Serves one connection until it ends.
pub(super) async fn serve(
    registered: Registered,
    connection: Rc<Connection>,
    mut stream: TcpStream,
    door: Door,
) {
    let thread = Rc::clone(&registered.thread);
    let Some(_place) = door.places.take() else {
        thread.refuse(Reason::Connections);
        if door.tls.is_none() {
            say(stream, FULL).await;
        }
        return;
    };
    let mut connection = connection;
    if door.proxy_protocol {
        let told = unless_told(&connection, Box::pin(proxy_protocol::read(&mut stream))).await;
        let Some(Ok(client)) = told else {
            thread.refuse(Reason::ProxyProtocol);
            return;
        };
        let named = client.filter(|_| thread.may_name_clients(&connection.peer));
        if let Some(address) = named
            && let Some(peer) = Peer::new(address.ip(), thread.trusted())
        {
            let peer = peer.over(connection.peer.scheme());
            connection = registered.replace(connection.of(address, peer));
        }
    }
    let Some((mut transport, mut protocol)) = secured(&thread, &connection, stream, &door).await
    else {
        return;
    };
    let mut ahead = Bytes::new();
    if protocol == Protocol::Http1 {
        let first = unless_told(&connection, first_bytes(&mut transport)).await;
        let Some(Ok(first)) = first else { return };
        if first.is_empty() {
            return;
        }
        if first.starts_with(PREFACE) {
            protocol = Protocol::Http2;
        }
        ahead = first;
    }
    connection.protocol.set(protocol);
    let mut io = ClientIo {
        transport,
        ahead,
        connection: Rc::clone(&connection),
    };
    match protocol {
        // what is not for every connection, or not for all of its time, is boxed: the task is as large as its largest part
        Protocol::Http1 => {
            while let Some(resting) = Box::pin(http1(&thread, &connection, io, door.bounds)).await {
                let Some(woken) = rest::until_heard(&thread, &connection, resting).await else {
                    return;
                };
                io = woken;
            }
        }
        Protocol::Http2 => Box::pin(h2::serve(thread, &connection, io, door.bounds)).await,
    }
}

/// The connection in the clear or in TLS, and HTTP/2 if ALPN has said so already.
async fn secured(
    thread: &Thread,
    connection: &Connection,
    stream: TcpStream,
    door: &Door,
) -> Option<(Transport, Protocol)> {
    let Some(config) = &door.tls else {
        return Some((Transport::Plain(stream), Protocol::Http1));
    };
    let mut first = [0];
    let seen = unless_told(connection, stream.peek(&mut first))
        .await?
        .ok()?;
    if seen == 0 {
        return None;
    }
    if first[0] != HANDSHAKE {
        thread.refuse(Reason::PlainOnTls);
        say(stream, PLAIN_ON_TLS).await;
        return None;
    }
    let shaking = Box::pin(TlsAcceptor::from(std::sync::Arc::clone(config)).accept(stream));
    match unless_told(connection, shaking).await {
        Some(Ok(stream)) => {
            let protocol = match stream.get_ref().1.alpn_protocol() {
                Some(protocol) if protocol == tls::HTTP2 => Protocol::Http2,
                _ => Protocol::Http1,
            };
            Some((Transport::Tls(Box::new(stream)), protocol))
        }
        Some(Err(error)) => {
            thread.refuse(Reason::Tls);
            tracing::debug!(client = %connection.address, error = &error as &dyn std::error::Error, "no TLS");
            None
        }
        None => {
            thread.refuse(Reason::Tls);
            None
        }
    }
}

/// What a client says first: as much as is needed to tell HTTP/2 from HTTP/1. Empty at the end of the stream.
async fn first_bytes(transport: &mut Transport) -> io::Result<Bytes> {
    let mut first = BytesMut::new();
    loop {
        let read = rest::read(transport, &mut first).await?;
        if read == 0 || first.len() >= PREFACE.len() || !PREFACE.starts_with(&first) {
            return Ok(first.freeze());
        }
    }
}

/// Serves HTTP/1 until it ends, or returns the connection once it has been idle for a while.
async fn http1(
    thread: &Rc<Thread>,
    connection: &Rc<Connection>,
    io: ClientIo,
    bounds: Bounds,
) -> Option<ClientIo> {
    let service = service_fn(|request| {
        let (thread, connection) = (Rc::clone(thread), Rc::clone(connection));
        async move { Ok::<_, Infallible>(forward::serve(thread, connection, request).await) }
    });
    let mut builder = http1::Builder::new();
    if bounds.header_lines != USUAL_HEADERS {
        builder.max_headers(bounds.header_lines);
    }
    let mut serving = builder
        .half_close(false)
        .header_read_timeout(None)
        .max_header_size(bounds.head_bytes)
        .max_buf_size(bounds.head_bytes.max(LEAST_BUFFER))
        .serve_connection(TokioIo::new(io), service);
    let end = drive(connection, &mut serving, |serving| {
        Pin::new(serving).graceful_shutdown();
    })
    .await;
    match end {
        End::Served(Ok(())) => {
            if let Some(tunnel) = connection.begin_tunnel() {
                let parts = serving.into_parts();
                let passing = upgrade::run(parts.io.into_inner(), &parts.read_buf, tunnel);
                unless_cut(connection, passing).await;
            } else if connection.farewell.get() == Farewell::Linger
                || connection.is_amid_a_message()
            {
                linger(serving.into_parts().io.into_inner()).await;
            }
        }
        End::Served(Err(_)) if connection.farewell.get() == Farewell::Reset => {
            serving.into_parts().io.into_inner().transport.reset();
        }
        // hyper has answered it, and the client may still be sending
        End::Served(Err(error)) if error.is_parse() => {
            thread.refuse(if error.is_parse_too_large() {
                Reason::HeadTooLarge
            } else {
                Reason::Malformed
            });
            linger(serving.into_parts().io.into_inner()).await;
        }
        // what else went wrong on a client's connection is the client's to see
        End::Served(Err(_)) => {}
        End::Late => {
            thread.refuse(Reason::HeadTimeout);
            if connection.is_between_answers() {
                say(serving.into_parts().io.into_inner(), LATE).await;
            }
        }
        End::Cut => {
            if connection.phase() == Phase::Idle || connection.is_stuck() {
                thread.refuse(Reason::Idle);
            }
            if connection.phase() == Phase::Busy {
                connection.breaks_off();
            }
            if connection.farewell.get() == Farewell::Reset {
                serving.into_parts().io.into_inner().transport.reset();
            }
        }
        // what hyper has read and not used can only be line ends
        End::Rest => return Some(serving.into_parts().io.into_inner()),
    }
    None
}

/// Serves HTTP/2 until it ends or is told to.
pub(super) async fn drive_pinned<C>(
    connection: &Connection,
    mut serving: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
) where
    C: Future<Output = hyper::Result<()>>,
{
    // how it ended makes no difference: HTTP/2 says goodbye in its own frames
    drop(drive(connection, &mut serving, |serving| finish(serving.as_mut())).await);
}

/// Polls `serving` until it ends or the connection is told to; `finish` is called once where it may finish by itself.
async fn drive<C>(connection: &Connection, serving: &mut C, finish: impl Fn(&mut C)) -> End
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    let mut told = false;
    poll_fn(|cx| {
        connection.watch(cx);
        match connection.order() {
            Order::Cut => return Poll::Ready(End::Cut),
            Order::Late => return Poll::Ready(End::Late),
            Order::GoOn | Order::AnswerOnce if connection.may_rest() => {
                return Poll::Ready(End::Rest);
            }
            Order::GoOn | Order::AnswerOnce | Order::Finish => {}
        }
        if let Poll::Ready(ended) = Pin::new(&mut *serving).poll(cx) {
            return Poll::Ready(End::Served(ended));
        }
        let order = connection.order();
        // HTTP/1 says by a header of its next answer what HTTP/2 has a frame for
        let is_http2 = connection.protocol.get() == Protocol::Http2;
        if order == Order::Finish || order == Order::AnswerOnce && is_http2 {
            if order == Order::Finish && connection.phase() == Phase::New {
                // nothing has come, and hyper would wait for it
                return Poll::Ready(End::Cut);
            }
            if !told {
                told = true;
                finish(serving);
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    })
    .await
}

/// `None` if the connection is told to end before `future` ends.
pub(super) async fn unless_told<T>(
    connection: &Connection,
    future: impl Future<Output = T>,
) -> Option<T> {
    let is_end = |order| !matches!(order, Order::GoOn | Order::AnswerOnce);
    race(connection, future, is_end).await
}

/// `None` if the connection is cut before `future` ends.
async fn unless_cut<T>(connection: &Connection, future: impl Future<Output = T>) -> Option<T> {
    let is_end = |order| matches!(order, Order::Cut | Order::Late);
    race(connection, future, is_end).await
}

async fn race<T>(
    connection: &Connection,
    future: impl Future<Output = T>,
    is_end: impl Fn(Order) -> bool,
) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        connection.watch(cx);
        // first the future: what has come already is served, even if the end was ordered meanwhile
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        if is_end(connection.order()) {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// Says a last word to a client that is not served.
async fn say(mut client: impl AsyncRead + AsyncWrite + Unpin, words: &[u8]) {
    let said = tokio::time::timeout(LINGER, async {
        client.write_all(words).await?;
        client.shutdown().await
    });
    if matches!(said.await, Ok(Ok(()))) {
        linger(client).await;
    }
}

/// Reads what a client sends on: closing with unread bytes resets the connection, and the last word would be lost with it.
async fn linger(mut client: impl AsyncRead + Unpin) {
    let reading = async {
        let mut waste = [0; 4096];
        let mut left = LINGER_BYTES;
        while let Ok(read) = client.read(&mut waste).await
            && read > 0
            && read < left
        {
            left -= read;
        }
    };
    // the deadline is an end like any other
    drop(tokio::time::timeout(LINGER, reading).await);
}
