//! Which balancer a configuration means, for daemon and command alike. Looks at the state and at what runs; starts and
//! changes nothing.

use super::CliError;
use crate::balancer::{Exec, Haproxy, Nginx};
use crate::config::{BalancerKind, Config};
use crate::store::{Store, StoreError};

/// What carries the traffic.
#[derive(Debug)]
pub(super) enum Chosen {
    /// nginx, with its files on this host.
    Nginx(Box<Nginx>),
    /// HAProxy, with its files and its socket on this host.
    Haproxy(Box<Haproxy>),
    /// The proxy inside `turnout serve`.
    Embedded,
    /// Another router, by the user's commands.
    Exec(Box<Exec>),
}

/// Why no balancer can be named.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// The configuration is valid, and asks for what this version does not do. Exit 78.
    #[error(
        "{what} is not in this version of turnout, which has nginx, haproxy, embedded and exec"
    )]
    NotInThisVersion {
        /// What was asked for.
        what: String,
    },
    /// The state remembers a router that is driven by commands, and there are none any more. Exit 78.
    #[error(
        "the state says `exec`, and the configuration has no balancer.exec: add it, or set balancer.kind"
    )]
    NoCommands,
    /// The state directory, where the choice is kept.
    #[error("failed to read which balancer was used last")]
    State(#[from] StoreError),
}

/// The balancer of `config`. `auto` is the one that was proved last; before the first proof nginx or HAProxy, if a
/// running one loads turnout's file or would once it is there, else the embedded proxy.
pub(super) async fn balancer(config: &Config, store: &Store) -> Result<Chosen, ChoiceError> {
    let not_yet = |what: String| Err(ChoiceError::NotInThisVersion { what });
    match config.balancer.kind {
        BalancerKind::Nginx => Ok(Chosen::Nginx(nginx(config))),
        BalancerKind::Embedded => Ok(Chosen::Embedded),
        BalancerKind::Haproxy => Ok(Chosen::Haproxy(haproxy(config))),
        BalancerKind::Exec => exec(config),
        BalancerKind::Auto => match recorded(store)?.as_deref() {
            Some("nginx") => Ok(Chosen::Nginx(nginx(config))),
            Some("haproxy") => Ok(Chosen::Haproxy(haproxy(config))),
            Some("embedded") => Ok(Chosen::Embedded),
            Some("exec") => exec(config),
            Some(other) => not_yet(format!("the balancer `{other}` of the state")),
            None => {
                let nginx = nginx(config);
                let haproxy = haproxy(config);
                Ok(if nginx.loads().await {
                    Chosen::Nginx(nginx)
                } else if haproxy.loads().await {
                    Chosen::Haproxy(haproxy)
                } else {
                    Chosen::Embedded
                })
            }
        },
    }
}

/// What the state says. One that nothing in the state directory can tell any more says nothing: the balancer is asked then.
fn recorded(store: &Store) -> Result<Option<String>, StoreError> {
    match store.load() {
        Ok(loaded) => Ok(loaded.state.balancer),
        Err(StoreError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The commands are there where the kind asks for them; a state that remembers them may be older than the configuration.
fn exec(config: &Config) -> Result<Chosen, ChoiceError> {
    let Some(settings) = config.balancer.exec.clone() else {
        return Err(ChoiceError::NoCommands);
    };
    let services = config.services.keys().cloned().collect();
    let state_dir = config.state_dir.clone();
    Ok(Chosen::Exec(Box::new(Exec::new(
        settings, state_dir, services,
    ))))
}

fn nginx(config: &Config) -> Box<Nginx> {
    Box::new(Nginx::new(
        config.balancer.nginx.clone(),
        config.state_dir.clone(),
        config.trusted_proxies.clone(),
    ))
}

fn haproxy(config: &Config) -> Box<Haproxy> {
    Box::new(Haproxy::new(
        config.balancer.haproxy.clone(),
        config.state_dir.clone(),
        config.trusted_proxies.clone(),
    ))
}

impl From<ChoiceError> for CliError {
    fn from(error: ChoiceError) -> Self {
        match error {
            ChoiceError::NotInThisVersion { .. } | ChoiceError::NoCommands => Self::Choice(error),
            ChoiceError::State(error) => error.into(),
        }
    }
}
