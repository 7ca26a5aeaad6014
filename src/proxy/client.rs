//! One client connection: in which phase it is, since when, what it works on, and how it ends.
//!
//! ```text
//!  New ──first byte──► Head ──head complete──► Busy ──answer handed over──► Idle
//!                        ▲                       │                           │
//!                        └───────────────────────┼──────────first byte───────┘
//!                                                └──101──► Tunnel
//! ```
//!
//! hyper's own head timer also runs while a kept-alive connection is idle, which would make the two deadlines one; so phases
//! are kept here, and the thread's sweep cuts what is overdue. Time is the sweep's tick, so that a request reads no clock.
//! With HTTP/2 there is no `Head`, and a connection is busy while any of its streams is.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};

use super::headers::Peer;
use super::strict::{Fault, Scanner};
use super::tenure::{Stints, Tenure};
use super::thread::Ticks;
use super::upgrade::Tunnel;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    New,
    Head,
    Busy,
    Idle,
    /// Not HTTP any more.
    Tunnel,
}

/// What the connection was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    GoOn,
    /// Answer what is in flight, or else the next request, and close.
    AnswerOnce,
    /// Finish the request that is in flight, and close.
    Finish,
    /// Say that the head came too late, and close.
    Late,
    /// Close.
    Cut,
}

/// What the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// How much of what was to be written the client has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Part,
    All,
}

/// What follows a refusal that closes while the client may still be sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    Close,
    /// Read on for a moment: closing with unread bytes resets, and the client would lose the answer.
    Linger,
}

/// The state of one client connection, shared by its task, its requests and the sweep, all on one thread.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) address: SocketAddr,
    pub(super) peer: Peer,
    pub(super) listener: SocketAddr,
    pub(super) protocol: Cell<Protocol>,
    pub(super) farewell: Cell<Farewell>,
    pub(super) stints: Stints,
    head_ticks: u32,
    idle_ticks: u32,
    ticks: Ticks,
    phase: Cell<Phase>,
    since: Cell<u32>,
    order: Cell<Order>,
    task: RefCell<Option<Waker>>,
    scanner: RefCell<Scanner>,
    /// Requests that were begun and whose answers were not yet handed over; more than one with HTTP/2 alone.
    requests: Cell<u32>,
    tunnel: RefCell<Option<Tunnel>>,
    written: Cell<Written>,
}

impl Connection {
    pub(super) fn new(
        address: SocketAddr,
        peer: Peer,
        listener: SocketAddr,
        (head_ticks, idle_ticks): (u32, u32),
        ticks: Ticks,
    ) -> Self {
        Self {
            address,
            peer,
            listener,
            protocol: Cell::new(Protocol::Http1),
            farewell: Cell::new(Farewell::Close),
            stints: Stints::default(),
            head_ticks,
            idle_ticks,
            phase: Cell::new(Phase::New),
            since: Cell::new(ticks.now()),
            ticks,
            order: Cell::new(Order::GoOn),
            task: RefCell::new(None),
            scanner: RefCell::new(Scanner::new()),
            requests: Cell::new(0),
            tunnel: RefCell::new(None),
            written: Cell::new(Written::All),
        }
    }

    /// The same connection with another word about its client: what it said before HTTP began. Its deadline runs on.
    pub(super) fn of(&self, address: SocketAddr, peer: Peer) -> Self {
        let next = Self::new(
            address,
            peer,
            self.listener,
            (self.head_ticks, self.idle_ticks),
            self.ticks.clone(),
        );
        next.since.set(self.since.get());
        next.order.set(self.order.get());
        next
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn order(&self) -> Order {
        self.order.get()
    }

    /// Tells the connection's task. What it was told before is not softened.
    pub(super) fn tell(&self, order: Order) {
        if !matches!(self.order.get(), Order::Cut | Order::Late) || order == Order::Cut {
            self.order.set(order);
        }
        if let Some(task) = self.task.borrow().as_ref() {
            task.wake_by_ref();
        }
    }

    /// Keeps the task's waker for [`Self::tell`].
    pub(super) fn watch(&self, cx: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        if !task
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *task = Some(cx.waker().clone());
        }
    }

    /// What the sweep finds to tell: the head did not come in time, nothing came for too long, or what is in flight is on a
    /// color that was left and has had its time.
    pub(super) fn overdue(&self) -> Option<Order> {
        let now = self.ticks.now();
        let waited = now.wrapping_sub(self.since.get());
        match self.phase.get() {
            Phase::New => (waited > self.head_ticks).then_some(Order::Cut),
            Phase::Head => (waited > self.head_ticks).then_some(Order::Late),
            Phase::Idle => (waited > self.idle_ticks).then_some(Order::Cut),
            Phase::Busy | Phase::Tunnel => match self.protocol.get() {
                Protocol::Http1 => self.stints.any_over(now).then_some(Order::Cut),
                Protocol::Http2 => {
                    self.stints.cut_what_is_over(now);
                    None
                }
            },
        }
    }

    /// A head is complete. What the bytes said that hyper does not show.
    pub(super) fn asked(&self) -> Result<(), Fault> {
        self.phase.set(Phase::Busy);
        self.requests.set(self.requests.get() + 1);
        match self.protocol.get() {
            Protocol::Http1 => self.scanner.borrow_mut().verdict(),
            Protocol::Http2 => Ok(()),
        }
    }

    /// The answer was handed over.
    pub(super) fn answered(&self) {
        let left = self.requests.get().saturating_sub(1);
        self.requests.set(left);
        if left == 0 && self.phase.get() == Phase::Busy {
            self.phase.set(Phase::Idle);
            self.since.set(self.ticks.now());
        }
    }

    /// A request has been given to a color; the number is for [`Stints::end`].
    pub(super) fn work_begins(&self, tenure: Rc<Tenure>) -> u32 {
        self.stints.begin(tenure, self.ticks.now())
    }

    /// The server has agreed to speak something else, from the end of its 101 on.
    pub(super) fn will_tunnel(&self, tunnel: Tunnel) {
        self.tunnel.replace(Some(tunnel));
    }

    /// The tunnel to run, if the HTTP on this connection ended in one.
    pub(super) fn begin_tunnel(&self) -> Option<Tunnel> {
        let tunnel = self.tunnel.take()?;
        self.phase.set(Phase::Tunnel);
        Some(tunnel)
    }

    /// Bytes came from the client, in HTTP/1.
    pub(super) fn came(&self, bytes: &[u8]) {
        if self.phase.get() == Phase::Tunnel {
            return;
        }
        let mut scanner = self.scanner.borrow_mut();
        scanner.feed(bytes);
        match self.phase.get() {
            Phase::New | Phase::Idle if scanner.is_in_head() => {
                self.phase.set(Phase::Head);
                self.since.set(self.ticks.now());
            }
            // what is left of a body whose answer came early
            Phase::Idle => self.since.set(self.ticks.now()),
            Phase::New | Phase::Head | Phase::Busy | Phase::Tunnel => {}
        }
    }

    /// Whether all that was to be written has been taken.
    pub(super) fn wrote(&self, written: Written) {
        self.written.set(written);
    }

    /// True if what is said now does not stand in the middle of an answer.
    pub(super) fn is_between_answers(&self) -> bool {
        self.written.get() == Written::All
    }

    pub(super) fn went(&self) {
        // a client that reads slowly is not idle
        if self.phase.get() == Phase::Idle {
            self.since.set(self.ticks.now());
        }
    }
}
