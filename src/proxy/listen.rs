//! Binding listen addresses. Never `SO_REUSEPORT`: a socket of another process on the
//! same port must be seen, and connections that wait in a closed twin's queue would be reset.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// Connections that may wait to be accepted; the kernel takes the smaller of this and `net.core.somaxconn` (4096 by default).
const BACKLOG: i32 = 4096;

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
}
