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

use http::Version;

use super::backlog::{Backlog, More, Written};
use super::early::Early;
use super::headers::Peer;
use super::host::LastHost;
use super::strict::{Fault, Scanner};
use super::tenure::{Stints, Tenure};
use super::thread::Ticks;
use super::upgrade::Tunnel;
use super::windows::Windows;

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

/// Whether the connection is held by HTTP's machinery and its buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    Awake,
    Resting,
}

/// How long a kept-alive connection is idle before it rests, in ticks: longer than most clients think between two requests,
/// since waking costs some allocations.
const REST_AFTER: u32 = 4;

/// What a stream of HTTP/2 is left with after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    GoesOn,
    /// Its client has to open its window first.
    Waits,
    /// For longer than a client may be idle.
    WaitsTooLong,
}

/// How the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    Close,
    /// After a refusal, which a client may get that is still sending. Read on for a moment: closing with unread bytes resets, and
    /// it would lose the answer.
    Linger,
    /// Reset: the end of the connection would be the end of the answer for this client, and the answer is not whole.
    Reset,
}

/// The state of one client connection, shared by its task, its requests and the sweep, all on one thread.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) address: SocketAddr,
    pub(super) peer: Peer,
    pub(super) listener: SocketAddr,
    pub(super) protocol: Cell<Protocol>,
    pub(super) farewell: Cell<Farewell>,
    /// In which HTTP/1 it asked last.
    pub(super) version: Cell<Version>,
    pub(super) stints: Stints,
    pub(super) host: LastHost,
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
    pub(super) backlog: Backlog,
    /// With HTTP/2.
    pub(super) windows: Windows,
    /// What is to be said before the answer.
    pub(super) early: Early,
    rest: Cell<Rest>,
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
            version: Cell::new(Version::HTTP_11),
            stints: Stints::default(),
            host: LastHost::default(),
            head_ticks,
            idle_ticks,
            phase: Cell::new(Phase::New),
            since: Cell::new(ticks.now()),
            backlog: Backlog::new(ticks.now()),
            windows: Windows::default(),
            early: Early::default(),
            ticks,
            order: Cell::new(Order::GoOn),
            task: RefCell::new(None),
            scanner: RefCell::new(Scanner::new()),
            requests: Cell::new(0),
            tunnel: RefCell::new(None),
            rest: Cell::new(Rest::Awake),
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
        self.wake();
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
    /// color that was left and has had its time. In a tunnel that is all: how long its ends are silent, or do not read, is theirs
    /// to say.
    pub(super) fn overdue(&self) -> Option<Order> {
        let now = self.ticks.now();
        let waited = now.wrapping_sub(self.since.get());
        match self.phase.get() {
            Phase::New => (waited > self.head_ticks).then_some(Order::Cut),
            Phase::Head => (waited > self.head_ticks).then_some(Order::Late),
            Phase::Idle => (waited > self.idle_ticks).then_some(Order::Cut),
            Phase::Busy if self.is_stuck() => Some(Order::Cut),
            Phase::Busy | Phase::Tunnel => match self.protocol.get() {
                Protocol::Http1 => self.stints.any_over(now).then_some(Order::Cut),
                Protocol::Http2 => {
                    self.stints.cut_what_is_over(now);
                    if self.backlog.is_taken() {
                        self.windows.sweep(now, self.idle_ticks);
                    } else {
                        self.windows.held_up(now);
                    }
                    None
                }
            },
        }
    }

    /// True for a client that has taken nothing of an answer for as long as it may be idle.
    pub(super) fn is_stuck(&self) -> bool {
        let now = self.ticks.now();
        self.phase.get() == Phase::Busy && self.backlog.is_stuck(now, self.idle_ticks)
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
            // part of the next head may have come along with this request
            let begun = self.scanner.borrow().has_begun_a_head();
            self.phase
                .set(if begun { Phase::Head } else { Phase::Idle });
            self.since.set(self.ticks.now());
        }
    }

    /// A request has been given to a color; the number is for [`Stints::end`].
    pub(super) fn work_begins(&self, tenure: Rc<Tenure>) -> u32 {
        let stint = self.stints.begin(tenure, self.ticks.now());
        self.windows.works(stint);
        stint
    }

    /// How it is with a stream of HTTP/2 whose turn is over.
    pub(super) fn after_turn(&self, stream: u32, cx: &Context<'_>) -> Standing {
        let now = self.ticks.now();
        match self.windows.end_turn(stream, now, cx) {
            None => Standing::GoesOn,
            Some(since) if now.wrapping_sub(since) > self.idle_ticks => Standing::WaitsTooLong,
            Some(_) => Standing::Waits,
        }
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

    /// The HTTP on this connection is over, and whatever agreed to be a tunnel is none: its 101 did not reach the client. It
    /// holds this connection, so that nothing else would end it.
    pub(super) fn forget_tunnel(&self) {
        drop(self.tunnel.take());
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
        let (protocol, now) = (self.protocol.get(), self.ticks.now());
        if self.backlog.wrote(written, protocol, now) == More::Due {
            // hyper may have flushed last of all, and would wait for the body
            self.wake();
        }
    }

    /// True while enough waits for the client; whoever asks is woken when that is over.
    pub(super) fn has_enough(&self, cx: &Context<'_>) -> bool {
        self.windows.asked();
        self.backlog.has_enough(self.protocol.get(), cx)
    }

    /// True if nothing is under way in either direction, and that for a while: what holds the connection meanwhile may be let
    /// go of.
    pub(super) fn may_rest(&self) -> bool {
        self.phase.get() == Phase::Idle
            && self.protocol.get() == Protocol::Http1
            && self.rest.get() == Rest::Awake
            && self.ticks.now().wrapping_sub(self.since.get()) >= REST_AFTER
            && self.backlog.is_taken()
            && self.requests.get() == 0
            && self.tunnel.borrow().is_none()
            && self.scanner.borrow().is_between_messages()
    }

    /// It wakes because it was heard, so that it may rest again only once it has been idle for as long again.
    pub(super) fn rest(&self, rest: Rest) {
        self.rest.set(rest);
        if rest == Rest::Awake {
            self.since.set(self.ticks.now());
        }
    }

    /// Its answer breaks off.
    pub(super) fn breaks_off(&self) {
        if self.version.get() == Version::HTTP_10 {
            self.farewell.set(Farewell::Reset);
        }
    }

    /// True if more of a request may come, or has come and was not looked at: its answer did not wait for it.
    pub(super) fn is_amid_a_message(&self) -> bool {
        !self.scanner.borrow().is_between_messages()
    }

    /// Lets the connection's task look at what became of it.
    pub(super) fn wake(&self) {
        if let Some(task) = self.task.borrow().as_ref() {
            task.wake_by_ref();
        }
    }

    /// True if what is said now does not stand in the middle of an answer.
    pub(super) fn is_between_answers(&self) -> bool {
        self.backlog.is_taken()
    }

    pub(super) fn went(&self) {
        let now = self.ticks.now();
        self.backlog.went(now);
        // a client that reads slowly is not idle, and the head of its next request can wait; one that is told something while the
        // end of an answer waits for its window reads nothing
        if matches!(self.phase.get(), Phase::Idle | Phase::Head) && !self.keeps_parts() {
            self.since.set(now);
        }
    }

    /// True while a part of a stream's answer has not gone out.
    fn keeps_parts(&self) -> bool {
        self.protocol.get() == Protocol::Http2 && !self.backlog.is_empty()
    }

    /// So much of a part of a stream's answer went out.
    pub(super) fn part_went(&self, stream: u32, bytes: usize) {
        let now = self.ticks.now();
        self.backlog.gone(bytes);
        self.windows.went(stream, now);
        if self.phase.get() == Phase::Idle {
            self.since.set(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> (Connection, Ticks) {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let peer = Peer::new(address.ip(), &[]).unwrap();
        let ticks = Ticks::default();
        let connection = Connection::new(address, peer, address, (40, 240), ticks.clone());
        (connection, ticks)
    }

    fn wait(ticks: &Ticks) {
        for _ in 0..REST_AFTER {
            ticks.advance();
        }
    }

    #[test]
    fn a_connection_rests_once_it_has_been_idle_for_a_while() {
        let (connection, ticks) = connection();
        wait(&ticks);
        assert!(!connection.may_rest(), "nothing has come yet");
        connection.came(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(connection.asked(), Ok(()));
        wait(&ticks);
        assert!(!connection.may_rest(), "it is at work");
        connection.wrote(Written::Part);
        connection.answered();
        wait(&ticks);
        assert!(!connection.may_rest(), "the client has not taken all");
        connection.wrote(Written::All);
        assert!(connection.may_rest());
        connection.rest(Rest::Resting);
        assert!(!connection.may_rest());
        wait(&ticks);
        connection.rest(Rest::Awake);
        assert!(
            !connection.may_rest(),
            "what woke it has not been looked at"
        );
        wait(&ticks);
        assert!(connection.may_rest());
    }

    #[test]
    fn a_connection_never_rests_in_the_middle_of_a_message() {
        let (connection, ticks) = connection();
        connection.came(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 29\r\n\r\nhalf");
        assert_eq!(connection.asked(), Ok(()));
        // an answer that did not wait for the body, whose rest may look like a request
        connection.answered();
        wait(&ticks);
        assert!(!connection.may_rest());
        connection.came(b"GET / HTTP/1.1\r\nHost: x\r\n");
        wait(&ticks);
        assert!(connection.may_rest());
        // a head that was read along and not served yet, and half of one
        connection.came(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET");
        wait(&ticks);
        assert!(!connection.may_rest());
    }

    #[test]
    fn a_client_that_does_not_take_its_answer_is_cut_whatever_it_speaks() {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let (connection, ticks) = connection();
            connection.protocol.set(protocol);
            connection.came(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            assert_eq!(connection.asked(), Ok(()));
            connection.wrote(Written::Part);
            (0..240).for_each(|_| ticks.advance());
            assert_eq!(connection.overdue(), None);
            ticks.advance();
            assert_eq!(connection.overdue(), Some(Order::Cut));
            connection.went();
            assert_eq!(connection.overdue(), None);
        }
    }

    #[test]
    fn half_a_head_that_came_along_has_the_time_of_a_head_from_the_answer_on() {
        let (connection, ticks) = connection();
        connection.came(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT");
        assert_eq!(connection.asked(), Ok(()));
        (0..100).for_each(|_| ticks.advance());
        connection.answered();
        (0..40).for_each(|_| ticks.advance());
        assert_eq!(connection.overdue(), None);
        ticks.advance();
        assert_eq!(connection.overdue(), Some(Order::Late));
        // which a client that still reads its answer does not suffer from
        connection.went();
        assert_eq!(connection.overdue(), None);
    }
}
