//! Binding listen addresses, and accepting on them. Never `SO_REUSEPORT`: a socket of another process on the
//! same port must be seen, and connections that wait in a closed twin's queue would be reset.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Connections that may wait to be accepted; the kernel takes the smaller of this and `net.core.somaxconn` (4096 by default).
const BACKLOG: i32 = 4096;
/// Bytes that the kernel takes for a client beyond what is on the way to it. By itself it would take up to 4 MiB
/// (`net.ipv4.tcp_wmem`) for one that does not read: 600 of them were 1.9 GiB, which is where it holds up everybody's sockets
/// (`net.ipv4.tcp_mem`), and clients that did read waited for 1.9 s.
const UNSENT: u32 = 256 * 1024;
/// How long accepting rests when there are no descriptors left: accept would fail again at once, and spin.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// When the kernel asks a peer that says nothing whether it is still there: a tunnel or an event stream of one that vanished ends after two
/// minutes. nginx leaves that off, and has its time-outs between two bytes instead, which end what lives and is quiet.
const QUIET: Duration = Duration::from_mins(1);
const ASK_EVERY: Duration = Duration::from_secs(15);
const ASK: u32 = 4;

/// For every connection, to either side.
pub(super) const fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(QUIET)
        .with_interval(ASK_EVERY)
        .with_retries(ASK)
}

/// A listen address cannot be had. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("bind() to {address} failed")]
pub struct ListenError {
    /// Which.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Whether `address` can be listened on now: listens and lets go of it again.
pub fn try_listen(address: SocketAddr) -> Result<(), ListenError> {
    bind(address).map(drop)
}

/// Binds and listens, without blocking.
pub(super) fn bind(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    let attempt = || -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            // as nginx: `[::]:80` and `0.0.0.0:80` are two listeners that may stand side by side
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    attempt().map_err(|source| ListenError { address, source })
}

/// An accept loop of one thread on one listening socket.
pub(super) struct Accepting {
    end: oneshot::Sender<Queue>,
    task: JoinHandle<()>,
}

/// What becomes of connections that the kernel has made and nobody has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// They are accepted: closing the socket would reset them.
    Serve,
    /// They are another's who listens on the same socket, or nobody is to serve them any more.
    Leave,
}

impl Accepting {
    /// Accepts on the thread that this is called on, and gives each connection to `take`.
    pub(super) fn begin(
        address: SocketAddr,
        listener: std::net::TcpListener,
        take: impl Fn(TcpStream, SocketAddr) + 'static,
    ) -> io::Result<Self> {
        // what is accepted has all of it from the listener
        let socket = SockRef::from(&listener);
        socket.set_tcp_notsent_lowat(UNSENT)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&keepalive())?;
        let listener = TcpListener::from_std(listener)?;
        let (end, told) = oneshot::channel();
        let task = tokio::task::spawn_local(accept(address, listener, told, take));
        Ok(Self { end, task })
    }

    /// Ends it and waits until its socket is closed.
    pub(super) async fn stop(self, queue: Queue) {
        // where it has ended by a panic, that was said, and its socket is closed
        if self.end.send(queue).is_ok() {
            drop(self.task.await);
        }
    }
}

async fn accept(
    address: SocketAddr,
    listener: TcpListener,
    mut end: oneshot::Receiver<Queue>,
    take: impl Fn(TcpStream, SocketAddr),
) {
    let queue = loop {
        let accepted = tokio::select! {
            biased;
            queue = &mut end => break queue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => take(stream, peer),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%address, error = &error as &dyn std::error::Error, "accepting rests");
                tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
    };
    if queue == Ok(Queue::Serve) {
        queued(listener).for_each(|(stream, peer)| take(stream, peer));
    }
}

/// Errors of the connection that was to be accepted, as accept(2) lists them: the next one may be well.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// What waits to be accepted right now. The socket is closed at the end of it; who connects in between the last one and that
/// is still reset.
fn queued(listener: TcpListener) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
    // taken from the runtime, which may not have heard yet that there is anything
    let listener = listener.into_std().ok();
    let accept = move || loop {
        match listener.as_ref()?.accept() {
            Ok((stream, peer)) => {
                let stream = stream.set_nonblocking(true).map(|()| stream);
                if let Ok(stream) = stream.and_then(TcpStream::from_std) {
                    return Some((stream, peer));
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(_) => return None,
        }
    };
    std::iter::from_fn(accept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_refused_with_the_systems_own_error() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("bind() to {address} failed"));
    }

    #[test]
    fn an_accepted_connection_sends_at_once_by_what_was_asked_of_the_listener() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        runtime.block_on(async {
            let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            let (taken, mut accepted) = tokio::sync::mpsc::unbounded_channel();
            let accepting = Accepting::begin(address, listener, move |stream, _| {
                taken.send(stream).unwrap();
            });
            let client = TcpStream::connect(address).await.unwrap();
            let stream = accepted.recv().await.unwrap();
            assert!(stream.nodelay().unwrap());
            let unsent = SockRef::from(&stream).tcp_notsent_lowat().unwrap();
            assert_eq!(unsent, UNSENT);
            assert!(SockRef::from(&stream).keepalive().unwrap());
            let quiet = SockRef::from(&stream).tcp_keepalive_time().unwrap();
            assert_eq!(quiet, QUIET);
            drop(client);
            accepting.unwrap().stop(Queue::Leave).await;
        });
    }
}
