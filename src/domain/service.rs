//! The shape of a service, as the configuration gives it: who calls it, where it listens, what stands behind it, how that
//! is probed.
//!
//! Behind a service stand either the servers of two colors, or an alias: one name behind which colors change place without
//! turnout's doing. The two are an enum, because an alias has no color, no position and nothing to switch.
//!
//! Shape alone: where the traffic is belongs to the position, which the state owns.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Color, Colors, HostPattern, RateRule, Server, ServiceName};

/// The URL of a service's front door where turnout does not listen itself: scheme, authority and path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct PublicUrl(pub String);

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where the sticky key of a request is looked for: the header first, then the cookie.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Sticky {
    /// Header name as configured, an HTTP token.
    pub header: String,
    /// Cookie name, an HTTP token.
    pub cookie: String,
    /// Give a first-time visitor the cookie, so that the first answer and the later ones agree.
    pub set_cookie: bool,
}

/// What happens while the color that should serve is unhealthy.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    /// To the other color while that one is healthy.
    #[default]
    Failover,
    /// 503.
    Reject,
}

/// Status codes that a probe takes for a pass, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct StatusRange {
    /// Lowest passing status.
    pub low: u16,
    /// Highest passing status.
    pub high: u16,
}

/// What a probe must see to pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expectation {
    /// Default 200 to 299.
    pub status: StatusRange,
    /// Fields of the JSON body: each key must be there and equal. Empty: the body is not looked at.
    pub json: BTreeMap<String, serde_json::Value>,
}

/// How a service's servers are probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthPolicy {
    /// Path and query, starting with `/`.
    pub path: String,
    /// From the start of one probe to the start of the next.
    pub interval: Duration,
    /// For one probe as a whole.
    pub timeout: Duration,
    /// Failures in a row that make a server unhealthy, at least 1.
    pub unhealthy_after: u32,
    /// Passes in a row that make it healthy again, at least 1.
    pub healthy_after: u32,
    /// What passes.
    pub expect: Expectation,
}

/// Deadlines of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// To connect to a server.
    pub connect: Duration,
    /// From the end of the request to the head of the answer.
    pub response: Duration,
    /// For requests in flight on a color that was left, or when turnout stops.
    pub drain: Duration,
    /// For a client to send its head.
    pub head: Duration,
    /// For a kept-alive connection without a request.
    pub idle: Duration,
}

/// Bounds on what a client may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of the request head.
    pub head: u64,
    /// Number of header lines.
    pub headers: u32,
    /// Bytes of the request body; `None`: unbounded.
    pub body: Option<u64>,
    /// Client connections at once.
    pub connections: u32,
    /// How long a held request waits.
    pub hold: Duration,
    /// Each of these has to let a request pass.
    pub rate: Vec<RateRule>,
}

/// Where the access log of the embedded proxy goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// JSON lines on stdout.
    Json,
    /// JSON lines appended to a file.
    File(PathBuf),
}

/// Certificate and key of a service on the embedded proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsFiles {
    /// PEM, leaf first.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// What the requests of a service go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Upstream {
    /// The servers of two colors, at least one each.
    Colors(Colors<Vec<Server>>),
    /// One name and port; what it resolves to may be another machine at any moment.
    Alias(Server),
}

/// The shape of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// A label that groups services.
    pub project: Option<String>,
    /// Hosts it answers to; none: any.
    pub hosts: Vec<HostPattern>,
    /// Where it listens; `None`: the user's own server block or frontend does.
    pub listen: Option<SocketAddr>,
    /// The front door's URL, where `listen` is absent.
    pub public: Option<PublicUrl>,
    /// Certificate on the embedded proxy.
    pub tls: Option<TlsFiles>,
    /// Expect the PROXY protocol from clients.
    pub proxy_protocol: bool,
    /// What its requests go to.
    pub upstream: Upstream,
    /// Where the sticky key is; `None`: nobody is pinned.
    pub sticky: Option<Sticky>,
    /// Header by which a request names its color.
    pub preview: Option<String>,
    /// What happens while the color that should serve is unhealthy.
    pub on_unhealthy: OnUnhealthy,
    /// How it is probed.
    pub health: HealthPolicy,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Bounds.
    pub limits: Limits,
    /// Access log.
    pub access_log: AccessLog,
    /// Count requests.
    pub metrics: bool,
    /// Serve `/__router_health` and its like on the listener.
    pub router_endpoints: bool,
}

impl Service {
    /// The servers of a color; none behind an alias.
    pub fn servers(&self, color: Color) -> &[Server] {
        match &self.upstream {
            Upstream::Colors(servers) => &servers[color],
            Upstream::Alias(_) => &[],
        }
    }

    /// The alias, where that is what stands behind it.
    pub const fn alias(&self) -> Option<&Server> {
        match &self.upstream {
            Upstream::Alias(target) => Some(target),
            Upstream::Colors(_) => None,
        }
    }
}
