//! A daemon and the one that comes after it: how it begins with a predecessor's sockets, and how it gives its own away.
//!
//! There is one writer at any time. The predecessor stops being it (API, controller, probes, supervision, lock, in this order)
//! before it gives a socket away, and goes on as the proxy it is; a successor that dies before it serves leaves the lock free
//! and the predecessor in place, which then takes everything back. Workloads are not restarted: their records are in the state
//! directory, and whoever has the lock adopts them.
//!
//! An order to end that comes in between is the service's where both are told (systemd tells all processes of a unit), and
//! both end. Told alone, the predecessor ends once the successor serves, and not before: whoever starts a successor and ends the
//! predecessor does not ask that nobody serves if the successor cannot.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::carrier::Carrier;
use super::ending::{longest_drain, stop, told_again};
use super::handover::{Door, Predecessor, Said, Successor};
use super::heartbeat::{self, Heartbeat};
use super::serve::{Daemon, Parts, ServeError};
use super::sockets::Sockets;
use super::workloads::{Left, Running};
use crate::api::{ApiError, ControlSocket, Server};
use crate::config::{ControlListen, Mode};
use crate::exec;
use crate::signals::{Signal, Signals};
use crate::store::{Holder, LockError, ServeLock, Store};

/// For a dead successor's lock to be free: the kernel closes its descriptors one by one.
const LOCK_FREE: Duration = Duration::from_secs(5);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(20);

/// Between two looks at what is in flight for a successor that may wait for its end.
const LOOK: Duration = Duration::from_millis(100);

/// What a daemon begins with.
pub(super) struct Given {
    pub(super) sockets: Sockets,
    /// Who waits to hear that this one serves.
    pub(super) predecessor: Option<Predecessor>,
}

impl Given {
    /// Without a predecessor.
    pub(super) const fn alone(sockets: Sockets) -> Self {
        Self {
            sockets,
            predecessor: None,
        }
    }

    /// The sockets of the daemon that runs on this state; `otherwise` where none does.
    pub(super) async fn by_predecessor(
        state_dir: &Path,
        otherwise: Sockets,
    ) -> Result<Self, ServeError> {
        let found = Predecessor::find(state_dir).await;
        let Some(predecessor) = found.map_err(ServeError::Takeover)? else {
            tracing::info!("no daemon to take over from: starting as usual");
            return Ok(Self::alone(otherwise));
        };
        tracing::info!(pid = predecessor.pid, "taking over");
        let sockets = predecessor.sockets().await.map_err(ServeError::Takeover)?;
        Ok(Self {
            sockets: Sockets::of_predecessor(sockets)?,
            predecessor: Some(predecessor),
        })
    }

    /// The control API's socket; `None` where it has none of its own.
    pub(super) fn control(
        &mut self,
        listen: &ControlListen,
    ) -> Result<Option<ControlSocket>, ApiError> {
        let given = match listen {
            ControlListen::Router => return Ok(None),
            ControlListen::Tcp(address) => self.sockets.take_tcp(*address).map(ControlSocket::Tcp),
            ControlListen::Unix(path) => self
                .sockets
                .take_unix(path)
                .map(|listener| ControlSocket::unix(listener, path)),
        };
        match given {
            Some(socket) => Ok(Some(socket)),
            None => ControlSocket::bind(listen).map(Some),
        }
    }
}

/// Waits for a successor; for ever where none can ask.
pub(super) async fn knocked(door: Option<&Door>) -> Successor {
    match door {
        Some(door) => door.knocked().await,
        None => std::future::pending().await,
    }
}

/// Starts a successor: the same command with `--takeover`, from the file that has the program's name by now.
pub(super) fn begin() {
    let mut argv: Vec<_> = std::env::args_os().collect();
    if !argv.iter().any(|argument| argument == "--takeover") {
        argv.push("--takeover".into());
    }
    // of the watchdog's two variables this one names the process that is to give signs of life
    let env: BTreeMap<_, _> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name != "WATCHDOG_PID")
        .collect();
    let begun = exec::command(&argv, &env, None).kill_on_drop(false).spawn();
    match begun {
        Ok(child) => tracing::info!(pid = child.id(), "a successor was started"),
        Err(error) => tracing::error!(%error, "no successor could be started; going on"),
    }
}

