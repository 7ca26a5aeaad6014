//! `turnout serve`: the daemon. Starts the parts in their order, hands facts to the controller, and ends gracefully.
//!
//! Up: signals → sockets (a predecessor's, or systemd's) → serve lock → API address → workloads → balancer and controller → probes → watch → API → (first proof) READY.
//! Down: the API and the controller take nothing new, what is in flight is drained, the workloads stop last. It decides
//! nothing about traffic: it only says what happened.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::carrier::{self, Carrier};
use super::chosen::ChoiceError;
use super::ending::{Answering, Ending, ended, longest_drain, told_again};
use super::facts::Facts;
use super::handover::{Door, Successor};
use super::heartbeat::{self, Heartbeat};
use super::sockets::{NotAListener, Sockets};
use super::succession::{self, Given, Handed, knocked};
use super::workloads::{Left, Running};
use super::{CliError, Globals, greeting};
use crate::api::{ApiError, ControlSocket, Server, router_service};
use crate::config::{Config, Env, Mode, Source};
use crate::controller::{self, ChangeError, Handle, Proof};
use crate::exit::ExitCode;
use crate::release::WorkloadError;
use crate::signals::{Signal, Signals};
use crate::store::{Holder, LockError, ServeLock, Store};
use crate::traffic::Counting;
use crate::watch::{Changed, WatchError};

/// Threads of the control side. The proxy has its own; here is little to do, but a slow look must not hold up an answer.
const THREADS: usize = 2;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Blue's server when there is no configuration file; together with --green it makes a one-service configuration
    #[arg(long, value_name = "URL")]
    pub blue: Option<String>,
    /// Green's server, likewise
    #[arg(long, value_name = "URL")]
    pub green: Option<String>,
    /// Take the sockets over from the daemon that runs on the same state, which then finishes what it has and ends; without one,
    /// start as usual. SIGUSR2 has a daemon start its own successor this way
    #[arg(long)]
    pub takeover: bool,
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
    /// Certificates cannot be served. Exit 78.
    #[error("failed to load certificates:\n{0}")]
    Certificates(String),
    /// A workload. Exit 3.
    #[error("failed to start the workloads")]
    Workload(#[from] WorkloadError),
    /// The files are not watched. Exit 3.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Signals are not heard. Exit 3.
    #[error("failed to listen to signals")]
    Signals(#[source] std::io::Error),
    /// systemd, or the daemon before, gave something that is no listening socket. Exit 3.
    #[error(transparent)]
    Sockets(#[from] NotAListener),
    /// The daemon that runs did not give its sockets. Exit 3; it goes on.
    #[error(
        "failed to take over from the daemon that runs; it goes on, and `turnout lock status` names it"
    )]
    Takeover(#[source] std::io::Error),
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
            Self::Api(ApiError::InUse { .. }) => ExitCode::Unreachable,
            Self::Choice(ChoiceError::NotInThisVersion { .. } | ChoiceError::NoCommands)
            | Self::Certificates(_)
            | Self::Api(ApiError::Token(_) | ApiError::NotASocket { .. } | ApiError::OnTheRouter) => {
                ExitCode::Config
            }
            Self::Api(ApiError::Listen { .. })
            | Self::Proxy(_)
            | Self::Workload(_)
            | Self::Watch(_)
            | Self::Signals(_)
            | Self::Sockets(_)
            | Self::Takeover(_)
            | Self::PartEnded(_) => ExitCode::Failed,
        }
    }
}

