//! Where a command acts: in the daemon that holds the state directory, else here under the lock.
//!
//! The kernel's serve lock says whether a daemon runs, not whether a port answers: another program may listen there, and a
//! daemon may be slow. A daemon that runs and does not answer is an error with a way out, never a reason to act behind its
//! back. A configuration that is broken at the moment does not hide it: the daemon keeps the last good one. Before a write the daemon must name the same state directory, so that a command never changes another installation.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use super::local::{self, Local};
use super::{CliError, Globals, output};
use crate::api::ServerAddress;
use crate::api::client::{Client, ClientError};
use crate::config::{Config, ConfigError, ControlListen, Env, Source, Whereabouts};
use crate::exit::{Chain, ExitCode};
use crate::store::Store;

/// Who does it.
#[derive(Debug)]
pub(super) enum Target {
    /// The daemon.
    Daemon(Daemon),
    /// This process.
    Local(Box<Local>),
}

/// A daemon, and what is known of it.
#[derive(Debug)]
pub(super) struct Daemon {
    /// The way to it.
    pub(super) client: Client,
    /// For messages.
    address: ServerAddress,
}

/// How much of its configuration a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// All of it: it is about what the file says now.
    Whole,
    /// The way to the daemon, if one runs: it keeps the last good one.
    Daemon,
}

/// Who probes for `turnout check`.
#[derive(Debug)]
pub(super) enum Prober {
    /// This process.
    Here(Arc<Config>),
    /// The daemon.
    Daemon(Daemon),
}

/// Who is asked, and what is known of the configuration.
struct Found {
    target: Target,
    /// `None` where the daemon's own has to do.
    config: Option<Arc<Config>>,
    /// `None` where the daemon was named and no configuration beside it.
    state_dir: Option<PathBuf>,
}

/// The configuration of this command.
pub(super) fn config(globals: &Globals) -> Result<Arc<Config>, CliError> {
    Ok(Arc::new(load(globals)?))
}

fn load(globals: &Globals) -> Result<Config, ConfigError> {
    let env = Env::of_process();
    Config::load(&Source::find(globals.config(), &env)?, &env)
}

/// State directory and API of a configuration that is broken elsewhere; `None` if these are too.
fn whereabouts(globals: &Globals) -> Option<Whereabouts> {
    let env = Env::of_process();
    Whereabouts::read(&Source::find(globals.config(), &env).ok()?, &env)
}

/// The state directory, for verbs that only look into it.
pub(super) fn state_dir(globals: &Globals) -> Result<PathBuf, CliError> {
    match load(globals) {
        Ok(config) => Ok(config.state_dir),
        Err(error @ ConfigError::Invalid { .. }) => match whereabouts(globals) {
            Some(place) => {
                warn_of(&error);
                Ok(place.state_dir)
            }
            None => Err(error.into()),
        },
        Err(error @ (ConfigError::NotFound { .. } | ConfigError::Read { .. })) => Err(error.into()),
    }
}

/// The state directory beside `--server`, if a configuration names one: there need not be any, nor a good one.
fn state_dir_beside_server(globals: &Globals) -> Option<PathBuf> {
    match load(globals) {
        Ok(config) => Some(config.state_dir),
        Err(ConfigError::NotFound { .. }) => None,
        Err(error @ (ConfigError::Read { .. } | ConfigError::Invalid { .. })) => {
            warn_of(&error);
            Some(whereabouts(globals)?.state_dir)
        }
    }
}

/// Names what is wrong with the configuration, once: a live status looks every second.
fn warn_of(error: &ConfigError) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        match error {
            ConfigError::Invalid { problems } => {
                for problem in problems {
                    output::talk(problem);
                }
            }
            ConfigError::NotFound { .. } | ConfigError::Read { .. } => output::talk(Chain(error)),
        }
        output::warn(
            "the configuration is not good; a daemon that runs goes on with the last good one",
        );
    });
}

/// Who is to be asked.
pub(super) async fn to_read(globals: &Globals) -> Result<Target, CliError> {
    if let Some(address) = globals.server()? {
        // the daemon may be asked what is wrong with a configuration that cannot be read
        return Ok(Target::Daemon(Daemon::new(address, globals)?));
    }
    Ok(find(globals, Needs::Daemon).await?.target)
}

/// Who is to probe: this process, whether a daemon runs or not, as long as it knows what to probe.
pub(super) async fn to_probe(globals: &Globals) -> Result<Prober, CliError> {
    if let Some(address) = globals.server()? {
        return Ok(Prober::Daemon(Daemon::new(address, globals)?));
    }
    match load(globals) {
        Ok(config) => Ok(Prober::Here(Arc::new(config))),
        Err(error) => match despite(globals, error).await?.target {
            Target::Daemon(daemon) => Ok(Prober::Daemon(daemon)),
            Target::Local(_) => Ok(Prober::Here(config(globals)?)),
        },
    }
}

/// Who reads the audit log for `turnout history`.
#[derive(Debug)]
pub(super) enum Recall {
    /// This process, from this state directory.
    Here(PathBuf),
    /// The daemon.
    Daemon(Daemon),
}

/// Who is to read the audit log: a daemon where it was named, or where this user may not.
pub(super) async fn to_recall(globals: &Globals) -> Result<Recall, CliError> {
    if let Some(address) = globals.server()? {
        return Ok(Recall::Daemon(Daemon::new(address, globals)?));
    }
    let state_dir = state_dir(globals)?;
    if globals.local() || Store::new(state_dir.clone()).lock_status().is_ok() {
        return Ok(Recall::Here(state_dir));
    }
    match find(globals, Needs::Daemon).await?.target {
        Target::Daemon(daemon) => Ok(Recall::Daemon(daemon)),
        Target::Local(_) => Ok(Recall::Here(state_dir)),
    }
}

