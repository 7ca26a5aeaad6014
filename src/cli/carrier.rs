//! The start of the balancer that the daemon drives, and its end.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::chosen::{self, Chosen};
use super::judged;
use super::serve::ServeError;
use super::sockets::Sockets;
use crate::api::LocalApi;
use crate::balancer::{Backed, CountsSocket, Embedded, Exec, Haproxy, Nginx, Principal, StandIn};
use crate::config::Config;
use crate::controller::{ChangeError, Controller};
use crate::domain::{Color, ServiceName, describe};
use crate::proxy::{BoxError, LocalAnswer, LocalService, Proxy, Reply, Word, check_certificate};
use crate::store::Store;
use crate::traffic::{Counting, Origin, Paths, Source, Totals};

/// What lock and journal say of the holder.
const COMMAND: &str = "turnout serve";

/// What carries the traffic, as far as the daemon must end it.
pub(super) enum Carrier {
    /// nginx or HAProxy, which goes on by itself, and what stands in for it.
    Host(Option<Arc<StandIn>>),
    /// The proxy of this process.
    Embedded(Proxy),
}

/// The controller over the balancer that was chosen, not yet running.
pub(super) enum Controlled {
    Nginx(Box<Controller<Backed<Nginx>>>),
    Haproxy(Box<Controller<Backed<Haproxy>>>),
    Embedded(Box<Controller<Embedded>>),
    Exec(Box<Controller<Exec>>),
}

impl Carrier {
    /// Puts the API on the router's own port. Only the embedded proxy has one.
    pub(super) async fn answer_on_router(&self, local: LocalApi) {
        match self {
            Self::Host(_) => {}
            Self::Embedded(proxy) => proxy.set_local(Arc::new(OnRouter(local))).await,
        }
    }

    /// The proxy of this process, where there is one.
    pub(super) fn proxy(&self) -> Option<Proxy> {
        match self {
            Self::Host(_) => None,
            Self::Embedded(proxy) => Some(proxy.clone()),
        }
    }

    /// Who counts the traffic by color, for the page.
    pub(super) fn source(&self, counting: &Counting) -> Source {
        match self {
            Self::Host(_) => Source::Lines(counting.counts()),
            Self::Embedded(proxy) => Source::Embedded(proxy.clone()),
        }
    }

    /// The listening sockets, for a successor.
    pub(super) async fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(match self {
            Self::Host(None) => Vec::new(),
            Self::Host(Some(stand_in)) => {
                let listeners = stand_in.sockets().await?;
                listeners.into_iter().map(OwnedFd::from).collect()
            }
            Self::Embedded(proxy) => {
                let listeners = proxy.listeners().await?;
                listeners.into_iter().map(OwnedFd::from).collect()
            }
        })
    }

    /// Closes the sockets that were given and that nothing uses, and says which.
    pub(super) async fn close_unused(&self) -> Vec<SocketAddr> {
        match self {
            Self::Host(None) => Vec::new(),
            Self::Host(Some(stand_in)) => stand_in.close_unused(),
            Self::Embedded(proxy) => proxy.close_unused().await,
        }
    }

    /// While nobody answers the API, because it is being handed over or is not there yet.
    pub(super) async fn between(&self) {
        match self {
            Self::Host(_) => {}
            Self::Embedded(proxy) => proxy.set_local(Arc::new(Between)).await,
        }
    }

    /// Routes by what a successor has put into force, and says what is in flight. What stands in for nginx or HAProxy is not told: it
    /// finishes by the table that it had. As [`Self::reply`].
    pub(super) async fn follow(&self, word: &Word) -> Option<Reply> {
        match self {
            Self::Host(_) => self.reply(word.number()),
            Self::Embedded(proxy) => proxy.follow(word).await,
        }
    }

    /// What is in flight, after word `number`; `None` while a daemon before this one does not go by it.
    pub(super) fn reply(&self, number: u64) -> Option<Reply> {
        match self {
            Self::Host(_) => Some(Reply::to(number)),
            Self::Embedded(proxy) => proxy.reply(number),
        }
    }

    /// Returns once no daemon before this one serves.
    pub(super) async fn alone(&self) {
        match self {
            Self::Host(_) => {}
            Self::Embedded(proxy) => proxy.alone().await,
        }
    }

    /// As [`Self::drain`], once a successor accepts.
    pub(super) async fn hand_over(&self, within: Duration) -> u64 {
        match self {
            Self::Host(None) => 0,
            Self::Host(Some(stand_in)) => stand_in.hand_over(within).await,
            Self::Embedded(proxy) => proxy.hand_over(Instant::now() + within).await.cut,
        }
    }

    /// Lets requests in flight finish, and says how many connections were cut at the deadline.
    pub(super) async fn drain(&self, within: Duration) -> u64 {
        match self {
            Self::Host(None) => 0,
            Self::Host(Some(stand_in)) => stand_in.drain(within).await,
            Self::Embedded(proxy) => proxy.drain(Instant::now() + within).await.cut,
        }
    }
}

