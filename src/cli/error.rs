//! Why a command did not do what it was asked for, and the exit code of each reason.

use std::io;
use std::path::PathBuf;

use super::chosen::ChoiceError;
use super::init::InitError;
use super::replay::ReplayError;
use super::sample_app::SampleAppError;
use super::serve::ServeError;
use crate::api::InvalidAddress;
use crate::api::client::ClientError;
use crate::config::ConfigError;
use crate::controller::{ApplyError, ChangeError};
use crate::exit::ExitCode;
use crate::store::{Holder, StoreError};

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments do not fit together, or do not fit the configuration. Exit 2.
    #[error("{message}")]
    Usage {
        /// What, and how to write it.
        message: String,
    },
    /// `--server` or its twin. Exit 2.
    #[error("failed to use --server")]
    Server(#[from] InvalidAddress),
    /// `--token-file`. Exit 2.
    #[error("failed to read the token from {path}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no valid configuration. Exit 78.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration names no balancer of this version. Exit 78.
    #[error(transparent)]
    Choice(ChoiceError),
    /// The sample application does not run. Exit 69 where its address is taken, else 2 or 3.
    #[error(transparent)]
    SampleApp(#[from] SampleAppError),
    /// A change or a look failed here.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A change or a look failed in the daemon, or it could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The state directory.
    #[error("failed to look into the state directory")]
    Store(#[from] StoreError),
    /// A daemon holds the state directory and its API does not answer. Exit 69.
    #[error(
        "{holder} runs on {state_dir}, but its API does not answer. Look at its log, name its address with --server, or act without it with --local"
    )]
    Silent {
        /// Who holds the serve lock.
        holder: Box<Holder>,
        /// The state directory.
        state_dir: PathBuf,
        /// What happened.
        #[source]
        source: Box<ClientError>,
    },
    /// The daemon that answers is not the one of this configuration. Exit 2.
    #[error(
        "the daemon at {address} keeps its state in {theirs}, and this configuration names {ours}: nothing was changed. Name the daemon's own configuration with --config, or another daemon with --server"
    )]
    OtherDaemon {
        /// Where it answers.
        address: String,
        /// Its state directory.
        theirs: PathBuf,
        /// The configured one.
        ours: PathBuf,
    },
    /// The embedded proxy without its daemon. Exit 69.
    #[error(
        "the embedded proxy runs inside `turnout serve`, which does not run on {state_dir}: start it"
    )]
    NoDaemon {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// Rollouts without their daemon. Exit 69.
    #[error("rollouts run inside `turnout serve`, which does not run on {state_dir}: start it")]
    NoRollouts {
        /// The state directory.
        state_dir: PathBuf,
    },
    /// There is no such rollout. Exit 1.
    #[error("{which}")]
    NoRollout {
        /// What was looked for.
        which: String,
    },
    /// `--local` for the embedded proxy of a daemon that runs. Exit 2.
    #[error(
        "--local cannot act on the embedded proxy, which is inside the daemon of {holder}: leave the flag out"
    )]
    InsideDaemon {
        /// Who holds the serve lock.
        holder: Box<Holder>,
    },
    /// `render` where there is nothing to render. Exit 1.
    #[error(
        "the embedded proxy has no configuration file: `turnout apply` puts a changed turnout.yaml into force"
    )]
    NothingToRender,
    /// `serve`.
    #[error(transparent)]
    Serve(Box<ServeError>),
    /// Ctrl-C a second time, in the middle of a change. Exit 4.
    #[error(
        "interrupted in the middle of a change: run `turnout verify`; the next change settles what was left open"
    )]
    Interrupted,
    /// Ctrl-C before anything was done. Exit 3.
    #[error("interrupted before anything was done")]
    Cancelled,
    /// A file could not be read. Exit 3.
    #[error("failed to read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written. Exit 3.
    #[error("failed to write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `service set` or `remove` found a file of somebody else's. Exit 1.
    #[error(
        "{path} was not written by `turnout service set`, and would be lost: edit it by hand, or replace it with --force"
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// `init` found a configuration. Exit 1.
    #[error("{path} exists and is left as it is")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// `init --from` found nothing to propose. Exit 1.
    #[error("failed to find a place for turnout in {path}")]
    FromBalancer {
        /// The configuration of nginx or HAProxy.
        path: PathBuf,
        /// Why.
        #[source]
        source: InitError,
    },
    /// Recorded counts or the policy for them cannot be used. Exit 2.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// stdout could not be written. Exit 3; 0 where the reader has gone.
    #[error("failed to write to stdout")]
    Stdout(#[source] io::Error),
    /// A value could not be written as JSON or YAML. Exit 3.
    #[error("failed to write the answer as {form}")]
    Form {
        /// `JSON` or `YAML`.
        form: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operating system does not give what every program needs. Exit 3.
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        Self::Serve(Box::new(error))
    }
}

