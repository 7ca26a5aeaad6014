//! One service of a snapshot: what its requests go by, worked out before they come. Made whole and never changed; what it has
//! learned of servers and clients goes on in the one that comes after it, where it still applies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::access::Destination;
use super::counters::ServiceCounters;
use super::gate::Gate;
use super::lane::{Lane, Lanes};
use super::mark::Mark;
use super::rate::Limiter;
use super::tls::Certificate;
use crate::domain::{
    AccessLog, Admission, AliasRoute, Color, Hashing, OnUnhealthy, RateRule, Route, Server,
    Service, ServiceName, Split, Timeouts, Traffic,
};

/// One service, with everything that can be worked out before a request comes.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: ServiceName,
    /// How a request finds its way behind it, and what that was made from.
    pub(super) course: Course,
    pub(super) timeouts: Timeouts,
    pub(super) gate: Gate,
    /// Where its access log goes.
    pub(super) log: Option<Arc<Destination>>,
    /// How long a request waits while the traffic is held.
    pub(super) hold: Duration,
    pub(super) limiters: Vec<Arc<Limiter>>,
    pub(super) sides: Lanes<Side>,
    /// What its alias resolved to when this was made, blocked or not.
    addresses: Vec<SocketAddr>,
    pub(super) body_limit: Option<u64>,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) counters: Arc<ServiceCounters>,
}

/// How a request finds its way behind a service. Each holds the route that it was made from, to tell whether the next table
/// changes it.
#[derive(Debug)]
pub(super) enum Course {
    /// By color.
    Colors(Box<Coloring>),
    /// To whatever the alias resolves to.
    Alias(AliasRoute),
}

/// What a color is chosen by.
#[derive(Debug)]
pub(super) struct Coloring {
    pub(super) split: Split,
    /// How a sticky key finds its color.
    pub(super) hashing: Hashing,
    pub(super) sticky: Option<StickyKey>,
    pub(super) preview: Option<HeaderName>,
    pub(super) on_unhealthy: OnUnhealthy,
    route: Route,
}

/// Where the sticky key is.
#[derive(Debug)]
pub(super) struct StickyKey {
    pub(super) header: Option<HeaderName>,
    pub(super) cookie: String,
    pub(super) set_cookie: bool,
}

/// The servers of one color, or of the alias.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// Those that health probes do not hold for unhealthy, in the order of the configuration; or the addresses that an alias
    /// resolves to, unless it is blocked.
    pub(super) healthy: Vec<Target>,
}

/// One server, with the URL that the header says: its own, or its alias's.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) server: Server,
    pub(super) url: HeaderValue,
    pub(super) mark: Arc<Mark>,
}

impl Coloring {
    /// The color that serves, or the stable one of a canary.
    pub(super) const fn active(&self) -> Color {
        self.route.position.active()
    }
}

impl Entry {
    /// The shape.
    pub(super) fn service(&self) -> &Service {
        match &self.course {
            Course::Colors(coloring) => &coloring.route.service,
            Course::Alias(route) => &route.service,
        }
    }

    /// Whether its requests are counted for metrics.
    pub(super) fn is_counted(&self) -> bool {
        self.service().metrics
    }

    /// The route of a service with colors, and how it finds the color of a key.
    pub(super) fn route(&self) -> Option<(&Route, Hashing)> {
        match &self.course {
            Course::Colors(coloring) => Some((&coloring.route, coloring.hashing)),
            Course::Alias(_) => None,
        }
    }

    /// The route of an alias, where that is what stands behind it.
    pub(super) fn alias(&self) -> Option<&AliasRoute> {
        match &self.course {
            Course::Alias(route) => Some(route),
            Course::Colors(_) => None,
        }
    }

    /// True if a request may go there.
    pub(super) fn serves(&self, lane: Lane) -> bool {
        !self.sides[lane].healthy.is_empty()
    }

    /// True if everything goes to another color.
    pub(super) fn leaves_out(&self, lane: Lane) -> bool {
        match (&self.course, lane.color()) {
            (Course::Colors(coloring), Some(color)) => coloring.split.whole() == Some(!color),
            (Course::Alias(_), _) | (_, None) => false,
        }
    }

    pub(super) fn is_of(&self, route: &Route, hashing: Hashing) -> bool {
        match &self.course {
            Course::Colors(known) => known.route == *route && known.hashing == hashing,
            Course::Alias(_) => false,
        }
    }

    /// True if its alias resolves to an address that `other`'s did not.
    pub(super) fn is_elsewhere(&self, other: &Self) -> bool {
        let mut addresses = self.addresses.iter();
        addresses.any(|address| !other.addresses.contains(address))
    }

