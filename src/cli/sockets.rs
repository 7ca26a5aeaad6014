//! Listening sockets that this process was given instead of binding them: by systemd (`LISTEN_FDS`), or by the daemon that
//! it takes over from. Matched to the configuration by their own addresses, never by their order or names, so that a socket
//! unit and a configuration that disagree are seen. Opens nothing itself.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;

/// Who gave the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Giver {
    /// Nobody: there are none.
    #[default]
    Nobody,
    /// systemd, by a `.socket` unit.
    Systemd,
    /// The daemon that ran before.
    Predecessor,
}

/// Sockets that were given and are not yet in use. Dropped, they are closed.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    giver: Giver,
    tcp: BTreeMap<SocketAddr, TcpListener>,
    unix: BTreeMap<PathBuf, UnixListener>,
    /// What a balancer tells of its requests waits here.
    datagrams: BTreeMap<PathBuf, UnixDatagram>,
}

/// A given descriptor is not a listening stream socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "socket {place} of those given by {giver} cannot be used: only listening TCP and unix stream sockets and unix datagram sockets can"
)]
pub struct NotAListener {
    /// Counted from 0, in the order in which they were given.
    pub place: usize,
    giver: Giver,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl fmt::Display for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "nobody",
            Self::Systemd => "systemd (LISTEN_FDS)",
            Self::Predecessor => "the daemon before",
        })
    }
}

impl Sockets {
    /// What systemd gave. Call it once, before there are other threads: it takes the variables out of the environment.
    pub(super) fn of_systemd() -> Result<Self, NotAListener> {
        let mut given = ListenFd::from_env();
        let mut sockets = Self {
            giver: Giver::Systemd,
            ..Self::default()
        };
        for place in 0..given.len() {
            let failed = |source| NotAListener {
                place,
                giver: Giver::Systemd,
                source,
            };
            if let Ok(Some(listener)) = given.take_tcp_listener(place) {
                sockets.keep_tcp(listener).map_err(failed)?;
            } else if let Ok(Some(socket)) = given.take_unix_datagram(place) {
                sockets.keep_datagram(socket).map_err(failed)?;
            } else if let Some(listener) = given.take_unix_listener(place).map_err(failed)? {
                sockets.keep_unix(listener).map_err(failed)?;
            }
        }
        Ok(sockets)
    }

    /// What a predecessor sent.
    pub(super) fn of_predecessor(descriptors: Vec<OwnedFd>) -> Result<Self, NotAListener> {
        let mut sockets = Self {
            giver: Giver::Predecessor,
            ..Self::default()
        };
        for (place, descriptor) in descriptors.into_iter().enumerate() {
            sockets.keep(descriptor).map_err(|source| NotAListener {
                place,
                giver: Giver::Predecessor,
                source,
            })?;
        }
        Ok(sockets)
    }

    fn keep(&mut self, descriptor: OwnedFd) -> io::Result<()> {
        let address = rustix::net::getsockname(&descriptor)?;
        match address.address_family() {
            rustix::net::AddressFamily::UNIX
                if rustix::net::sockopt::socket_type(&descriptor)?
                    == rustix::net::SocketType::DGRAM =>
            {
                self.keep_datagram(descriptor.into())
            }
            rustix::net::AddressFamily::UNIX => self.keep_unix(descriptor.into()),
            _ => self.keep_tcp(descriptor.into()),
        }
    }

    fn keep_tcp(&mut self, listener: TcpListener) -> io::Result<()> {
        listens(&listener)?;
        listener.set_nonblocking(true)?;
        self.tcp.insert(listener.local_addr()?, listener);
        Ok(())
    }

    fn keep_unix(&mut self, listener: UnixListener) -> io::Result<()> {
        listens(&listener)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let path = address
            .as_pathname()
            .ok_or_else(|| io::Error::other("a unix socket without a path"))?;
        self.unix.insert(path.to_owned(), listener);
        Ok(())
    }

