//! Acting without a daemon: the controller over the balancer that the configuration names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::CliError;
use crate::balancer::{
    Applied, ApplyError, Balancer, Change, Drained, Nginx, Observed, RenderError, Rendered, Served,
    ServerHealthUse,
};
use crate::config::{BalancerKind, Config};
use crate::controller::Controller;
use crate::domain::{Color, RoutingTable, ServiceName};
use crate::store::Store;

/// What lock and journal say of the holder; the controller adds the verb.
const COMMAND: &str = "turnout";

/// A controller that acts in this process, and what it stands on.
#[derive(Debug)]
pub(super) struct Local {
    controller: Controller<Carrier>,
    store: Store,
    absent: bool,
}

impl Local {
    /// The controller.
    pub(super) const fn controller(&mut self) -> &mut Controller<Carrier> {
        &mut self.controller
    }

    /// The state directory.
    pub(super) fn state_dir(&self) -> &Path {
        self.store.dir()
    }

    /// True for the embedded proxy, which only its daemon can change.
    pub(super) const fn is_absent(&self) -> bool {
        self.absent
    }
}

/// A balancer as a command can reach it.
#[derive(Debug)]
pub(super) enum Carrier {
    /// nginx, with its files on this host.
    Nginx(Box<Nginx>),
    /// The embedded proxy, which lives in a daemon: seen from here it serves nothing.
    Absent,
}

/// The controller of this configuration. `Auto` is what the state says was proved last, else nginx if a running one serves
/// turnout's file, else the embedded proxy.
pub(super) async fn controller(config: &Arc<Config>) -> Result<Local, CliError> {
    let store = Store::new(config.state_dir.clone());
    let carrier = carrier(config, &store).await?;
    Ok(Local {
        absent: matches!(carrier, Carrier::Absent),
        controller: Controller::new(Arc::clone(config), store.clone(), carrier, COMMAND),
        store,
    })
}

/// The balancer of this configuration.
pub(super) async fn carrier(config: &Config, store: &Store) -> Result<Carrier, CliError> {
    match config.balancer.kind {
        BalancerKind::Nginx => Ok(nginx(config)),
        BalancerKind::Embedded => Ok(Carrier::Absent),
        BalancerKind::Auto => chosen(config, store).await,
        BalancerKind::Haproxy => Err(not_yet("balancer.kind: haproxy")),
        BalancerKind::Exec => Err(not_yet("balancer.kind: exec")),
    }
}

fn not_yet(what: &str) -> CliError {
    CliError::NotInThisVersion {
        what: what.to_owned(),
    }
}

fn nginx(config: &Config) -> Carrier {
    Carrier::Nginx(Box::new(Nginx::new(
        config.balancer.nginx.clone(),
        config.state_dir.clone(),
        config.trusted_proxies.clone(),
    )))
}

async fn chosen(config: &Config, store: &Store) -> Result<Carrier, CliError> {
    match store.load()?.state.balancer.as_deref() {
        Some("nginx") => Ok(nginx(config)),
        Some("embedded") => Ok(Carrier::Absent),
        Some(other) => Err(not_yet(&format!("the balancer `{other}` of the state"))),
        None => {
            let candidate = nginx(config);
            Ok(match candidate.observe().await.served {
                Served::Generation { .. } => candidate,
                Served::Foreign { .. } | Served::Unreachable { .. } => Carrier::Absent,
            })
        }
    }
}

impl Balancer for Carrier {
    fn kind(&self) -> &'static str {
        match self {
            Self::Nginx(nginx) => nginx.kind(),
            Self::Absent => "embedded",
        }
    }

    fn server_health(&self) -> ServerHealthUse {
        match self {
            Self::Nginx(nginx) => nginx.server_health(),
            Self::Absent => ServerHealthUse::Probes,
        }
    }

    async fn check(
        &self,
        desired: &RoutingTable,
        rendered: &Rendered,
    ) -> Result<Vec<String>, ApplyError> {
        match self {
            Self::Nginx(nginx) => nginx.check(desired, rendered).await,
            Self::Absent => Ok(Vec::new()),
        }
    }

    async fn drained(&self, service: &ServiceName, color: Color, within: Duration) -> Drained {
        match self {
            Self::Nginx(nginx) => nginx.drained(service, color, within).await,
            // what does not run has nothing in flight
            Self::Absent => Drained::Done,
        }
    }

    fn render(&self, table: &RoutingTable) -> Result<Rendered, RenderError> {
        match self {
            Self::Nginx(nginx) => nginx.render(table),
            Self::Absent => Ok(Rendered {
                generation: table.generation,
                files: Vec::new(),
            }),
        }
    }

    async fn apply(&self, change: Change<'_>) -> Result<Applied, ApplyError> {
        match self {
            Self::Nginx(nginx) => nginx.apply(change).await,
            Self::Absent => Err(ApplyError::Unreachable {
                message: "the embedded proxy runs inside `turnout serve`: start it".to_owned(),
            }),
        }
    }

    async fn observe(&self) -> Observed {
        match self {
            Self::Nginx(nginx) => nginx.observe().await,
            Self::Absent => Observed {
                disk: None,
                served: Served::Unreachable {
                    reason: "the embedded proxy runs inside `turnout serve`, which does not run"
                        .to_owned(),
                },
            },
        }
    }
}
