//! The proxy's own paths on every listener: `/__router_health`, `/__router_metrics` and the page `/monitoring` (CONTRACT 5.3).
//!
//! They are there for who asks from this host or a private network, and for nobody else: to all others the path is the
//! application's, which may well have a `/monitoring` of its own. So the public learns nothing, and loses nothing. Who comes
//! through a proxy that is not in `trusted_proxies` is not who the connection says, and is one of the others. (A proxy that says
//! nothing of itself in its requests cannot be told from a client: behind one, `router_endpoints: false`.)
//!
//! Read-only; they are no requests of the service's, and are neither counted nor logged.

use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use ipnet::IpNet;
use serde_json::json;

use super::answer::TURNOUT_ERROR;
use super::body::Answer;
use super::client::Connection;
use super::entry::{Coloring, Course, Entry};
use super::headers::{Peer, client_ip};
use super::lane::Lane;
use super::thread::Thread;
use crate::domain::{Color, OnUnhealthy, RouterFigures, Server};

const HEALTH: &str = "/__router_health";
const FIGURES: &str = "/__router_metrics";
const MONITORING: &str = "/monitoring";

const PAGE: &str = include_str!("../../templates/monitoring.html");
/// Around what only a service with colors has.
const COLORS: &str = "{colors}";
const COLORS_END: &str = "{/colors}";
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// What proxies say of themselves.
const FORWARDED: [HeaderName; 5] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-forwarded-host"),
    header::FORWARDED,
    header::VIA,
];

/// One of the paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Health,
    Figures,
    Monitoring,
}

/// The page at this path. By its length first: that is all that most requests are asked.
pub(super) fn of(path: &str) -> Option<Page> {
    match path.len() {
        16 if path == HEALTH => Some(Page::Health),
        17 if path == FIGURES => Some(Page::Figures),
        11 if path == MONITORING => Some(Page::Monitoring),
        _ => None,
    }
}

/// The answer, or `None` where the path is the application's.
pub(super) fn answer<B>(
    page: Page,
    thread: &Thread,
    connection: &Rc<Connection>,
    entry: &Entry,
    request: &Request<B>,
) -> Option<Response<Answer>> {
    let near = is_near(
        request.headers(),
        &connection.peer,
        connection.listener.ip(),
        thread.trusted(),
    );
    if !entry.service().router_endpoints || !near {
        return None;
    }
    let (status, kind, text) = match *request.method() {
        Method::GET | Method::HEAD => written(page, entry),
        _ => refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "Only GET and HEAD are possible here",
        ),
    };
    let mut response = Response::new(Answer::text(Bytes::from(text), connection));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    if status.is_client_error() {
        headers.insert(TURNOUT_ERROR, HeaderValue::from_static("Router endpoint"));
    }
    Some(response)
}

