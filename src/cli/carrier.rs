//! Which balancer the daemon drives, and its start.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::serve::ServeError;
use crate::balancer::{Balancer, Embedded, Nginx, Served};
use crate::config::{BalancerKind, Config};
use crate::controller::{ApplyError, ChangeError, Controller};
use crate::proxy::Proxy;
use crate::store::Store;

/// What lock and journal say of the holder.
const COMMAND: &str = "turnout serve";

/// What carries the traffic, as far as the daemon must end it.
pub(super) enum Carrier {
    /// nginx goes on by itself.
    Nginx,
    /// The proxy of this process.
    Embedded(Proxy),
}

/// The controller over the balancer that was chosen, not yet running.
pub(super) enum Controlled {
    Nginx(Box<Controller<Nginx>>),
    Embedded(Box<Controller<Embedded>>),
}

impl Carrier {
    /// Lets requests in flight finish, and says how many connections were cut at the deadline.
    pub(super) async fn drain(&self, within: Duration) -> u64 {
        match self {
            Self::Nginx => 0,
            Self::Embedded(proxy) => proxy.drain(Instant::now() + within).await.cut,
        }
    }
}

/// Starts what has to be started.
pub(super) async fn start(
    config: &Arc<Config>,
    store: Store,
) -> Result<(Carrier, Controlled), ServeError> {
    let kind = match config.balancer.kind {
        BalancerKind::Auto => chosen(config, &store).await?,
        kind => kind,
    };
    match kind {
        BalancerKind::Nginx => {
            let controller = Controller::new(Arc::clone(config), store, nginx(config), COMMAND);
            Ok((Carrier::Nginx, Controlled::Nginx(Box::new(controller))))
        }
        BalancerKind::Embedded | BalancerKind::Auto => {
            let proxy =
                Proxy::start(0, config.trusted_proxies.clone()).map_err(ServeError::Proxy)?;
            let balancer = Embedded::new(proxy.clone());
            let controller = Controller::new(Arc::clone(config), store, balancer, COMMAND);
            Ok((
                Carrier::Embedded(proxy),
                Controlled::Embedded(Box::new(controller)),
            ))
        }
        BalancerKind::Haproxy => Err(not_yet("haproxy")),
        BalancerKind::Exec => Err(not_yet("exec")),
    }
}

fn nginx(config: &Config) -> Nginx {
    Nginx::new(
        config.balancer.nginx.clone(),
        config.state_dir.clone(),
        config.trusted_proxies.clone(),
    )
}

/// What `auto` means: what was proved last, else nginx if a running one serves turnout's file, else the embedded proxy.
async fn chosen(config: &Config, store: &Store) -> Result<BalancerKind, ServeError> {
    let recorded = store.load().map_err(ChangeError::from)?.state.balancer;
    match recorded.as_deref() {
        Some("nginx") => Ok(BalancerKind::Nginx),
        Some("embedded") => Ok(BalancerKind::Embedded),
        Some(other) => Err(not_yet(other)),
        None => Ok(match nginx(config).observe().await.served {
            Served::Generation { .. } => BalancerKind::Nginx,
            Served::Foreign { .. } | Served::Unreachable { .. } => BalancerKind::Embedded,
        }),
    }
}

fn not_yet(kind: &str) -> ServeError {
    let message = format!("balancer.kind: {kind} is not in this version of turnout");
    ServeError::Controller(ApplyError::Unreachable { message }.into())
}