/// Who is to make a change: a daemon only after it named the configured state directory.
pub(super) async fn to_write(
    globals: &Globals,
    needs: Needs,
) -> Result<(Target, Option<Arc<Config>>), CliError> {
    let found = find(globals, needs).await?;
    if let (Target::Daemon(daemon), Some(state_dir)) = (&found.target, &found.state_dir) {
        let identity = daemon.client.identity().await?;
        if !same_directory(&identity.state_dir, state_dir) {
            return Err(CliError::OtherDaemon {
                address: daemon.address.to_string(),
                theirs: identity.state_dir,
                ours: state_dir.clone(),
            });
        }
    }
    Ok((found.target, found.config))
}

async fn find(globals: &Globals, needs: Needs) -> Result<Found, CliError> {
    if let Some(address) = globals.server()? {
        return Ok(Found {
            target: Target::Daemon(Daemon::new(address, globals)?),
            config: None,
            state_dir: state_dir_beside_server(globals),
        });
    }
    let config = match load(globals) {
        Ok(config) => Arc::new(config),
        Err(error) if needs == Needs::Daemon => return despite(globals, error).await,
        Err(error) => return Err(error.into()),
    };
    let daemon = if globals.local() {
        None
    } else {
        running(globals, &config.state_dir, || address_of(&config)).await?
    };
    Ok(Found {
        target: match daemon {
            Some(daemon) => Target::Daemon(daemon),
            None => Target::Local(Box::new(local::controller(&config).await?)),
        },
        state_dir: Some(config.state_dir.clone()),
        config: Some(config),
    })
}

/// The daemon in spite of a configuration that is broken at the moment. Without one the configuration is what is wrong.
async fn despite(globals: &Globals, error: ConfigError) -> Result<Found, CliError> {
    let place = match &error {
        ConfigError::Invalid { .. } if !globals.local() => whereabouts(globals),
        ConfigError::Invalid { .. } | ConfigError::NotFound { .. } | ConfigError::Read { .. } => {
            None
        }
    };
    let place = place.and_then(|place| {
        let address = ServerAddress::of_listen(&place.listen)?;
        Some((place.state_dir, address))
    });
    let Some((state_dir, address)) = place else {
        return Err(error.into());
    };
    match running(globals, &state_dir, || Ok(address)).await {
        Ok(Some(daemon)) => {
            warn_of(&error);
            Ok(Found {
                target: Target::Daemon(daemon),
                config: None,
                state_dir: Some(state_dir),
            })
        }
        Ok(None) | Err(CliError::Store(_)) => Err(error.into()),
        Err(failed) => {
            warn_of(&error);
            Err(failed)
        }
    }
}

/// The daemon that holds a state directory, if one does.
async fn running(
    globals: &Globals,
    state_dir: &Path,
    address: impl FnOnce() -> Result<ServerAddress, CliError>,
) -> Result<Option<Daemon>, CliError> {
    let holder = match Store::new(state_dir.to_owned()).lock_status() {
        Ok(locks) => locks.serve,
        // the locks are not for everybody to see, and the API may well be for everybody to ask
        Err(error) if ExitCode::from(&error) == ExitCode::NotPermitted => {
            let daemon = Daemon::new(address()?, globals)?;
            return match daemon.client.identity().await {
                Ok(identity) if same_directory(&identity.state_dir, state_dir) => Ok(Some(daemon)),
                Err(refused @ ClientError::NotPermitted { .. }) => Err(refused.into()),
                Ok(_) | Err(_) => Err(error.into()),
            };
        }
        Err(error) => return Err(error.into()),
    };
    let Some(holder) = holder else {
        return Ok(None);
    };
    let daemon = Daemon::new(address()?, globals)?;
    match daemon.client.identity().await {
        Ok(_) => Ok(Some(daemon)),
        Err(
            source @ (ClientError::Unreachable { .. }
            | ClientError::Ended { .. }
            | ClientError::Protocol { .. }
            | ClientError::TimedOut { .. }),
        ) => Err(CliError::Silent {
            holder: Box::new(holder),
            state_dir: state_dir.to_owned(),
            source: Box::new(source),
        }),
        Err(error @ (ClientError::Refused { .. } | ClientError::NotPermitted { .. })) => {
            Err(error.into())
        }
    }
}

impl Daemon {
    fn new(address: ServerAddress, globals: &Globals) -> Result<Self, CliError> {
        Ok(Self {
            client: Client::new(&address, globals.token()?)?,
            address,
        })
    }
}

/// Where the daemon of this configuration listens.
pub(super) fn address_of(config: &Config) -> Result<ServerAddress, CliError> {
    ServerAddress::of_listen(&config.control.listen)
        .or_else(|| match config.control.listen {
            ControlListen::Router => config
                .services
                .values()
                .find_map(|service| service.shape.listen)
                .map(ServerAddress::of_socket),
            ControlListen::Tcp(_) | ControlListen::Unix(_) => None,
        })
        .ok_or_else(|| CliError::Usage {
            message:
                "the configuration does not say where the daemon's API is: name it with --server"
                    .to_owned(),
        })
}

/// True if both paths are one directory, by whatever links they lead there.
fn same_directory(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}