impl Daemon {
    /// The first proof is there: the predecessor may go, and a successor may come.
    pub(super) async fn ready(&mut self) {
        let unused = self.carrier.close_unused().await;
        std::mem::take(&mut self.given.sockets).close_unmatched(unused);
        if self.door.is_none() {
            match Door::open(&self.facts.config().state_dir) {
                Ok(door) => self.door = Some(door),
                Err(error) => {
                    tracing::warn!(%error, "no successor can take over from this daemon: a restart closes its sockets");
                }
            }
        }
        if let Some(predecessor) = self.given.predecessor.take()
            && let Err(error) = predecessor.ready().await
        {
            tracing::warn!(%error, "the daemon before is gone already");
        }
    }

    /// Hands over.
    pub(super) async fn succeeded_by(self, mut successor: Successor) -> Result<Handed, ServeError> {
        let sockets = match self.sockets().await {
            Ok(sockets) => sockets,
            Err(error) => {
                tracing::error!(%error, "the sockets cannot be given away; going on");
                return Ok(Handed::Back(Box::new(self)));
            }
        };
        tracing::info!(
            to = successor.pid,
            "handing over: this daemon serves on and changes nothing"
        );
        let config = self.facts.config();
        let drain = longest_drain(&config);
        let (mut signals, carrier, control) = (self.signals, self.carrier, self.control);
        stop(self.api).await;
        if config.mode == Mode::Environment {
            carrier.between().await;
        }
        // the socket has two names for a while, and one reader at a time
        let lines = self.counting.descriptor();
        drop((self.facts, self.heartbeat, self.handle, self.counting));
        // a change under way is finished first, however long it takes
        if let Err(error) = self.controller.await {
            tracing::error!(%error, "the controller broke while it ended");
        }
        drop(self.workloads);
        drop(self.lock);
        let outcome = match successor.give(&sockets).await {
            Ok(()) => wait(&mut successor, &carrier, &mut signals).await,
            Err(error) => {
                tracing::warn!(%error, "the successor did not take the sockets");
                Waited::Abandoned
            }
        };
        drop(sockets);
        if matches!(outcome, Waited::Taken | Waited::ToldTwice) {
            // its file and its queue are the successor's
            if let Some(control) = control {
                control.leave();
            }
            if outcome == Waited::Taken {
                heartbeat::succeeded_by(successor.pid, drain);
                leave(&carrier, &mut successor, &mut signals, drain).await;
            } else {
                tracing::warn!("told to stop at once: what was in flight is cut off");
            }
            return Ok(Handed::Over);
        }
        tracing::warn!("the successor is gone before it served: taking everything back");
        let lock = lock_again(&Store::new(config.state_dir.clone())).await?;
        if outcome == Waited::BothTold {
            let workloads = Running::start(&config, Left::Behind).await?;
            drop(control);
            end(carrier, workloads, &mut signals, drain).await;
            drop(lock);
            return Ok(Handed::Over);
        }
        let server = match &control {
            Some(control) => {
                let socket = control.again().map_err(ServeError::Takeover)?;
                Some(Server::on(&config.control, socket)?)
            }
            None => None,
        };
        let workloads = Running::start(&config, Left::Behind).await?;
        let none = Sockets::returned(lines).map_err(ServeError::Takeover)?;
        let (mut none, kept) = (Given::alone(none), Some(carrier));
        let parts = Parts::start(config, self.source.clone(), server, &mut none, kept).await?;
        Ok(Handed::Back(Box::new(Self {
            signals,
            heartbeat: Heartbeat::new(parts.handle.clone()),
            handle: parts.handle,
            controller: parts.controller,
            carrier: parts.carrier,
            counting: parts.counting,
            api: parts.api,
            control,
            workloads,
            facts: parts.facts,
            source: self.source,
            shown: self.shown,
            lock,
            door: self.door,
            given: self.given,
        })))
    }

    /// Told to end before it served: it lets go of all that is the predecessor's, which goes on or ends as it was told.
    pub(super) async fn withdraw(self, predecessor: Predecessor) {
        tracing::info!(
            "told to stop before this daemon served: the one before has everything back"
        );
        let drain = longest_drain(&self.facts.config());
        stop(self.api).await;
        if let Some(control) = self.control {
            control.leave();
        }
        // what it has accepted it answers; who comes now waits for the other
        let cut = self.carrier.hand_over(drain).await;
        if cut > 0 {
            tracing::warn!(cut, "connections were cut at the drain deadline");
        }
        drop((self.facts, self.heartbeat, self.handle, self.counting));
        if let Err(error) = self.controller.await {
            tracing::error!(%error, "the controller broke while it ended");
        }
        drop(self.workloads);
        drop(self.lock);
        if let Err(error) = predecessor.told().await {
            tracing::warn!(%error, "the daemon before is gone already");
        }
    }

