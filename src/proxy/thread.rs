//! One thread of the proxy: its runtime, its listeners, its connections and its pools, none of them shared.
//!
//! Cancel-safety: the command loop awaits its channel and the sweep's timer only, both safe to drop; every other await is in
//! a task of its own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::accept;
use super::access::AccessLog;
use super::client::{Connection, Order, Phase};
use super::deadline;
use super::handle::LocalService;
use super::headers::{Peer, Scheme};
use super::hold::Holding;
use super::listen::{Accepting, Queue};
use super::names::Names;
use super::refused::{Reason, Refused};
use super::snapshot::{Door, Snapshot};
use super::view::View;
use crate::domain::Generation;

/// How often overdue connections are looked for, and so how late a deadline of a client's can be.
const TICK: Duration = Duration::from_millis(250);

/// How long a drain waits for the first byte of a connection that has just come.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// What all threads read.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) current: ArcSwap<Snapshot>,
    pub(super) trusted: Vec<IpNet>,
    pub(super) refused: Refused,
    pub(super) access: AccessLog,
    /// What aliases resolve to.
    pub(super) names: Names,
}

impl Core {
    /// Has the snapshot in force say what its aliases resolve to now.
    pub(super) fn readdress(&self) {
        self.current.rcu(
            |snapshot| match snapshot.readdressed(&self.names.addresses()) {
                Some(other) => Arc::new(other),
                None => Arc::clone(snapshot),
            },
        );
    }
}

/// What a thread is told by the handle.
pub(super) enum Command {
    Listen(
        SocketAddr,
        std::net::TcpListener,
        oneshot::Sender<io::Result<()>>,
    ),
    /// Answered when the socket is closed.
    Unlisten(SocketAddr, oneshot::Sender<()>),
    /// Answered with the generation that the thread routes by.
    Report(oneshot::Sender<Generation>),
    Local(Arc<dyn LocalService>),
    /// Answered with the number of connections that were cut at the deadline; the thread ends then.
    Drain(Instant, Ending, oneshot::Sender<u64>),
}

/// What a drain does with connections that wait for their next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Closes them: nobody listens any more, and a client that comes back is told so sooner.
    Close,
    /// Answers each once more: another process listens, and no request is to meet a closed connection.
    AnswerOnce,
}

/// The sweep's clock: counts ticks, wraps after 34 years.
#[derive(Debug, Clone, Default)]
pub(super) struct Ticks(Rc<Cell<u32>>);

impl Ticks {
    pub(super) fn now(&self) -> u32 {
        self.0.get()
    }

    pub(super) fn advance(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }

    pub(super) fn of(duration: Duration) -> u32 {
        u32::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
    }
}

/// One thread.
pub(super) struct Thread {
    index: usize,
    core: Arc<Core>,
    cache: RefCell<Cache<ArcOfSwap, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    ended: Notify,
    holding: Holding,
    local: RefCell<Option<Arc<dyn LocalService>>>,
    ticks: Ticks,
    numbers: Cell<u64>,
}

/// Lets the cache reach the swap inside the core.
struct ArcOfSwap(Arc<Core>);

impl std::ops::Deref for ArcOfSwap {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &Self::Target {
        &self.0.current
    }
}

impl Thread {
    pub(super) fn new(index: usize, core: Arc<Core>) -> Self {
        Self {
            index,
            cache: RefCell::new(Cache::new(ArcOfSwap(Arc::clone(&core)))),
            core,
            view: RefCell::new(Rc::new(View::none())),
            connections: RefCell::new(HashMap::new()),
            ended: Notify::new(),
            holding: Holding::default(),
            local: RefCell::new(None),
            ticks: Ticks::default(),
            numbers: Cell::new(0),
        }
    }

    pub(super) fn trusted(&self) -> &[IpNet] {
        &self.core.trusted
    }

    pub(super) fn holding(&self) -> &Holding {
        &self.holding
    }

    pub(super) const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Counts what was refused.
    pub(super) fn refuse(&self, reason: Reason) {
        self.core.refused.count(reason);
    }

    /// Whether a peer's PROXY head is believed: who configures nobody as trusted has asked for it from everybody.
    pub(super) fn may_name_clients(&self, peer: &Peer) -> bool {
        self.core.trusted.is_empty() || peer.is_trusted()
    }

    pub(super) fn local_service(&self, path: &str) -> Option<Arc<dyn LocalService>> {
        let local = self.local.borrow();
        local
            .as_ref()
            .filter(|local| local.wants(path))
            .map(Arc::clone)
    }

    /// What this thread routes by: one atomic load, unless a new snapshot was installed.
    pub(super) fn view(&self) -> Rc<View> {
        let mut cache = self.cache.borrow_mut();
        let snapshot = cache.load();
        let view = self.view.borrow();
        if Arc::ptr_eq(snapshot, &view.snapshot) {
            return Rc::clone(&view);
        }
        let next = Rc::new(view.renew(Arc::clone(snapshot), self.index, self.ticks.now()));
        drop(view);
        self.view.replace(Rc::clone(&next));
        self.holding.heed(&next.snapshot);
        next
    }

