//! What waits for one client: how much of its answers it was given and has not taken, and since when it takes nothing. Bounded, because hyper
//! and h2 would take as much of an answer as there is. Wakes streams; whoever has the connection wakes its task.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use super::client::Protocol;
use super::room::Held;

/// How much of what was to be written the client has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Part,
    All,
}

/// Whether more of an answer was asked for while enough of it waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    NotAsked,
    Due,
}

/// Bytes of answers that may wait for the client beside the part that is added last (`room`). hyper would take as much as it may
/// read, and keeps what it ever needed.
const HANDED: usize = 8 * 1024;

/// The same for all streams of an HTTP/2 connection while the client takes nothing.
const STREAMED: usize = 64 * 1024;

/// Streams that may be remembered for having asked for more: twice as many as there are at once. The others are gone, and what is left
/// of one, its task's memory, is not let go of before its waker is.
const ASKING: usize = 200;

/// What waits for one client.
#[derive(Debug)]
pub(super) struct Backlog {
    written: Cell<Written>,
    /// When the client last took something of what was to be written, or when there last was nothing before it, in ticks.
    took: Cell<u32>,
    /// Bytes of answers that were handed over: since the client last had taken all, or with HTTP/2, where a part may wait for its
    /// stream's window alone, those that have not gone out.
    handed: Cell<usize>,
    /// As much of it as counts because the client did not take it at once.
    held: Held,
    more: Cell<More>,
    /// The streams that asked for it, with HTTP/2.
    streams: RefCell<Vec<Waker>>,
}

impl Backlog {
    pub(super) fn new(now: u32) -> Self {
        Self {
            written: Cell::new(Written::All),
            took: Cell::new(now),
            handed: Cell::new(0),
            held: Held::default(),
            more: Cell::new(More::NotAsked),
            streams: RefCell::default(),
        }
    }

    /// Whether all that was to be written has been taken. `Due`: more of it had been asked for, and may come now.
    pub(super) fn wrote(&self, written: Written, protocol: Protocol, now: u32) -> More {
        let before = self.written.replace(written);
        match written {
            Written::Part => {
                if before == Written::All {
                    self.took.set(now);
                }
                More::NotAsked
            }
            Written::All => {
                if protocol == Protocol::Http1 {
                    self.handed.set(0);
                    self.held.set(0);
                }
                let more = self.more.replace(More::NotAsked);
                if more == More::Due {
                    self.streams.take().into_iter().for_each(Waker::wake);
                }
                more
            }
        }
    }

    /// The client took something.
    pub(super) fn went(&self, now: u32) {
        self.took.set(now);
    }

    /// The client does not take at once what is written to it.
    pub(super) fn stalls(&self) {
        self.held.set(self.handed.get());
    }

    /// A part of an answer is about to be written.
    pub(super) fn hand(&self, bytes: usize) {
        self.handed.set(self.handed.get() + bytes);
    }

    /// The same, to a stream of HTTP/2; [`Self::gone`] is told when it is gone.
    pub(super) fn hand_to_stream(&self, bytes: usize) {
        self.hand(bytes);
        self.count_held();
    }

    /// So much of what was handed to a stream was taken, or is nobody's any more.
    pub(super) fn gone(&self, bytes: usize) {
        self.handed.set(self.handed.get().saturating_sub(bytes));
        self.count_held();
    }

    /// True if nothing that was handed over is left.
    pub(super) fn is_empty(&self) -> bool {
        self.handed.get() == 0
    }

    /// What is more than a client that reads has on its way; most connections never have.
    fn count_held(&self) {
        let handed = self.handed.get();
        self.held.set(if handed > STREAMED { handed } else { 0 });
    }

    /// True while enough waits for the client; whoever asks is woken when that is over. A stream of HTTP/2 does not wait for
    /// another one's window: only for a client that takes nothing at all.
    pub(super) fn has_enough(&self, protocol: Protocol, cx: &Context<'_>) -> bool {
        let enough = match protocol {
            Protocol::Http1 => self.handed.get() >= HANDED,
            Protocol::Http2 => self.handed.get() >= STREAMED && !self.is_taken(),
        };
        if enough {
            self.more.set(More::Due);
            if protocol == Protocol::Http2 {
                self.remember(cx.waker());
            }
        }
        enough
    }