impl CliError {
    /// How the program ends because of this.
    pub fn exit(&self) -> ExitCode {
        match self {
            Self::Usage { .. }
            | Self::Server(_)
            | Self::TokenFile { .. }
            | Self::OtherDaemon { .. }
            | Self::InsideDaemon { .. }
            | Self::Replay(_)
            | Self::SampleApp(SampleAppError::NoPort) => ExitCode::Usage,
            Self::Config(_)
            | Self::Choice(ChoiceError::NotInThisVersion { .. } | ChoiceError::NoCommands) => {
                ExitCode::Config
            }
            Self::Change(error) => error.into(),
            Self::Client(error) => error.into(),
            Self::Store(error) | Self::Choice(ChoiceError::State(error)) => error.into(),
            Self::Serve(error) => error.exit(),
            Self::Silent { .. }
            | Self::NoDaemon { .. }
            | Self::NoRollouts { .. }
            | Self::SampleApp(SampleAppError::Listen { .. }) => ExitCode::Unreachable,
            Self::NothingToRender
            | Self::Exists { .. }
            | Self::NoRollout { .. }
            | Self::NotOurs { .. }
            | Self::FromBalancer { .. } => ExitCode::No,
            Self::Interrupted => ExitCode::NeedsPerson,
            Self::Read { source, .. } | Self::Write { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                ExitCode::NotPermitted
            }
            Self::Stdout(source) if source.kind() == io::ErrorKind::BrokenPipe => ExitCode::Done,
            Self::Cancelled
            | Self::SampleApp(SampleAppError::Serve(_))
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Stdout(_)
            | Self::Form { .. }
            | Self::Runtime(_) => ExitCode::Failed,
        }
    }

    /// True of a change that was refused, or undone: nobody goes by what was to be applied.
    pub(super) fn leaves_all_as_it_was(&self) -> bool {
        match self {
            Self::Change(
                ChangeError::Lock(_)
                | ChangeError::Render(_)
                | ChangeError::Apply(
                    ApplyError::Refused { .. }
                    | ApplyError::Unreachable { .. }
                    | ApplyError::NotPermitted { .. }
                    | ApplyError::Edited { .. }
                    | ApplyError::Unchanged { .. }
                    | ApplyError::Restored { .. },
                )
                | ChangeError::Store(_),
            )
            | Self::Silent { .. }
            | Self::OtherDaemon { .. }
            | Self::InsideDaemon { .. }
            | Self::Client(ClientError::Unreachable { .. } | ClientError::NotPermitted { .. })
            | Self::Cancelled => true,
            // the daemon says how things stand by its code
            Self::Client(error @ ClientError::Refused { .. }) => {
                ExitCode::from(error) != ExitCode::NeedsPerson
            }
            Self::Usage { .. }
            | Self::Server(_)
            | Self::TokenFile { .. }
            | Self::Config(_)
            | Self::Choice(_)
            | Self::SampleApp(_)
            | Self::Change(_)
            | Self::Client(_)
            | Self::Store(_)
            | Self::NoDaemon { .. }
            | Self::NoRollouts { .. }
            | Self::NoRollout { .. }
            | Self::Replay(_)
            | Self::NothingToRender
            | Self::Serve(_)
            | Self::Interrupted
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::NotOurs { .. }
            | Self::Exists { .. }
            | Self::FromBalancer { .. }
            | Self::Stdout(_)
            | Self::Form { .. }
            | Self::Runtime(_) => false,
        }
    }

    /// True where there is nobody left to tell: `turnout history | head -1` ends without a word.
    pub fn is_quiet(&self) -> bool {
        matches!(self, Self::Stdout(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }
}
