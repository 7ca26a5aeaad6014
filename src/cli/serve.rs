//! `turnout serve`: the daemon. Starts the parts in their order, hands facts to the controller, and ends gracefully.
//!
//! Up: signals → serve lock → API address → workloads → balancer and controller → probes → watch → API → (first proof) READY.
//! Down: the API and the controller take nothing new, what is in flight is drained, the workloads stop last. It decides
//! nothing about traffic: it only says what happened.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::carrier::{self, Carrier};
use super::chosen::ChoiceError;
use super::facts::Facts;
use super::heartbeat::{self, Heartbeat};
use super::workloads::Running;
use super::{CliError, Globals, greeting};
use crate::api::{ApiError, Server, router_service};
use crate::config::{Config, ControlListen, Env, Mode, Source};
use crate::controller::{self, ChangeError, Handle, Proof};
use crate::exit::ExitCode;
use crate::release::WorkloadError;
use crate::signals::{Signal, Signals};
use crate::store::{Holder, LockError, ServeLock, Store};
use crate::watch::{Changed, WatchError};

/// Threads of the control side. The proxy has its own; here is little to do, but a slow look must not hold up an answer.
const THREADS: usize = 2;
/// For a change under way when the daemon ends. It goes on even longer only where a balancer does not answer.
const LAST_CHANGE: Duration = Duration::from_mins(1);

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Blue's server when there is no configuration file; together with --green it makes a one-service configuration
    #[arg(long, value_name = "URL")]
    pub blue: Option<String>,
    /// Green's server, likewise
    #[arg(long, value_name = "URL")]
    pub green: Option<String>,
}

