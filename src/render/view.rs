//! What the nginx template sees: strings and lists made from the routing table, and no other value.
//!
//! The names that the built-in template gives to variables and upstreams are described there. Here is what depends on
//! numbers: pages of the private listener, which service is a listener's default. `hashes` has the sizes of nginx's hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::counts::Counts;
use super::hashes::{Hash, hashes};
use super::instant::{Instant, Marker};
use super::ladder::Ladder;
use super::nginx_alias::Alias;
use super::{Error, NginxContext};
use crate::domain::{Color, HostPattern, Route, RoutingTable, Service, Split};

/// nginx's limit for one parameter is 4096 bytes; the rest is room for the page's first line.
const PAGE_BYTES: usize = 3_600;

/// Services on one page of the private listener.
const PAGE_SERVICES: usize = 40;

/// The default of `limits.head`, and what nginx takes by itself: four buffers of 8 KiB.
const HEAD: u64 = 32 * 1024;

#[derive(Debug, Serialize)]
pub(super) struct View<'a> {
    generation: u64,
    prove: String,
    trusted: Vec<Trusted>,
    proxy_protocol: bool,
    /// Where color and weights change without a reload.
    instant: Option<Instant>,
    /// Every boundary of a split, for that.
    ladder: Option<&'static Ladder>,
    /// Where requests are told of, to be counted.
    counts: Option<Counts>,
    hashes: Vec<Hash>,
    stickies: Vec<StickyView>,
    services: Vec<&'a ServiceView>,
    listeners: Vec<Listener<'a>>,
    pages: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Trusted {
    net: String,
    value: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Listener<'a> {
    address: String,
    proxy_protocol: bool,
    /// Nobody answers to every host there: unknown ones get 404.
    refuses_unknown: bool,
    /// As of its services, the largest: nginx takes it from the listener's default server until it has read the host.
    head_buffer: Option<u64>,
    pub(super) services: Vec<&'a ServiceView>,
}

#[derive(Debug, Serialize)]
pub(super) struct ServiceView {
    name: String,
    pub(super) id: String,
    pub(super) position: String,
    /// What the service's marker says.
    marker: String,
    /// The one color that gets everything; `None`: `blue_percent` and the rest.
    constant: Option<&'static str>,
    blue_percent: String,
    sticky: Option<StickyView>,
    preview: Option<String>,
    upstreams: Vec<Upstream>,
    /// Where it is behind an alias; all that speaks of colors is empty then.
    pub(super) alias: Option<Alias>,
    pub(super) hosts: Vec<String>,
    body_limit: u64,
    /// A quarter of `limits.head` in bytes, for four buffers; `None` at the default, which is nginx's own.
    head_buffer: Option<u64>,
    /// `metrics`.
    counted: bool,
    connect: String,
    response: String,
    head: String,
    idle: String,
}

/// A pair of header and cookie, shared by all services that have it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct StickyView {
    pub(super) id: String,
    header: String,
    cookie: String,
    /// The cookie's name cannot stand behind `$cookie_`.
    jar: bool,
    /// The name for a regular expression.
    pattern: String,
    set_cookie: bool,
}

#[derive(Debug, Serialize)]
struct Upstream {
    color: &'static str,
    servers: Vec<String>,
    /// Answered with 503: see [`Route::refused`].
    refused: bool,
    /// Of the shared zone in KiB; `None` for one server, of which nginx counts no failures: 2,000 services would map 4,000.
    zone: Option<usize>,
}

impl ServiceView {
    pub(super) fn of(route: &Route) -> Result<Self, Error> {
        let service = &*route.service;
        let split = route.split();
        Ok(Self {
            position: route.position.to_string(),
            marker: Marker::of(route).to_string(),
            constant: split.whole().map(Color::as_str),
            blue_percent: two_decimals(split),
            sticky: sticky(service)?,
            preview: service
                .preview
                .as_deref()
                .map(|header| header_variable(service, "preview.header", header))
                .transpose()?,
            upstreams: Color::BOTH
                .into_iter()
                .map(|color| (color, service.servers(color)))
                .map(|(color, servers)| Upstream {
                    color: color.as_str(),
                    refused: route.refused.contains(&color),
                    servers: servers
                        .iter()
                        .map(crate::domain::Server::authority)
                        .collect(),
                    zone: (servers.len() > 1).then(|| 64_usize.max(servers.len() * 4)),
                })
                .collect(),
            ..Self::shaped(service)?
        })
    }

