//! Loopback ports that nobody else takes, neither another test of this run nor another run on the same machine.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's ephemeral range (from 32768), so that no outgoing connection sits on a port between choice and use.
const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// The source of free ports.
pub(crate) struct Ports;

impl Ports {
    /// A free port of 127.0.0.1, reserved until this process ends.
    ///
    /// The reservation is an abstract unix socket with the port's number in its name: the kernel gives it up when the
    /// process dies, and a second run on the machine cannot take the same one.
    pub(crate) fn free() -> u16 {
        let span = LAST - FIRST;
        let offset = u16::try_from(std::process::id() % u32::from(span)).unwrap_or(0);
        for _ in 0..span {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let port = FIRST + (offset + step % span) % span;
            if reserve(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return port;
            }
        }
        panic!("no free port between {FIRST} and {LAST}");
    }

    /// A free port below 1024, which needs a right to be bound. Reserved likewise.
    pub(crate) fn low() -> SocketAddr {
        (300..1_000)
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .find(|address| reserve(address.port()) && TcpListener::bind(address).is_ok())
            .expect("a free port below 1000")
    }

    /// [`Self::free`], as an address.
    pub(crate) fn address() -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, Self::free()))
    }
}

fn reserve(port: u16) -> bool {
    let name = UnixAddr::from_abstract_name(format!("turnout-test-port-{port}")).unwrap();
    match UnixListener::bind_addr(&name) {
        Ok(listener) => {
            // kept for the life of the process: that is the reservation
            std::mem::forget(listener);
            true
        }
        Err(_) => false,
    }
}

#[test]
fn a_port_that_was_given_is_given_to_nobody_else() {
    let port = Ports::free();
    // the reservation is the kernel's, so it says no to this process as it does to every other
    assert!(!reserve(port));
    let others: Vec<u16> = (0..50).map(|_| Ports::free()).collect();
    assert!(!others.contains(&port), "{port} in {others:?}");
}
