//! Rules between services, and between services and listeners.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Checker, Merged};
use crate::config::document::At;
use crate::config::valid::{BalancerKind, BalancerSettings, Control, ControlListen};
use crate::domain::{Color, HostPattern, Server, Service, ServiceName};

/// Every shape of both kinds, by name.
type Shapes = BTreeMap<ServiceName, Arc<Service>>;

/// Names that are equal but for `-` and `_` would share one variable in nginx.
pub(super) fn names(checker: &mut Checker<'_>, merged: &Merged<'_>) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for found in &merged.services {
        let Some(other) = seen.insert(found.name.replace('-', "_"), &found.name) else {
            continue;
        };
        let top = At::Top(found.document);
        let services = top.key("services");
        let at = services.key(&found.name);
        let span = at.key_span().unwrap_or_else(|| at.span());
        checker.report.mark(
            at,
            span,
            format!(
                "the services `{other}` and `{}` differ only in `-` and `_`",
                found.name
            ),
            "",
        );
    }
}

/// True if the host of a URL is an address, not a name.
fn names_an_address(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or(authority);
    let host = authority.strip_prefix('[').map_or_else(
        || authority.split(':').next(),
        |inside| inside.split(']').next(),
    );
    host.is_some_and(|host| host.parse::<IpAddr>().is_ok())
}

/// A host may be claimed once on a listener; no hosts claim all that is left. A front door that turnout does not listen on
/// belongs to one service.
pub(super) fn hosts(checker: &mut Checker<'_>, merged: &Merged<'_>, services: &Shapes) {
    let mut claims: HashMap<(SocketAddr, Option<&HostPattern>), &str> = HashMap::new();
    let mut doors: HashMap<(&str, Option<&HostPattern>), &str> = HashMap::new();
    for found in &merged.services {
        let Some((name, shape)) = of(services, &found.name) else {
            continue;
        };
        let top = At::Top(found.document);
        let services = top.key("services");
        let at = services.key(&found.name);
        let Some(listen) = shape.listen else {
            if let Some(public) = &shape.public {
                // an address is asked by the first host
                let host = shape.hosts.first().filter(|_| names_an_address(&public.0));
                if let Some(other) = doors.insert((public.0.as_str(), host), name.as_str()) {
                    checker.report.add(
                        at.key("public"),
                        format!("`{other}` has the same `public`, and a proof could not tell who answers: give each a URL of its own, or an address as `public` and different `hosts`"),
                        "",
                    );
                }
            }
            continue;
        };
        let hosts_at = at.key("hosts");
        if shape.hosts.is_empty() {
            if found.service.hosts.iter().flatten().next().is_some() {
                continue;
            }
            if let Some(other) = claims.insert((listen, None), name.as_str()) {
                checker.report.add(
                    at,
                    format!("`{other}` and `{name}` both take any host on {listen}: give one of them `hosts`"),
                    "",
                );
            }
        }
        for (index, host) in shape.hosts.iter().enumerate() {
            if let Some(other) = claims.insert((listen, Some(host)), name.as_str()) {
                checker.report.add(
                    hosts_at.item(index),
                    format!("the host {host} is claimed by `{other}` and by `{name}` on {listen}"),
                    "",
                );
            }
        }
    }
}

