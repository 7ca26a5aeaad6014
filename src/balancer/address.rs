//! Whether nginx or HAProxy can listen where the new configuration says, asked before they are.
//!
//! `nginx -t` passes with a busy address and `nginx -s reload` returns 0; the master then tries five times, half a second
//! apart, and keeps the old configuration. `haproxy -c` passes too, and HAProxy pauses its live listeners for two seconds
//! while it retries. Binding (without listening: nobody's connection is taken) finds that out
//! without a reload. What cannot be judged from here is left to the proof.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::SocketAddr;

use nix::errno::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::listeners::{holder_among, listening, sockets_of};

/// An address that cannot be had, told as nginx tells it.
#[derive(Debug, thiserror::Error)]
#[error("bind() to {address} failed ({}: {}){}", *errno as i32, errno.desc(), held(holder.as_deref()))]
pub(super) struct Busy {
    address: SocketAddr,
    errno: Errno,
    holder: Option<String>,
}

fn held(holder: Option<&str>) -> String {
    holder.map_or_else(String::new, |holder| format!(": it is held by {holder}"))
}

/// Tries every address that none of `owners`, the processes that listen for the balancer, has yet. `master` tells in which
/// network they live.
pub(super) fn try_new(
    wanted: &BTreeSet<SocketAddr>,
    master: i32,
    owners: &[i32],
) -> Result<(), Busy> {
    if elsewhere(master) {
        return Ok(());
    }
    let listening = listening();
    let owned: Option<Vec<_>> = owners.iter().map(|pid| sockets_of(*pid)).collect();
    let bound: Vec<SocketAddr> =
        match owned.map(|sets| sets.into_iter().flatten().collect::<HashSet<u64>>()) {
            Some(inodes) => listening
                .iter()
                .filter(|entry| inodes.contains(&entry.inode))
                .map(|entry| entry.address)
                .collect(),
            // another user's master: an address that is busy may well be its own
            None => listening.iter().map(|entry| entry.address).collect(),
        };
    for address in wanted.iter().copied() {
        // both serve a specific address through a wildcard socket of the same port that it already has
        let has = |open: &SocketAddr| {
            open.port() == address.port()
                && open.is_ipv4() == address.is_ipv4()
                && (open.ip() == address.ip() || open.ip().is_unspecified())
        };
        if bound.iter().any(has) {
            continue;
        }
        match try_bind(address) {
            Ok(()) => {}
            // a low port, which the master may have the right to although this user has not
            Err(Errno::EACCES) if !nix::unistd::geteuid().is_root() => {}
            Err(errno) => {
                return Err(Busy {
                    address,
                    errno,
                    holder: holder_among(address, &listening),
                });
            }
        }
    }
    Ok(())
}

/// True if a process still holds a TCP socket that listens; `None` where this user may not look.
pub(super) fn listens(pid: i32) -> Option<bool> {
    let sockets = sockets_of(pid)?;
    Some(
        listening()
            .iter()
            .any(|entry| sockets.contains(&entry.inode)),
    )
}

fn try_bind(address: SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let tried =
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).and_then(|socket| {
            // as nginx does; without the second, [::]:80 would clash with the user's 0.0.0.0:80
            sockopt::set_socket_reuseaddr(&socket, true)?;
            if address.is_ipv6() {
                sockopt::set_ipv6_v6only(&socket, true)?;
            }
            bind(&socket, &address)
        });
    tried.map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// True if the process lives in another network, where addresses mean something else.
fn elsewhere(pid: i32) -> bool {
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    match (network(&pid.to_string()), network("self")) {
        (Some(theirs), Some(ours)) => theirs != ours,
        (None, _) | (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::listeners::holder;
    use super::*;

    #[test]
    fn the_holder_of_a_busy_address_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(try_bind(address), Err(Errno::EADDRINUSE));
        let holder = holder(address).unwrap();
        assert!(
            holder.ends_with(&format!("(pid {})", std::process::id())),
            "{holder}"
        );
        drop(listener);
        assert_eq!(try_bind(address), Ok(()));
    }
}
