//! A client's bytes: over TCP or TLS, with what was read before the protocol was known in front, and told to the connection
//! as they pass. Never looks at what they mean.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::Version;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::backlog::Written;
use super::client::{Connection, Protocol};

/// What carries a client's bytes.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Has the connection reset when this is dropped: for a client that would take its end for the end of the answer.
    pub(super) fn reset(&self) {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a broken answer ends like a whole one");
        }
    }
}

/// The client's side of a connection, which tells the connection what passes.
#[derive(Debug)]
pub(super) struct ClientIo {
    pub(super) transport: Transport,
    /// Read already, and not yet handed over.
    pub(super) ahead: Bytes,
    pub(super) connection: Rc<Connection>,
}

impl ClientIo {
    /// What became of a write of `total` bytes.
    fn wrote(&self, polled: &Poll<io::Result<usize>>, total: usize) {
        self.connection.wrote(Written::Part);
        if polled.is_ready() {
            self.connection.went();
        }
        if !matches!(polled, Poll::Ready(Ok(taken)) if *taken == total) {
            self.connection.backlog.stalls();
        }
    }
}

impl ClientIo {
    /// As [`Self::poll_early`], in front of bytes of hyper's. They begin the answer, unless the client has not taken all of the one before:
    /// hyper may ask for the next request while it still has the tail of that (its body was answered unread), and what is written
    /// now is that tail, with the head of this answer behind it or not. Then it is too late for a hint.
    fn poll_early_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = &self.connection;
        if !connection.early.is_begun() && !connection.is_between_answers() {
            drop(connection.early.bytes());
            return Poll::Ready(Ok(()));
        }
        self.poll_early(cx)
    }

    /// Writes what is to be said now.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let speaks_it = self.connection.version.get() == Version::HTTP_11
            && self.connection.protocol.get() == Protocol::Http1;
        while !self.connection.early.is_empty() {
            let bytes = self.connection.early.bytes();
            if !speaks_it {
                break;
            }
            let polled = match &mut self.transport {
                Transport::Plain(stream) => Pin::new(stream).poll_write(cx, &bytes),
                Transport::Tls(stream) => Pin::new(stream).poll_write(cx, &bytes),
            };
            self.wrote(&polled, bytes.len());
            let written = matches!(polled, Poll::Ready(Ok(written)) if written > 0);
            let gone = if let Poll::Ready(Ok(written)) = polled {
                written
            } else {
                0
            };
            self.connection.early.back(bytes, gone);
            if !written {
                return polled.map_ok(|_| ());
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = if this.ahead.is_empty() {
            match &mut this.transport {
                Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
                Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            }
        } else {
            let now = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..now]);
            this.ahead.advance(now);
            if this.ahead.is_empty() {
                // lets go of the memory, which an empty slice of it holds
                this.ahead = Bytes::new();
            }
            Poll::Ready(Ok(()))
        };
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() && this.connection.protocol.get() == Protocol::Http1 {
            this.connection.came(bytes);
        }
        polled
    }
}

/// Parts of an answer that are written as one, as long as they are no longer than this together: the head and a small body. Two
/// parts cost the kernel more than copying them; measured 5 % of a request.
const SMALL: usize = 4 * 1024;

/// Vectored, so that hyper does not copy large bodies once more.
impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.connection.early.is_empty() {
            ready!(self.poll_early_first(cx))?;
        }
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.wrote(&polled, bytes.len());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.connection.early.is_empty() {
            ready!(self.poll_early_first(cx))?;
        }
        // by this, tokio finds out that the socket is full by a short write already
        if let [only] = parts {
            return self.poll_write(cx, only);
        }
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total <= SMALL {
            let mut space = [const { MaybeUninit::uninit() }; SMALL];
            let mut joined = ReadBuf::uninit(&mut space);
            for part in parts {
                joined.put_slice(part);
            }
            return self.poll_write(cx, joined.filled());
        }
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        };
        self.wrote(&polled, total);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.connection.early.is_empty() {
            ready!(self.poll_early(cx))?;
        }
        let polled = match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        if polled.is_ready() {
            self.connection.wrote(Written::All);
        } else {
            // TLS takes what it is given, and keeps it
            self.connection.backlog.stalls();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::early::Before;
    use super::super::headers::Peer;
    use super::super::thread::Ticks;
    use super::*;

    const HINT: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";

    fn hint(connection: &Connection) {
        let before = Before::default();
        before.begin();
        before.look(HINT);
        before.pass(&connection.early);
        assert!(!connection.early.is_empty());
    }

    /// A connection on which nothing was written, and its client.
    async fn pair() -> (ClientIo, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let (stream, from) = listener.accept().await.unwrap();
        let peer = Peer::new(from.ip(), &[]).unwrap();
        let connection = Connection::new(from, peer, address, (40, 240), Ticks::default());
        let io = ClientIo {
            transport: Transport::Plain(stream),
            ahead: Bytes::new(),
            connection: Rc::new(connection),
        };
        (io, client)
    }

    async fn read(client: &mut TcpStream, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        client.read_exact(&mut read).await.unwrap();
        read
    }

    #[tokio::test]
    async fn a_hint_stands_before_an_answer_and_between_two() {
        let (mut io, mut client) = pair().await;
        for _ in 0..2 {
            hint(&io.connection);
            io.write_all(b"answer").await.unwrap();
            io.flush().await.unwrap();
            assert_eq!(read(&mut client, HINT.len()).await, HINT);
            assert_eq!(read(&mut client, 6).await, b"answer");
        }
        hint(&io.connection);
        io.flush().await.unwrap();
        assert_eq!(read(&mut client, HINT.len()).await, HINT);
    }

    #[tokio::test]
    async fn a_hint_never_stands_in_the_middle_of_the_answer_before() {
        let (mut io, mut client) = pair().await;
        let part = vec![b'a'; 64 * 1024];
        let mut sent = 0;
        poll_fn(|cx| {
            while let Poll::Ready(written) = Pin::new(&mut io).poll_write(cx, &part) {
                sent += written.unwrap();
            }
            Poll::Ready(())
        })
        .await;
        hint(&io.connection);
        let writing = async {
            io.write_all(b"tail, and the next head").await.unwrap();
            io.flush().await.unwrap();
            // from here on it is one again
            hint(&io.connection);
            io.flush().await.unwrap();
        };
        let tail = b"tail, and the next head";
        let reading = read(&mut client, sent + tail.len() + HINT.len());
        let ((), mut came) = tokio::join!(writing, reading);
        assert_eq!(came.split_off(sent + tail.len()), HINT);
        assert_eq!(came.split_off(sent), tail);
        assert!(came.iter().all(|byte| *byte == b'a'));
    }
}