/// Starts what has to be started. `kept` goes on if there is one: it served before the controller that is now to drive it.
/// `known` is the configuration that is in use from now on.
pub(super) async fn start(
    config: &Arc<Config>,
    known: Receiver<Arc<Config>>,
    store: Store,
    sockets: &mut Sockets,
    kept: Option<Carrier>,
) -> Result<(Carrier, Controlled, Counting), ServeError> {
    let bucket = config.balancer.bucket;
    let judged = known.clone();
    let feed = move |counting: &Counting| judged::feed(counting.counts(), judged.clone());
    let counting = |origin| Counting::begin(origin, bucket, move || counted(&known.borrow()));
    match chosen::balancer(config, &store).await? {
        Chosen::Nginx(nginx) => {
            let counting = counting(lines(
                nginx.counts_socket(),
                nginx.pid_file().to_owned(),
                nginx.counts_total().map_or(Totals::Unknown, Totals::Nginx),
                sockets,
            ));
            let (stand_in, nginx) = backed(config, *nginx, sockets, kept);
            let controller = Controller::new(Arc::clone(config), store, nginx, COMMAND)
                .following(followed(config))
                .fed_by(feed(&counting));
            Ok((stand_in, Controlled::Nginx(Box::new(controller)), counting))
        }
        Chosen::Haproxy(haproxy) => {
            let counting = counting(match haproxy.counts_socket() {
                Ok(socket) => lines(
                    socket,
                    haproxy.pid_file().to_owned(),
                    Totals::Haproxy(haproxy.runtime_socket().to_owned()),
                    sockets,
                ),
                Err(error) => Origin::Nobody(error.to_string()),
            });
            let (stand_in, haproxy) = backed(config, *haproxy, sockets, kept);
            let controller = Controller::new(Arc::clone(config), store, haproxy, COMMAND)
                .following(followed(config))
                .fed_by(feed(&counting));
            Ok((
                stand_in,
                Controlled::Haproxy(Box::new(controller)),
                counting,
            ))
        }
        Chosen::Exec(exec) => {
            let counting = counting(Origin::Nobody(Exec::UNTOLD.to_owned()));
            let controller = Controller::new(Arc::clone(config), store, *exec, COMMAND)
                .following(followed(config))
                .fed_by(feed(&counting));
            Ok((
                Carrier::Host(None),
                Controlled::Exec(Box::new(controller)),
                counting,
            ))
        }
        Chosen::Embedded => {
            let bad = bad_certificates(config, None);
            if !bad.is_empty() {
                return Err(ServeError::Certificates(bad.join("\n")));
            }
            let proxy = match kept {
                Some(Carrier::Embedded(proxy)) => proxy,
                Some(Carrier::Host(_)) | None => {
                    Proxy::start(0, config.trusted_proxies.clone()).map_err(ServeError::Proxy)?
                }
            };
            proxy.give(sockets.take_rest()).await;
            let mut addresses = BTreeSet::new();
            for shape in config.shapes().values() {
                if let Some(address) = shape.listen
                    && !proxy.listens_on(&address).await
                {
                    addresses.insert(address);
                }
            }
            Embedded::try_addresses(addresses.into_iter()).map_err(ChangeError::from)?;
            let balancer = Embedded::new(proxy.clone());
            // rollouts and the page ask the proxy itself
            let counting = counting(Origin::Nobody(
                "the proxy does not serve it yet, and nobody else counts here".to_owned(),
            ));
            let controller = Controller::new(Arc::clone(config), store, balancer, COMMAND)
                .following(followed(config))
                .fed_by(feed(&counting));
            Ok((
                Carrier::Embedded(proxy),
                Controlled::Embedded(Box::new(controller)),
                counting,
            ))
        }
    }
}

