//! Servers that behave as a test says, each on a port of its own: they answer, stay silent, record, or wait to be told.

use std::future::Future;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use turnout::domain::Server;

use super::shop::free_address;
use super::wire::{Answer, Wire};

/// An address that refuses connections.
pub(crate) fn nobody() -> Server {
    format!("http://{}", free_address()).parse().unwrap()
}

/// A server that does `behave` with each connection.
pub(crate) async fn server<F>(behave: impl Fn(Wire) -> F + Send + Sync + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(behave(Wire(stream)));
        }
    });
    format!("http://{address}").parse().unwrap()
}

/// A server that answers each request with `answer`, and a receiver of the requests as they came.
pub(crate) async fn recording(answer: &'static str) -> (Server, mpsc::UnboundedReceiver<Answer>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let server = server(move |mut wire| {
        let sender = sender.clone();
        async move {
            loop {
                let request = wire.message().await;
                if request.head.is_empty() || sender.send(request).is_err() {
                    return;
                }
                wire.send(answer).await;
            }
        }
    })
    .await;
    (server, requests)
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server that answers with its name.
pub(crate) async fn named(name: &'static str) -> Server {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
        name.len()
    );
    recording_forever(answer.leak()).await
}

pub(super) async fn recording_forever(answer: &'static str) -> Server {
    server(move |mut wire| async move {
        while !wire.message().await.head.is_empty() {
            wire.send(answer).await;
        }
    })
    .await
}

/// A server that answers each request with so many bytes, while somebody takes them.
pub(crate) async fn large(bytes: usize) -> Server {
    server(move |mut wire| async move {
        while !wire.message().await.head.is_empty() {
            wire.send(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n"
            ))
            .await;
            let part = vec![b'x'; 64 * 1024];
            for _ in 0..bytes / part.len() {
                if wire.0.write_all(&part).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// A server that answers when it is told to.
pub(crate) async fn patient() -> (
    Server,
    mpsc::UnboundedReceiver<tokio::sync::oneshot::Sender<()>>,
) {
    let (sender, asked) = mpsc::unbounded_channel();
    let server = server(move |mut wire| {
        let sender = sender.clone();
        async move {
            while !wire.message().await.head.is_empty() {
                let (go, gone) = tokio::sync::oneshot::channel();
                sender.send(go).unwrap();
                if gone.await.is_ok() {
                    wire.send(OK).await;
                }
            }
        }
    })
    .await;
    (server, asked)
}
