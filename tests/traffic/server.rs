//! An application for many connections at once: on a runtime of its own, well-behaved by default, and bad on request.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use turnout::domain::Color;

use crate::support::Ports;

/// What the applications and the clients of these tests run on.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
});

static PAGE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

#[derive(Debug, Default)]
struct Seen {
    requests: AtomicU64,
}

/// One server of one color.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    color: Color,
    seen: Arc<Seen>,
    listening: Option<JoinHandle<()>>,
}

impl App {
    pub(crate) fn start(color: Color) -> Self {
        let mut app = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, Ports::free())),
            color,
            seen: Arc::default(),
            listening: None,
        };
        app.listen();
        app
    }

    /// Requests that were not probes.
    pub(crate) fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// Accepts (again).
    pub(crate) fn listen(&mut self) {
        let (address, color, seen) = (self.address, self.color, Arc::clone(&self.seen));
        let listener = RUNTIME.block_on(TcpListener::bind(address)).unwrap();
        self.listening = Some(RUNTIME.spawn(async move {
            // what was accepted ends with the listener
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serving.spawn(serve(stream, color, Arc::clone(&seen)));
                while serving.try_join_next().is_some() {}
            }
        }));
    }

    /// Refuses connections, and closes those there are.
    pub(crate) fn refuse(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            RUNTIME.block_on(listening).unwrap_err();
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.refuse();
    }
}

/// One connection, until it ends or breaks: what a client that goes away leaves behind is no matter here.
async fn serve(mut stream: TcpStream, color: Color, seen: Arc<Seen>) {
    stream.set_nodelay(true).unwrap();
    while let Some(head) = head(&mut stream).await {
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        if path != "/health" {
            seen.requests.fetch_add(1, Ordering::Relaxed);
        }
        if answer(&mut stream, color, &path, &head).await.is_none() {
            return;
        }
    }
}

/// A head and the body that it announces.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(head)
}

/// `None`: the connection is not used again.
async fn answer(stream: &mut TcpStream, color: Color, path: &str, head: &str) -> Option<()> {
    let number = |prefix: &str| path.strip_prefix(prefix)?.parse::<u64>().ok();
    if let Some(milliseconds) = number("/slow/") {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
    if let Some(size) = number("/big/") {
        let size = usize::try_from(size).unwrap();
        let head =
            format!("HTTP/1.1 200 OK\r\nX-Backend: {color}\r\nContent-Length: {size}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.ok()?;
        // one page for all: 600 answers of a megabyte each would be the test's memory, not the proxy's
        let mut left = size;
        while left > 0 {
            let part = left.min(PAGE.len());
            stream.write_all(&PAGE[..part]).await.ok()?;
            left -= part;
        }
        return Some(());
    }
    match path {
        "/events" => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nX-Backend: {color}\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.ok()?;
            loop {
                stream.write_all(b"9\r\ndata: x\n\n\r\n").await.ok()?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        "/ws" => {
            let key = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("sec-websocket-key")
                    .then(|| value.trim().to_owned())
            })?;
            let head = format!(
                "HTTP/1.1 101 Switching Protocols\r\nX-Backend: {color}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
                derive_accept_key(key.as_bytes())
            );
            stream.write_all(head.as_bytes()).await.ok()?;
            echo(stream).await;
            None
        }
        // bad ones
        "/drip-head" => {
            for byte in format!("HTTP/1.1 200 OK\r\nX-Long: {}", "x".repeat(1_000)).bytes() {
                stream.write_all(&[byte]).await.ok()?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            None
        }
        "/endless-head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
            let line = format!("X-Long: {}\r\n", "x".repeat(8_000));
            // 10 GB, or as much as anybody takes
            for _ in 0..1_250_000 {
                stream.write_all(line.as_bytes()).await.ok()?;
            }
            None
        }
        "/half" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it")
                .await
                .ok()?;
            None
        }
        "/half-and-silence" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it")
                .await
                .ok()?;
            tokio::time::sleep(Duration::from_mins(10)).await;
            None
        }
        "/drip-body" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
                .await
                .ok()?;
            for byte in b"drip" {
                tokio::time::sleep(Duration::from_secs(1)).await;
                stream.write_all(&[*byte]).await.ok()?;
            }
            Some(())
        }
        "/reset" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
                .await
                .ok()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            socket2::SockRef::from(&*stream)
                .set_linger(Some(Duration::ZERO))
                .ok()?;
            None
        }
        "/never" => {
            tokio::time::sleep(Duration::from_mins(10)).await;
            None
        }
        _ => {
            let body = if path == "/health" {
                serde_json::json!({ "status": "healthy", "environment": color, "version": "1" })
                    .to_string()
            } else {
                color.to_string()
            };
            let text = format!(
                "HTTP/1.1 200 OK\r\nX-Backend: {color}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).await.ok()
        }
    }
}

/// Sends every frame back.
async fn echo(stream: &mut TcpStream) {
    use futures_util::{SinkExt, StreamExt};
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() || socket.send(message).await.is_err() {
            return;
        }
    }
}
