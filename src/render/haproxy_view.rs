//! What the HAProxy template sees: strings and lists made from the shapes of the services, and nothing of their position.
//!
//! Every text is from an alphabet that means nothing to HAProxy's parser; what is outside of it is refused with its key.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::haproxy::HaproxyContext;
use super::haproxy_backend::Backend;
use super::{Error, counts};
use crate::domain::{Color, HostPattern, RoutingTable, Service};

#[derive(Debug, Serialize)]
pub(super) struct View {
    shape: &'static str,
    /// The socket and, in milliseconds, the end of old workers, where `global` is turnout's as well.
    socket: Option<String>,
    drain: String,
    position: String,
    trusted: String,
    /// Where each request is told of, to be counted.
    counts: Option<String>,
    listeners: Vec<Listener>,
    backends: Vec<Backend>,
    /// Whether names are looked up again and again.
    resolves: bool,
}

/// The services of one frontend, for the lines that choose a color.
#[derive(Debug, Serialize)]
pub(super) struct Choice {
    /// Those with colors, and those behind an alias.
    services: String,
    aliases: String,
    stickies: Vec<Sticky>,
    previews: Vec<Preview>,
}

#[derive(Debug, Serialize)]
struct Sticky {
    header: String,
    cookie: String,
    services: String,
    /// Those of them whose first-time visitors get the cookie.
    pinned: String,
}

#[derive(Debug, Serialize)]
struct Preview {
    header: String,
    services: String,
}

#[derive(Debug, Serialize)]
struct Listener {
    id: String,
    address: String,
    v6: bool,
    proxy_protocol: bool,
    client: String,
    head: String,
    idle: String,
    /// A service here has `metrics`.
    counted: bool,
    hosts: Vec<Hosts>,
    /// The service without hosts.
    any: Option<String>,
    choice: Choice,
}

#[derive(Debug, Serialize)]
struct Hosts {
    service: String,
    way: &'static str,
    names: String,
}

impl View {
    pub(super) fn of(
        table: &RoutingTable,
        context: &HaproxyContext,
        shape: &'static str,
    ) -> Result<Self, Error> {
        let services: Vec<&Service> = services(table);
        for service in &services {
            refuse_what_haproxy_cannot(service)?;
        }
        let mut by_listener: BTreeMap<SocketAddr, Vec<&Service>> = BTreeMap::new();
        for service in &services {
            if let Some(listen) = service.listen {
                by_listener.entry(listen).or_default().push(service);
            }
        }
        let longest = services.iter().map(|service| service.timeouts.drain).max();
        Ok(Self {
            shape,
            socket: context
                .socket
                .as_ref()
                .map(|path| plain("balancer.haproxy.socket", &path.display().to_string()))
                .transpose()?,
            drain: milliseconds(longest.unwrap_or_default()),
            position: position(context)?,
            trusted: trusted(&context.trusted_proxies),
            counts: context.counts.as_deref().and_then(counts::word),
            listeners: by_listener
                .iter()
                .map(|(address, services)| Listener::of(*address, services))
                .collect::<Result<_, _>>()?,
            resolves: table
                .aliases
                .values()
                .any(|route| route.target.socket_addr().is_none()),
            backends: table
                .routes
                .values()
                .flat_map(|route| Color::BOTH.map(|color| Backend::of(&route.service, color)))
                .chain(table.aliases.values().map(Backend::of_alias))
                .collect(),
        })
    }
}

/// The map's path, as it stands in the configuration and on the socket.
pub(super) fn position(context: &HaproxyContext) -> Result<String, Error> {
    let path = context.position.display().to_string();
    plain("balancer.haproxy.maps", &path)
}

fn services(table: &RoutingTable) -> Vec<&Service> {
    table.shapes().map(|service| &**service).collect()
}

impl Choice {
    /// For these services, whose names are in the order of the table.
    pub(super) fn of(services: &[&Service]) -> Result<Self, Error> {
        let mut pairs: BTreeMap<(String, String), Vec<&Service>> = BTreeMap::new();
        let mut headers: BTreeMap<String, Vec<&Service>> = BTreeMap::new();
        for service in services {
            if let Some(sticky) = &service.sticky {
                let header = token(service, "sticky.header", &sticky.header)?;
                let cookie = token(service, "sticky.cookie", &sticky.cookie)?;
                pairs.entry((header, cookie)).or_default().push(service);
            }
            if let Some(preview) = &service.preview {
                let header = token(service, "preview.header", preview)?;
                headers.entry(header).or_default().push(service);
            }
        }
        Ok(Self {
            services: names(
                services
                    .iter()
                    .copied()
                    .filter(|service| service.alias().is_none()),
            ),
            aliases: names(
                services
                    .iter()
                    .copied()
                    .filter(|service| service.alias().is_some()),
            ),
            stickies: pairs
                .into_iter()
                .map(|((header, cookie), services)| Sticky {
                    header,
                    cookie,
                    services: names(services.iter().copied()),
                    pinned: names(services.into_iter().filter(|service| sets_cookie(service))),
                })
                .collect(),
            previews: headers
                .into_iter()
                .map(|(header, services)| Preview {
                    header,
                    services: names(services.into_iter()),
                })
                .collect(),
        })
    }