type Written = (StatusCode, &'static str, String);

const JSON: &str = "application/json";

fn written(page: Page, entry: &Entry) -> Written {
    let figures = || RouterFigures::of(&entry.counted());
    match page {
        Page::Health => health(entry),
        Page::Figures | Page::Monitoring if !entry.is_counted() => refusal(
            StatusCode::NOT_FOUND,
            "Nothing is counted of this service: it has `metrics: false`",
        ),
        // made of numbers and fixed names, so that it can always be written
        Page::Figures => (StatusCode::OK, JSON, json!(figures()).to_string()),
        Page::Monitoring => (
            StatusCode::OK,
            "text/html; charset=utf-8",
            monitoring(entry, &figures()),
        ),
    }
}

fn refusal(status: StatusCode, text: &str) -> Written {
    (status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// 503 where no client could be answered, for who looks at the status alone.
fn health(entry: &Entry) -> Written {
    let (port, active) = match &entry.course {
        Course::Colors(coloring) => {
            let active = coloring.active();
            let servers = entry.service().servers(active);
            (servers.first().map(Server::port), Some(active))
        }
        // which color stands behind it is not turnout's to know
        Course::Alias(route) => (Some(route.target.port()), None),
    };
    let (status, word) = if is_served(entry) {
        (StatusCode::OK, "healthy")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unhealthy")
    };
    let body = json!({
        "status": word,
        "active_port": port,
        "active_version": active,
    });
    (status, JSON, body.to_string())
}

/// Whether some client would be sent to a server.
fn is_served(entry: &Entry) -> bool {
    let is_there = |color: Color| entry.serves(Lane::Color(color));
    let coloring = match &entry.course {
        Course::Colors(coloring) => coloring,
        Course::Alias(_) => return entry.serves(Lane::Alias),
    };
    match (coloring.split.whole(), coloring.on_unhealthy) {
        (Some(color), OnUnhealthy::Reject) => is_there(color),
        (Some(_), OnUnhealthy::Failover) | (None, _) => Color::BOTH.into_iter().any(is_there),
    }
}

fn monitoring(entry: &Entry, figures: &RouterFigures) -> String {
    let (status, ..) = health(entry);
    let word = if status.is_success() {
        "healthy"
    } else {
        "unhealthy: no server can be asked"
    };
    // names and numbers by their types, nothing that HTML would read
    let page = match &entry.course {
        Course::Colors(coloring) => by_color(coloring),
        Course::Alias(route) => {
            let to = format!(
                "Requests go to whatever {} leads to.",
                route.target.authority()
            );
            let (before, rest) = PAGE.split_once(COLORS).unwrap_or((PAGE, ""));
            let (_, after) = rest.split_once(COLORS_END).unwrap_or_default();
            format!("{before}{after}").replace("{to}", &to)
        }
    };
    page.replace("{service}", entry.name.as_str())
        .replace("{status}", word)
        .replace("{blue}", &figures.version_requests.blue.to_string())
        .replace("{green}", &figures.version_requests.green.to_string())
        .replace("{total}", &figures.total_requests.to_string())
        .replace("{successful}", &figures.successful_requests.to_string())
        .replace("{failed}", &figures.failed_requests.to_string())
        .replace("{rate}", &format!("{:.1}", figures.success_rate))
        .replace("{bytes}", &figures.bytes_proxied.to_string())
        .replace("{time}", &format!("{:.3}", figures.avg_request_time_ms))
}

fn by_color(coloring: &Coloring) -> String {
    let weight = |color| coloring.split.weight(color).to_string();
    PAGE.replace(COLORS, "")
        .replace(COLORS_END, "")
        .replace("{to}", &format!("Active: {}.", coloring.active()))
        .replace("{blue_weight}", &weight(Color::Blue))
        .replace("{green_weight}", &weight(Color::Green))
}

/// Whether a request comes from this host or a private network, as far as that can be told.
fn is_near(headers: &HeaderMap, peer: &Peer, own: IpAddr, trusted: &[IpNet]) -> bool {
    if !peer.is_trusted() && FORWARDED.iter().any(|name| headers.contains_key(name)) {
        return false;
    }
    let client = client_ip(headers, peer, trusted);
    // who asks a public address of this host from this host comes from there
    if client == own.to_canonical() {
        return true;
    }
    match client {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_are_exact() {
        assert_eq!(of("/__router_health"), Some(Page::Health));
        assert_eq!(of("/__router_metrics"), Some(Page::Figures));
        assert_eq!(of("/monitoring"), Some(Page::Monitoring));
        for other in [
            "/",
            "/monitoring/",
            "/__router_healths",
            "/__ROUTER_HEALTH",
            "/_monitoring",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn who_is_far_away_or_behind_somebody_is_not_let_in() {
        let trusted: Vec<IpNet> = vec!["10.9.0.0/16".parse().unwrap()];
        let asked = |ip: &str, header: Option<(&'static str, &'static str)>| {
            let peer = Peer::new(ip.parse().unwrap(), &trusted).unwrap();
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = header {
                headers.insert(name, HeaderValue::from_static(value));
            }
            is_near(&headers, &peer, "192.0.2.1".parse().unwrap(), &trusted)
        };
        for near in [
            "127.0.0.1",
            "192.0.2.1",
            "10.1.2.3",
            "192.168.1.1",
            "::1",
            "fd00::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(asked(near, None), "{near}");
        }
        for far in ["8.8.8.8", "172.32.0.1", "2001:db8::1"] {
            assert!(!asked(far, None), "{far}");
        }
        // somebody's proxy on this host, of which nothing is known
        assert!(!asked("127.0.0.1", Some(("x-forwarded-for", "127.0.0.1"))));
        assert!(!asked("127.0.0.1", Some(("via", "1.1 cache"))));
        // one that is known says who asks
        assert!(!asked("10.9.0.1", Some(("x-forwarded-for", "8.8.8.8"))));
        assert!(asked("10.9.0.1", Some(("x-forwarded-for", "10.1.2.3"))));
        assert!(asked("10.9.0.1", None));
    }
}
