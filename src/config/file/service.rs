//! A service, as it stands in a file.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::release::{Canary, Hooks, Migrations, Notify};
use super::{Smoke, Workload};

/// A service: hosts, a listener, and two colors (or one target).
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Service {
    /// A label that groups services.
    pub(in crate::config) project: Option<String>,
    /// Exact names or `*.example.com`. Default: any host.
    pub(in crate::config) hosts: Option<Vec<Option<String>>>,
    /// Where it listens, as IP:PORT. Absent with nginx or HAProxy: the user's own server block or frontend listens.
    pub(in crate::config) listen: Option<String>,
    /// The URL for the proof through the front door, where `listen` is absent.
    pub(in crate::config) public: Option<String>,
    /// Certificate and key, on the embedded proxy.
    pub(in crate::config) tls: Option<Tls>,
    /// Expect the PROXY protocol from clients. Default: false.
    pub(in crate::config) proxy_protocol: Option<bool>,
    /// The blue color.
    pub(in crate::config) blue: Option<Colored>,
    /// The green color.
    pub(in crate::config) green: Option<Colored>,
    /// One alias, `name:port`, behind which the colors change place; in place of blue and green.
    pub(in crate::config) target: Option<Target>,
    /// How traffic is divided at first; later the state knows. Default: `blue_green`.
    pub(in crate::config) strategy: Option<Strategy>,
    /// The active color at first; later the state knows. Default: blue.
    pub(in crate::config) active: Option<Color>,
    /// The weights at first, for canary, in percent; later the state knows. Default: all on the active color.
    pub(in crate::config) weights: Option<Weights>,
    /// The header and cookie that pin a user to a color; false: nobody is pinned. Default: `X-Session-Key`, `session_id`.
    pub(in crate::config) sticky: Option<Sticky>,
    /// The header by which a request names its color. Off unless given.
    pub(in crate::config) preview: Option<Preview>,
    /// What happens while the color that should serve is unhealthy. Default: failover.
    pub(in crate::config) on_unhealthy: Option<OnUnhealthy>,
    /// How its servers are probed.
    pub(in crate::config) health: Option<Health>,
    /// Deadlines of the traffic.
    pub(in crate::config) timeouts: Option<Timeouts>,
    /// Bounds on what clients may send.
    pub(in crate::config) limits: Option<Limits>,
    /// off, json (standard output) or a file. Default: off.
    pub(in crate::config) access_log: Option<String>,
    /// Count requests. Default: true.
    pub(in crate::config) metrics: Option<bool>,
    /// Serve `/__router_health` and its like on the embedded listener. Default: true.
    pub(in crate::config) router_endpoints: Option<bool>,
    /// The processes of each color.
    pub(in crate::config) workload: Option<Workload>,
    /// Tests of the idle color before a switch.
    pub(in crate::config) smoke: Option<Vec<Option<Smoke>>>,
    /// Programs run around a switch.
    pub(in crate::config) hooks: Option<Hooks>,
    /// Webhooks.
    pub(in crate::config) notify: Option<Vec<Option<Notify>>>,
    /// How long the old color stays ready after a switch. Default: 1h.
    pub(in crate::config) keep_old: Option<String>,
    /// How long the new color is watched before a release counts as done.
    pub(in crate::config) bake: Option<String>,
    /// Defaults for this service's rollouts.
    pub(in crate::config) canary: Option<Canary>,
    /// Database migrations.
    pub(in crate::config) migrations: Option<Migrations>,
}

/// One color.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Colored {
    /// Its servers, as http://HOST:PORT.
    pub(in crate::config) servers: Option<Vec<Option<String>>>,
}

/// `name:port`.
pub(in crate::config) type Target = String;

/// Certificate and key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Tls {
    /// PEM, leaf first.
    pub(in crate::config) cert: String,
    /// PEM.
    pub(in crate::config) key: String,
}

/// The strategies.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Strategy {
    BlueGreen,
    Canary,
}

/// The colors.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Color {
    Blue,
    Green,
}

/// Percent for each color, together 100, up to two decimals.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Weights {
    /// Blue's percent.
    pub(in crate::config) blue: f64,
    /// Green's percent.
    pub(in crate::config) green: f64,
}