    /// What does not depend on what stands behind it.
    pub(super) fn shaped(service: &Service) -> Result<Self, Error> {
        if service.tls.is_some() {
            return Err(Error::Value {
                key: format!("services.{}.tls", service.name),
                rule: "is for the embedded proxy alone: with nginx leave out `listen` and include the snippet in a \
                       server block of your own that has the certificate",
            });
        }
        Ok(Self {
            name: service.name.to_string(),
            id: service.name.identifier(),
            position: String::new(),
            marker: String::new(),
            constant: None,
            blue_percent: String::new(),
            sticky: None,
            preview: None,
            upstreams: Vec::new(),
            alias: None,
            hosts: service.hosts.iter().map(server_name).collect(),
            body_limit: service.limits.body.unwrap_or(0),
            head_buffer: (service.limits.head != HEAD).then(|| service.limits.head.div_ceil(4)),
            // a line is of a service and a color, and an alias has none
            counted: service.metrics && service.alias().is_none(),
            connect: milliseconds(service.timeouts.connect),
            response: milliseconds(service.timeouts.response),
            head: milliseconds(service.timeouts.head),
            idle: milliseconds(service.timeouts.idle),
        })
    }
}

impl<'a> View<'a> {
    pub(super) fn of(
        table: &RoutingTable,
        views: &'a [ServiceView],
        context: &NginxContext,
        shape: Option<&str>,
    ) -> Result<Self, Error> {
        let mut by_listener: BTreeMap<SocketAddr, Vec<(&Service, &'a ServiceView)>> =
            BTreeMap::new();
        for (service, view) in table.shapes().zip(views) {
            if let Some(listen) = service.listen {
                by_listener.entry(listen).or_default().push((service, view));
            }
        }
        let stickies = stickies(views);
        let instant = Instant::of(context, shape.unwrap_or_default())?;
        // who has none asks for no variable of it, and nginx refuses one that nobody sets
        let has_colors = views.iter().any(|view| view.alias.is_none());
        let mut listeners = Vec::with_capacity(by_listener.len());
        for (address, services) in &by_listener {
            let proxy_protocol = services.iter().any(|(service, _)| service.proxy_protocol);
            if let Some((service, _)) = services
                .iter()
                .find(|(service, _)| service.proxy_protocol != proxy_protocol)
            {
                return Err(Error::Value {
                    key: format!("services.{}.proxy_protocol", service.name),
                    rule: "must be the same for all services that share a listener: nginx expects it by address",
                });
            }
            listeners.push(Listener {
                address: address.to_string(),
                proxy_protocol,
                refuses_unknown: !services.iter().any(|(service, _)| service.hosts.is_empty()),
                head_buffer: services
                    .iter()
                    .map(|(service, _)| service.limits.head.div_ceil(4))
                    .max()
                    .filter(|size| *size != HEAD / 4),
                services: services.iter().map(|(_, view)| *view).collect(),
            });
        }
        Ok(Self {
            generation: table.generation.0,
            prove: context.prove.to_string(),
            trusted: trusted(&context.trusted_proxies),
            proxy_protocol: listeners.iter().any(|listener| listener.proxy_protocol),
            hashes: hashes(views, &stickies, &listeners, context),
            ladder: (instant.is_some() && has_colors).then(Ladder::whole),
            counts: context.counts.as_ref().and_then(Counts::of),
            pages: match &instant {
                // what they say is asked one by one, because a location reads one marker
                Some(_) => names(table),
                None => pages(table),
            },
            instant,
            stickies,
            services: views.iter().collect(),
            listeners,
        })
    }
}

fn sticky(service: &Service) -> Result<Option<StickyView>, Error> {
    let Some(sticky) = &service.sticky else {
        return Ok(None);
    };
    let cookie = sticky.cookie.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if cookie.is_empty()
        || !cookie
            .bytes()
            .all(|byte| plain(byte) || byte == b'-' || byte == b'.')
    {
        return Err(Error::Value {
            key: format!("services.{}.sticky.cookie", service.name),
            rule: "has letters, digits, `_`, `-` and `.` only, as nginx reads no other cookie",
        });
    }
    let header = header_variable(service, "sticky.header", &sticky.header)?;
    // nginx's variables have no case, and neither have its cookies
    let slug = cookie
        .to_ascii_lowercase()
        .replace('-', "_2d_")
        .replace('.', "_2e_");
    Ok(Some(StickyView {
        id: format!("{header}__{slug}"),
        header,
        cookie: cookie.to_owned(),
        jar: !cookie.bytes().all(plain),
        pattern: cookie.replace('.', "[.]"),
        set_cookie: sticky.set_cookie,
    }))
}

/// Each pair once; its cookie is set if any service wants that.
fn stickies(views: &[ServiceView]) -> Vec<StickyView> {
    let mut pairs: BTreeMap<&str, StickyView> = BTreeMap::new();
    for sticky in views.iter().filter_map(|view| view.sticky.as_ref()) {
        let pair = pairs.entry(&sticky.id).or_insert_with(|| sticky.clone());
        pair.set_cookie |= sticky.set_cookie;
    }
    pairs.into_values().collect()
}

/// `X-Session-Key` as `x_session_key`, for `$http_x_session_key`.
fn header_variable(service: &Service, key: &str, header: &str) -> Result<String, Error> {
    if header.is_empty()
        || !header
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Err(Error::Value {
            key: format!("services.{}.{key}", service.name),
            rule: "has letters, digits and `-` only, as nginx drops other headers",
        });
    }
    Ok(header.to_ascii_lowercase().replace('-', "_"))
}

