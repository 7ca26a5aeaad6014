//! The streams of one HTTP/2 connection whose answers wait for their client's window, and since when.
//!
//! hyper asks for a part of an answer before there is room for it, keeps it, and asks for nothing more until the window opens:
//! whatever the answer would say meanwhile, that its drain is over for instance, nobody hears. So whoever drives a stream tells
//! this of its turns, and gives up by itself one that waits for too long (`h2`).
//!
//! A stream counts as waiting only while the socket takes what there is: streams that share a slow one wait for each other.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

/// What one connection's streams wait for.
#[derive(Debug, Default)]
pub(super) struct Windows {
    numbers: Cell<u32>,
    /// Whose turn it is.
    current: Cell<u32>,
    turn: Cell<Turn>,
    /// What was given to a color in this turn.
    stint: Cell<Option<u32>>,
    waiting: RefCell<Vec<Waiting>>,
}

/// What became of a stream's answer in one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Turn {
    #[default]
    Untouched,
    /// The last that happened to it is that a part of it was given away.
    Given,
    /// The last that happened to it is that more of it was asked for.
    Asked,
}

#[derive(Debug)]
struct Waiting {
    stream: u32,
    /// When something of its answer last went out, or was given away, in ticks.
    since: u32,
    task: Waker,
}

impl Windows {
    /// The number of a new stream.
    pub(super) fn open(&self) -> u32 {
        let number = self.numbers.get();
        self.numbers.set(number.wrapping_add(1));
        number
    }

    pub(super) fn close(&self, stream: u32) {
        let ended = self.take(stream);
        drop(ended);
    }

    fn take(&self, stream: u32) -> Option<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let place = waiting.iter().position(|known| known.stream == stream)?;
        Some(waiting.swap_remove(place))
    }

    pub(super) fn begin_turn(&self, stream: u32) {
        self.current.set(stream);
        self.turn.set(Turn::Untouched);
        self.stint.set(None);
    }

    /// Whose turn it is.
    pub(super) fn current(&self) -> u32 {
        self.current.get()
    }

    /// More of an answer is asked for.
    pub(super) fn asked(&self) {
        self.turn.set(Turn::Asked);
    }

    /// A part of an answer is given away.
    pub(super) fn given(&self) {
        self.turn.set(Turn::Given);
    }

    /// The stream whose turn it is was given to a color.
    pub(super) fn works(&self, stint: u32) {
        self.stint.set(Some(stint));
    }

    /// What it was given to in this turn, as [`Self::works`] was told.
    pub(super) fn stint(&self) -> Option<u32> {
        self.stint.get()
    }

    /// Since when the stream waits for its window; `None` if it does not. Its task is woken once that is too long.
    pub(super) fn end_turn(&self, stream: u32, now: u32, cx: &Context<'_>) -> Option<u32> {
        let turn = self.turn.get();
        if turn == Turn::Asked {
            self.close(stream);
            return None;
        }
        let mut waiting = self.waiting.borrow_mut();
        if let Some(known) = waiting.iter_mut().find(|known| known.stream == stream) {
            if turn == Turn::Given {
                known.since = now;
            }
            known.task.clone_from(cx.waker());
            return Some(known.since);
        }
        if turn == Turn::Untouched {
            return None;
        }
        waiting.push(Waiting {
            stream,
            since: now,
            task: cx.waker().clone(),
        });
        Some(now)
    }

    /// Something of the stream's answer went out.
    pub(super) fn went(&self, stream: u32, now: u32) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(known) = waiting.iter_mut().find(|known| known.stream == stream) {
            known.since = now;
        }
    }

    /// It is the socket that nothing can go out by, if anything waits.
    pub(super) fn held_up(&self, now: u32) {
        for known in self.waiting.borrow_mut().iter_mut() {
            known.since = now;
        }
    }

    /// Wakes what has waited for more than `ticks`.
    pub(super) fn sweep(&self, now: u32, ticks: u32) {
        for known in self.waiting.borrow().iter() {
            if now.wrapping_sub(known.since) > ticks {
                known.task.wake_by_ref();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::Bell;
    use super::*;

    #[test]
    fn a_stream_waits_from_when_it_was_given_a_part_until_it_asks_for_another() {
        let windows = Windows::default();
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let cx = Context::from_waker(&waker);
        let (first, second) = (windows.open(), windows.open());
        windows.begin_turn(first);
        assert_eq!(windows.end_turn(first, 5, &cx), None, "no answer yet");
        windows.begin_turn(first);
        windows.asked();
        windows.given();
        assert_eq!(windows.end_turn(first, 10, &cx), Some(10));
        windows.begin_turn(second);
        windows.given();
        windows.asked();
        assert_eq!(windows.end_turn(second, 11, &cx), None, "for its server");
        windows.begin_turn(first);
        assert_eq!(windows.end_turn(first, 12, &cx), Some(10));
        windows.sweep(14, 4);
        assert_eq!(bell.rung(), 0);
        windows.sweep(15, 4);
        assert_eq!(bell.rung(), 1);
        windows.went(second, 15);
        windows.went(first, 15);
        windows.sweep(19, 4);
        assert_eq!(bell.rung(), 1);
        windows.held_up(19);
        windows.sweep(23, 4);
        assert_eq!(bell.rung(), 1);
        windows.sweep(24, 4);
        assert_eq!(bell.rung(), 2);
        windows.begin_turn(first);
        windows.asked();
        assert_eq!(windows.end_turn(first, 25, &cx), None);
        windows.sweep(1_000, 4);
        assert_eq!(bell.rung(), 2);
        windows.begin_turn(second);
        windows.given();
        assert_eq!(windows.end_turn(second, 26, &cx), Some(26));
        windows.close(second);
        assert!(windows.waiting.borrow().is_empty());
    }
}
