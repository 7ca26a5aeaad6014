//! The embedded proxy through the library, byte by byte over loopback: what servers get, what clients get, what is repeated,
//! and that nothing is lost in a switch or a drain.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets what it does not expect ends"
)]

mod balancer;
mod bodies;
mod heads;
mod local;
mod servers;
mod shop;
mod switches;
mod upstreams;
mod wire;

use std::time::{Duration, Instant};

pub(crate) use servers::{OK, large, named, nobody, patient, recording, server};
pub(crate) use shop::{Shop, on, shape, table};
pub(crate) use wire::{SOON, Wire, get};

/// Waits until `holds`, looking every few milliseconds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
