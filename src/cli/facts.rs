//! What happens around the daemon, as facts for the controller: configuration, template, followed file, state, probes.
//!
//! A bad configuration is told with all its problems, and the last good one stays. What only a start can change (where the
//! state and the API are, which balancer is driven) stays as it is, and is named in the log and in `status`.

use std::sync::Arc;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinHandle;

use super::carrier::bad_certificates;
use crate::api::{Reading, Reread};
use crate::config::{Config, Env, Source};
use crate::controller::{Fact, Handle, Proof};
use crate::domain::describe;
use crate::probe::{Aliases, Probes, Report, Sighting};
use crate::proxy::Proxy;
use crate::watch::{self, Changed, Watch, WatchError, Watched};

/// Reports that wait while the controller is busy; more make the probes wait, which loses nothing.
const REPORTS: usize = 256;

/// The daemon's senses, at work in a task of their own: while the controller is busy its queue may be full, and whoever
/// hands in a fact waits. The main loop must not.
#[derive(Debug)]
pub(super) struct Facts {
    task: JoinHandle<()>,
    asked: mpsc::Sender<Changed>,
    reread: Reread,
    config: tokio::sync::watch::Receiver<Arc<Config>>,
}

impl Facts {
    /// Begins to probe and to watch. Must be called within a runtime.
    /// `known` holds the configuration in use, and is told of each new one.
    pub(super) fn begin(
        known: tokio::sync::watch::Sender<Arc<Config>>,
        source: Source,
        handle: Handle,
        proxy: Option<Proxy>,
    ) -> Result<Self, WatchError> {
        let config = Arc::clone(&known.borrow());
        let (watch, changes) = watch::start(Watched::from(&*config))?;
        let (sender, reports) = mpsc::channel(REPORTS);
        let mut probes = Probes::new(sender);
        let (sender, sightings) = mpsc::channel(REPORTS);
        let mut aliases = Aliases::new(sender);
        let shapes = config.shapes();
        probes.set(&shapes);
        aliases.set(&shapes);
        let config_out = known.subscribe();
        let (asked, asks) = mpsc::channel(1);
        let (reread, readings) = Reread::new();
        let senses = Senses {
            known,
            source,
            handle,
            proxy,
            watch,
            probes,
            aliases,
        };
        Ok(Self {
            task: tokio::spawn(senses.run(changes, reports, sightings, asks, readings)),
            asked,
            reread,
            config: config_out,
        })
    }

    /// The configuration in use.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// For the API, to have the configuration read before an answer.
    pub(super) fn reread(&self) -> Reread {
        self.reread.clone()
    }

    /// Somebody says that this changed. Never waits.
    pub(super) fn look_at(&self, what: Changed) {
        match self.asked.try_send(what) {
            // one that waits already will look at the same
            Ok(()) | Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Closed(_)) => {
                tracing::error!("nobody reads the configuration any more");
            }
        }
    }

    /// Waits for the senses to end, which they do not by themselves.
    pub(super) async fn ended(&mut self) {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "probing and watching broke");
        }
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Senses {
    known: tokio::sync::watch::Sender<Arc<Config>>,
    source: Source,
    handle: Handle,
    proxy: Option<Proxy>,
    watch: Watch,
    probes: Probes,
    aliases: Aliases,
}

impl Senses {
    async fn run(
        mut self,
        mut changes: mpsc::Receiver<Changed>,
        mut reports: mpsc::Receiver<Report>,
        mut sightings: mpsc::Receiver<Sighting>,
        mut asks: mpsc::Receiver<Changed>,
        mut readings: mpsc::Receiver<Reading>,
    ) {
        // it may have changed between its reading and its watching
        self.reread().await;
        let mut proof = self.handle.proof();
        let mut first = *proof.borrow_and_update();
        if first == Proof::Seen {
            self.followed().await;
        }
        loop {
            tokio::select! {
                Some(report) = reports.recv() => self.tell(Fact::Probed(report)).await,
                Some(sighting) = sightings.recv() => self.tell(Fact::Sighted(sighting)).await,
                Some(changed) = asks.recv() => self.changed(changed).await,
                Some(told) = readings.recv() => {
                    self.reread().await;
                    // who asked may have gone; what was read is told all the same
                    let (Ok(()) | Err(())) = told.send(());
                }
                changed = changes.recv() => match changed {
                    Some(changed) => self.changed(changed).await,
                    // the thread that watches has ended, and has said why
                    None => return,
                },
                seen = proof.changed(), if first == Proof::Pending => {
                    if seen.is_err() {
                        return;
                    }
                    first = *proof.borrow_and_update();
                    // before the first proof there is nothing that could be switched
                    self.followed().await;
                }
            }
        }
    }

