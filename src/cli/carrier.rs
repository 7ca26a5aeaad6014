//! The start of the balancer that the daemon drives, and its end.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::chosen::{self, Chosen};
use super::serve::ServeError;
use crate::api::LocalApi;
use crate::balancer::{Embedded, Haproxy, Nginx};
use crate::config::Config;
use crate::controller::{ChangeError, Controller};
use crate::proxy::{BoxError, LocalAnswer, LocalService, Proxy};
use crate::store::Store;

/// What lock and journal say of the holder.
const COMMAND: &str = "turnout serve";

/// What carries the traffic, as far as the daemon must end it.
pub(super) enum Carrier {
    /// nginx or HAProxy, which goes on by itself.
    Host,
    /// The proxy of this process.
    Embedded(Proxy),
}

/// The controller over the balancer that was chosen, not yet running.
pub(super) enum Controlled {
    Nginx(Box<Controller<Nginx>>),
    Haproxy(Box<Controller<Haproxy>>),
    Embedded(Box<Controller<Embedded>>),
}

impl Carrier {
    /// Puts the API on the router's own port. Only the embedded proxy has one.
    pub(super) async fn answer_on_router(&self, local: LocalApi) {
        match self {
            Self::Host => {}
            Self::Embedded(proxy) => proxy.set_local(Arc::new(OnRouter(local))).await,
        }
    }

    /// Lets requests in flight finish, and says how many connections were cut at the deadline.
    pub(super) async fn drain(&self, within: Duration) -> u64 {
        match self {
            Self::Host => 0,
            Self::Embedded(proxy) => proxy.drain(Instant::now() + within).await.cut,
        }
    }
}

/// Starts what has to be started.
pub(super) async fn start(
    config: &Arc<Config>,
    store: Store,
) -> Result<(Carrier, Controlled), ServeError> {
    match chosen::balancer(config, &store).await? {
        Chosen::Nginx(nginx) => {
            let controller = Controller::new(Arc::clone(config), store, *nginx, COMMAND);
            Ok((Carrier::Host, Controlled::Nginx(Box::new(controller))))
        }
        Chosen::Haproxy(haproxy) => {
            let controller = Controller::new(Arc::clone(config), store, *haproxy, COMMAND);
            Ok((Carrier::Host, Controlled::Haproxy(Box::new(controller))))
        }
        Chosen::Embedded => {
            let listeners: BTreeSet<_> = config
                .services
                .values()
                .filter_map(|service| service.shape.listen)
                .collect();
            Embedded::try_addresses(listeners.into_iter()).map_err(ChangeError::from)?;
            let proxy =
                Proxy::start(0, config.trusted_proxies.clone()).map_err(ServeError::Proxy)?;
            let balancer = Embedded::new(proxy.clone());
            let controller = Controller::new(Arc::clone(config), store, balancer, COMMAND);
            Ok((
                Carrier::Embedded(proxy),
                Controlled::Embedded(Box::new(controller)),
            ))
        }
    }
}

/// The API on the router's port: what the proxy asks for, of what the API offers.
struct OnRouter(LocalApi);

impl LocalService for OnRouter {
    fn wants(&self, path: &str) -> bool {
        self.0.wants(path)
    }

    fn call(
        &self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = http::Response<LocalAnswer>> + Send>> {
        let answer = self.0.call(request, peer);
        Box::pin(async move {
            // axum's body is Send and not Sync, which the proxy's asks for; the answers are whole texts anyway
            let (head, body) = answer.await.into_parts();
            let text = match body.collect().await {
                Ok(collected) => collected.to_bytes(),
                Err(error) => {
                    tracing::error!(%error, "an answer of the API broke");
                    return http::Response::new(empty());
                }
            };
            http::Response::from_parts(head, http_body_util::Full::new(text).map_err(never).boxed())
        })
    }
}

fn empty() -> LocalAnswer {
    http_body_util::Empty::new().map_err(never).boxed()
}

fn never(never: std::convert::Infallible) -> BoxError {
    match never {}
}