/// On, off, or where the key is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Sticky {
    Switch(bool),
    Keys(StickyKeys),
}

/// Where the key is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct StickyKeys {
    /// The header, looked at first. Default: X-Session-Key.
    pub(in crate::config) header: Option<String>,
    /// The cookie. Default: `session_id`.
    pub(in crate::config) cookie: Option<String>,
    /// Pin first-time visitors too. Default: false.
    pub(in crate::config) set_cookie: Option<bool>,
}

/// By which header a request names its color.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Preview {
    /// The header, such as X-Turnout-Color.
    pub(in crate::config) header: String,
}

/// To the other color while that is healthy, or 503.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum OnUnhealthy {
    Failover,
    Reject,
}

/// How servers are probed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Health {
    /// Path and query. Default: /health (a target: /up).
    pub(in crate::config) path: Option<String>,
    /// From one probe to the next. Default: 5s (a target: 30s).
    pub(in crate::config) interval: Option<String>,
    /// For one probe. Default: 2s.
    pub(in crate::config) timeout: Option<String>,
    /// Failures in a row that make a server unhealthy. Default: 3.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) unhealthy_after: Option<u32>,
    /// Passes in a row that make it healthy again. Default: 1.
    #[schemars(range(min = 1, max = 1000))]
    pub(in crate::config) healthy_after: Option<u32>,
    /// What passes. Default: a status from 200 to 299.
    pub(in crate::config) expect: Option<Expect>,
}

/// What a probe must see.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Expect {
    /// One status, or a range such as 200-299.
    pub(in crate::config) status: Option<Written>,
    /// Fields of the JSON body: each must be there and equal.
    pub(in crate::config) json: Option<BTreeMap<String, serde_json::Value>>,
}

/// Deadlines.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Timeouts {
    /// To connect to a server. Default: 5s.
    pub(in crate::config) connect: Option<String>,
    /// From the end of a request to the head of its answer. Default: 30s.
    pub(in crate::config) response: Option<String>,
    /// For requests in flight on a color that was left. Default: 30s.
    pub(in crate::config) drain: Option<String>,
    /// For a client to send its head. Default: 10s.
    pub(in crate::config) head: Option<String>,
    /// For a kept-alive connection without a request. Default: 75s.
    pub(in crate::config) idle: Option<String>,
}

/// Bounds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Limits {
    /// Size of a request's head. Default: 32KiB.
    pub(in crate::config) head: Option<Written>,
    /// Number of header lines. Default: 100.
    #[schemars(range(min = 1, max = 10_000))]
    pub(in crate::config) headers: Option<u32>,
    /// Size of a request's body, or none. Default: none.
    pub(in crate::config) body: Option<Written>,
    /// Client connections at once. Default: 10000.
    #[schemars(range(min = 1))]
    pub(in crate::config) connections: Option<u32>,
    /// How long a held request waits. Default: 30s.
    pub(in crate::config) hold: Option<String>,
    /// none, a number (requests a second for each client), a rule, or a list of rules, each of which has to let a request pass. Default: none.
    pub(in crate::config) rate: Option<Rate>,
}

/// `none`, a number (requests a second for each client), one rule, or several.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Rate {
    /// `none`, or requests a second for each client.
    Short(Written),
    One(RateRule),
    Several(Vec<RateRule>),
}

/// A bucket of `burst` tokens that `requests` tokens flow into during each `per`; a request takes one, or gets 429.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RateRule {
    /// Requests for each `per`, in the long run.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) requests: u32,
    /// From 1ms to 24h. Default: 1s.
    pub(in crate::config) per: Option<String>,
    /// Requests that pass at once. Default: as many as `requests`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(in crate::config) burst: Option<u32>,
    /// Who shares a bucket. Default: client.
    pub(in crate::config) by: Option<RateBy>,
    /// Paths that are meant, each with all below it. Default: every path.
    pub(in crate::config) paths: Option<Vec<String>>,
}

/// Each client address by itself (IPv6: its /64), or all clients of the service together.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RateBy {
    Client,
    Service,
}

/// A value that is read as it is written: `1.10` stays `1.10`, and 200 needs no quotes.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(in crate::config) struct Written(pub(in crate::config) String);

impl JsonSchema for Written {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Written".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}