    async fn changed(&mut self, changed: Changed) {
        match changed {
            Changed::Config => self.reread().await,
            Changed::Template => self.tell(Fact::Template).await,
            Changed::Followed => self.followed().await,
            Changed::State => self.tell(Fact::State).await,
            Changed::Certificate => self.certificates().await,
        }
    }

    /// Has the proxy read its certificates again, and tells what is wrong with any.
    async fn certificates(&self) {
        let Some(proxy) = self.proxy.clone() else {
            return;
        };
        match tokio::task::spawn_blocking(move || proxy.reload_certificates()).await {
            Ok(problems) => self.tell(Fact::Certificates(problems)).await,
            Err(error) => tracing::error!(%error, "reading certificates broke"),
        }
    }

    /// Tells what the followed file says now, where there is one.
    async fn followed(&self) {
        let follow = self.known.borrow().follow.clone();
        if let Some(follow) = follow {
            let says = watch::followed(&follow).map_err(|error| describe(&error));
            self.tell(Fact::Followed(says)).await;
        }
    }

    async fn reread(&mut self) {
        let source = self.source.clone();
        let running = Arc::clone(&self.known.borrow());
        let serves_tls = self.proxy.is_some();
        let reading = tokio::task::spawn_blocking(move || {
            let read =
                Config::load(&source, &Env::of_process()).map_err(|error| describe(&error))?;
            let bad = if serves_tls {
                bad_certificates(&read, Some(&running))
            } else {
                Vec::new()
            };
            if bad.is_empty() {
                Ok(read)
            } else {
                Err(bad.join("\n"))
            }
        });
        match reading.await {
            Ok(Ok(read)) => self.take(read).await,
            Ok(Err(problems)) => self.tell(Fact::Config(Err(problems))).await,
            Err(error) => tracing::error!(%error, "reading the configuration broke"),
        }
    }

    async fn take(&mut self, read: Config) {
        let running = Arc::clone(&self.known.borrow());
        let restart = needs_restart(&running, &read);
        let config = Arc::new(Config {
            state_dir: running.state_dir.clone(),
            control: running.control.clone(),
            balancer: running.balancer.clone(),
            trusted_proxies: running.trusted_proxies.clone(),
            ..read
        });
        let is_other = config != running;
        if is_other {
            self.watch.reset(Watched::from(&*config));
            let shapes = config.shapes();
            self.probes.set(&shapes);
            self.aliases.set(&shapes);
            self.known.send_replace(Arc::clone(&config));
        }
        let follows_anew = config.follow != running.follow;
        // told even if it is the same: the problem of a bad one that was put right must go
        self.tell(Fact::Config(Ok(config))).await;
        self.tell(Fact::Restart(restart)).await;
        if follows_anew {
            self.followed().await;
        }
    }

    async fn tell(&self, fact: Fact) {
        if let Err(error) = self.handle.fact(fact).await {
            tracing::debug!(%error, "a fact came after the controller's end");
        }
    }
}

/// The keys that changed and that a running daemon cannot follow.
fn needs_restart(running: &Config, read: &Config) -> Vec<&'static str> {
    let changed = [
        ("state.dir", running.state_dir != read.state_dir),
        ("control", running.control != read.control),
        ("balancer", running.balancer != read.balancer),
        (
            "trusted_proxies",
            running.trusted_proxies != read.trusted_proxies,
        ),
        (
            "workload",
            read.services.iter().any(|(name, service)| {
                running
                    .services
                    .get(name)
                    .is_none_or(|before| before.workload != service.workload)
                    && (service.workload.is_some() || running.services.contains_key(name))
            }),
        ),
    ];
    changed
        .into_iter()
        .filter(|(_, has_changed)| *has_changed)
        .map(|(key, _)| key)
        .collect()
}
