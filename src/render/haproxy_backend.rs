//! One backend of HAProxy's: a color's servers, or what an alias resolves to.

use serde::Serialize;

use super::haproxy_view::milliseconds;
use crate::domain::{AliasRoute, Color, Service};

/// Addresses of an alias that are used at a time: each is a server of HAProxy's, there or not.
const ALIAS_SLOTS: usize = 16;

#[derive(Debug, Serialize)]
pub(super) struct Backend {
    service: String,
    /// Its color; what stands behind an alias has none.
    lane: &'static str,
    alias: Option<Alias>,
    connect: String,
    response: String,
    check: String,
    retries: usize,
    path: String,
    check_host: String,
    expect: String,
    interval: String,
    fall: u32,
    rise: u32,
    body_limit: Option<u64>,
    cookie: Option<String>,
    servers: Vec<ServerLine>,
}

/// A name, and how many of its addresses are taken.
#[derive(Debug, Serialize)]
struct Alias {
    name: String,
    url: String,
    slots: usize,
    by_name: bool,
}

#[derive(Debug, Serialize)]
struct ServerLine {
    address: String,
    url: String,
    by_name: bool,
}

impl Backend {
    pub(super) fn of_alias(route: &AliasRoute) -> Self {
        let by_name = route.target.socket_addr().is_none();
        Self {
            lane: "alias",
            alias: Some(Alias {
                name: route.target.authority(),
                url: route.target.to_string(),
                slots: if by_name { ALIAS_SLOTS } else { 1 },
                by_name,
            }),
            retries: 3,
            check_host: route.target.authority(),
            ..Self::of(&route.service, Color::Blue)
        }
    }

    pub(super) fn of(service: &Service, color: Color) -> Self {
        let servers = service.servers(color);
        let health = &service.health;
        Self {
            service: service.name.to_string(),
            lane: color.as_str(),
            alias: None,
            connect: milliseconds(service.timeouts.connect),
            response: milliseconds(service.timeouts.response),
            check: milliseconds(health.timeout),
            retries: servers.len().clamp(1, 3),
            path: health.path.clone(),
            check_host: servers
                .first()
                .map(crate::domain::Server::authority)
                .unwrap_or_default(),
            expect: format!("{}-{}", health.expect.status.low, health.expect.status.high),
            interval: milliseconds(health.interval),
            fall: health.unhealthy_after,
            rise: health.healthy_after,
            body_limit: service.limits.body,
            cookie: service
                .sticky
                .as_ref()
                .filter(|sticky| sticky.set_cookie)
                .map(|sticky| sticky.cookie.clone()),
            servers: servers
                .iter()
                .map(|server| ServerLine {
                    address: server.authority(),
                    url: server.to_string(),
                    by_name: server.socket_addr().is_none(),
                })
                .collect(),
        }
    }
}
