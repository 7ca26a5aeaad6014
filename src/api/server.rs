//! The control listener: a TCP port or a unix socket, and the life of its connections.
//!
//! A slow or silent client costs one connection slot for seconds, never a worker: heads have a deadline here, bodies have
//! theirs in `routes`. A full descriptor table makes the accept loop wait, not spin.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tower::Service;

use super::address::ServerAddress;
use super::events::{Audience, Cut};
use super::guard::{Guard, Peer, Place};
use super::metrics::Answered;
use super::reread::Reread;
use super::routes::{self, Api};
use super::socket::ControlSocket;
use super::token::{TokenError, Tokens};
use crate::config::{Control, ControlListen};
use crate::controller::Handle;
use crate::traffic::Book;

/// For a request's head to come, and for the next one on a kept-alive connection.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Bytes of a head; a token is far shorter.
const MAX_HEAD: usize = 32 * 1024;
/// Connections at once. Far more than people and their tools need, far fewer than descriptors (1024 by default) for the rest.
const MAX_CONNECTIONS: usize = 256;
/// After a failed accept (EMFILE, ENFILE): the kernel frees nothing in the meantime, so asking again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What the kernel keeps of an answer for a client that does not read it. Left to itself it takes up to 4 MiB for each.
const SEND_BUFFER: usize = 64 * 1024;
/// For answers that are under way when turnout ends.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Why the control API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Somebody listens there.
    #[error(
        "the control API cannot listen on {address}: another process does; stop it, or set control.listen (TURNOUT_CONTROL) to another address"
    )]
    InUse {
        /// As configured.
        address: String,
    },
    /// The operating system refused.
    #[error("the control API cannot listen on {address}")]
    Listen {
        /// As configured.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else than a socket is where the socket is to be.
    #[error("the control API cannot listen on {path}: what is there is not a socket; move it away")]
    NotASocket {
        /// As configured.
        path: PathBuf,
    },
    /// The API has no listener of its own in this configuration.
    #[error("the control API is on the router's port here, so it has no listener of its own")]
    OnTheRouter,
    /// A token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A control API that is bound and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: ControlSocket,
    address: ServerAddress,
    guard: Guard,
}

impl Server {
    /// Reads the tokens and takes the address. Fails before anything else of a daemon has begun.
    pub fn bind(control: &Control) -> Result<Self, ApiError> {
        Self::on(control, ControlSocket::bind(&control.listen)?)
    }

    /// Reads the tokens, for a socket that is there.
    pub fn on(control: &Control, listener: ControlSocket) -> Result<Self, ApiError> {
        let mut names = control.hosts.clone();
        let address = match &control.listen {
            ControlListen::Tcp(address) => {
                names.push(address.ip().to_string());
                ServerAddress::of_socket(listener.bound().unwrap_or(*address))
            }
            ControlListen::Unix(path) => ServerAddress::Unix(path.clone()),
            ControlListen::Router => return Err(ApiError::OnTheRouter),
        };
        let guard = Guard::new(Place::Control, Tokens::load(&control.tokens)?, &names);
        if let ControlListen::Tcp(listen) = &control.listen
            && guard.is_without_tokens()
            && !listen.ip().is_loopback()
        {
            tracing::warn!(
                %listen,
                "the control API has no token: everybody who reaches it may read, loopback alone may write"
            );
        }
        Ok(Self {
            listener,
            address,
            guard,
        })
    }

    /// The socket once more: it stays open, and its file in place, until the last of them is dropped.
    pub fn socket(&self) -> io::Result<ControlSocket> {
        self.listener.again()
    }

    /// Where a client on this host reaches it.
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Answers until `shutdown`, then lets answers under way finish (10 s at most). `reread` is asked before a change that is
    /// about the configuration itself; `figures` is what the page shows of the traffic.
    pub async fn run(
        self,
        handle: Handle,
        reread: Reread,
        figures: Book,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (audience, closing) = Audience::new();
        let api = Api {
            handle,
            place: Place::Control,
            reread,
            audience,
            figures,
            answered: Answered::default(),
        };
        let shutdown = async {
            shutdown.await;
            // an event stream has no end of its own that could be waited for
            drop(closing);
        };
        let paths = routes::router(api, Arc::new(self.guard));
        serve(self.listener, paths, shutdown).await
    }
}

