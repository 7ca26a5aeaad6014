//! One service: its shape and where it starts.

use std::sync::Arc;

use super::canary::canary;
use super::policy::{health, limits, timeouts};
use super::{Checker, Found, release};
use crate::config::document::At;
use crate::config::file;
use crate::config::quantity::{Refusal, cookie, header, label, listener, public_url};
use crate::config::valid::{AliasConfig, BalancerKind, ServiceConfig};
use crate::domain::{
    AccessLog, Color, Colors, HostPattern, OnUnhealthy, Position, Server, Service, ServiceName,
    Split, SplitError, Sticky, Strategy, TlsFiles, Upstream,
};

/// What became of a service.
pub(super) enum Checked {
    /// It has two colors.
    Colored(ServiceName, Box<ServiceConfig>),
    /// It has a target.
    Alias(ServiceName, Box<AliasConfig>),
    /// Its name is not one; that was reported.
    Refused,
}

pub(super) fn service(
    checker: &mut Checker<'_>,
    found: &Found<'_>,
    balancer: BalancerKind,
) -> Checked {
    let top = At::Top(found.document);
    let services = top.key("services");
    let at = services.key(&found.name);
    let given = &found.service;
    let name = match found.name.parse::<ServiceName>() {
        Ok(name) => name,
        Err(error) => {
            let span = at.key_span().unwrap_or_else(|| at.span());
            checker
                .report
                .mark(at, span, format!("{services}: {error}"), "");
            return Checked::Refused;
        }
    };
    let upstream = match &given.target {
        Some(_) => match target(checker, at, given) {
            Some(target) => Upstream::Alias(target),
            // it was reported
            None => return Checked::Refused,
        },
        None => Upstream::Colors(Colors::from_fn(|color| servers(checker, at, given, color))),
    };
    let shape = Service {
        name: name.clone(),
        project: checker
            .report
            .read(at.key("project"), given.project.as_deref(), label),
        hosts: hosts(checker, at.key("hosts"), given),
        listen: checker
            .report
            .read(at.key("listen"), given.listen.as_deref(), listener),
        public: checker
            .report
            .read(at.key("public"), given.public.as_deref(), public_url),
        tls: tls(checker, at.key("tls"), given),
        proxy_protocol: given.proxy_protocol.unwrap_or(false),
        upstream,
        sticky: match given.target {
            Some(_) => None,
            None => sticky(checker, at.key("sticky"), given.sticky.as_ref()),
        },
        preview: checker.report.read(
            at.key("preview").key("header"),
            given
                .preview
                .as_ref()
                .map(|preview| preview.header.as_str()),
            header,
        ),
        on_unhealthy: match given.on_unhealthy {
            None | Some(file::OnUnhealthy::Failover) => OnUnhealthy::Failover,
            Some(file::OnUnhealthy::Reject) => OnUnhealthy::Reject,
        },
        health: health(checker, at.key("health"), given),
        timeouts: timeouts(checker, at.key("timeouts"), given.timeouts.as_ref()),
        limits: limits(checker, at.key("limits"), given.limits.as_ref(), balancer),
        access_log: access_log(checker, at.key("access_log"), given, balancer),
        metrics: given.metrics.unwrap_or(true),
        router_endpoints: given.router_endpoints.unwrap_or(true),
    };
    if given.router_endpoints == Some(true)
        && matches!(balancer, BalancerKind::Nginx | BalancerKind::Haproxy)
    {
        checker.not_in_force(
            at.key("router_endpoints"),
            "the embedded proxy alone has /__router_health and its like",
        );
    }
    if balancer == BalancerKind::Embedded && given.listen.is_none() {
        checker.report.missing(
            at.key("listen"),
            format!(
                "{at} needs a `listen` such as 0.0.0.0:8080, as the balancer is the embedded proxy"
            ),
            "",
        );
    }
    let tls_at = shape.tls.as_ref().map(|_| {
        let at = at.key("tls");
        let span = at.key_span().unwrap_or_else(|| at.span());
        let place = at.document().place(span);
        format!("{}:{}:{}", place.file.display(), place.line, place.column)
    });
    let servers = match &shape.upstream {
        Upstream::Colors(servers) => servers.clone(),
        Upstream::Alias(target) => {
            let target = target.clone();
            let shape = Arc::new(shape);
            let alias = AliasConfig {
                shape,
                target,
                tls_at,
            };
            return Checked::Alias(name, Box::new(alias));
        }
    };
    let initial = initial(checker, at, given);
    let workload = release::release(checker, at, given, &servers);
    let (canary, prometheus) = canary(checker, at.key("canary"), given);
    let shape = Arc::new(shape);
    Checked::Colored(
        name,
        Box::new(ServiceConfig {
            shape,
            initial,
            workload,
            canary,
            prometheus,
            tls_at,
        }),
    )
}

