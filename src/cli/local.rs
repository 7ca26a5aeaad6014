//! Acting without a daemon: the controller over the balancer that the configuration names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::CliError;
use super::chosen::{self, Chosen};
use crate::balancer::{
    Applied, ApplyError, Balancer, Change, Drained, Exec, Foreign, Haproxy, Nginx, Observed,
    RenderError, Rendered, Served, ServerHealthUse,
};
use crate::config::Config;
use crate::controller::Controller;
use crate::domain::{Color, Generation, RoutingTable, ServiceName};
use crate::store::{Holder, Store, StoreError};

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

    /// The daemon on that directory, which is there only where `--local` goes past it.
    pub(super) fn daemon(&self) -> Result<Option<Holder>, StoreError> {
        Ok(self.store.lock_status()?.serve)
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
    /// HAProxy, likewise.
    Haproxy(Box<Haproxy>),
    /// Another router, by the user's commands.
    Exec(Box<Exec>),
    /// The embedded proxy, which lives in a daemon: seen from here it serves nothing.
    Absent,
}

/// The controller of this configuration.
pub(super) async fn controller(config: &Arc<Config>) -> Result<Local, CliError> {
    let store = Store::new(config.state_dir.clone());
    let carrier = match chosen::balancer(config, &store).await? {
        Chosen::Nginx(nginx) => Carrier::Nginx(nginx),
        Chosen::Haproxy(haproxy) => Carrier::Haproxy(haproxy),
        Chosen::Exec(exec) => Carrier::Exec(exec),
        Chosen::Embedded => Carrier::Absent,
    };
    Ok(Local {
        absent: matches!(carrier, Carrier::Absent),
        controller: Controller::new(Arc::clone(config), store.clone(), carrier, COMMAND)
            .following(super::carrier::followed(config)),
        store,
    })
}

impl Balancer for Carrier {
    fn kind(&self) -> &'static str {
        match self {
            Self::Nginx(nginx) => nginx.kind(),
            Self::Haproxy(haproxy) => haproxy.kind(),
            Self::Exec(exec) => exec.kind(),
            Self::Absent => "embedded",
        }
    }

    fn server_health(&self) -> ServerHealthUse {
        match self {
            Self::Nginx(nginx) => nginx.server_health(),
            Self::Haproxy(haproxy) => haproxy.server_health(),
            Self::Exec(exec) => exec.server_health(),
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
            Self::Haproxy(haproxy) => haproxy.check(desired, rendered).await,
            Self::Exec(exec) => exec.check(desired, rendered).await,
            Self::Absent => Ok(Vec::new()),
        }
    }

    async fn drained(&self, service: &ServiceName, color: Color, within: Duration) -> Drained {
        match self {
            Self::Nginx(nginx) => nginx.drained(service, color, within).await,
            Self::Haproxy(haproxy) => haproxy.drained(service, color, within).await,
            Self::Exec(exec) => exec.drained(service, color, within).await,
            // what does not run has nothing in flight
            Self::Absent => Drained::Done,
        }
    }

    fn render(&self, table: &RoutingTable) -> Result<Rendered, RenderError> {
        match self {
            Self::Nginx(nginx) => nginx.render(table),
            Self::Haproxy(haproxy) => haproxy.render(table),
            Self::Exec(exec) => exec.render(table),
            Self::Absent => Ok(Rendered {
                generation: table.generation,
                files: Vec::new(),
            }),
        }
    }

    async fn apply(&self, change: Change<'_>) -> Result<Applied, ApplyError> {
        match self {
            Self::Nginx(nginx) => nginx.apply(change).await,
            Self::Haproxy(haproxy) => haproxy.apply(change).await,
            Self::Exec(exec) => exec.apply(change).await,
            Self::Absent => Err(ApplyError::Unreachable {
                message: "the embedded proxy runs inside `turnout serve`: start it".to_owned(),
            }),
        }
    }

    async fn revert(
        &self,
        to: Generation,
        foreign: Foreign,
    ) -> Result<Option<Applied>, ApplyError> {
        match self {
            Self::Nginx(nginx) => nginx.revert(to, foreign).await,
            Self::Haproxy(haproxy) => haproxy.revert(to, foreign).await,
            Self::Exec(exec) => exec.revert(to, foreign).await,
            Self::Absent => Ok(None),
        }
    }

    async fn observe(&self) -> Observed {
        match self {
            Self::Nginx(nginx) => nginx.observe().await,
            Self::Haproxy(haproxy) => haproxy.observe().await,
            Self::Exec(exec) => exec.observe().await,
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
