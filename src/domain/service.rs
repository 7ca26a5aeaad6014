//! The shape of a service, as the configuration gives it: who calls it, where it listens, which servers each color has.
//!
//! Every text that can reach a balancer's configuration is a type here that admits only harmless characters, because
//! `nginx -t` executes what it reads (CVE-2025-1974 came in through a value).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Colors;

/// A text that is not what it should name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {rule}")]
pub struct InvalidName {
    /// What it was to be, such as "service name".
    pub what: &'static str,
    /// The text as given.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// The name of a service: `[a-z0-9][a-z0-9_-]{0,62}`, and none of `blue`, `green`, `all`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with `_` for `-`, for places (nginx variables) that take no dash. Two names that differ only there are
    /// refused by the configuration.
    pub fn identifier(&self) -> String {
        self.0.replace('-', "_")
    }
}

impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |rule| {
            Err(InvalidName {
                what: "service name",
                text: text.to_owned(),
                rule,
            })
        };
        let inner = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
        };
        match text.as_bytes() {
            [] => refuse("it is empty"),
            [first, ..] if !first.is_ascii_lowercase() && !first.is_ascii_digit() => {
                refuse("it starts with a lower-case letter or a digit")
            }
            bytes if bytes.len() > 63 => refuse("it has at most 63 characters"),
            bytes if !bytes.iter().copied().all(inner) => {
                refuse("it has lower-case letters, digits, `-` and `_` only")
            }
            b"blue" | b"green" | b"all" => {
                refuse("blue, green and all mean something else on the command line")
            }
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn is_dns_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// A host that a service answers to: exact, or everything below a name. Lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// `shop.example.com`
    Exact(String),
    /// `*.example.com`, stored as `example.com`; matches `a.example.com` and `a.b.example.com`, not `example.com`.
    Below(String),
}

impl HostPattern {
    /// True if `host` (lower case, without a port) is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            Self::Below(name) => {
                host.len() > name.len() + 1
                    && host.ends_with(name.as_str())
                    && host.as_bytes()[host.len() - name.len() - 1] == b'.'
            }
        }
    }

    /// A host that this pattern matches, for a request that proves something.
    pub fn example(&self) -> String {
        match self {
            Self::Exact(name) => name.clone(),
            Self::Below(name) => format!("turnout.{name}"),
        }
    }
}