    /// Runs until drained, or until the last handle is gone.
    pub(super) async fn run(self: Rc<Self>, mut commands: mpsc::Receiver<Command>) {
        let mut listeners: HashMap<SocketAddr, Accepting> = HashMap::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    None => return,
                    Some(Command::Listen(address, listener, done)) => {
                        let thread = Rc::clone(&self);
                        let begun = Accepting::begin(address, listener, move |stream, peer| {
                            Rc::clone(&thread).begin(address, stream, peer);
                        });
                        let begun = begun.map(|accepting| {
                            listeners.insert(address, accepting);
                        });
                        answer(done, begun);
                    }
                    Some(Command::Unlisten(address, done)) => {
                        if let Some(accepting) = listeners.remove(&address) {
                            accepting.stop(Queue::Leave).await;
                        }
                        answer(done, ());
                    }
                    Some(Command::Report(done)) => {
                        let generation = self.view().snapshot.generation();
                        answer(done, generation);
                    }
                    Some(Command::Local(local)) => {
                        self.local.replace(Some(local));
                    }
                    Some(Command::Drain(deadline, how, done)) => {
                        let queue = match how {
                            Ending::Close => Queue::Serve,
                            Ending::AnswerOnce => Queue::Leave,
                        };
                        for (_, accepting) in listeners.drain() {
                            accepting.stop(queue).await;
                        }
                        let cut = self.ending(self.drain(deadline, how), &mut commands, &mut tick);
                        answer(done, cut.await);
                        return;
                    }
                },
                _ = tick.tick() => self.sweep(),
            }
        }
    }

    fn sweep(&self) {
        self.ticks.advance();
        // looking at it, a thread without requests lets go of an old snapshot, too
        let view = self.view();
        for connection in self.connections.borrow().values() {
            if let Some(order) = connection.overdue() {
                connection.tell(order);
            } else if connection.may_rest() {
                connection.wake();
            }
        }
        let now = Instant::now();
        deadline::sweep(now);
        view.sweep(now);
    }

    /// Goes on with what is to be done at times until `drain` is over, and says by what is routed meanwhile.
    async fn ending(
        &self,
        drain: impl Future<Output = u64>,
        commands: &mut mpsc::Receiver<Command>,
        tick: &mut tokio::time::Interval,
    ) -> u64 {
        let mut drain = pin!(drain);
        loop {
            tokio::select! {
                cut = &mut drain => return cut,
                _ = tick.tick() => self.sweep(),
                // who asks for anything else hears that this thread ends
                Some(command) = commands.recv() => if let Command::Report(done) = command {
                    let generation = self.view().snapshot.generation();
                    answer(done, generation);
                },
            }
        }
    }

    async fn drain(&self, deadline: Instant, how: Ending) -> u64 {
        let tell_all = |order| {
            let connections = self.connections.borrow();
            for connection in connections.values() {
                connection.tell(order);
            }
            connections.len() as u64
        };
        match how {
            Ending::Close => {
                self.finish(deadline.min(Instant::now() + FIRST_WORD)).await;
            }
            // what is held waits on, as long as it may
            Ending::AnswerOnce => {
                tell_all(Order::AnswerOnce);
            }
        }
        let in_time = tokio::time::timeout_at(deadline, self.all_ended()).await;
        if in_time.is_ok() {
            return 0;
        }
        let cut = tell_all(Order::Cut);
        self.all_ended().await;
        cut
    }

    /// Lets every connection end with what it has in flight. One that nothing has come on was opened by somebody who is about to
    /// ask (its request may be in the socket by now): it is answered once, if it asks until `patience`.
    async fn finish(&self, patience: Instant) {
        for connection in self.connections.borrow().values() {
            connection.tell(match connection.phase() {
                Phase::New => Order::AnswerOnce,
                Phase::Head | Phase::Busy | Phase::Idle | Phase::Tunnel => Order::Finish,
            });
        }
        self.holding.finish();
        // what is left then has the rest of the drain, unless it is still silent
        drop(tokio::time::timeout_at(patience, self.all_ended()).await);
        for connection in self.connections.borrow().values() {
            connection.tell(Order::Finish);
        }
    }

    async fn all_ended(&self) {
        while !self.connections.borrow().is_empty() {
            self.ended.notified().await;
        }
    }

    fn begin(self: Rc<Self>, listener: SocketAddr, stream: TcpStream, address: SocketAddr) {
        let Some(door) = self.door(listener) else {
            return;
        };
        let Some(peer) = Peer::new(address.ip(), self.trusted()) else {
            return;
        };
        let peer = peer.over(if door.tls.is_some() {
            Scheme::Https
        } else {
            Scheme::Http
        });
        let connection = Rc::new(Connection::new(
            address,
            peer,
            listener,
            (Ticks::of(door.bounds.head), Ticks::of(door.bounds.idle)),
            self.ticks.clone(),
        ));
        let registered = Registered::new(self, &connection);
        tokio::task::spawn_local(accept::serve(registered, connection, stream, door));
    }

    fn door(&self, listener: SocketAddr) -> Option<Door> {
        let view = self.view();
        let listener = view.snapshot.listeners.get(&listener)?;
        Some(listener.door.clone())
    }
}

/// A connection in its thread's list, until this is dropped: at the end of its task, also when that panics.
pub(super) struct Registered {
    pub(super) thread: Rc<Thread>,
    number: u64,
}

impl Registered {
    fn new(thread: Rc<Thread>, connection: &Rc<Connection>) -> Self {
        let number = thread.numbers.get();
        thread.numbers.set(number + 1);
        thread
            .connections
            .borrow_mut()
            .insert(number, Rc::clone(connection));
        Self { thread, number }
    }

    /// Puts `connection` in the place of what was known of it before.
    pub(super) fn replace(&self, connection: Connection) -> Rc<Connection> {
        let connection = Rc::new(connection);
        self.thread
            .connections
            .borrow_mut()
            .insert(self.number, Rc::clone(&connection));
        connection
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let ended = self.thread.connections.borrow_mut().remove(&self.number);
        if let Some(connection) = ended {
            connection.forget_tunnel();
        }
        self.thread.ended.notify_one();
    }
}

/// Answers the handle. Nobody listens any more if the caller has gone away, which takes nothing back.
fn answer<T>(done: oneshot::Sender<T>, value: T) {
    drop(done.send(value));
}
