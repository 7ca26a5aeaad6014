//! One GET on a connection of its own, for proofs: a reused connection would be answered by the worker that is to go.
//!
//! Bounded in time by the caller and in size here. Never follows anything, never retries.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Bytes of a body that are looked at; turnout's own pages have less than 4096.
const BODY: usize = 64 * 1024;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("failed to connect to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("failed to speak TLS with {address}")]
    Tls {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("{address} did not answer in HTTP")]
    Broken {
        address: SocketAddr,
        #[source]
        source: hyper::Error,
    },
    #[error("the request to {address} cannot be made")]
    Request {
        address: SocketAddr,
        #[source]
        source: http::Error,
    },
}

/// What came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    pub(super) header: Option<(&'a str, &'a str)>,
    /// The listener expects the PROXY protocol.
    pub(super) proxy_protocol: bool,
    /// The listener speaks TLS.
    pub(super) tls: bool,
}

/// Where a listener on `address` can be reached from this host.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Asks once. A body that is too long or breaks off is cut: the head is what proves.
pub(super) async fn ask(address: SocketAddr, question: Question<'_>) -> Result<Answer, AskError> {
    let connect = |source| AskError::Connect { address, source };
    let mut stream = TcpStream::connect(address).await.map_err(connect)?;
    if question.proxy_protocol {
        let own = stream.local_addr().map_err(connect)?;
        let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!(
            "PROXY {family} {} {} {} {}\r\n",
            own.ip(),
            address.ip(),
            own.port(),
            address.port()
        );
        stream.write_all(line.as_bytes()).await.map_err(connect)?;
    }
    if question.tls {
        // boxed: a handshake is large, and every change holds this future
        let stream = Box::pin(super::tls::connect(stream, question.host)).await;
        let stream = stream.map_err(|source| AskError::Tls { address, source })?;
        Box::pin(exchange(address, TokioIo::new(stream), question)).await
    } else {
        exchange(address, TokioIo::new(stream), question).await
    }
}

async fn exchange(
    address: SocketAddr,
    stream: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    question: Question<'_>,
) -> Result<Answer, AskError> {
    let broken = |source| AskError::Broken { address, source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
        .await
        .map_err(broken)?;
    let mut request = Request::get(question.path)
        .header(http::header::HOST, question.host)
        .header(http::header::USER_AGENT, "turnout")
        .header(http::header::CONNECTION, "close");
    if let Some((name, value)) = question.header {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|source| AskError::Request { address, source })?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // it ends first when the peer closes; the answer may already be there
        _ = connection => exchange.await,
    }
}
