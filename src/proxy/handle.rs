//! [`Proxy`]: the way to the running data plane. Starts the threads, installs snapshots, reads counters, drains. It holds
//! listeners and nothing that a request needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::access::AccessLog;
use super::body::LocalAnswer;
use super::elder::{Elder, Heeded};
use super::listen::{ListenError, bind};
use super::names::Names;
use super::refused::Refused;
use super::snapshot::Snapshot;
use super::thread::{Command, Core, Ending, Thread};
use super::told::{Drained, Unacknowledged};
use crate::domain::{Generation, Hashing, RoutingTable, Server};

/// Commands that may wait for one thread: an install sends a few for each listener and waits for their answers.
const COMMANDS: usize = 16;
/// For the access log's last lines at the end.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Answers some paths on every listener itself, in place of the services: the control API in environment mode.
pub trait LocalService: Send + Sync + 'static {
    /// True if this path is its own.
    fn wants(&self, path: &str) -> bool;

    /// Answers a request from `peer`.
    fn call(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = Response<LocalAnswer>> + Send>>;
}

/// The running proxy. Cheap to clone; when the last one is dropped, its threads end and connections are cut.
#[derive(Clone)]
pub struct Proxy {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) core: Arc<Core>,
    pub(super) threads: Vec<mpsc::Sender<Command>>,
    /// The process before this one, which serves on with what it had.
    pub(super) elder: Elder,
    /// Held for the length of an install, so that two do not mix.
    listening: Mutex<Listening>,
}

/// One handle of each listening socket, of which the threads have clones.
#[derive(Default)]
struct Listening {
    /// Those that are in use.
    open: BTreeMap<SocketAddr, TcpListener>,
    /// Those that were given and that no snapshot has asked for yet.
    given: BTreeMap<SocketAddr, TcpListener>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("threads", &self.inner.threads.len())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts `threads` threads (0: one for each core) that listen nowhere yet. `trusted` peers are believed in what they say
    /// about their clients.
    pub fn start(threads: usize, trusted: Vec<IpNet>) -> io::Result<Self> {
        let count = if threads == 0 {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        } else {
            threads
        };
        let core = Arc::new(Core {
            current: ArcSwap::from_pointee(Snapshot::empty()),
            trusted,
            refused: Refused::default(),
            access: AccessLog::default(),
            names: Names::default(),
        });
        let threads = (0..count)
            .map(|index| {
                let (sender, commands) = mpsc::channel(COMMANDS);
                let (ready, started) = std::sync::mpsc::sync_channel(1);
                let core = Arc::clone(&core);
                std::thread::Builder::new()
                    .name(format!("proxy-{index}"))
                    .spawn(move || {
                        // made where it runs, which it never leaves: a LocalSet on a runtime that may be moved costs a
                        // second queue and a second turn for each wake
                        let runtime = tokio::runtime::Builder::new_current_thread()
                            .enable_all()
                            .build_local(tokio::runtime::LocalOptions::default());
                        let runtime = match runtime {
                            Ok(runtime) => runtime,
                            // whoever starts the threads waits for each of them
                            Err(error) => return drop(ready.send(Err(error))),
                        };
                        drop(ready.send(Ok(())));
                        let thread = Rc::new(Thread::new(index, core));
                        runtime.block_on(thread.run(commands));
                    })?;
                started.recv().map_err(io::Error::other)??;
                Ok(sender)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            inner: Arc::new(Inner {
                core,
                threads,
                elder: Elder::default(),
                listening: Mutex::default(),
            }),
        })
    }

    /// Sockets that listen already, for [`Self::install`] to use where a snapshot asks for their addresses.
    pub async fn give(&self, listeners: BTreeMap<SocketAddr, TcpListener>) {
        self.inner.listening.lock().await.given.extend(listeners);
    }

    /// Closes the given sockets that no snapshot has asked for, and returns their addresses.
    pub async fn close_unused(&self) -> Vec<SocketAddr> {
        let mut listening = self.inner.listening.lock().await;
        std::mem::take(&mut listening.given).into_keys().collect()
    }

    /// Every listening socket once more, for another process. It has one queue, whoever accepts from it.
    pub async fn listeners(&self) -> io::Result<Vec<TcpListener>> {
        let listening = self.inner.listening.lock().await;
        let all = listening.open.values().chain(listening.given.values());
        all.map(TcpListener::try_clone).collect()
    }

    /// Whether it has a socket that listens on `address`.
    pub async fn listens_on(&self, address: &SocketAddr) -> bool {
        let listening = self.inner.listening.lock().await;
        listening.open.contains_key(address) || listening.given.contains_key(address)
    }