/// The services that are counted.
fn counted(config: &Config) -> Vec<ServiceName> {
    let services = config.services.iter();
    services
        .filter(|(_, service)| service.shape.metrics)
        .map(|(name, _)| name.clone())
        .collect()
}

/// A balancer that tells of each request in a datagram. The socket of a process before this one is read on.
fn lines(at: CountsSocket, pid: PathBuf, totals: Totals, sockets: &mut Sockets) -> Origin {
    Origin::Lines {
        given: sockets.take_datagram(&at.path),
        paths: Paths {
            socket: at.path,
            reader: at.reader,
        },
        pid,
        totals,
    }
}

/// `principal` with the proxy that stands in for it where that is configured: the one that did so before the controller that
/// is now to drive it, or a new one, which gets the sockets of a process before this one.
fn backed<B: Principal>(
    config: &Config,
    principal: B,
    sockets: &mut Sockets,
    kept: Option<Carrier>,
) -> (Carrier, Backed<B>) {
    let stand_in = config.balancer.fallback.is_some().then(|| {
        if let Some(Carrier::Host(Some(kept))) = kept {
            return kept;
        }
        let new = StandIn::of(&principal, config.trusted_proxies.clone());
        new.give(sockets.take_rest());
        new
    });
    let balancer = Backed::new(principal, stand_in.clone());
    (Carrier::Host(stand_in), balancer)
}

/// The color that the followed file names; `None` where none is followed, or it names none. A daemon tells why not once it
/// watches the file.
pub(super) fn followed(config: &Config) -> Option<Color> {
    config
        .follow
        .as_ref()
        .and_then(|follow| crate::watch::followed(follow).ok())
}

/// What is wrong with the certificates of services whose files are not those that `running` has already. Not part of reading a
/// configuration, which commands of users who may not read keys do as well.
pub(super) fn bad_certificates(config: &Config, running: Option<&Config>) -> Vec<String> {
    let known = |name: &crate::domain::ServiceName| {
        let running = running?;
        let service = running.services.get(name).map(|service| &service.shape);
        let shape = service.or_else(|| Some(&running.aliases.get(name)?.shape))?;
        shape.tls.clone()
    };
    let colored = config.services.iter();
    let colored = colored.map(|(name, service)| (name, &service.shape, &service.tls_at));
    let aliases = config.aliases.iter();
    colored
        .chain(aliases.map(|(name, alias)| (name, &alias.shape, &alias.tls_at)))
        .filter_map(|(name, shape, tls_at)| {
            let files = shape.tls.as_ref()?;
            if known(name).as_ref() == Some(files) {
                return None;
            }
            let error = check_certificate(files).err()?;
            let place = tls_at.as_ref();
            let place = place.map_or_else(String::new, |place| format!("{place}: "));
            Some(format!("{place}services.{name}.tls: {}", describe(&error)))
        })
        .collect()
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

/// The API's paths while it is handed over: come again in a second.
struct Between;

impl LocalService for Between {
    fn wants(&self, path: &str) -> bool {
        LocalApi::owns(path)
    }

    fn call(
        &self,
        _: http::Request<Incoming>,
        _: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = http::Response<LocalAnswer>> + Send>> {
        let mut answer = http::Response::new(empty());
        *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        let headers = answer.headers_mut();
        headers.insert(
            http::header::RETRY_AFTER,
            http::HeaderValue::from_static("1"),
        );
        Box::pin(std::future::ready(answer))
    }
}

fn empty() -> LocalAnswer {
    http_body_util::Empty::new().map_err(never).boxed()
}

fn never(never: std::convert::Infallible) -> BoxError {
    match never {}
}