    /// What the alias of `route` resolved to when this was made; blocked or not.
    pub(super) fn addresses_of(&self, route: &AliasRoute) -> Vec<SocketAddr> {
        match self.alias() {
            Some(known) if known.target == route.target => self.addresses.clone(),
            Some(_) | None => Vec::new(),
        }
    }

    pub(super) fn colored(
        (route, hashing): (&Route, Hashing),
        counters: Arc<ServiceCounters>,
        known: Option<&Arc<Self>>,
    ) -> Self {
        let service = &route.service;
        let mark_of = marks(known);
        let header = |text: &str| HeaderName::from_bytes(text.as_bytes()).ok();
        let course = Course::Colors(Box::new(Coloring {
            split: route.split(),
            hashing,
            sticky: service.sticky.as_ref().map(|sticky| StickyKey {
                header: header(&sticky.header),
                cookie: sticky.cookie.clone(),
                set_cookie: sticky.set_cookie,
            }),
            preview: service.preview.as_deref().and_then(header),
            on_unhealthy: service.on_unhealthy,
            route: route.clone(),
        }));
        let sides = Lanes::from_fn(|lane| Side {
            healthy: lane
                .color()
                .map_or(&[][..], |color| service.servers(color))
                .iter()
                .filter(|server| !route.unhealthy.contains(server))
                .filter_map(|server| {
                    // a server's URL is ASCII by its type, so the conversion cannot fail
                    let url = HeaderValue::try_from(server.to_string()).ok()?;
                    Some(Target {
                        mark: mark_of(server),
                        server: server.clone(),
                        url,
                    })
                })
                .collect(),
        });
        Self::new(
            service,
            course,
            sides,
            Gate::new(&route.traffic),
            counters,
            known,
        )
    }

    pub(super) fn of_alias(
        route: &AliasRoute,
        addresses: &[SocketAddr],
        counters: Arc<ServiceCounters>,
        known: Option<&Arc<Self>>,
    ) -> Self {
        let mark_of = marks(known);
        let open = match route.admission {
            Admission::Open => addresses,
            Admission::Blocked => &[],
        };
        let sides = Lanes::from_fn(|lane| match lane {
            Lane::Color(_) => Side::default(),
            Lane::Alias => Side {
                healthy: open
                    .iter()
                    .filter_map(|address| {
                        let server = Server::at(*address);
                        // as above
                        let url = HeaderValue::try_from(route.target.to_string()).ok()?;
                        Some(Target {
                            mark: mark_of(&server),
                            server,
                            url,
                        })
                    })
                    .collect(),
            },
        });
        let course = Course::Alias(route.clone());
        let gate = Gate::new(&Traffic::Open);
        Self {
            addresses: addresses.to_vec(),
            ..Self::new(&route.service, course, sides, gate, counters, known)
        }
    }

    /// What `known` has learned of servers and clients goes on where it still applies.
    fn new(
        service: &Service,
        course: Course,
        sides: Lanes<Side>,
        gate: Gate,
        counters: Arc<ServiceCounters>,
        known: Option<&Arc<Self>>,
    ) -> Self {
        let certificate = service.tls.as_ref().map(|files| {
            known
                .and_then(|known| known.certificate.as_ref())
                .filter(|known| known.files == *files)
                .map_or_else(
                    || Arc::new(Certificate::of(service.name.clone(), files.clone())),
                    Arc::clone,
                )
        });
        let limiter_of = |rule: &RateRule| {
            known
                .into_iter()
                .flat_map(|known| &known.limiters)
                .find(|limiter| limiter.rule == *rule)
                .map_or_else(|| Arc::new(Limiter::new(rule.clone())), Arc::clone)
        };
        Self {
            name: service.name.clone(),
            course,
            timeouts: service.timeouts,
            gate,
            log: match &service.access_log {
                AccessLog::Off => None,
                AccessLog::Json => Some(Arc::new(Destination::Stdout)),
                AccessLog::File(path) => Some(Arc::new(Destination::File(path.clone()))),
            },
            hold: service.limits.hold,
            limiters: service.limits.rate.iter().map(limiter_of).collect(),
            sides,
            addresses: Vec::new(),
            body_limit: service.limits.body,
            certificate,
            counters,
        }
    }
}

/// The marks of servers that stay; new ones for the others.
fn marks(known: Option<&Arc<Entry>>) -> impl Fn(&Server) -> Arc<Mark> {
    move |server| {
        known
            .into_iter()
            .flat_map(|known| Lane::ALL.map(|lane| &known.sides[lane].healthy))
            .flatten()
            .find(|target| target.server == *server)
            .map_or_else(Arc::default, |target| Arc::clone(&target.mark))
    }
}
