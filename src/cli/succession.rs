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

use super::ending::{longest_drain, stop};
use super::handover::{Door, Predecessor, Successor};
use super::heartbeat::Heartbeat;
use super::leaving::{Waited, end, leave, lock_again, wait};
use super::serve::{Daemon, Parts, ServeError};
use super::sockets::Sockets;
use super::workloads::{Left, Running};
use crate::api::{ApiError, ControlSocket, Server};
use crate::config::{ControlListen, Mode};
use crate::exec;
use crate::store::{LockError, Store};

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
        let Some(mut predecessor) = found.map_err(ServeError::Takeover)? else {
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
                tracing::info!("the successor serves: finishing what is in flight");
                leave(&carrier, &mut successor, &mut signals, drain).await;
            } else {
                tracing::warn!("told to stop at once: what was in flight is cut off");
            }
            return Ok(Handed::Over);
        }
        tracing::warn!("the successor is gone before it served: taking everything back");
        let lock = match lock_again(&Store::new(config.state_dir.clone())).await {
            Ok(lock) => lock,
            // somebody writes, and has the sockets if it is the successor: a second writer is what must not be
            Err(LockError::Held { .. }) => {
                tracing::warn!(
                    to = successor.pid,
                    "the daemon's lock is held, so its successor lives and this one cannot go on: finishing what is in flight"
                );
                if let Some(control) = control {
                    control.leave();
                }
                leave(&carrier, &mut successor, &mut signals, drain).await;
                return Ok(Handed::Over);
            }
            Err(error) => return Err(error.into()),
        };
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
