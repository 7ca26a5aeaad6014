//! The requests of one thread that wait because their service's traffic is held.
//!
//! Who waits costs no CPU: a place in a queue and one timer. The queue is let go in the order in which it was joined, when
//! the thread first routes by a snapshot in which the service is not held any more. A client that goes away takes its place
//! with it. The order among threads is not kept; among the requests of one connection it is HTTP's own.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::entry::Entry;
use super::gate::Gate;
use super::snapshot::Snapshot;
use crate::domain::ServiceName;

/// Requests of one service that may wait at once, over all threads; as many as the default of `limits.connections`. One that
/// waits holds its connection and some 2 KiB.
const MOST: u64 = 10_000;

/// Who waits on this thread.
#[derive(Debug, Default)]
pub(super) struct Holding {
    queues: RefCell<HashMap<ServiceName, Queue>>,
    numbers: Cell<u64>,
    end: Cell<End>,
}

type Queue = BTreeMap<u64, oneshot::Sender<()>>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    GoesOn,
    /// The thread drains: nobody waits any more.
    Near,
}

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// The service is not held any more, or not there any more: look again.
    Released,
    /// Too long, too many, or the proxy ends.
    Tired,
}

/// A place in a queue, given back when this is dropped.
struct Place<'a> {
    holding: &'a Holding,
    entry: EntryOf,
    number: u64,
}

/// The entry by which a place was taken, kept for its name and counters.
type EntryOf = Arc<Entry>;

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.entry.counters.give_place();
        let mut queues = self.holding.queues.borrow_mut();
        if let Some(queue) = queues.get_mut(&self.entry.name) {
            queue.remove(&self.number);
            if queue.is_empty() {
                queues.remove(&self.entry.name);
            }
        }
    }
}

impl Holding {
    /// Waits until the traffic of `entry` is opened, at most until `deadline`.
    pub(super) async fn wait(&self, entry: &EntryOf, deadline: Instant) -> Waited {
        if self.end.get() == End::Near || !entry.counters.take_place(MOST) {
            return Waited::Tired;
        }
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        let (sender, released) = oneshot::channel();
        let place = Place {
            holding: self,
            entry: EntryOf::clone(entry),
            number,
        };
        self.queues
            .borrow_mut()
            .entry(entry.name.clone())
            .or_default()
            .insert(number, sender);
        let waited = tokio::time::timeout_at(deadline, released).await;
        drop(place);
        match waited {
            Ok(Ok(())) if self.end.get() == End::GoesOn => Waited::Released,
            Ok(_) | Err(_) => Waited::Tired,
        }
    }

    /// Lets go of those whose service is not held in `snapshot`.
    pub(super) fn heed(&self, snapshot: &Snapshot) {
        self.release(|name| {
            snapshot
                .entry(name)
                .is_none_or(|entry| !matches!(entry.gate, Gate::Hold))
        });
    }

    /// Sends everybody away.
    pub(super) fn finish(&self) {
        self.end.set(End::Near);
        self.release(|_| true);
    }

    fn release(&self, meant: impl Fn(&ServiceName) -> bool) {
        let mut queues = self.queues.borrow_mut();
        if queues.is_empty() {
            return;
        }
        for (_, queue) in queues.extract_if(|name, _| meant(name)) {
            for (_, sender) in queue {
                // who has just gone away does not want it
                let (Ok(()) | Err(())) = sender.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;
    use crate::domain::{Color, Position, Route, RoutingTable, Traffic};
    use crate::proxy::tests::shape;

    fn snapshot(traffic: Traffic) -> Snapshot {
        let service = shape("shop", "127.0.0.1:8080".parse().unwrap());
        let position = Position::BlueGreen {
            active: Color::Blue,
        };
        let mut table = RoutingTable::default();
        let mut route = Route::new(Arc::new(service), position);
        route.traffic = traffic;
        table.routes.insert("shop".parse().unwrap(), route);
        Snapshot::after(
            &Snapshot::empty(),
            &table,
            crate::domain::Hashing::SplitClients,
            1,
        )
    }

    #[tokio::test]
    async fn who_waits_goes_on_in_order_and_who_goes_away_leaves_nothing() {
        let held = snapshot(Traffic::Hold);
        let entry = Arc::clone(&held.entries[0]);
        let holding = Rc::new(Holding::default());
        let order = Rc::new(RefCell::new(Vec::new()));
        let deadline = Instant::now() + Duration::from_mins(1);
        let work = async {
            let waiting: Vec<_> = (0..50)
                .map(|number| {
                    let (holding, order) = (Rc::clone(&holding), Rc::clone(&order));
                    let entry = Arc::clone(&entry);
                    spawn_local(async move {
                        assert_eq!(holding.wait(&entry, deadline).await, Waited::Released);
                        order.borrow_mut().push(number);
                    })
                })
                .collect();
            // one turn of a LocalSet is 61 tasks
            yield_now().await;
            assert_eq!(entry.counters.door().held, 50);
            waiting[7].abort();
            holding.heed(&held);
            yield_now().await;
            assert_eq!((order.borrow().len(), entry.counters.door().held), (0, 49));
            holding.heed(&snapshot(Traffic::Open));
            for waiting in waiting {
                // one of them was aborted
                drop(waiting.await);
            }
        };
        LocalSet::new().run_until(work).await;
        let expected: Vec<_> = (0..50).filter(|number| *number != 7).collect();
        assert_eq!(*order.borrow(), expected);
        assert_eq!(entry.counters.door().held, 0);
    }

    #[tokio::test]
    async fn nobody_waits_past_the_deadline_or_the_end_of_the_proxy() {
        let held = snapshot(Traffic::Hold);
        let entry = &held.entries[0];
        let holding = Holding::default();
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(holding.wait(entry, soon).await, Waited::Tired);
        holding.finish();
        let late = Instant::now() + Duration::from_mins(1);
        assert_eq!(holding.wait(entry, late).await, Waited::Tired);
    }
}