    /// Every listening socket once more.
    async fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        let mut sockets = self.carrier.sockets().await?;
        sockets.extend(self.counting.descriptor().map(OwnedFd::from));
        if let Some(control) = &self.control {
            sockets.push(control.descriptor()?);
        }
        Ok(sockets)
    }
}

/// What became of a handover.
pub(super) enum Handed {
    /// What was in flight here has ended: the successor serves, or both were told to end.
    Over,
    /// The successor is gone, and the daemon is as it was.
    Back(Box<Daemon>),
}

/// What was waited for while a successor began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// The successor serves.
    Taken,
    /// It is gone.
    Abandoned,
    /// It was told to end, and so was this daemon.
    BothTold,
    /// This daemon was told to end, and again: the successor, if it lives, has the sockets.
    ToldTwice,
}

/// Whether an order to end came while a successor began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    ToEnd,
}

async fn wait(successor: &mut Successor, carrier: &Carrier, signals: &mut Signals) -> Waited {
    let mut alive = heartbeat::between();
    let mut told = Told::Nothing;
    loop {
        tokio::select! {
            said = successor.says() => return match (said, told) {
                (Said::Word(word), _) => {
                    successor.tell(carrier.follow(&word).await).await;
                    continue;
                }
                (Said::Serves, _) => Waited::Taken,
                (Said::WasTold, Told::ToEnd) => Waited::BothTold,
                (Said::WasTold, Told::Nothing) | (Said::Gone, _) => Waited::Abandoned,
            },
            () = alive.beat() => {}
            signal = signals.next() => match signal {
                Signal::Terminate if told == Told::ToEnd => return Waited::ToldTwice,
                Signal::Terminate => {
                    told = Told::ToEnd;
                    tracing::info!(
                        "told to stop: that is once the successor serves, and not if it fails; once more stops at once"
                    );
                }
                Signal::Reload | Signal::Restart => {
                    tracing::warn!("a signal was ignored: the handover is under way");
                }
            },
        }
    }
}

/// Finishes what is in flight, and nothing else; what still comes on the connections that it has goes where the successor says.
async fn leave(
    carrier: &Carrier,
    successor: &mut Successor,
    signals: &mut Signals,
    drain: Duration,
) {
    tracing::info!("the successor serves: finishing what is in flight");
    tokio::select! {
        () = follow(carrier, successor) => {}
        cut = carrier.hand_over(drain) => {
            if cut > 0 {
                tracing::info!(cut, "connections were closed at the drain deadline");
            }
        }
        () = told_again(signals) => {
            tracing::warn!("told to stop at once: what was in flight is cut off");
        }
    }
    tracing::info!("handed over and stopped");
}

/// Does as the successor says, and tells it what is in flight here. Never ends.
async fn follow(carrier: &Carrier, successor: &mut Successor) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            said = successor.says() => match said {
                Said::Word(word) => successor.tell(carrier.follow(&word).await).await,
                Said::Serves | Said::WasTold => {}
                Said::Gone => return std::future::pending().await,
            },
            _ = look.tick() => {
                let now = carrier.reply(successor.told.number);
                if now != successor.told {
                    successor.tell(now).await;
                }
            }
        }
    }
}

/// The end of a daemon that has nothing left but the traffic and the processes.
async fn end(carrier: Carrier, workloads: Running, signals: &mut Signals, drain: Duration) {
    tracing::info!("its successor was told to stop, too: finishing what is in flight");
    heartbeat::stopping(drain);
    let ending = async {
        let cut = carrier.drain(drain).await;
        if cut > 0 {
            tracing::warn!(cut, "connections were cut at the drain deadline");
        }
        workloads.stop().await;
    };
    tokio::select! {
        () = ending => tracing::info!("stopped"),
        () = told_again(signals) => {
            tracing::warn!("told to stop at once: what was in flight is cut off");
        }
    }
}

async fn lock_again(store: &Store) -> Result<ServeLock, LockError> {
    let deadline = Instant::now() + LOCK_FREE;
    loop {
        match store.serve_lock(Holder::current("turnout serve", None)) {
            Err(LockError::Held { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(AGAIN).await;
            }
            other => return other,
        }
    }
}