fn server_name(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(address) if address.contains(':') => format!("\"[{address}]\""),
        HostPattern::Exact(_) | HostPattern::Below(_) => host.to_string(),
    }
}

fn two_decimals(split: Split) -> String {
    let points = split.weight(Color::Blue).basis_points();
    format!("{}.{:02}", points / 100, points % 100)
}

/// At least 1: nginx takes 0 for "at once" in some directives and for "never" in others.
fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis().max(1))
}

/// The lines of a `geo`. It has one default for both families, and warns if that is said twice.
fn trusted(nets: &[IpNet]) -> Vec<Trusted> {
    if nets.is_empty() {
        return Vec::new();
    }
    let nets: BTreeSet<IpNet> = nets.iter().map(IpNet::trunc).collect();
    let mut lines: Vec<Trusted> = nets
        .iter()
        .map(|net| Trusted {
            net: net.to_string(),
            value: "1",
        })
        .collect();
    for (v4, everything) in [(true, "0.0.0.0/0"), (false, "::/0")] {
        let said = nets
            .iter()
            .any(|net| net.prefix_len() == 0 && net.addr().is_ipv4() == v4);
        if !said {
            lines.push(Trusted {
                net: everything.to_owned(),
                value: "0",
            });
        }
    }
    lines
}

/// The bodies of the private listener's pages, with nginx's own escapes for line ends. The color is a variable, so that
/// it is the running routing that answers and not the text.
fn pages(table: &RoutingTable) -> Vec<String> {
    let mut pages: Vec<String> = Vec::new();
    let mut on_page = 0;
    for (name, route) in &table.routes {
        let split = route.split();
        let line = format!(
            "{name} {} {} {} $turnout_{}\\n",
            route.position.strategy(),
            split.weight(Color::Blue),
            split.weight(Color::Green),
            name.identifier()
        );
        match pages.last_mut() {
            Some(page) if on_page < PAGE_SERVICES && page.len() + line.len() <= PAGE_BYTES => {
                page.push_str(&line);
                on_page += 1;
            }
            Some(_) | None => {
                pages.push(format!("generation {}\\n{line}", table.generation));
                on_page = 1;
            }
        }
    }
    pages
}

/// The bodies of those pages where markers say the rest: the services' names.
fn names(table: &RoutingTable) -> Vec<String> {
    let names: Vec<&str> = table
        .routes
        .keys()
        .map(crate::domain::ServiceName::as_str)
        .collect();
    names
        .chunks(PAGE_SERVICES)
        .map(|names| names.join("\\n"))
        .collect()
}
