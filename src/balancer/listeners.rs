//! Which addresses of this host are listened on, and by whom, as `/proc` shows it to this user. Looks, and binds nothing.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::process::{name, processes};

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) inode: u64,
}

/// The listening sockets of both families. The kernel lists them before all others (its `proc_net_tcp` page), so reading
/// ends there: a busy host has tens of thousands of closed connections in `TIME_WAIT` behind them, which cost 0.5 s to read.
pub(super) fn listening() -> Vec<Listening> {
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
pub(super) fn sockets_of(pid: i32) -> Option<HashSet<u64>> {
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

/// Who listens on `address`, such as `python3 (pid 4711)`.
pub(super) fn holder(address: SocketAddr) -> Option<String> {
    holder_among(address, &listening())
}

/// The same, where the table was read already.
pub(super) fn holder_among(address: SocketAddr, listening: &[Listening]) -> Option<String> {
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
    fn the_holder_of_an_address_of_either_family_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let holder = holder(listener.local_addr().unwrap()).unwrap();
            let me = format!("(pid {})", std::process::id());
            assert!(holder.ends_with(&me), "{address}: {holder}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_in_the_way_of_one() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = holder(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        let me = format!("(pid {})", std::process::id());
        assert!(holder.ends_with(&me), "{holder}");
    }
}