    fn remember(&self, stream: &Waker) {
        let mut streams = self.streams.borrow_mut();
        if streams.iter().any(|known| known.will_wake(stream)) {
            return;
        }
        let all = if streams.len() < ASKING {
            Vec::new()
        } else {
            std::mem::take(&mut *streams)
        };
        streams.push(stream.clone());
        drop(streams);
        // who is still there asks again
        all.into_iter().for_each(Waker::wake);
    }

    /// True if nothing is left to be written.
    pub(super) fn is_taken(&self) -> bool {
        self.written.get() == Written::All
    }

    /// True if something is, and the client has taken nothing of it for more than `ticks`.
    pub(super) fn is_stuck(&self, now: u32, ticks: u32) -> bool {
        !self.is_taken() && now.wrapping_sub(self.took.get()) > ticks
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::Bell;
    use super::*;

    #[test]
    fn what_waits_for_a_client_that_does_not_read_is_bounded() {
        let backlog = Backlog::new(0);
        let cx = Context::from_waker(Waker::noop());
        let has_enough = || backlog.has_enough(Protocol::Http1, &cx);
        let wrote = |written| backlog.wrote(written, Protocol::Http1, 0);
        backlog.hand(HANDED - 1);
        assert!(!has_enough());
        backlog.hand(32 * 1024);
        assert!(has_enough());
        assert_eq!(wrote(Written::Part), More::NotAsked);
        assert!(has_enough());
        assert_eq!(wrote(Written::All), More::Due);
        assert!(!has_enough());
        assert_eq!(wrote(Written::All), More::NotAsked);
    }

    #[test]
    fn streams_wait_for_a_client_that_takes_nothing_and_not_for_each_others_windows() {
        let backlog = Backlog::new(0);
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let cx = Context::from_waker(&waker);
        let has_enough = || backlog.has_enough(Protocol::Http2, &cx);
        let wrote = |written| backlog.wrote(written, Protocol::Http2, 0);
        backlog.hand_to_stream(STREAMED + 1);
        wrote(Written::Part);
        wrote(Written::All);
        // it waits for its stream's window: another one goes on
        assert!(!has_enough());
        wrote(Written::Part);
        assert!(has_enough() && has_enough());
        assert_eq!(backlog.streams.borrow().len(), 1);
        assert_eq!(bell.rung(), 0);
        assert_eq!(wrote(Written::All), More::Due);
        assert_eq!(bell.rung(), 1);
        assert!(backlog.streams.borrow().is_empty() && !has_enough());
        wrote(Written::Part);
        backlog.gone(2);
        assert!(!has_enough());
    }

    #[test]
    fn streams_that_ask_and_go_away_are_not_remembered_for_ever() {
        let backlog = Backlog::new(0);
        let lives = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&lives));
        let has_enough =
            |waker: &Waker| backlog.has_enough(Protocol::Http2, &Context::from_waker(waker));
        backlog.hand_to_stream(STREAMED);
        backlog.wrote(Written::Part, Protocol::Http2, 0);
        assert!(has_enough(&waker));
        let gone: Vec<_> = (0..1_000).map(|_| Arc::new(Bell::default())).collect();
        for bell in &gone {
            let rung = lives.rung();
            assert!(has_enough(&Waker::from(Arc::clone(bell))));
            if lives.rung() > rung {
                assert!(has_enough(&waker));
            }
        }
        let kept = gone.iter().filter(|bell| Arc::strong_count(bell) > 1);
        assert!(kept.count() <= ASKING);
        let rung = lives.rung();
        backlog.wrote(Written::All, Protocol::Http2, 0);
        assert_eq!(lives.rung(), rung + 1, "the one that lives goes on");
    }

    #[test]
    fn a_client_is_stuck_once_it_takes_nothing_for_long_of_what_is_there() {
        let backlog = Backlog::new(0);
        assert!(!backlog.is_stuck(1_000, 240), "there is nothing");
        backlog.wrote(Written::Part, Protocol::Http1, 1_000);
        assert!(!backlog.is_stuck(1_240, 240) && backlog.is_stuck(1_241, 240));
        backlog.went(1_200);
        backlog.wrote(Written::Part, Protocol::Http1, 1_300);
        assert!(!backlog.is_stuck(1_440, 240) && backlog.is_stuck(1_441, 240));
        backlog.wrote(Written::All, Protocol::Http1, 1_441);
        assert!(!backlog.is_stuck(2_000, 240));
    }
}