/// Keys that speak of colors, which an alias has not.
fn colored_keys(given: &file::Service) -> [(&'static str, bool); 16] {
    [
        ("blue", given.blue.is_some()),
        ("green", given.green.is_some()),
        ("strategy", given.strategy.is_some()),
        ("active", given.active.is_some()),
        ("weights", given.weights.is_some()),
        (
            "sticky",
            !matches!(given.sticky, None | Some(file::Sticky::Switch(false))),
        ),
        ("preview", given.preview.is_some()),
        ("on_unhealthy", given.on_unhealthy.is_some()),
        ("workload", given.workload.is_some()),
        ("canary", given.canary.is_some()),
        ("smoke", given.smoke.is_some()),
        ("migrations", given.migrations.is_some()),
        ("hooks", given.hooks.is_some()),
        ("notify", given.notify.is_some()),
        ("keep_old", given.keep_old.is_some()),
        ("bake", given.bake.is_some()),
    ]
}

fn target(checker: &mut Checker<'_>, at: At<'_>, given: &file::Service) -> Option<Server> {
    let target = checker
        .report
        .read(at.key("target"), given.target.as_deref(), |text| {
            if text.contains("://") {
                return Err(Refusal(format!("`{text}` is a URL; a target is name:port")));
            }
            let named = text
                .rsplit_once(':')
                .is_some_and(|(_, port)| !port.contains(']'));
            match format!("http://{text}").parse::<Server>() {
                Ok(target) if named && !text.contains('/') => Ok(target),
                Ok(_) if named => Err(Refusal(format!(
                    "`{text}` has a path: a target is name:port"
                ))),
                Ok(_) => Err(Refusal(format!(
                    "`{text}` has no port: a target is name:port"
                ))),
                Err(error) => Err(Refusal(format!("`{text}` is not a target: {}", error.rule))),
            }
        });
    for (key, _) in colored_keys(given).into_iter().filter(|(_, is)| *is) {
        let rule = match key {
            "blue" | "green" => "it is one or the other",
            _ => "behind an alias there are no colors that turnout knows",
        };
        checker.report.add(
            at.key(key),
            format!("{at} has a `target` and a `{key}`: {rule}"),
            "",
        );
    }
    target
}

fn servers(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: &file::Service,
    color: Color,
) -> Vec<Server> {
    let here = at.key(color.as_str());
    let list = here.key("servers");
    let colored = match color {
        Color::Blue => given.blue.as_ref(),
        Color::Green => given.green.as_ref(),
    };
    let Some(colored) = colored else {
        checker.report.missing(
            here,
            format!("{at} needs `blue` and `green` (or a `target`), and has no `{color}`"),
            "",
        );
        return Vec::new();
    };
    let mut servers = Vec::new();
    for (index, text) in colored.servers.iter().flatten().enumerate() {
        let here = list.item(index);
        let server = checker
            .report
            .read(here, text.as_deref(), str::parse::<Server>);
        let Some(server) = server else {
            if text.is_none() {
                checker.report.missing(
                    here,
                    format!("{here} is empty: write http://HOST:PORT"),
                    "",
                );
            }
            continue;
        };
        if servers.contains(&server) {
            checker
                .report
                .add(here, format!("{here}: {server} is listed twice"), "");
        } else {
            servers.push(server);
        }
    }
    if colored.servers.as_ref().is_none_or(Vec::is_empty) {
        checker.report.missing(
            here,
            format!("{here} has no servers: list at least one, as http://HOST:PORT"),
            "",
        );
    }
    servers
}

fn hosts(checker: &mut Checker<'_>, at: At<'_>, given: &file::Service) -> Vec<HostPattern> {
    let mut hosts = Vec::new();
    for (index, text) in given.hosts.iter().flatten().enumerate() {
        let here = at.item(index);
        let host = checker
            .report
            .read(here, text.as_deref(), str::parse::<HostPattern>);
        match host {
            Some(host) if hosts.contains(&host) => {
                checker
                    .report
                    .add(here, format!("{here}: {host} is listed twice"), "");
            }
            Some(host) => hosts.push(host),
            None => {}
        }
    }
    hosts
}

fn tls(checker: &mut Checker<'_>, at: At<'_>, given: &file::Service) -> Option<TlsFiles> {
    let tls = given.tls.as_ref()?;
    Some(TlsFiles {
        cert: checker.path(at.key("cert"), Some(&tls.cert), &tls.cert),
        key: checker.path(at.key("key"), Some(&tls.key), &tls.key),
    })
}

fn sticky(checker: &mut Checker<'_>, at: At<'_>, given: Option<&file::Sticky>) -> Option<Sticky> {
    let default = file::StickyKeys::default();
    let keys = match given {
        Some(file::Sticky::Switch(false)) => return None,
        None | Some(file::Sticky::Switch(true)) => &default,
        Some(file::Sticky::Keys(keys)) => keys,
    };
    Some(Sticky {
        header: checker
            .report
            .read(at.key("header"), keys.header.as_deref(), header)
            .unwrap_or_else(|| "X-Session-Key".into()),
        cookie: checker
            .report
            .read(at.key("cookie"), keys.cookie.as_deref(), cookie)
            .unwrap_or_else(|| "session_id".into()),
        set_cookie: keys.set_cookie.unwrap_or(false),
    })
}

fn access_log(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: &file::Service,
    balancer: BalancerKind,
) -> AccessLog {
    let log = match given.access_log.as_deref() {
        // `false` is what `off` means to those who learned YAML 1.1.
        None | Some("off" | "false") => return AccessLog::Off,
        Some("json") => AccessLog::Json,
        Some(path) => AccessLog::File(checker.path(at, Some(path), path)),
    };
    if balancer == BalancerKind::Nginx {
        checker.not_in_force(at, "nginx writes its own access log, and turnout none");
    }
    log
}

/// A split's refusal in the words of a file, where nothing can be normalized.
pub(in crate::config) fn split_refused(error: SplitError) -> String {
    match error {
        SplitError::Sum { blue, green } => {
            format!(
                "blue {blue} and green {green} add up to {}, not 100",
                blue + green
            )
        }
        SplitError::OutOfRange(_) | SplitError::TooFine(_) | SplitError::NothingToScale { .. } => {
            error.to_string()
        }
    }
}

fn initial(checker: &mut Checker<'_>, at: At<'_>, given: &file::Service) -> Position {
    let active = match given.active {
        None | Some(file::Color::Blue) => Color::Blue,
        Some(file::Color::Green) => Color::Green,
    };
    let split = given.weights.as_ref().and_then(|weights| {
        match Split::from_percents(weights.blue, weights.green) {
            Ok(split) => Some(split),
            Err(error) => {
                let at = at.key("weights");
                let text = split_refused(error);
                checker.report.add(at, format!("{at}: {text}"), "");
                None
            }
        }
    });
    match given.strategy {
        None | Some(file::Strategy::BlueGreen) => Position::all(Strategy::BlueGreen, active),
        Some(file::Strategy::Canary) => split.map_or_else(
            || Position::all(Strategy::Canary, active),
            |split| Position::canary(active, split),
        ),
    }
}
