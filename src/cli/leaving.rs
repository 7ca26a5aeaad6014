//! What a daemon does from when it has given its sockets away until it has nothing left: it waits for its successor to serve, routes by
//! what that puts into force, and finishes what it has in flight. Never a writer; that it is one again is decided in
//! [`super::succession`].

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::carrier::Carrier;
use super::ending::told_again;
use super::handover::{Said, Successor};
use super::heartbeat;
use super::workloads::Running;
use crate::signals::{Signal, Signals};
use crate::store::{Holder, LockError, ServeLock, Store};

/// For a dead successor's lock to be free: the kernel closes its descriptors one by one.
const LOCK_FREE: Duration = Duration::from_secs(5);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(20);

/// Between two looks at what is in flight for a successor that may wait for its end.
const LOOK: Duration = Duration::from_millis(100);

/// What was waited for while a successor began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// The successor serves.
    Taken,
    /// It is gone.
    Abandoned,
    /// It was told to end, and so was this daemon.
    BothTold,
    /// This daemon was told to end, and again: the successor, if it lives, has the sockets.
    ToldTwice,
}

/// Whether an order to end came while a successor began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    ToEnd,
}

pub(super) async fn wait(
    successor: &mut Successor,
    carrier: &Carrier,
    signals: &mut Signals,
) -> Waited {
    let mut alive = heartbeat::between();
    let mut told = Told::Nothing;
    // as a whole, since an answer must not end in its middle
    let mut outcome = pin!(attend(carrier, successor));
    loop {
        tokio::select! {
            outcome = &mut outcome => return match (outcome, told) {
                (Outcome::Serves, _) => Waited::Taken,
                (Outcome::WasTold, Told::ToEnd) => Waited::BothTold,
                (Outcome::WasTold, Told::Nothing) | (Outcome::Gone, _) => Waited::Abandoned,
            },
            () = alive.beat() => {}
            signal = signals.next() => match signal {
                Signal::Terminate if told == Told::ToEnd => return Waited::ToldTwice,
                Signal::Terminate => {
                    told = Told::ToEnd;
                    tracing::info!(
                        "told to stop: that is once the successor serves, and not if it fails; once more stops at once"
                    );
                }
                Signal::Reload | Signal::Restart => {
                    tracing::warn!("a signal was ignored: the handover is under way");
                }
            },
        }
    }
}

/// Finishes what is in flight, and nothing else; what still comes on the connections that it has goes where the successor
/// says.
pub(super) async fn leave(
    carrier: &Carrier,
    successor: &mut Successor,
    signals: &mut Signals,
    drain: Duration,
) {
    heartbeat::succeeded_by(successor.pid, drain);
    let finishing = async {
        let cut = carrier.hand_over(drain).await;
        if cut > 0 {
            tracing::info!(cut, "connections were closed at the drain deadline");
        }
        // which is told by this one alone where the traffic is; it drains since before this one does
        carrier.alone().await;
    };
    tokio::select! {
        () = follow(carrier, successor) => {}
        () = finishing => {}
        () = told_again(signals) => {
            tracing::warn!("told to stop at once: what was in flight is cut off");
        }
    }
    tracing::info!("handed over and stopped");
}

/// Does as the successor says, and tells it what is in flight. Never ends.
async fn follow(carrier: &Carrier, successor: &mut Successor) {
    while attend(carrier, successor).await != Outcome::Gone {}
    std::future::pending::<()>().await;
}

/// What comes of a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Serves,
    WasTold,
    Gone,
}

/// Does as the successor says, and tells it what is in flight, until it says something of itself. Not cancel-safe.
async fn attend(carrier: &Carrier, successor: &mut Successor) -> Outcome {
    let mut look = tokio::time::interval(LOOK);
    loop {
        let now = tokio::select! {
            said = successor.says() => match said {
                Said::Word(word) => carrier.follow(&word).await,
                // else it would wait for this process until that ends, and serve nobody
                Said::Unread(number) => carrier.reply(number),
                Said::Serves => return Outcome::Serves,
                Said::WasTold => return Outcome::WasTold,
                Said::Gone => return Outcome::Gone,
            },
            _ = look.tick(), if successor.number > 0 => {
                carrier.reply(successor.number).filter(|now| *now != successor.told)
            }
        };
        if let Some(now) = now {
            successor.tell(now).await;
        }
    }
}

/// The end of a daemon that has nothing left but the traffic and the processes.
pub(super) async fn end(
    carrier: Carrier,
    workloads: Running,
    signals: &mut Signals,
    drain: Duration,
) {
    tracing::info!("its successor was told to stop, too: finishing what is in flight");
    heartbeat::stopping(drain);
    let ending = async {
        let cut = carrier.drain(drain).await;
        if cut > 0 {
            tracing::warn!(cut, "connections were cut at the drain deadline");
        }
        workloads.stop().await;
    };
    tokio::select! {
        () = ending => tracing::info!("stopped"),
        () = told_again(signals) => {
            tracing::warn!("told to stop at once: what was in flight is cut off");
        }
    }
}

pub(super) async fn lock_again(store: &Store) -> Result<ServeLock, LockError> {
    let deadline = Instant::now() + LOCK_FREE;
    loop {
        match store.serve_lock(Holder::current("turnout serve", None)) {
            Err(LockError::Held { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(AGAIN).await;
            }
            other => return other,
        }
    }
}