impl FromStr for HostPattern {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let (name, below) = lower
            .strip_prefix("*.")
            .map_or((lower.as_str(), false), |rest| (rest, true));
        let address = !below && name.parse::<IpAddr>().is_ok();
        if !address && !is_dns_name(name) {
            let rule = "it is a DNS name such as shop.example.com or *.example.com, without scheme, port or path";
            return Err(InvalidName {
                what: "host",
                text: text.to_owned(),
                rule,
            });
        }
        Ok(if below {
            Self::Below(name.to_owned())
        } else {
            Self::Exact(name.to_owned())
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.pad(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// One upstream address of a color. Written `http://HOST:PORT`; the host is an IP address or a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Server {
    host: String,
    port: u16,
}

impl Server {
    /// The host: an IPv4 address, an IPv6 address without brackets, or a DNS name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `HOST:PORT`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The socket address, where the host is an IP address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host
            .parse::<IpAddr>()
            .ok()
            .map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl FromStr for Server {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |rule| InvalidName {
            what: "server",
            text: text.to_owned(),
            rule,
        };
        if text.starts_with("https://") {
            return Err(refuse(
                "turnout speaks HTTP/1.1 in clear text to servers; write http://HOST:PORT",
            ));
        }
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| refuse("it is written http://HOST:PORT"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(v6) => {
                let (host, tail) = v6
                    .split_once(']')
                    .ok_or_else(|| refuse("the bracket is not closed"))?;
                let _: std::net::Ipv6Addr = host
                    .parse()
                    .ok()
                    .ok_or_else(|| refuse("an address in brackets is IPv6"))?;
                (host, tail.strip_prefix(':'))
            }
            None => rest
                .split_once(':')
                .map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        if host.parse::<IpAddr>().is_err() && !is_dns_name(host) {
            return Err(refuse(
                "the host is an IP address or a DNS name, without a path behind the port",
            ));
        }
        let port = match port {
            None => 80,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| refuse("the port is from 1 to 65535"))?,
            Some(_) => return Err(refuse("the port is a number, with nothing behind it")),
        };
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

impl TryFrom<String> for Server {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Server> for String {
    fn from(server: Server) -> Self {
        server.to_string()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

/// The URL of a service's front door where turnout does not listen itself: scheme, authority and path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicUrl(pub String);

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where the sticky key of a request is looked for: the header first, then the cookie.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sticky {
    /// Header name as configured, an HTTP token.
    pub header: String,
    /// Cookie name, an HTTP token.
    pub cookie: String,
    /// Give a first-time visitor the cookie, so that the first answer and the later ones agree.
    pub set_cookie: bool,
}

/// What happens while the color that should serve is unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    /// To the other color while that one is healthy.
    Failover,
    /// 503.
    Reject,
}

/// Status codes that a probe takes for a pass, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusRange {
    /// Lowest passing status.
    pub low: u16,
    /// Highest passing status.
    pub high: u16,
}

/// What a probe must see to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// Default 200 to 299.
    pub status: StatusRange,
    /// Fields of the JSON body: each key must be there and equal. Empty: the body is not looked at.
    pub json: BTreeMap<String, serde_json::Value>,
}

/// How a service's servers are probed.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Bounds on what a client may send. Accepted and checked now; the embedded proxy puts them into force as it learns to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Requests a second for each client and path; `None`: unbounded.
    pub rate: Option<u32>,
}

/// Where the access log of the embedded proxy goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// JSON lines on stdout.
    Json,
    /// JSON lines appended to a file.
    File(PathBuf),
}

/// Certificate and key of a service on the embedded proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, leaf first.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// The shape of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The servers of each color, at least one each.
    pub servers: Colors<Vec<Server>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_admit_nothing_that_could_end_a_directive() {
        for good in ["shop", "a", "0", "shop-2_b"] {
            assert_eq!(good.parse::<ServiceName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            "Shop",
            "-a",
            "_a",
            "a b",
            "a;b",
            "a{",
            "a\n",
            "a\"",
            "a#",
            "ä",
            "blue",
            "green",
            "all",
            "a.b",
            long.as_str(),
        ] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
            if bad != "a.b" {
                assert!(
                    bad.is_empty() || HostPattern::from_str(&format!("{bad};")).is_err(),
                    "{bad:?}"
                );
            }
        }
    }

    #[test]
    fn a_wildcard_matches_below_and_not_the_name_itself() {
        let pattern: HostPattern = "*.Example.com".parse().unwrap();
        assert!(pattern.matches("a.example.com") && pattern.matches("a.b.example.com"));
        assert!(
            !pattern.matches("example.com")
                && !pattern.matches("aexample.com")
                && !pattern.matches(".example.com")
        );
        assert!(pattern.matches(&pattern.example()));
        for bad in [
            "", "*", "*.", "a b", "http://a", "a:80", "a/b", "a;b", "-a", "a..b", "*.*.a",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn servers_are_plain_http_with_host_and_port() {
        for (text, authority) in [
            ("http://10.0.1.10:8080", "10.0.1.10:8080"),
            ("http://app-1.internal", "app-1.internal:80"),
            ("http://[::1]:5001/", "[::1]:5001"),
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!(server.authority(), authority);
            assert_eq!(server.to_string().parse::<Server>().unwrap(), server);
        }
        for bad in [
            "10.0.0.1:80",
            "https://a:1",
            "http://a:0",
            "http://a:70000",
            "http://a:80 80",
            "http://a:+80",
            "http://a:80/x",
            "http://a b:80",
            "http://a;:80",
            "http://:80",
            "http://[::1:80",
            "http://[a]:80",
            "http://a:80\n",
            "http://user@a:80",
        ] {
            assert!(bad.parse::<Server>().is_err(), "{bad:?}");
        }
    }
}
