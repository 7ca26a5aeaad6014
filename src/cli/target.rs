//! Where a command acts: in the daemon that holds the state directory, else here under the lock.
//!
//! The kernel's serve lock says whether a daemon runs, not whether a port answers: another program may listen there, and a
//! daemon may be slow. A daemon that runs and does not answer is an error with a way out, never a reason to act behind its
//! back. Before a write the daemon must name the same state directory, so that a command never changes another installation.

use std::path::Path;
use std::sync::Arc;

use super::local::{self, Local};
use super::{CliError, Globals};
use crate::api::ServerAddress;
use crate::api::client::{Client, ClientError};
use crate::config::{Config, ConfigError, ControlListen, Env, Source};
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

/// The configuration of this command.
pub(super) fn config(globals: &Globals) -> Result<Arc<Config>, CliError> {
    Ok(Arc::new(load(globals)?))
}

fn load(globals: &Globals) -> Result<Config, ConfigError> {
    let env = Env::of_process();
    Config::load(&Source::find(globals.config(), &env)?, &env)
}

/// The configuration of this command, if there is one: with `--server` there need not be.
fn config_beside_server(globals: &Globals) -> Result<Option<Arc<Config>>, CliError> {
    match load(globals) {
        Ok(config) => Ok(Some(Arc::new(config))),
        Err(ConfigError::NotFound { .. }) => Ok(None),
        Err(error @ (ConfigError::Read { .. } | ConfigError::Invalid { .. })) => Err(error.into()),
    }
}

/// Who is to be asked.
pub(super) async fn to_read(globals: &Globals) -> Result<Target, CliError> {
    if let Some(address) = globals.server()? {
        // the daemon may be asked what is wrong with a configuration that cannot be read
        return Ok(Target::Daemon(Daemon::new(address, globals)?));
    }
    let (target, _config) = find(globals).await?;
    Ok(target)
}

/// Who is to make a change: a daemon only after it named the configured state directory.
pub(super) async fn to_write(globals: &Globals) -> Result<(Target, Option<Arc<Config>>), CliError> {
    let (target, config) = find(globals).await?;
    if let (Target::Daemon(daemon), Some(config)) = (&target, &config) {
        let identity = daemon.client.identity().await?;
        if !same_directory(&identity.state_dir, &config.state_dir) {
            return Err(CliError::OtherDaemon {
                address: daemon.address.to_string(),
                theirs: identity.state_dir,
                ours: config.state_dir.clone(),
            });
        }
    }
    Ok((target, config))
}

async fn find(globals: &Globals) -> Result<(Target, Option<Arc<Config>>), CliError> {
    if let Some(address) = globals.server()? {
        let daemon = Daemon::new(address, globals)?;
        return Ok((Target::Daemon(daemon), config_beside_server(globals)?));
    }
    let config = config(globals)?;
    let holder = if globals.local() {
        None
    } else {
        Store::new(config.state_dir.clone()).lock_status()?.serve
    };
    let target = match holder {
        None => Target::Local(Box::new(local::controller(&config).await?)),
        Some(holder) => {
            let daemon = Daemon::new(address_of(&config)?, globals)?;
            match daemon.client.identity().await {
                Ok(_) => Target::Daemon(daemon),
                Err(
                    source @ (ClientError::Unreachable { .. }
                    | ClientError::Protocol { .. }
                    | ClientError::TimedOut { .. }),
                ) => {
                    return Err(CliError::Silent {
                        holder: Box::new(holder),
                        state_dir: config.state_dir.clone(),
                        source: Box::new(source),
                    });
                }
                Err(error @ (ClientError::Refused { .. } | ClientError::NotPermitted { .. })) => {
                    return Err(error.into());
                }
            }
        }
    };
    Ok((target, Some(config)))
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