/// Accepts until `shutdown` and serves `app` on every connection.
async fn serve(
    listener: ControlSocket,
    app: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut shutdown = pin!(shutdown);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = GracefulShutdown::new();
    let (acceptor, _file) = match listener {
        ControlSocket::Tcp(listener) => (Acceptor::Tcp(TcpListener::from_std(listener)?), None),
        ControlSocket::Unix(listener, file) => (
            Acceptor::Unix(UnixListener::from_std(listener)?),
            Some(file),
        ),
    };
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = acceptor.accept(&slots) => accepted,
        };
        let (stream, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the control API could not accept a connection");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => continue,
                }
            }
        };
        let app = app.clone();
        match stream {
            Stream::Tcp(stream, peer) => {
                connection(
                    TokioIo::new(stream),
                    async { peer },
                    app,
                    slot,
                    &connections,
                );
            }
            Stream::Unix(stream, uid) => {
                connection(
                    TokioIo::new(stream),
                    unix_peer(uid),
                    app,
                    slot,
                    &connections,
                );
            }
        }
    }
    drop(acceptor);
    if tokio::time::timeout(LAST_ANSWERS, connections.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("the control API ended with answers under way");
    }
    Ok(())
}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(tokio::net::TcpStream, Peer),
    Unix(tokio::net::UnixStream, Option<u32>),
}

impl Acceptor {
    /// The next connection, as soon as one of the slots is free.
    async fn accept(
        &self,
        slots: &Arc<Semaphore>,
    ) -> io::Result<(Stream, tokio::sync::OwnedSemaphorePermit)> {
        let slot = slots
            .clone()
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let stream = match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // fails only where the connection is gone already, and is needed only to know our own address as a name
                let local = stream.local_addr().ok();
                if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER) {
                    tracing::debug!(%error, "a connection keeps the kernel's send buffer");
                }
                Stream::Tcp(stream, Peer::Tcp { remote, local })
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                // let in by the socket's permissions all the same; the audit log then says "unknown user"
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                Stream::Unix(stream, uid)
            }
        };
        Ok((stream, slot))
    }
}

/// The user behind a unix socket. The name service may ask the network, hence the blocking thread.
async fn unix_peer(uid: Option<u32>) -> Peer {
    let Some(uid) = uid else {
        return Peer::Unix {
            user: "unknown user".to_owned(),
        };
    };
    let found = tokio::task::spawn_blocking(move || {
        nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid))
    });
    let user = match found.await {
        Ok(Ok(Some(user))) => user.name,
        Ok(Ok(None) | Err(_)) | Err(_) => format!("uid {uid}"),
    };
    Peer::Unix { user }
}

/// Serves one connection in a task of its own, so that a panic in one request ends that connection alone.
fn connection<I>(
    io: I,
    peer: impl Future<Output = Peer> + Send + 'static,
    app: Router,
    slot: tokio::sync::OwnedSemaphorePermit,
    connections: &GracefulShutdown,
) where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let watcher = connections.watcher();
    tokio::spawn(async move {
        let peer = peer.await;
        let cut = Cut::default();
        let own_cut = cut.clone();
        let service = hyper::service::service_fn(
            move |mut request: hyper::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(peer.clone());
                request.extensions_mut().insert(cut.clone());
                let mut app = app.clone();
                async move { Ok::<_, Infallible>(answer(app.call(request).await)) }
            },
        );
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MAX_HEAD)
            .max_headers(100)
            .serve_connection(io, service);
        tokio::select! {
            ended = watcher.watch(connection) => if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the control API ended early");
            },
            () = own_cut.wanted() => tracing::debug!("a client that does not read was cut off"),
        }
        drop(slot);
    });
}

/// A router answers everything; its error type has no values.
pub(super) fn answer<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
