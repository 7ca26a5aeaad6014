//! What the operating system tells a daemon: SIGTERM and SIGINT end it, SIGHUP has it read its configuration again, SIGUSR2
//! has it start its successor.
//!
//! SIGPIPE is ignored by Rust's runtime from the start; children are reaped by who started them.

use std::io;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End gracefully. Who hears it a second time ends at once.
    Terminate,
    /// Read the configuration again.
    Reload,
    /// Start a successor, which takes over.
    Restart,
}

/// The signals of this process, from the moment they are listened to.
#[derive(Debug)]
pub struct Signals {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
    second_user: Stream,
}

impl Signals {
    /// From now on these signals do not end the process by themselves.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            second_user: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one. Cancel-safe: a signal that came is kept until it is asked for.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Terminate,
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.second_user.recv() => Signal::Restart,
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal as Number, raise};

    use super::*;

    #[tokio::test]
    async fn each_signal_has_its_meaning() {
        let mut signals = Signals::listen().unwrap();
        for (number, meaning) in [
            (Number::SIGHUP, Signal::Reload),
            (Number::SIGTERM, Signal::Terminate),
            (Number::SIGINT, Signal::Terminate),
            (Number::SIGUSR2, Signal::Restart),
        ] {
            raise(number).unwrap();
            assert_eq!(signals.next().await, meaning);
        }
    }
}