    /// Of the services that stand in a user's own frontend; `None` where there are none.
    pub(super) fn of_foreign(table: &RoutingTable) -> Result<Option<(Self, Vec<&Service>)>, Error> {
        let mut services = services(table);
        services.retain(|service| service.listen.is_none());
        if services.is_empty() {
            return Ok(None);
        }
        Ok(Some((Self::of(&services)?, services)))
    }
}

impl Listener {
    fn of(address: SocketAddr, services: &[&Service]) -> Result<Self, Error> {
        let proxy_protocol = services.iter().any(|service| service.proxy_protocol);
        if let Some(service) = services
            .iter()
            .find(|service| service.proxy_protocol != proxy_protocol)
        {
            return Err(Error::Value {
                key: format!("services.{}.proxy_protocol", service.name),
                rule: "must be the same for all services that share a listener: HAProxy expects it by address",
            });
        }
        let longest = |of: fn(&Service) -> Duration| {
            let longest = services.iter().map(|service| of(service)).max();
            milliseconds(longest.unwrap_or_default())
        };
        Ok(Self {
            id: address.to_string().replace(['[', ']'], ""),
            address: address.to_string(),
            v6: address.is_ipv6(),
            proxy_protocol,
            client: longest(|service| service.timeouts.idle.max(service.timeouts.response)),
            head: longest(|service| service.timeouts.head),
            idle: longest(|service| service.timeouts.idle),
            counted: services
                .iter()
                .any(|service| service.metrics && service.alias().is_none()),
            hosts: hosts(services),
            any: services
                .iter()
                .find(|service| service.hosts.is_empty())
                .map(|service| service.name.to_string()),
            choice: Choice::of(services)?,
        })
    }
}

/// Exact names first, then what is below a name, the longest first.
fn hosts(services: &[&Service]) -> Vec<Hosts> {
    let mut exact = Vec::new();
    let mut below = Vec::new();
    for service in services {
        let names: Vec<String> = service
            .hosts
            .iter()
            .filter_map(|host| match host {
                HostPattern::Exact(name) if name.contains(':') => Some(format!("[{name}]")),
                HostPattern::Exact(name) => Some(name.clone()),
                HostPattern::Below(name) => {
                    below.push(Hosts {
                        service: service.name.to_string(),
                        way: "end",
                        names: format!(".{name}"),
                    });
                    None
                }
            })
            .collect();
        if !names.is_empty() {
            exact.push(Hosts {
                service: service.name.to_string(),
                way: "str",
                names: names.join(" "),
            });
        }
    }
    below.sort_by_key(|host| std::cmp::Reverse(host.names.len()));
    exact.extend(below);
    exact
}

fn refuse_what_haproxy_cannot(service: &Service) -> Result<(), Error> {
    let refuse = |key: &str, rule| {
        Err(Error::Value {
            key: format!("services.{}.{key}", service.name),
            rule,
        })
    };
    if service.tls.is_some() {
        return refuse(
            "tls",
            "is for the embedded proxy alone: with HAProxy leave out `listen` and put the service into a frontend of your own \
             that has the certificate",
        );
    }
    let harmless = |byte: u8| byte.is_ascii_graphic() && !b"'\"\\#".contains(&byte);
    if !service.health.path.bytes().all(harmless) {
        return refuse(
            "health.path",
            "has visible ASCII characters only, and no quote, backslash or #, as HAProxy's configuration could not hold it",
        );
    }
    Ok(())
}

fn sets_cookie(service: &Service) -> bool {
    service
        .sticky
        .as_ref()
        .is_some_and(|sticky| sticky.set_cookie)
}

fn names<'a>(services: impl Iterator<Item = &'a Service>) -> String {
    let names: Vec<&str> = services.map(|service| service.name.as_str()).collect();
    names.join(" ")
}

/// A header or cookie name, as an argument in parentheses.
fn token(service: &Service, key: &str, name: &str) -> Result<String, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Error::Value {
            key: format!("services.{}.{key}", service.name),
            rule: "has letters, digits, `-`, `_` and `.` only, as others mean something in HAProxy's expressions",
        });
    }
    Ok(name.to_owned())
}

/// A path, as an argument in parentheses and as a word on the socket.
fn plain(key: &str, path: &str) -> Result<String, Error> {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if path.bytes().all(harmless) {
        return Ok(path.to_owned());
    }
    Err(Error::Value {
        key: key.to_owned(),
        rule: "has letters, digits and `/._-` only, as HAProxy's expressions and its socket take no other path",
    })
}

/// At least 1: HAProxy takes 0 for "never".
pub(super) fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis().max(1))
}

fn trusted(nets: &[IpNet]) -> String {
    let nets: BTreeSet<IpNet> = nets.iter().map(IpNet::trunc).collect();
    let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
    nets.join(" ")
}