    /// `table` as a snapshot for [`Self::install`]. Services that stay keep their counters.
    pub fn snapshot(&self, table: &RoutingTable, hashing: Hashing) -> Arc<Snapshot> {
        let (previous, threads) = (self.current(), self.inner.threads.len());
        Arc::new(Snapshot::after(&previous, table, hashing, threads))
    }

    /// What is routed by now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.inner.core.current.load_full()
    }

    /// The generation that is routed by now.
    pub fn generation(&self) -> Generation {
        self.inner.core.current.load().generation()
    }

    /// Puts a snapshot into force: binds all new listen addresses (or none of them), swaps, and closes the listeners that no
    /// service uses any more. On an error all is as before. Requests whose head is complete before the swap end by the old snapshot.
    pub async fn install(&self, snapshot: Arc<Snapshot>) -> Result<(), ListenError> {
        let mut listening = self.inner.listening.lock().await;
        let wanted: BTreeSet<SocketAddr> = snapshot.listeners.keys().copied().collect();
        let mut bound = Vec::new();
        for address in wanted.iter().copied() {
            if listening.open.contains_key(&address) {
                continue;
            }
            let failed = |source| ListenError { address, source };
            let listener = match listening.given.get(&address) {
                Some(given) => given.try_clone().map_err(failed)?,
                None => bind(address)?,
            };
            let clones = self.inner.threads.iter().map(|_| listener.try_clone());
            let clones = clones.collect::<io::Result<Vec<_>>>().map_err(failed)?;
            bound.push((address, listener, clones));
        }
        let core = &self.inner.core;
        let aliases: BTreeSet<Server> = snapshot.aliases().cloned().collect();
        // before the swap, so that a new alias does not begin with refusals
        if let Err(error) = Names::follow(core, &aliases).await {
            tracing::error!(%error, "names cannot be followed: what is behind an alias is not reached");
        }
        let former = core.current.swap(Arc::clone(&snapshot));
        core.readdress();
        self.inner.elder.tell(&snapshot);
        let new: Vec<_> = bound.iter().map(|(address, ..)| *address).collect();
        let mut opened = Vec::new();
        for (address, listener, clones) in bound {
            if let Err(error) = self.listen(address, clones).await {
                core.names.keep(&former.aliases().cloned().collect());
                self.inner.elder.tell(&former);
                core.current.store(former);
                core.readdress();
                self.unlisten(&new).await;
                return Err(error);
            }
            opened.push((address, listener));
        }
        for (address, listener) in opened {
            listening.given.remove(&address);
            listening.open.insert(address, listener);
        }
        let unused: Vec<_> = listening
            .open
            .keys()
            .filter(|address| !wanted.contains(address))
            .copied()
            .collect();
        core.names.keep(&aliases);
        self.unlisten(&unused).await;
        listening.open.retain(|address, _| wanted.contains(address));
        Ok(())
    }

    /// Lets every thread accept on `address`, each by a clone of its own.
    async fn listen(
        &self,
        address: SocketAddr,
        clones: Vec<TcpListener>,
    ) -> Result<(), ListenError> {
        for (thread, listener) in self.inner.threads.iter().zip(clones) {
            let (done, begun) = oneshot::channel();
            let told = thread.send(Command::Listen(address, listener, done)).await;
            // a thread that is gone has drained; its listener is closed with the command
            if told.is_ok()
                && let Ok(Err(source)) = begun.await
            {
                return Err(ListenError { address, source });
            }
        }
        Ok(())
    }

    /// Returns when no thread listens on these any more.
    async fn unlisten(&self, addresses: &[SocketAddr]) {
        for address in addresses {
            for thread in &self.inner.threads {
                let (done, closed) = oneshot::channel();
                let told = thread.send(Command::Unlisten(*address, done)).await;
                if told.is_ok() {
                    // an error means that the thread is gone, and its sockets with it
                    drop(closed.await);
                }
            }
        }
    }

    /// Asks every thread by which generation it routes, and returns their number when all of them say `generation`, and a process before
    /// this one, as long as it serves, routes by it as well.
    pub async fn acknowledged(
        &self,
        generation: Generation,
        within: Duration,
    ) -> Result<usize, Unacknowledged> {
        let threads = self.inner.threads.len();
        let deadline = Instant::now() + within;
        let mut missing = 0;
        for thread in &self.inner.threads {
            let asked = async {
                let (done, answer) = oneshot::channel();
                thread.send(Command::Report(done)).await.ok()?;
                answer.await.ok()
            };
            let said = tokio::time::timeout_at(deadline, asked).await;
            if said.ok().flatten() != Some(generation) {
                missing += 1;
            }
        }
        if self.inner.elder.heeds(deadline).await == Heeded::NotInTime {
            missing += 1;
        }
        if missing == 0 {
            Ok(threads)
        } else {
            Err(Unacknowledged {
                missing,
                threads,
                waited: within,
            })
        }
    }

    /// Reads all certificates again. What cannot be used changes nothing; it is returned, with its service and reason.
    pub fn reload_certificates(&self) -> Vec<String> {
        let snapshot = self.inner.core.current.load_full();
        let certificates = snapshot
            .entries
            .iter()
            .filter_map(|entry| entry.certificate.as_ref());
        certificates
            .filter_map(|certificate| {
                certificate.reload();
                certificate.problem()
            })
            .collect()
    }

    /// Lets `local` answer its paths on every listener, from when the last thread has heard of it.
    pub async fn set_local(&self, local: Arc<dyn LocalService>) {
        for thread in &self.inner.threads {
            // a thread that is gone has drained, and answers nothing any more
            drop(thread.send(Command::Local(Arc::clone(&local))).await);
        }
    }

    /// Ends: stops accepting, closes idle connections, answers with `Connection: close`, waits for what is in flight, and cuts
    /// what is left at `deadline`. Nothing can be installed after that.
    pub async fn drain(&self, deadline: Instant) -> Drained {
        self.end(deadline, Ending::Close).await
    }

    /// As [`Self::drain`], for one whose sockets another process accepts from by now: a kept-alive connection is not closed under
    /// a client that may be sending, but answered once more with `Connection: close`, or cut at `deadline`.
    pub async fn hand_over(&self, deadline: Instant) -> Drained {
        self.end(deadline, Ending::AnswerOnce).await
    }

    async fn end(&self, deadline: Instant, how: Ending) -> Drained {
        // the threads' clones are closed by themselves; a socket is open until its last handle is
        drop(std::mem::take(&mut *self.inner.listening.lock().await));
        let mut ends = Vec::new();
        for thread in &self.inner.threads {
            let (done, ended) = oneshot::channel();
            let told = thread.send(Command::Drain(deadline, how, done)).await;
            if told.is_ok() {
                ends.push(ended);
            }
        }
        let mut cut = 0;
        for ended in ends {
            // an error means that the thread ended by itself, and its connections with it
            cut += ended.await.unwrap_or(0);
        }
        self.inner.core.access.flush(LAST_LINES).await;
        Drained { cut }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{Color, Position, Route, Strategy};
    use crate::proxy::tests::shape;

    /// A proxy whose one thread refuses to accept on `busy`; its address and what it was told to let go of.
    fn refusing(busy: SocketAddr) -> (Proxy, mpsc::UnboundedReceiver<SocketAddr>) {
        let (sender, mut commands) = mpsc::channel(COMMANDS);
        let (let_go, unlistened) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                match command {
                    Command::Listen(address, _, done) if address == busy => {
                        done.send(Err(io::Error::other("no more watches"))).unwrap();
                    }
                    Command::Listen(_, _, done) => done.send(Ok(())).unwrap(),
                    Command::Unlisten(address, done) => {
                        let_go.send(address).unwrap();
                        done.send(()).unwrap();
                    }
                    Command::Report(_) | Command::Local(_) | Command::Drain(..) => {}
                }
            }
        });
        let inner = Inner {
            core: Arc::new(Core {
                current: ArcSwap::from_pointee(Snapshot::empty()),
                trusted: Vec::new(),
                refused: Refused::default(),
                access: AccessLog::default(),
                names: Names::default(),
            }),
            threads: vec![sender],
            elder: Elder::default(),
            listening: Mutex::default(),
        };
        let inner = Arc::new(inner);
        (Proxy { inner }, unlistened)
    }

    fn table(generation: u64, listen: &[SocketAddr]) -> RoutingTable {
        let routes = listen.iter().enumerate().map(|(number, listen)| {
            let shape = shape(&format!("service-{number}"), *listen);
            let position = Position::all(Strategy::BlueGreen, Color::Blue);
            (shape.name.clone(), Route::new(Arc::new(shape), position))
        });
        RoutingTable {
            generation: Generation(generation),
            routes: routes.collect::<BTreeMap<_, _>>(),
            aliases: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn an_install_that_fails_half_way_leaves_routing_and_listeners_as_before() {
        let free = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let (kept, new, busy) = (free(), free(), free());
        let (proxy, mut unlistened) = refusing(busy);
        let first = proxy.snapshot(&table(1, &[kept]), Hashing::SplitClients);
        proxy.install(first).await.unwrap();
        let second = proxy.snapshot(&table(2, &[kept, new, busy]), Hashing::SplitClients);
        let error = proxy.install(second).await.unwrap_err();
        assert_eq!(error.address, busy);
        assert_eq!(proxy.generation(), Generation(1));
        let listening = proxy.inner.listening.lock().await;
        assert!(listening.open.keys().eq([&kept]));
        let let_go = [unlistened.recv().await, unlistened.recv().await];
        assert!(let_go.contains(&Some(new)) && let_go.contains(&Some(busy)));
    }
}
