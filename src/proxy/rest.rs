//! Kept-alive connections between two requests that are far apart: nothing is kept for them but the socket.
//!
//! hyper keeps 8 KiB to read into and 8 KiB to write from, whether or not anything comes; ten thousand idle clients are 160 MiB.
//! So a connection that has been idle for a second is taken out of its hands, and given to a new one with its next bytes.
//! Never rests in the middle of anything: [`Connection::may_rest`] is true between two messages alone.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};

use super::accept::{LINGER, unless_told};
use super::client::{Connection, Order, Rest};
use super::refused::Reason;
use super::thread::Thread;
use super::transport::{ClientIo, Transport};

/// Bytes of one read: more than the head of most requests.
const READ: usize = 8 * 1024;

/// Appends what comes next to `to`, and says how much that is; 0 at the end of the stream.
pub(super) async fn read(transport: &mut Transport, to: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|cx| {
        // on the stack for the length of a poll alone: a connection that waits holds nothing
        let mut space = [const { MaybeUninit::uninit() }; READ];
        let mut buf = ReadBuf::uninit(&mut space);
        ready!(match transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, &mut buf),
        })?;
        to.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    })
    .await
}

/// The connection with its next bytes in front; `None` if it ended or was told to.
pub(super) async fn until_heard(
    thread: &Thread,
    connection: &Connection,
    mut io: ClientIo,
) -> Option<ClientIo> {
    let mut next = BytesMut::new();
    connection.rest(Rest::Resting);
    let heard = unless_told(connection, read(&mut io.transport, &mut next)).await;
    match heard {
        Some(Ok(1..)) => {
            connection.rest(Rest::Awake);
            io.ahead = next.freeze();
            return Some(io);
        }
        Some(Ok(0) | Err(_)) => {}
        None if connection.order() == Order::Finish => {}
        None => thread.refuse(Reason::Idle),
    }
    // TLS says goodbye; whether a client that has gone hears it makes no difference
    drop(tokio::time::timeout(LINGER, io.shutdown()).await);
    None
}
