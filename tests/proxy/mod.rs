//! The embedded proxy's protocols, from outside: what it speaks to clients, what it refuses, and what servers see of it.

mod answers;
mod daemon;
mod desync;
mod go;
mod http2;
mod limits;
mod rest;
mod streams;
pub(crate) mod tls;
mod upgrades;
mod uploads;

use std::future::Future;

use crate::support::shared;

/// Runs a test that starts a process, in its turn.
fn in_turn(test: impl Future<Output = ()>) {
    let _turn = shared();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}