    pub(super) fn keep_datagram(&mut self, socket: UnixDatagram) -> io::Result<()> {
        let address = socket.local_addr()?;
        let path = address
            .as_pathname()
            .ok_or_else(|| io::Error::other("a unix socket without a path"))?;
        self.datagrams.insert(path.to_owned(), socket);
        Ok(())
    }

    /// As [`Self::take_unix`].
    pub(super) fn take_datagram(&mut self, path: &Path) -> Option<UnixDatagram> {
        self.datagrams.remove(path).or_else(|| {
            let alone = self.giver == Giver::Predecessor && self.datagrams.len() == 1;
            alone
                .then(|| self.datagrams.pop_first())?
                .map(|(_, socket)| socket)
        })
    }

    /// Given back by a daemon to itself.
    pub(super) fn returned(socket: Option<UnixDatagram>) -> io::Result<Self> {
        let mut sockets = Self {
            giver: Giver::Predecessor,
            ..Self::default()
        };
        if let Some(socket) = socket {
            sockets.keep_datagram(socket)?;
        }
        Ok(sockets)
    }

    pub(super) fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.tcp.remove(&address)
    }

    /// By its path. One that was bound beside its path and renamed still carries the name it was bound by, so one that is
    /// alone is taken whatever its name.
    pub(super) fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        self.unix.remove(path).or_else(|| {
            let alone = self.giver == Giver::Predecessor && self.unix.len() == 1;
            alone
                .then(|| self.unix.pop_first())?
                .map(|(_, listener)| listener)
        })
    }

    /// All TCP listeners that nobody took yet.
    pub(super) fn take_rest(&mut self) -> BTreeMap<SocketAddr, TcpListener> {
        std::mem::take(&mut self.tcp)
    }

    /// Says which sockets no part of the configuration listens on, and closes them.
    pub(super) fn close_unmatched(self, unused: impl IntoIterator<Item = SocketAddr>) {
        let addresses = self.tcp.keys().copied().chain(unused).map(|address| {
            let hint = if address.is_ipv6() && address.ip().is_unspecified() {
                " (for IPv4 write ListenStream=0.0.0.0:PORT: ListenStream=PORT is an IPv6 socket)"
            } else {
                ""
            };
            format!("{address}{hint}")
        });
        let paths = self.unix.keys().chain(self.datagrams.keys());
        let paths = paths.map(|path| path.display().to_string());
        for unmatched in addresses.chain(paths) {
            tracing::warn!(
                giver = %self.giver,
                "a socket was given for {unmatched}, where nothing in the configuration listens: it is closed"
            );
        }
    }
}

/// Refuses what is bound or connected only.
fn listens(socket: &impl std::os::fd::AsFd) -> io::Result<()> {
    if rustix::net::sockopt::socket_acceptconn(socket)? {
        Ok(())
    } else {
        Err(io::Error::other("it does not listen"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_matched_by_their_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("[::1]:0").unwrap();
        let (address, other_address) = (tcp.local_addr().unwrap(), other.local_addr().unwrap());
        let unix = UnixListener::bind(&path).unwrap();
        let given: Vec<OwnedFd> = vec![unix.into(), other.into(), tcp.into()];
        let mut sockets = Sockets::of_predecessor(given).unwrap();
        assert_eq!(
            sockets.take_tcp(address).unwrap().local_addr().unwrap(),
            address
        );
        assert!(sockets.take_tcp(address).is_none());
        assert!(sockets.take_unix(&path).is_some());
        assert_eq!(
            sockets.take_rest().into_keys().collect::<Vec<_>>(),
            [other_address]
        );
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused_with_its_place() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let error = Sockets::of_predecessor(vec![listener.into(), connected.into()]).unwrap_err();
        assert_eq!(error.place, 1);
        assert_eq!(
            error.to_string(),
            "socket 1 of those given by the daemon before cannot be used: only listening TCP and unix stream sockets and unix datagram sockets can"
        );
    }
}
