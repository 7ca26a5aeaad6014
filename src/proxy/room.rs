//! How much room connections to servers have to read answers into: large bodies are cheap in large parts, and what is read for a client
//! that does not take it stays. So large room comes out of one budget for all threads, and who finds none reads in small parts.
//!
//! hyper doubles a connection's buffer when a read fills what it wanted, which is 8 KiB at first, and keeps it for as long as the
//! connection lives. So a read that might fill it is let through once room for the double was taken, and is cut short where none is left.
//!
//! An answer that one read takes in gives its connection back at once, while the client may have taken nothing of it. So what
//! clients have not taken is counted as well, and as long as that is too much, nobody reads in large parts.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the largest read of an answer: 64 KiB and a head. An answer of 64 KiB is one read and one write by it.
pub(super) const MOST: usize = 72 * 1024;
/// Bytes of a read of an answer that more than one read takes in, from the second on. Of an answer of 1 MiB, reads of 40 to 56 KiB
/// took the least CPU: as much as nginx's, where reads of 64 and 72 KiB took 1.3 of it, of 32 KiB 1.2, of 16 KiB 2.7.
pub(super) const LATER: u64 = 48 * 1024;
/// What each connection may have without asking.
const FREE: usize = 16 * 1024;
/// What all connections may have beyond that, idle ones included: enough for 146 with the most.
const BUDGET: usize = 8 * 1024 * 1024;
/// Bytes of a read that makes no buffer grow: less than hyper ever wants.
pub(super) const SMALL_PART: usize = 8 * 1024 - 1;

/// What clients that are slow may keep waiting in large parts: 113 answers of the most.
const MOST_HELD: usize = 8 * 1024 * 1024;

/// What clients keep waiting. Touched only where one does not take at once what is written to it.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// What is taken of [`BUDGET`]. Touched where a connection grows or ends, so that requests share nothing.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// The room of one connection, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Room {
    may_have: Cell<usize>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            may_have: Cell::new(FREE),
        }
    }
}

impl Room {
    /// Whether a read may fill a buffer with `space`; if not, it must be of [`SMALL_PART`].
    pub(super) fn may_fill(&self, space: usize) -> bool {
        space <= SMALL_PART || !is_short() && self.grow((2 * space).min(MOST))
    }

    /// True if it may have as much.
    fn grow(&self, to: usize) -> bool {
        let more = to.saturating_sub(self.may_have.get());
        if more == 0 {
            return true;
        }
        if TAKEN.fetch_add(more, Ordering::Relaxed) + more > BUDGET {
            TAKEN.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.may_have.set(to);
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.may_have.get() - FREE, Ordering::Relaxed);
    }
}

/// True while clients keep too much waiting: what is read then should be small, and hold nothing but itself.
pub(super) fn is_short() -> bool {
    HELD.load(Ordering::Relaxed) > MOST_HELD
}

/// What one client keeps waiting, over when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Cell<usize>,
}

impl Held {
    /// It is as much from now on.
    pub(super) fn set(&self, bytes: usize) {
        let before = self.bytes.replace(bytes);
        if bytes > before {
            HELD.fetch_add(bytes - before, Ordering::Relaxed);
        } else if bytes < before {
            HELD.fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // one test, because the budget is the process's
    #[test]
    fn room_grows_with_what_was_read_until_the_budget_is_gone_and_comes_back_with_the_connection() {
        let small = Room::default();
        assert!(small.may_fill(8 * 1024));
        assert_eq!(small.may_have.get(), FREE);
        let mut large = Vec::new();
        while {
            let room = Room::default();
            let found = room.may_fill(MOST);
            large.push(room);
            found
        } {}
        // connections of other tests may have taken some
        let most = BUDGET / (MOST - FREE);
        assert!((most / 2..=most + 1).contains(&large.len()));
        assert!(!small.may_fill(MOST) && small.may_fill(1_000));
        assert!(large[0].may_fill(MOST));
        large.clear();
        assert!(small.may_fill(64 * 1024));
        assert_eq!(small.may_have.get(), MOST);

        let (first, second) = (Held::default(), Held::default());
        first.set(MOST_HELD);
        first.set(1);
        second.set(MOST_HELD);
        assert!(is_short());
        let other = Room::default();
        assert!(!other.may_fill(8 * 1024) && !small.may_fill(64 * 1024));
        assert!(other.may_fill(SMALL_PART));
        drop(second);
        assert!(!is_short() && small.may_fill(64 * 1024));
    }
}