/// Why the daemon did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another daemon runs on this state directory. Exit 75.
    #[error("failed to take the daemon's lock")]
    Lock(#[from] LockError),
    /// The control API. Exit 69 where its address is taken.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The balancer and the controller.
    #[error("failed to start the controller")]
    Controller(#[source] Box<ChangeError>),
    /// There is no balancer to drive. Exit 78, or as the state directory says.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The threads of the embedded proxy. Exit 3.
    #[error("failed to start the threads of the embedded proxy")]
    Proxy(#[source] std::io::Error),
    /// A workload. Exit 3.
    #[error("failed to start the workloads")]
    Workload(#[from] WorkloadError),
    /// The files are not watched. Exit 3.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Signals are not heard. Exit 3.
    #[error("failed to listen to signals")]
    Signals(#[source] std::io::Error),
    /// A part of the daemon ended by itself; systemd starts it again. Exit 3.
    #[error("{0} ended by itself, which is a defect: its last words are in the log above")]
    PartEnded(&'static str),
}

impl From<ChangeError> for ServeError {
    fn from(error: ChangeError) -> Self {
        Self::Controller(Box::new(error))
    }
}

impl ServeError {
    /// How the program ends because of this.
    pub(super) fn exit(&self) -> ExitCode {
        match self {
            Self::Lock(error) => error.into(),
            Self::Controller(error) => error.as_ref().into(),
            Self::Choice(ChoiceError::State(error)) => error.into(),
            Self::Choice(ChoiceError::NotInThisVersion { .. }) => ExitCode::Config,
            Self::Api(ApiError::InUse { .. }) => ExitCode::Unreachable,
            Self::Api(ApiError::Token(_) | ApiError::NotASocket { .. } | ApiError::OnTheRouter) => {
                ExitCode::Config
            }
            Self::Api(ApiError::Listen { .. })
            | Self::Proxy(_)
            | Self::Workload(_)
            | Self::Watch(_)
            | Self::Signals(_)
            | Self::PartEnded(_) => ExitCode::Failed,
        }
    }
}

/// Runs until it is told to stop.
pub(super) fn run(args: ServeArgs, globals: &Globals) -> Result<(), CliError> {
    let source = source(args, globals)?;
    let config = Arc::new(Config::load(&source, &Env::of_process())?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let shown = globals.config().map(|path| path.display().to_string());
    let ended = runtime.block_on(async {
        let daemon = Daemon::start(config, source, shown).await?;
        daemon.run().await
    });
    // what is left was told to end, or has had its time
    runtime.shutdown_background();
    Ok(ended?)
}

/// `--blue` and `--green` make a configuration of their own; else it is looked for.
fn source(args: ServeArgs, globals: &Globals) -> Result<Source, CliError> {
    if args.blue.is_none() && args.green.is_none() {
        return Ok(Source::find(globals.config(), &Env::of_process())?);
    }
    if globals.config().is_some() {
        return Err(CliError::Usage {
            message: "--blue and --green are for a start without a configuration file: leave them or --config (TURNOUT_CONFIG) out"
                .to_owned(),
        });
    }
    Ok(Source::Environment {
        blue: args.blue,
        green: args.green,
    })
}

/// A running daemon.
struct Daemon {
    signals: Signals,
    handle: Handle,
    controller: JoinHandle<()>,
    carrier: Carrier,
    api: Option<Answering>,
    workloads: Running,
    facts: Facts,
    heartbeat: Heartbeat,
    shown: Option<String>,
    _lock: ServeLock,
}

/// The control API at work.
struct Answering {
    task: JoinHandle<std::io::Result<()>>,
    stop: oneshot::Sender<()>,
}

/// Why the main loop ended.
enum End {
    Told,
    Itself(ServeError),
}

/// What stands on the workloads.
struct Parts {
    handle: Handle,
    controller: JoinHandle<()>,
    carrier: Carrier,
    facts: Facts,
    api: Option<Answering>,
}

impl Parts {
    async fn start(
        config: Arc<Config>,
        source: Source,
        store: Store,
        server: Option<Server>,
    ) -> Result<Self, ServeError> {
        let (carrier, controller) = carrier::start(&config, store).await?;
        let (handle, controller) = match controller {
            carrier::Controlled::Nginx(nginx) => controller::spawn(*nginx).await?,
            carrier::Controlled::Haproxy(haproxy) => controller::spawn(*haproxy).await?,
            carrier::Controlled::Embedded(embedded) => controller::spawn(*embedded).await?,
        };
        if config.mode == Mode::Environment {
            let local = router_service(&config.control, handle.clone())?;
            carrier.answer_on_router(local).await;
        }
        let facts = Facts::begin(config, source, handle.clone())?;
        let api = server.map(|server| {
            let (stop, stopped) = oneshot::channel();
            let answering = server.run(handle.clone(), async {
                // a sender that is gone stops it as well
                drop(stopped.await);
            });
            Answering {
                task: tokio::spawn(answering),
                stop,
            }
        });
        Ok(Self {
            handle,
            controller,
            carrier,
            facts,
            api,
        })
    }
}

impl Daemon {
    async fn start(
        config: Arc<Config>,
        source: Source,
        shown: Option<String>,
    ) -> Result<Self, ServeError> {
        let signals = Signals::listen().map_err(ServeError::Signals)?;
        let store = Store::new(config.state_dir.clone());
        let lock = store.serve_lock(Holder::current("turnout serve", None))?;
        let server = match config.control.listen {
            ControlListen::Router => None,
            ControlListen::Tcp(_) | ControlListen::Unix(_) => Some(Server::bind(&config.control)?),
        };
        let workloads = Running::start(&config).await?;
        match Parts::start(config, source, store, server).await {
            Ok(parts) => Ok(Self {
                signals,
                heartbeat: Heartbeat::new(parts.handle.clone()),
                handle: parts.handle,
                controller: parts.controller,
                carrier: parts.carrier,
                api: parts.api,
                workloads,
                facts: parts.facts,
                shown,
                _lock: lock,
            }),
            Err(error) => {
                // a daemon that is not there cannot watch over them
                workloads.stop().await;
                Err(error)
            }
        }
    }

    async fn run(mut self) -> Result<(), ServeError> {
        let end = self.watch_over().await;
        match end {
            End::Told => {
                tracing::info!("told to stop: finishing what is in flight; once more ends at once");
                let mut signals = self.signals;
                let ending = Ending {
                    api: self.api,
                    controller: self.controller,
                    carrier: self.carrier,
                    drain: longest_drain(&self.facts.config()),
                    workloads: self.workloads,
                };
                // the controller ends when nobody can reach it any more
                drop((self.facts, self.heartbeat, self.handle));
                tokio::select! {
                    () = ending.finish() => {}
                    () = told_again(&mut signals) => {
                        tracing::warn!("told to stop at once: what was in flight is cut off");
                    }
                }
                Ok(())
            }
            End::Itself(error) => {
                self.workloads.stop().await;
                Err(error)
            }
        }
    }

    /// The main loop: everything that happens becomes a fact for the controller, or the end.
    async fn watch_over(&mut self) -> End {
        let mut proof = self.handle.proof();
        let mut status = self.handle.watch();
        let mut is_ready = false;
        loop {
            if !is_ready && *proof.borrow_and_update() == Proof::Seen {
                is_ready = true;
                heartbeat::ready();
                let config = self.facts.config();
                super::talk(greeting::of(
                    &config,
                    &self.handle.status(),
                    self.shown.as_deref(),
                ));
            }
            self.heartbeat.status(&status.borrow_and_update().clone());
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Signal::Terminate => return End::Told,
                    Signal::Reload => {
                        tracing::info!("told to read the configuration again");
                        self.facts.look_at(Changed::Config);
                    }
                },
                () = self.heartbeat.beat() => {}
                // an error is the controller's end, which is seen below
                _ = proof.changed(), if !is_ready => {}
                _ = status.changed() => {}
                _ = &mut self.controller => {
                    return End::Itself(ServeError::PartEnded("the controller"));
                }
                () = self.facts.ended() => {
                    return End::Itself(ServeError::PartEnded("probing and watching"));
                }
                () = ended(&mut self.api) => {
                    return End::Itself(ServeError::PartEnded("the control API"));
                }
            }
        }
    }
}

/// Waits for the API to end by itself; for ever where there is none.
async fn ended(api: &mut Option<Answering>) {
    match api {
        Some(answering) => match (&mut answering.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the control API ended"),
            Err(error) => tracing::error!(%error, "the control API broke"),
        },
        None => std::future::pending().await,
    }
}

async fn stop(api: Option<Answering>) {
    let Some(answering) = api else { return };
    // a receiver that is gone has stopped
    let (Ok(()) | Err(())) = answering.stop.send(());
    if let Err(error) = answering.task.await {
        tracing::error!(%error, "the control API broke while it ended");
    }
}

async fn told_again(signals: &mut Signals) {
    while signals.next().await != Signal::Terminate {}
}

/// Requests in flight have as long as the service that gives most.
fn longest_drain(config: &Config) -> Duration {
    config
        .services
        .values()
        .map(|service| service.shape.timeouts.drain)
        .max()
        .unwrap_or_default()
}

/// What has to be brought to an end, and how long that may take.
struct Ending {
    api: Option<Answering>,
    controller: JoinHandle<()>,
    carrier: Carrier,
    drain: Duration,
    workloads: Running,
}

impl Ending {
    async fn finish(self) {
        heartbeat::stopping(self.drain + LAST_CHANGE);
        let ((), cut) = tokio::join!(stop(self.api), self.carrier.drain(self.drain));
        if cut > 0 {
            tracing::warn!(cut, "connections were cut at the drain deadline");
        }
        // the proxy's own way to the controller goes with it
        drop(self.carrier);
        if tokio::time::timeout(LAST_CHANGE, self.controller)
            .await
            .is_err()
        {
            tracing::warn!("a change is still under way; the next start settles it");
        }
        self.workloads.stop().await;
        tracing::info!("stopped");
    }
}