/// Runs until it is told to stop.
pub(super) fn run(args: ServeArgs, globals: &Globals) -> Result<(), CliError> {
    // before there are threads: it takes variables out of the environment
    let sockets = Sockets::of_systemd().map_err(ServeError::from)?;
    let takeover = args.takeover;
    let source = source(args, globals)?;
    let config = Arc::new(Config::load(&source, &Env::of_process())?);
    super::descriptors::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    let shown = globals.config().map(|path| path.display().to_string());
    let ended = runtime.block_on(async {
        // before a predecessor hears of this one: told to end from then on, it says so
        let signals = Signals::listen().map_err(ServeError::Signals)?;
        let given = if takeover {
            Given::by_predecessor(&config.state_dir, sockets).await?
        } else {
            Given::alone(sockets)
        };
        Daemon::start(signals, config, source, shown, given)
            .await?
            .run()
            .await
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
pub(super) struct Daemon {
    pub(super) signals: Signals,
    pub(super) handle: Handle,
    pub(super) controller: JoinHandle<()>,
    pub(super) carrier: Carrier,
    pub(super) counting: Counting,
    pub(super) api: Option<Answering>,
    pub(super) control: Option<ControlSocket>,
    pub(super) workloads: Running,
    pub(super) facts: Facts,
    pub(super) heartbeat: Heartbeat,
    pub(super) source: Source,
    pub(super) shown: Option<String>,
    pub(super) lock: ServeLock,
    /// Where a successor asks, once this one is ready.
    pub(super) door: Option<Door>,
    pub(super) given: Given,
}

/// Why the main loop ended.
enum End {
    Told,
    Itself(ServeError),
    Successor(Successor),
}

/// What stands on the workloads.
pub(super) struct Parts {
    pub(super) handle: Handle,
    pub(super) controller: JoinHandle<()>,
    pub(super) carrier: Carrier,
    pub(super) counting: Counting,
    pub(super) facts: Facts,
    pub(super) api: Option<Answering>,
}

impl Parts {
    /// `kept` carried the traffic before, and goes on.
    pub(super) async fn start(
        config: Arc<Config>,
        source: Source,
        server: Option<Server>,
        given: &mut Given,
        kept: Option<Carrier>,
    ) -> Result<Self, ServeError> {
        let store = Store::new(config.state_dir.clone());
        let known = tokio::sync::watch::Sender::new(Arc::clone(&config));
        let (carrier, controller, counting) =
            carrier::start(&config, known.subscribe(), store, &mut given.sockets, kept).await?;
        if let (Some(predecessor), Some(proxy)) = (&mut given.predecessor, carrier.proxy()) {
            predecessor.follows(proxy.succeed());
        }
        if config.mode == Mode::Environment {
            // the controller opens the listeners, and what is asked of the API until it is there is not for the application
            carrier.between().await;
        }
        let (handle, controller) = match controller {
            carrier::Controlled::Nginx(nginx) => controller::spawn(*nginx).await?,
            carrier::Controlled::Haproxy(haproxy) => controller::spawn(*haproxy).await?,
            carrier::Controlled::Exec(exec) => controller::spawn(*exec).await?,
            carrier::Controlled::Embedded(embedded) => controller::spawn(*embedded).await?,
        };
        if config.mode == Mode::Environment {
            let local = router_service(&config.control, handle.clone())?;
            carrier.answer_on_router(local).await;
        }
        let facts = Facts::begin(known, source, handle.clone(), carrier.proxy())?;
        let api = server.map(|server| {
            let source = carrier.source(&counting);
            Answering::begin(server, handle.clone(), facts.reread(), source)
        });
        Ok(Self {
            handle,
            controller,
            carrier,
            counting,
            facts,
            api,
        })
    }
}

impl Daemon {
    async fn start(
        signals: Signals,
        config: Arc<Config>,
        source: Source,
        shown: Option<String>,
        mut given: Given,
    ) -> Result<Self, ServeError> {
        let store = Store::new(config.state_dir.clone());
        let lock = store.serve_lock(Holder::current("turnout serve", None))?;
        let control = given.control(&config.control.listen)?;
        let server = match &control {
            Some(socket) => {
                let socket = socket.again().map_err(ServeError::Takeover)?;
                Some(Server::on(&config.control, socket)?)
            }
            None => None,
        };
        let left = match &given.predecessor {
            Some(_) => Left::Behind,
            None => Left::Stopped,
        };
        let workloads = Running::start(&config, left).await?;
        match Parts::start(config, source.clone(), server, &mut given, None).await {
            Ok(parts) => Ok(Self {
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
                source,
                shown,
                lock,
                door: None,
                given,
            }),
            Err(error) => {
                if given.predecessor.is_none() {
                    // a daemon that is not there cannot watch over them
                    workloads.stop().await;
                } else if let Some(control) = control {
                    // the predecessor goes on, with its processes and on its socket
                    control.leave();
                }
                Err(error)
            }
        }
    }

    async fn run(mut self) -> Result<(), ServeError> {
        loop {
            match self.watch_over().await {
                End::Told => {
                    match self.given.predecessor.take() {
                        Some(predecessor) => self.withdraw(predecessor).await,
                        None => self.end().await,
                    }
                    return Ok(());
                }
                End::Itself(error) => {
                    if self.given.predecessor.is_none() {
                        self.workloads.stop().await;
                    } else if let Some(control) = self.control {
                        control.leave();
                    }
                    return Err(error);
                }
                End::Successor(successor) => match self.succeeded_by(successor).await? {
                    Handed::Over => return Ok(()),
                    Handed::Back(taken_back) => self = *taken_back,
                },
            }
        }
    }

    async fn end(self) {
        tracing::info!("told to stop: finishing what is in flight; once more ends at once");
        let mut signals = self.signals;
        let ending = Ending {
            api: self.api,
            controller: self.controller,
            carrier: self.carrier,
            drain: longest_drain(&self.facts.config()),
            workloads: self.workloads,
        };
        // the controller ends when nobody can reach it any more, and nobody is to wait in the API's queue
        drop((self.facts, self.heartbeat, self.handle, self.control));
        tokio::select! {
            () = ending.finish() => {}
            () = told_again(&mut signals) => {
                tracing::warn!("told to stop at once: what was in flight is cut off");
            }
        }
        drop(self.lock);
    }

    /// The main loop: everything that happens becomes a fact for the controller, or the end.
    async fn watch_over(&mut self) -> End {
        let mut proof = self.handle.proof();
        let mut status = self.handle.watch();
        let mut is_ready = false;
        loop {
            if !is_ready && *proof.borrow_and_update() == Proof::Seen {
                is_ready = true;
                self.ready().await;
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
                    Signal::Restart => succession::begin(),
                },
                successor = knocked(self.door.as_ref()) => return End::Successor(successor),
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
