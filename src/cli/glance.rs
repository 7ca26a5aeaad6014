//! What `status` shows: one line for each service, or one service at length. Pure: the time comes in as an argument.

use comfy_table::Cell;
use jiff::Timestamp;

use super::alias_glance;
use super::output::{BAD, BOLD, DIM, MIND};
use super::table::{self, Page, Tone};
use crate::controller::{Drift, ServiceStatus, Standing, Status};
use crate::domain::{Color, Colors, Generation, TrafficMode};

/// How a standing is meant.
pub(super) const fn tone(standing: Standing) -> Tone {
    match standing {
        Standing::Drift | Standing::Down => Tone::Bad,
        Standing::Stopped | Standing::Failover | Standing::Unknown => Tone::Mind,
        Standing::Divided | Standing::Stable => Tone::Good,
    }
}

/// `blue and green answered with 503`: whoever should have got one of them.
fn refusal(service: &ServiceStatus) -> Option<String> {
    let colors = Color::BOTH.into_iter();
    let colors: Vec<_> = colors
        .filter(|color| service.refuses(*color))
        .map(Color::as_str)
        .collect();
    (!colors.is_empty()).then(|| format!("{} answered with 503", colors.join(" and ")))
}

/// The drift of this service itself.
fn drift_of<'a>(service: &'a ServiceStatus, drift: &'a [Drift]) -> impl Iterator<Item = &'a Drift> {
    drift
        .iter()
        .filter(move |drift| drift.service.as_ref() == Some(&service.service))
}

/// True if all services stand well and nothing drifts.
pub(super) fn is_well(status: &Status) -> bool {
    status.drift.is_empty()
        && status.services.iter().all(|service| {
            service.healthy(service.active) && !Standing::of(service, &status.drift).needs_person()
        })
        && !status
            .aliases
            .iter()
            .any(|alias| Standing::of_alias(alias, &status.drift).needs_person())
}

/// All services.
pub(super) fn all(status: &Status, now: Timestamp) -> String {
    let mut page = Page::default();
    match (status.services.is_empty(), status.aliases.is_empty()) {
        (true, true) => page.line("no services"),
        (true, false) => page.add(&alias_glance::table_of(status)),
        (false, true) => page.add(&table_of(status, now)),
        (false, false) => {
            page.add(&(table_of(status, now) + "\n" + &alias_glance::table_of(status)));
        }
    }
    remarks(status, &mut page);
    let standing = |service: &&ServiceStatus| Standing::of(service, &status.drift);
    let needy = || {
        status
            .services
            .iter()
            .filter(move |service| standing(service).needs_person())
    };
    let count = match needy().count() {
        0 => return page.finish(),
        1 => "1 service needs you".to_owned(),
        several => format!("{several} services need you"),
    };
    let mut next = Vec::new();
    if needy().any(|service| standing(&service) == Standing::Drift) {
        next.push("turnout verify".to_owned());
    }
    if let Some(down) = needy().find(|service| standing(service) == Standing::Down) {
        next.push(format!("turnout check {}", down.service));
    }
    page.line("");
    page.line(format_args!(
        "{BOLD}{count}:{BOLD:#}  {}",
        next.join("  ·  ")
    ));
    page.finish()
}

fn table_of(status: &Status, now: Timestamp) -> String {
    let projects = status
        .services
        .iter()
        .any(|service| service.project.is_some());
    let mut head = vec![
        "SERVICE", "STATUS", "ACTIVE", "SPLIT", "VERSION", "SINCE", "",
    ];
    if projects {
        head.insert(0, "PROJECT");
    }
    let mut table = table::new(&head);
    let mut services: Vec<_> = status.services.iter().collect();
    services.sort_by_key(|service| (&service.project, &service.service));
    for service in services {
        let standing = Standing::of(service, &status.drift);
        let mut row = vec![
            Cell::new(&service.service),
            table::toned(standing.word(), tone(standing)),
            table::color(service.active),
            Cell::new(split(service)),
            Cell::new(versions(service)),
            Cell::new(table::or_dash(
                service.since.map(|then| table::ago(then, now)),
            )),
            table::toned(&remark(service, status), Tone::Dim),
        ];
        if projects {
            row.insert(0, Cell::new(table::or_dash(service.project.as_ref())));
        }
        table.add_row(row);
    }
    table::render(table)
}

/// `blue 75% ████████░░ green 25%`, or the one color that has everything.
fn split(service: &ServiceStatus) -> String {
    let split = service.split();
    split.whole().map_or_else(
        || {
            format!(
                "blue {}% {} green {}%",
                split.weight(Color::Blue),
                table::bar(split.weight(Color::Blue)),
                split.weight(Color::Green)
            )
        },
        |color| format!("{color} 100%"),
    )
}

/// The version that serves; where the traffic is divided, both.
fn versions(service: &ServiceStatus) -> String {
    let version = |color: Color| table::or_dash(service.versions[color].as_ref());
    match service.split().whole() {
        Some(color) => version(color),
        None if service.versions == Colors::default() => "-".to_owned(),
        None => format!("{} → {}", version(service.active), version(!service.active)),
    }
}

