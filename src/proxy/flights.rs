//! What is in flight on one color of a service, on one thread: so that it can be ended when its color was left for longer than
//! the service's `drain`, and not before.
//!
//! Asked to end twice: at the deadline each request is woken and sees that it is cut, so that only its own stream breaks;
//! what is still there [`GRACE`] later (a client that does not read wakes nobody) loses its connection. A request that began
//! after the color was left, by a preview header, is not meant.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::client::{Connection, Order};

/// From the deadline to the end of the connection of a request that did not heed it.
const GRACE: Duration = Duration::from_secs(1);

/// The requests in flight on one color of a service, on one thread.
#[derive(Debug, Default)]
pub(super) struct Flights {
    slots: RefCell<Slab<Slot>>,
    /// Counts how often the color was left.
    epoch: Cell<u32>,
    end: Cell<End>,
}

#[derive(Debug)]
struct Slot {
    /// The epoch in which it began.
    epoch: u32,
    waker: Option<Waker>,
    is_cut: bool,
    connection: Rc<Connection>,
}

/// What is to be done with those of earlier epochs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    /// Nothing: the color has traffic, or nothing of it was in flight when it was left.
    #[default]
    Open,
    /// They are cut at this time.
    Due(Instant),
    /// They were cut; at this time their connections are.
    Last(Instant),
}

impl Flights {
    /// One more; its number is for [`Self::end`].
    pub(super) fn begin(&self, connection: &Rc<Connection>) -> usize {
        self.slots.borrow_mut().insert(Slot {
            epoch: self.epoch.get(),
            waker: None,
            is_cut: false,
            connection: Rc::clone(connection),
        })
    }

    pub(super) fn end(&self, number: usize) {
        self.slots.borrow_mut().try_remove(number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.borrow().is_empty()
    }

    /// The color has no traffic any more: what is in flight has until `deadline`.
    pub(super) fn leave(&self, deadline: Instant) {
        if !self.is_empty() {
            self.epoch.set(self.epoch.get().wrapping_add(1));
            self.end.set(End::Due(deadline));
        }
    }

    /// The color has traffic (again): what is in flight goes on.
    pub(super) fn stay(&self) {
        self.end.set(End::Open);
    }

    /// Ends what is overdue.
    pub(super) fn sweep(&self, now: Instant) {
        match self.end.get() {
            End::Due(deadline) if deadline <= now => {
                for (_, slot) in self.slots.borrow_mut().iter_mut() {
                    if slot.epoch != self.epoch.get() {
                        slot.is_cut = true;
                        if let Some(waker) = slot.waker.take() {
                            waker.wake();
                        }
                    }
                }
                self.end.set(End::Last(now + GRACE));
            }
            End::Last(deadline) if deadline <= now => {
                for (_, slot) in self.slots.borrow().iter() {
                    if slot.is_cut {
                        slot.connection.tell(Order::Cut);
                    }
                }
                self.end.set(End::Open);
            }
            End::Open | End::Due(_) | End::Last(_) => {}
        }
    }

    /// Ready once the request is to end.
    pub(super) fn poll_cut(&self, number: usize, cx: &Context<'_>) -> Poll<()> {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(number) else {
            return Poll::Pending;
        };
        if slot.is_cut {
            return Poll::Ready(());
        }
        if !slot
            .waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            slot.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::headers::Peer;
    use crate::proxy::thread::Ticks;

    impl Flights {
        fn is_cut(&self, number: usize) -> bool {
            self.slots
                .borrow()
                .get(number)
                .is_some_and(|slot| slot.is_cut)
        }
    }

    fn connection() -> Rc<Connection> {
        let address = "127.0.0.1:1".parse().unwrap();
        let peer = Peer::new("127.0.0.1".parse().unwrap(), &[]).unwrap();
        Rc::new(Connection::new(
            address,
            peer,
            address,
            (4, 4),
            Ticks::default(),
        ))
    }

    #[test]
    fn only_what_was_there_when_the_color_was_left_is_cut_and_not_before_the_deadline() {
        let flights = Flights::default();
        let (old, new) = (connection(), connection());
        let before = flights.begin(&old);
        let now = Instant::now();
        let deadline = now + Duration::from_secs(5);
        flights.leave(deadline);
        let after = flights.begin(&new);
        flights.sweep(deadline.checked_sub(Duration::from_millis(1)).unwrap());
        assert!(!flights.is_cut(before));
        flights.sweep(deadline);
        assert_eq!(
            (flights.is_cut(before), flights.is_cut(after)),
            (true, false)
        );
        assert_eq!(old.order(), Order::GoOn);
        flights.sweep(deadline + GRACE);
        assert_eq!((old.order(), new.order()), (Order::Cut, Order::GoOn));
    }

    #[test]
    fn a_color_that_gets_traffic_again_in_time_cuts_nothing() {
        let flights = Flights::default();
        let number = flights.begin(&connection());
        let now = Instant::now();
        flights.leave(now + Duration::from_secs(5));
        flights.stay();
        flights.sweep(now + Duration::from_secs(60));
        assert!(!flights.is_cut(number));
        flights.end(number);
        assert!(flights.is_empty());
    }

    #[test]
    fn a_color_without_requests_has_nothing_to_end_later() {
        let flights = Flights::default();
        let now = Instant::now();
        flights.leave(now);
        let number = flights.begin(&connection());
        flights.sweep(now + Duration::from_secs(60));
        assert!(!flights.is_cut(number));
    }
}
