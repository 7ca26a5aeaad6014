//! Clients of other kinds than the load's: HTTP/2 in the clear and over TLS, with several streams at once on a connection, and HTTP/1.1
//! over TLS. Each keeps its connection for all of its time, and a connection that ends is a failure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use turnout::domain::Color;

use super::server::RUNTIME;
use crate::proxy::tls;

/// Connections of each kind, and streams of each with HTTP/2.
const CONNECTIONS: usize = 2;
const STREAMS: usize = 4;

/// One request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) start: Instant,
    pub(super) end: Instant,
    /// By the backend's own word.
    pub(super) color: Result<Color, String>,
}

type Asking = JoinHandle<Vec<Asked>>;

/// The clients at work.
pub(super) struct Kinds(Vec<(&'static str, Vec<Asking>)>);

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    async fn ask(&mut self) -> Result<Color, String> {
        let request = Request::get("http://shop/").header("host", "shop");
        let request = request.body(Empty::new()).unwrap();
        let answer = match self {
            Self::Http1(sender) => {
                sender.ready().await.map_err(|error| error.to_string())?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => sender.send_request(request).await,
        };
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let color = answer.headers().get("x-backend").cloned();
        let status = answer.status();
        let body = answer.into_body().collect().await;
        body.map_err(|error| format!("{error:?}"))?;
        let color = color.ok_or_else(|| status.to_string())?;
        color
            .to_str()
            .unwrap()
            .parse()
            .map_err(|error| format!("{error}"))
    }

    /// Asks until `stop` says so, or something fails.
    async fn ask_on(mut self, stop: Arc<AtomicBool>) -> Vec<Asked> {
        let mut asked = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            let color = self.ask().await;
            let failed = color.is_err();
            asked.push(Asked {
                start,
                end: Instant::now(),
                color,
            });
            if failed {
                break;
            }
        }
        asked
    }
}

impl Kinds {
    pub(super) fn start(
        plain: SocketAddr,
        secure: SocketAddr,
        certificate: &CertificateDer<'static>,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let over_tls = |protocol: &'static [u8]| {
            let connector = tls::trusting(&[certificate], &[protocol]);
            async move { tls::connect(&connector, secure, "shop").await }
        };
        let (mut clear, mut two, mut one) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            let stream = RUNTIME.block_on(TcpStream::connect(plain)).unwrap();
            clear.extend(streams(stream, stop));
            let stream = RUNTIME.block_on(over_tls(b"h2")).unwrap();
            two.extend(streams(stream, stop));
            let stream = RUNTIME.block_on(over_tls(b"http/1.1")).unwrap();
            let (sender, connection) = RUNTIME
                .block_on(http1::handshake(TokioIo::new(stream)))
                .unwrap();
            RUNTIME.spawn(connection);
            one.push(RUNTIME.spawn(Sender::Http1(sender).ask_on(Arc::clone(stop))));
        }
        Self(vec![
            ("HTTP/2 in the clear", clear),
            ("HTTP/2 over TLS", two),
            ("HTTP/1.1 over TLS", one),
        ])
    }

    /// All that was asked, by kind, once they were told to stop.
    pub(super) fn finish(self) -> impl Iterator<Item = (&'static str, Vec<Asked>)> {
        self.0.into_iter().map(|(kind, asking)| {
            let all = asking
                .into_iter()
                .flat_map(|asking| RUNTIME.block_on(asking).unwrap());
            (kind, all.collect())
        })
    }
}

/// A connection of HTTP/2 with its streams.
fn streams<S>(stream: S, stop: &Arc<AtomicBool>) -> Vec<Asking>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = RUNTIME.block_on(handshake).unwrap();
    RUNTIME.spawn(connection);
    (0..STREAMS)
        .map(|_| RUNTIME.spawn(Sender::Http2(sender.clone()).ask_on(Arc::clone(stop))))
        .collect()
}