/// What is worth a word beside the row.
fn remark(service: &ServiceStatus, status: &Status) -> String {
    if let Some(drift) = drift_of(service, &status.drift).next() {
        return drift.message.clone();
    }
    if service.traffic != TrafficMode::Open {
        let held = service.live.as_ref().map_or(0, |live| live.held);
        return match service.traffic {
            TrafficMode::Hold if held > 0 => format!("the traffic is held, {held} wait"),
            mode @ (TrafficMode::Open | TrafficMode::Hold | TrafficMode::Maintenance) => {
                format!("the traffic is {mode}")
            }
        };
    }
    let rollout = service.rollout.as_deref();
    if let Some(rollout) = rollout.filter(|rollout| !rollout.status.is_over()) {
        return format!("rollout {}: {}", rollout.status, rollout.reason);
    }
    if let Some(color) = service.overlay
        && service.can_serve(color)
    {
        return format!("{} is unhealthy, {color} stands in", service.active);
    }
    let down: Vec<String> = Color::BOTH
        .into_iter()
        .flat_map(|color| {
            service.servers[color]
                .iter()
                .map(move |server| (color, server))
        })
        .filter_map(|(color, server)| {
            let reason = server.reason.as_ref()?;
            Some(format!("{color} {}: {reason}", server.url))
        })
        .collect();
    let reason = match down.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        [one, rest @ ..] => Some(format!("{one} (and {} more)", rest.len())),
    };
    let told = [refusal(service), reason].into_iter().flatten();
    told.collect::<Vec<_>>().join("; ")
}

/// What concerns all services.
fn remarks(status: &Status, page: &mut Page) {
    for drift in status.drift.iter().filter(|drift| drift.service.is_none()) {
        page.line(format_args!("{BAD}✖{BAD:#} {}", drift.message));
    }
    for problem in &status.problems {
        page.line(format_args!("{MIND}!{MIND:#} {problem}"));
    }
    if status.generation == Generation::default() {
        page.line(format_args!(
            "{MIND}!{MIND:#} nothing was applied yet: this is what the configuration says"
        ));
    }
}

/// One service at length.
pub(super) fn one(status: &Status, service: &ServiceStatus, now: Timestamp) -> String {
    let standing = Standing::of(service, &status.drift);
    let asked = status.daemon.map_or_else(
        || "no daemon".to_owned(),
        |pid| format!("daemon with pid {pid}"),
    );
    let balancer = format!(
        "{}, generation {} proved, {asked}",
        status.balancer, service.generation
    );
    let since = service
        .since
        .map(|then| format!("{} ({} ago)", table::second(then), table::ago(then, now)));
    let back = service.previous.map(|color| format!("to {color}"));
    let traffic = (service.traffic != TrafficMode::Open).then(|| service.traffic.to_string());
    let in_flight = service.live.as_ref().map(|live| {
        let Colors { blue, green } = live.in_flight;
        format!("blue {blue}, green {green}, held {}", live.held)
    });
    let head = [
        ("Name", Some(service.service.to_string())),
        ("Project", service.project.clone()),
        ("Status", Some(standing.word().to_owned())),
        ("Balancer", Some(balancer)),
        ("Strategy", Some(service.strategy.to_string())),
        ("Active", Some(service.active.to_string())),
        ("Split", Some(split(service))),
        ("Since", since),
        ("Refused", refusal(service)),
        ("Rollback", back),
        ("Traffic", traffic),
        ("In flight", in_flight),
    ];
    let mut page = Page::default();
    for (name, value) in head {
        if let Some(value) = value {
            page.line(format_args!("{BOLD}{name:<9}{BOLD:#}  {value}"));
        }
    }
    page.line("");
    page.add(&servers(service, now));
    page.line("");
    for troubled in service.live.iter().flat_map(|live| &live.troubled) {
        page.line(format_args!(
            "{MIND}!{MIND:#} {} {}: {}",
            troubled.color,
            troubled.url,
            troubled.trouble.as_str()
        ));
    }
    for drift in drift_of(service, &status.drift) {
        page.line(format_args!("{BAD}✖{BAD:#} {}", drift.message));
    }
    remarks(status, &mut page);
    page.finish()
}

/// The servers of both colors.
fn servers(service: &ServiceStatus, now: Timestamp) -> String {
    let mut table = table::new(&[
        "COLOR",
        "ROLE",
        "VERSION",
        "SERVER",
        "STATUS",
        "WEIGHT",
        "LAST CHECK",
    ]);
    let divided = service.split().whole().is_none();
    for (color, servers) in service.servers.iter() {
        let role = match (color == service.active, divided) {
            (true, false) => "active",
            (false, false) => "idle",
            (true, true) => "stable",
            (false, true) => "candidate",
        };
        let count = u32::try_from(servers.len()).unwrap_or(u32::MAX).max(1);
        let share = service.split().weight(color).percent() / f64::from(count);
        for (index, server) in servers.iter().enumerate() {
            let first = |cell: Cell| if index == 0 { cell } else { Cell::new("") };
            let version = server.version.as_ref().or(service.versions[color].as_ref());
            let last = match (&server.reason, server.checked_at) {
                (Some(reason), Some(then)) => format!("{reason}, {} ago", table::ago(then, now)),
                (Some(reason), None) => reason.clone(),
                (None, Some(then)) => format!("passed, {} ago", table::ago(then, now)),
                (None, None) => "-".to_owned(),
            };
            table.add_row(vec![
                first(table::color(color)),
                first(Cell::new(role)),
                Cell::new(table::or_dash(version)),
                Cell::new(server.url.strip_prefix("http://").unwrap_or(&server.url)),
                table::health(server.health),
                Cell::new(
                    format!("{share:.4}")
                        .trim_end_matches('0')
                        .trim_end_matches('.'),
                ),
                Cell::new(last),
            ]);
        }
    }
    table::render(table)
}

/// One service in one line, for a log that is followed.
pub(super) fn line(service: &ServiceStatus, status: &Status) -> String {
    let remark = remark(service, status);
    let dash = if remark.is_empty() { "" } else { "  " };
    format!(
        "{}: {} {} {} {DIM}(generation {}){DIM:#}{dash}{remark}",
        service.service,
        Standing::of(service, &status.drift).word(),
        service.strategy,
        split(service),
        service.generation
    )
}

#[cfg(test)]
#[path = "glance_tests.rs"]
mod tests;