/// No server is in both colors or is one of turnout's own listeners, and no two listeners are the same.
pub(super) fn addresses(
    checker: &mut Checker<'_>,
    merged: &Merged<'_>,
    services: &Shapes,
    balancer: &BalancerSettings,
    control: &Control,
) {
    let own = listeners(services, balancer, control);
    for found in &merged.services {
        let Some((_, shape)) = of(services, &found.name) else {
            continue;
        };
        let top = At::Top(found.document);
        let all = top.key("services");
        let at = all.key(&found.name);
        for color in Color::BOTH {
            let here = at.key(color.as_str());
            let list = here.key("servers");
            for (index, server) in shape.servers(color).iter().enumerate() {
                let here = list.item(index);
                if color == Color::Green && shape.servers(Color::Blue).contains(server) {
                    checker.report.add(
                        here,
                        format!("{at}: {server} is a server of both colors"),
                        "the other color's server",
                    );
                }
                if let Some((_, whose)) = own.iter().find(|(own, _)| reaches(server, *own)) {
                    checker.report.add(
                        here,
                        format!(
                            "{at}: {server} is {whose}, so requests would go round in a circle"
                        ),
                        "",
                    );
                }
            }
        }
        if let Some(target) = shape.alias()
            && let Some((_, whose)) = own.iter().find(|(own, _)| reaches(target, *own))
        {
            checker.report.add(
                at.key("target"),
                format!(
                    "{at}: {} is {whose}, so requests would go round in a circle",
                    target.authority()
                ),
                "",
            );
        }
        let Some(listen) = shape.listen else { continue };
        let taken = own
            .iter()
            .filter(|(_, whose)| !whose.starts_with("the listener of"))
            .find(|(other, _)| overlap(listen, *other));
        if let Some((_, whose)) = taken {
            let listen_at = at.key("listen");
            checker.report.add(
                listen_at,
                format!("{listen_at}: {listen} is {whose} already"),
                "",
            );
        }
    }
    if let ControlListen::Tcp(control) = control.listen
        && balancer.kind != BalancerKind::Embedded
        && overlap(control, balancer.nginx.prove)
    {
        let top = At::Top(merged.main);
        let at = top.key("control");
        let at = at.key("listen");
        checker.report.add(
            at,
            format!("{at}: {control} is balancer.nginx.prove already"),
            "",
        );
    }
}

/// Services on one listener agree in what is spoken there before the host is known.
pub(super) fn doors(checker: &mut Checker<'_>, merged: &Merged<'_>, services: &Shapes) {
    let mut first: BTreeMap<SocketAddr, &Service> = BTreeMap::new();
    for found in &merged.services {
        let Some((_, shape)) = of(services, &found.name) else {
            continue;
        };
        let Some(listen) = shape.listen else {
            continue;
        };
        let other = *first.entry(listen).or_insert(shape);
        let top = At::Top(found.document);
        let all = top.key("services");
        let at = all.key(&found.name);
        let mut differs = |key: &'static str, here: bool, there: bool| {
            if here != there {
                let with = if here { "has it" } else { "has none" };
                checker.report.add(
                    at.key(key),
                    format!(
                        "{at}: `{key}` must be the same for all services on {listen}: this one {with}, `{}` differs",
                        other.name
                    ),
                    "",
                );
            }
        };
        differs("tls", shape.tls.is_some(), other.tls.is_some());
        differs("proxy_protocol", shape.proxy_protocol, other.proxy_protocol);
    }
}

fn of<'s>(services: &'s Shapes, name: &str) -> Option<(&'s ServiceName, &'s Arc<Service>)> {
    services.get_key_value(&name.parse::<ServiceName>().ok()?)
}

/// Every address turnout or its balancer listens on, once, with a word for whose it is.
fn listeners(
    services: &Shapes,
    balancer: &BalancerSettings,
    control: &Control,
) -> Vec<(SocketAddr, String)> {
    let mut own: BTreeMap<SocketAddr, String> = BTreeMap::new();
    for (name, shape) in services {
        if let Some(listen) = shape.listen {
            own.entry(listen)
                .or_insert_with(|| format!("the listener of `{name}`"));
        }
    }
    let mut own: Vec<_> = own.into_iter().collect();
    if let ControlListen::Tcp(address) = control.listen {
        own.push((address, "the address of the control API".to_owned()));
    }
    if matches!(balancer.kind, BalancerKind::Nginx | BalancerKind::Auto) {
        own.push((balancer.nginx.prove, "balancer.nginx.prove".to_owned()));
    }
    own
}

/// True if a connection to `server` ends at `listener` on this host.
pub(in crate::config) fn reaches(server: &Server, listener: SocketAddr) -> bool {
    if server.port() != listener.port() {
        return false;
    }
    let local = server.host() == "localhost";
    match server.socket_addr().map(|address| address.ip()) {
        Some(ip) => {
            ip == listener.ip()
                || (reaches_all(listener) && (ip.is_loopback() || ip.is_unspecified()))
        }
        None => local && (listener.ip().is_loopback() || reaches_all(listener)),
    }
}

fn reaches_all(listener: SocketAddr) -> bool {
    listener.ip().is_unspecified()
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = matches!(
        (one.ip(), other.ip()),
        (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_))
    );
    one.port() == other.port()
        && (one.ip() == other.ip() || (same_family && (reaches_all(one) || reaches_all(other))))
}
