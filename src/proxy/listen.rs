//! Binding listen addresses, and who holds one that cannot be bound. Never `SO_REUSEPORT`: a socket of another process on the
//! same port must be seen, and connections that wait in a closed twin's queue would be reset.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

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

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, as the kernel keeps it (15 characters).
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Who listens on `address`, or on every address with its port; `None` where `/proc` does not say (another user's process).
pub fn holder_of(address: SocketAddr) -> Option<Holder> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|text| {
            text.lines()
                .skip(1)
                .filter_map(|line| listening_inode(line, address))
                .map(|inode| format!("socket:[{inode}]"))
                .collect::<Vec<_>>()
        })
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let holds = std::fs::read_dir(process.path().join("fd"))
            .ok()?
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|link| inodes.iter().any(|inode| link == Path::new(inode)));
        let name = || std::fs::read_to_string(process.path().join("comm")).ok();
        holds.then(|| Holder {
            pid,
            name: name().map_or_else(|| "a process".to_owned(), |name| name.trim().to_owned()),
        })
    })
}

/// The inode of one line of `/proc/net/tcp`, if that is a listener (state `0A`) in the way of `address`.
fn listening_inode(line: &str, address: SocketAddr) -> Option<&str> {
    let mut fields = line.split_ascii_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    if state != "0A" || u16::from_str_radix(port, 16).ok()? != address.port() {
        return None;
    }
    let any = ip.bytes().all(|byte| byte == b'0');
    (any || address.ip().is_unspecified() || ip == in_hex(address.ip())).then_some(inode)
}

/// An address as `/proc/net/tcp` writes it: words in the byte order of the machine.
fn in_hex(ip: IpAddr) -> String {
    let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
    match ip {
        IpAddr::V4(ip) => word(ip.octets()),
        IpAddr::V6(ip) => ip
            .octets()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| word(*bytes))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let holder = holder_of(listener.local_addr().unwrap()).unwrap();
            assert_eq!(holder.pid, std::process::id(), "{address}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_in_the_way_of_one() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(holder_of(address).unwrap().pid, std::process::id());
    }

    #[test]
    fn a_taken_address_is_refused_with_the_systems_own_error() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(error.to_string(), format!("bind() to {address} failed"));
    }
}
