//! Deadlines that nearly never pass, coarse: a thread's sweep looks at them (every 250 ms) and wakes whose time is over, so one is
//! never early and at most a sweep late. A timer of the runtime's for each request costs a place in its wheel, under a lock, twice;
//! this is a slot in a list. Belongs to the thread it was made on, which must sweep.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

thread_local! {
    static WAITING: RefCell<Waiting> = RefCell::default();
    static SWEPT: Cell<Option<Instant>> = const { Cell::new(None) };
}

#[derive(Default)]
struct Waiting {
    slots: Vec<Option<(Instant, Waker)>>,
    free: Vec<usize>,
}

/// Looks at this thread's deadlines.
pub(super) fn sweep(now: Instant) {
    SWEPT.set(Some(now));
    WAITING.with_borrow(|waiting| {
        for (due, waker) in waiting.slots.iter().flatten() {
            if *due <= now {
                waker.wake_by_ref();
            }
        }
    });
}

/// The time of the last sweep, for what need not be exact; no clock is read.
pub(super) fn about_now() -> Instant {
    SWEPT.get().unwrap_or_else(Instant::now)
}

/// Ready once a sweep has found its time over.
#[derive(Debug)]
pub(super) struct Deadline {
    due: Instant,
    slot: Option<usize>,
}

impl Deadline {
    pub(super) const fn at(due: Instant) -> Self {
        Self { due, slot: None }
    }

    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// Another time, for the next poll.
    pub(super) fn reset(&mut self, due: Instant) {
        self.due = due;
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if SWEPT.get().is_some_and(|swept| self.due <= swept) {
            return Poll::Ready(());
        }
        let due = self.due;
        let slot = WAITING.with_borrow_mut(|waiting| {
            let slot = self.slot.or_else(|| waiting.free.pop()).unwrap_or_else(|| {
                waiting.slots.push(None);
                waiting.slots.len() - 1
            });
            match &mut waiting.slots[slot] {
                Some((when, waker)) => {
                    *when = due;
                    waker.clone_from(cx.waker());
                }
                empty => *empty = Some((due, cx.waker().clone())),
            }
            slot
        });
        self.slot = Some(slot);
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            // a thread that ends drops its list before its tasks
            WAITING
                .try_with(|waiting| {
                    let mut waiting = waiting.borrow_mut();
                    let waker = waiting.slots[slot].take();
                    waiting.free.push(slot);
                    // whatever the waker's end sets off may make a deadline
                    drop(waiting);
                    drop(waker);
                })
                .ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_is_over_with_the_first_sweep_after_it_and_its_slot_is_used_again() {
        let begin = Instant::now();
        let mut cx = Context::from_waker(Waker::noop());
        let mut deadline = Box::pin(Deadline::at(begin + Duration::from_secs(1)));
        assert_eq!(deadline.as_mut().poll(&mut cx), Poll::Pending);
        sweep(begin + Duration::from_millis(999));
        assert_eq!(deadline.as_mut().poll(&mut cx), Poll::Pending);
        assert_eq!(about_now(), begin + Duration::from_millis(999));
        sweep(begin + Duration::from_secs(1));
        assert_eq!(deadline.as_mut().poll(&mut cx), Poll::Ready(()));
        deadline.reset(begin + Duration::from_secs(2));
        assert_eq!(deadline.as_mut().poll(&mut cx), Poll::Pending);
        drop(deadline);
        let mut next = Box::pin(Deadline::at(begin + Duration::from_secs(3)));
        assert_eq!(next.as_mut().poll(&mut cx), Poll::Pending);
        WAITING.with_borrow(|waiting| assert_eq!(waiting.slots.len(), 1));
    }
}
