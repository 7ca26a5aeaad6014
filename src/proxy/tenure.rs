//! How long what is in flight may stay on a color that was left: until `timeouts.drain` after the switch, and not before.
//!
//! A *tenure* is a color's time in charge of a service, on one thread. It is the same object for as long as the service
//! exists; the switch away from the color writes the deadline into it, a switch back takes it out. A *stint* is one request's
//! time on a color. Only the sweep looks at deadlines, so that a request pays for one entry in a short list.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A color's time in charge.
#[derive(Debug, Default)]
pub(super) struct Tenure {
    left: Cell<Option<Left>>,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    at: u32,
    due: u32,
}

impl Tenure {
    /// The color gets no share any more, as of tick `now`; `drain` in ticks. The first word counts.
    pub(super) fn leave(&self, now: u32, drain: u32) {
        if self.left.get().is_none() {
            // one more, because the present tick has begun already
            let due = now.wrapping_add(drain).wrapping_add(1);
            self.left.set(Some(Left { at: now, due }));
        }
    }

    /// The color has a share again.
    pub(super) fn resume(&self) {
        self.left.set(None);
    }

    /// True for what was begun before the color was left, once that is long enough ago. What was begun after it (a request
    /// that names the color) has nothing to do with the switch.
    fn is_over(&self, begun: u32, now: u32) -> bool {
        let reached = |tick: u32, mark: u32| tick.wrapping_sub(mark) < u32::MAX / 2;
        self.left
            .get()
            .is_some_and(|left| reached(left.at, begun) && reached(now, left.due))
    }
}

/// What one connection has in flight.
#[derive(Debug, Default)]
pub(super) struct Stints {
    list: RefCell<Vec<Stint>>,
    numbers: Cell<u32>,
}

#[derive(Debug)]
struct Stint {
    number: u32,
    begun: u32,
    tenure: Rc<Tenure>,
    cut: bool,
    waiting: Option<Waker>,
}

impl Stints {
    pub(super) fn begin(&self, tenure: Rc<Tenure>, now: u32) -> u32 {
        let number = self.numbers.get();
        self.numbers.set(number.wrapping_add(1));
        self.list.borrow_mut().push(Stint {
            number,
            begun: now,
            tenure,
            cut: false,
            waiting: None,
        });
        number
    }

    pub(super) fn end(&self, number: u32) {
        let mut list = self.list.borrow_mut();
        if let Some(place) = list.iter().position(|stint| stint.number == number) {
            drop(list.swap_remove(place));
        }
    }

    /// True if anything here has had its time.
    pub(super) fn any_over(&self, now: u32) -> bool {
        let list = self.list.borrow();
        list.iter()
            .any(|stint| stint.tenure.is_over(stint.begun, now))
    }

    /// Tells what has had its time, by [`Self::poll_cut`].
    pub(super) fn cut_what_is_over(&self, now: u32) {
        for stint in self.list.borrow_mut().iter_mut() {
            if !stint.cut && stint.tenure.is_over(stint.begun, now) {
                stint.cut = true;
                if let Some(waiting) = stint.waiting.take() {
                    waiting.wake();
                }
            }
        }
    }

    /// The stint ends here.
    pub(super) fn cut(&self, number: u32) {
        let mut list = self.list.borrow_mut();
        if let Some(stint) = list.iter_mut().find(|stint| stint.number == number) {
            stint.cut = true;
        }
    }

    /// True for a stint that was not left to end by itself.
    pub(super) fn is_cut(&self, number: u32) -> bool {
        let list = self.list.borrow();
        list.iter().any(|stint| stint.number == number && stint.cut)
    }

    /// Ready when the stint has had its time.
    pub(super) fn poll_cut(&self, number: u32, cx: &Context<'_>) -> Poll<()> {
        let mut list = self.list.borrow_mut();
        match list.iter_mut().find(|stint| stint.number == number) {
            Some(stint) if stint.cut => Poll::Ready(()),
            Some(stint) => {
                stint.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_before_the_switch_has_until_the_deadline() {
        let tenure = Rc::new(Tenure::default());
        let stints = Stints::default();
        let early = stints.begin(Rc::clone(&tenure), 10);
        assert!(!stints.any_over(1_000));
        tenure.leave(20, 8);
        tenure.leave(25, 8);
        assert!(!stints.any_over(28));
        assert!(stints.any_over(29));
        stints.end(early);
        // one that named the color after it was left
        stints.begin(Rc::clone(&tenure), 21);
        assert!(!stints.any_over(1_000));
    }

    #[test]
    fn a_switch_back_takes_the_deadline_away() {
        let tenure = Rc::new(Tenure::default());
        let stints = Stints::default();
        stints.begin(Rc::clone(&tenure), u32::MAX - 2);
        tenure.leave(u32::MAX - 1, 8);
        assert!(stints.any_over(8));
        tenure.resume();
        assert!(!stints.any_over(8));
    }
}
