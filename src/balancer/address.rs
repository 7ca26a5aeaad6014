//! Whether nginx or HAProxy can listen where the new configuration says, asked before they are.
//!
//! `nginx -t` passes with a busy address and `nginx -s reload` returns 0; the master then tries five times, half a second
//! apart, and keeps the old configuration. `haproxy -c` passes too, and HAProxy pauses its live listeners for two seconds
//! while it retries. Binding (without listening: nobody's connection is taken) finds that out
//! without a reload. What cannot be judged from here is left to the proof.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::process::{name, processes};

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
                    holder: holder_of(address, &listening),
                });
            }
        }
    }
    Ok(())
}

/// Who listens on `address`, such as `python3 (pid 4711)`.
pub(super) fn holder(address: SocketAddr) -> Option<String> {
    holder_of(address, &listening())
}

fn holder_of(address: SocketAddr, listening: &[Listening]) -> Option<String> {
    let clashes = |open: &SocketAddr| {
        open.port() == address.port()
            && (open.ip() == address.ip()
                || open.ip().is_unspecified()
                || address.ip().is_unspecified())
    };
    let inodes: HashSet<u64> = listening
        .iter()
        .filter(|entry| clashes(&entry.address))
        .map(|entry| entry.inode)
        .collect();
    let pid = processes()
        .find(|pid| sockets_of(*pid).is_some_and(|sockets| !sockets.is_disjoint(&inodes)))?;
    Some(format!(
        "{} (pid {pid})",
        name(pid).unwrap_or_else(|| "a process".to_owned())
    ))
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

#[derive(Debug, Clone, PartialEq, Eq)]
struct Listening {
    address: SocketAddr,
    inode: u64,
}

/// The listening sockets of both families. The kernel lists them before all others (its `proc_net_tcp` page), so reading
/// ends there: a busy host has tens of thousands of closed connections in `TIME_WAIT` behind them, which cost 0.5 s to read.
fn listening() -> Vec<Listening> {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::File::open(path).ok())
        .flat_map(|file| listeners(BufReader::new(file)))
        .collect()
}

fn listeners(table: impl BufRead) -> Vec<Listening> {
    table
        .lines()
        .skip(1)
        .map_while(Result::ok)
        .take_while(|line| matches!(line.split_whitespace().nth(3), Some("0A" | "03")))
        .filter_map(|line| read_line(&line))
        .collect()
}

/// One line of `/proc/net/tcp`: address in hexadecimal (32-bit words in the machine's order), state 0A for "listens" (03
/// is a handshake under way, which kernels before 4.4 list among them).
fn read_line(line: &str) -> Option<Listening> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    if *state != "0A" {
        return None;
    }
    let (ip, port) = local.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?.to_ne_bytes()).into(),
        32 => {
            let mut bytes = [0_u8; 16];
            for (place, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(place * 8)?.to_ne_bytes());
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(Listening {
        address: SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?),
        inode: inode.parse().ok()?,
    })
}

/// The inodes of a process's sockets; `None` where this user may not look.
fn sockets_of(pid: i32) -> Option<HashSet<u64>> {
    Some(
        fs::read_dir(format!("/proc/{pid}/fd"))
            .ok()?
            .flatten()
            .filter_map(|entry| {
                let target = fs::read_link(entry.path()).ok()?;
                let inode = target.to_str()?.strip_prefix("socket:[")?;
                inode.strip_suffix(']')?.parse().ok()
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernel_s_table_is_read_for_both_families() {
        let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1";
        let v6 = "   1: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 7 1";
        assert_eq!(
            [read_line(v4), read_line(v6)],
            [
                Some(Listening {
                    address: "127.0.0.1:8080".parse().unwrap(),
                    inode: 4242
                }),
                Some(Listening {
                    address: "[::1]:80".parse().unwrap(),
                    inode: 7
                })
            ]
        );
        assert_eq!(read_line(&v4.replace(" 0A ", " 01 ")), None);
    }

    #[test]
    fn reading_ends_where_the_listeners_do() {
        let line = |state: &str, inode: u64| {
            format!("   0: 0100007F:1F90 00000000:0000 {state} 0:0 0:0 0 0 0 {inode} 1\n")
        };
        let table = [
            "head\n".to_owned(),
            line("0A", 1),
            line("03", 0),
            line("0A", 2),
        ]
        .concat();
        let inodes = |table: String| -> Vec<u64> {
            let found = listeners(table.as_bytes());
            found.iter().map(|entry| entry.inode).collect()
        };
        assert_eq!(inodes(table.clone()), [1, 2]);
        let closed = [table, line("06", 0), line("0A", 3)].concat();
        assert_eq!(inodes(closed), [1, 2]);
    }

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
