//! One service as the templates see it: words, numbers and addresses, nothing to decide and nothing to look up.
//!
//! Every text is as hostile as whoever wrote it; the templates escape all of them.

use jiff::Timestamp;
use serde::Serialize;

use super::action::{self, Action};
use super::chart::{self, Chart, Moment};
use super::walk::Walk;
use crate::controller::{AuditEntry, ServerStatus, ServiceStatus, Standing, Status};
use crate::domain::{Color, Health, Split, Strategy, TrafficMode};
use crate::traffic::Book;

/// Lines of the audit log on one card.
pub(super) const LINES: usize = 8;
/// Audit actions that move traffic: what is marked in the pictures.
const MOVES: [&str; 12] = [
    "switch",
    "rollback",
    "strategy",
    "weights",
    "rollout",
    "promote",
    "shift",
    "failover",
    "failback",
    "hold",
    "open",
    "maintenance",
];

/// A split in words.
pub(super) fn words(split: Split) -> String {
    let weights = split.weights();
    match split.whole() {
        Some(color) => format!("{color} 100 %"),
        None => format!("blue {} %, green {} %", weights.blue, weights.green),
    }
}

/// A moment, for people and for programs.
#[derive(Debug, Serialize)]
pub(super) struct Moments {
    iso: String,
    ago: String,
}

impl Moments {
    pub(super) fn of(then: Timestamp, now: Timestamp) -> Self {
        let seconds = now.duration_since(then).as_secs().max(0);
        let ago = match seconds {
            0..=59 => format!("{seconds} s"),
            60..=3_599 => format!("{} min", seconds / 60),
            3_600..=86_399 => format!("{} h", seconds / 3_600),
            _ => format!("{} d", seconds / 86_400),
        };
        Self {
            iso: then.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            ago,
        }
    }
}

/// How something stands: a word, and what it means for a person.
#[derive(Debug, Serialize)]
pub(super) struct Word {
    pub(super) word: &'static str,
    pub(super) tone: &'static str,
}

/// The split, for a bar and for a sentence.
#[derive(Debug, Serialize)]
pub(super) struct Bar {
    blue: String,
    green: String,
    words: String,
}

/// What a list of services shows of one.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    project: Option<String>,
    standing: Word,
    bar: Bar,
    active: Color,
    sides: Vec<Side>,
    since: Option<Moments>,
    remark: Option<String>,
}

/// Everything about a service.
#[derive(Debug, Serialize)]
pub(super) struct Card {
    #[serde(flatten)]
    row: Row,
    strategy: &'static str,
    traffic: String,
    is_open: bool,
    overlay: Option<String>,
    drift: Vec<String>,
    troubled: Vec<String>,
    /// Requests in flight and waiting, where the balancer counts.
    live: Option<String>,
    charts: Option<Vec<Chart>>,
    /// Why there are no pictures.
    silence: Option<String>,
    /// The one that runs, or brought the traffic where it is.
    rollout: Option<Walk>,
    history: Vec<Entry>,
    actions: Vec<Action>,
}

#[derive(Debug, Serialize)]
struct Side {
    color: Color,
    role: &'static str,
    share: String,
    version: Option<String>,
    health: String,
    tone: &'static str,
    servers: Vec<Server>,
}

#[derive(Debug, Serialize)]
struct Server {
    url: String,
    health: Health,
    tone: &'static str,
    reason: Option<String>,
    version: Option<String>,
    checked: Option<Moments>,
}

/// A line of the audit log.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    at: Moments,
    service: Option<String>,
    action: String,
    color: Option<Color>,
    version: Option<String>,
    message: String,
    actor: String,
    took: String,
    is_done: bool,
}

impl Entry {
    pub(super) fn of(entry: &AuditEntry, now: Timestamp) -> Self {
        Self {
            at: Moments::of(entry.timestamp, now),
            service: entry.service.as_ref().map(ToString::to_string),
            action: entry.action.clone(),
            color: entry.environment,
            version: entry.version.clone(),
            message: entry.message.clone(),
            actor: entry.actor.clone(),
            took: match entry.duration_ms {
                short @ 0..=999 => format!("{short} ms"),
                long => format!("{}.{} s", long / 1000, long % 1000 / 100),
            },
            is_done: entry.success,
        }
    }
}

impl Row {
    pub(super) fn of(service: &ServiceStatus, status: &Status, now: Timestamp) -> Self {
        let split = service.split();
        let weights = split.weights();
        let words = words(split);
        let standing = Standing::of(service, &status.drift);
        let drift = status
            .drift
            .iter()
            .find(|drift| drift.service.as_ref() == Some(&service.service));
        let unhealthy = || {
            let servers = Color::BOTH
                .into_iter()
                .flat_map(|color| &service.servers[color]);
            let down = servers
                .filter(|server| server.health == Health::Unhealthy)
                .collect::<Vec<_>>();
            let first = down.first()?;
            let reason = first.reason.as_deref().unwrap_or("unhealthy");
            Some(match down.len() {
                1 => format!("{}: {reason}", first.url),
                several => format!("{}: {reason}, and {} more", first.url, several - 1),
            })
        };
        Self {
            name: service.service.to_string(),
            project: service.project.clone(),
            standing: Word {
                word: standing.word(),
                tone: tone(standing),
            },
            bar: Bar {
                blue: weights.blue.to_string(),
                green: weights.green.to_string(),
                words,
            },
            active: service.active,
            sides: Color::BOTH
                .into_iter()
                .map(|color| side(service, color, now))
                .collect(),
            since: service.since.map(|then| Moments::of(then, now)),
            remark: drift.map(|drift| drift.message.clone()).or_else(unhealthy),
        }
    }
}

impl Card {
    /// `history`: of this service and of all together, newest first.
    pub(super) fn of(
        service: &ServiceStatus,
        status: &Status,
        book: &Book,
        history: &[AuditEntry],
        now: Timestamp,
    ) -> Self {
        let own = || {
            history.iter().filter(|entry| {
                entry.service.is_none() || entry.service.as_ref() == Some(&service.service)
            })
        };
        let moments: Vec<_> = own()
            .filter(|entry| entry.success && MOVES.contains(&entry.action.as_str()))
            .map(|entry| Moment {
                at: entry.timestamp,
                what: match entry.environment {
                    Some(color) => format!("{} {color}, by {}", entry.action, entry.actor),
                    None => format!("{}, by {}", entry.action, entry.actor),
                },
            })
            .collect();
        let hour = book.hour(&service.service, now);
        let is_counted = hour.is_some();
        let charts = hour.and_then(|hour| chart::of(&hour, &moments, now));
        let silence = match (&charts, book.silence()) {
            (Some(_), _) => None,
            (None, Some(why)) => Some(format!("No figures: {why}.")),
            (None, None) if is_counted => Some("No requests in the last hour.".to_owned()),
            (None, None) => Some(
                "No figures: the service has `metrics: false`, or is not in force yet.".to_owned(),
            ),
        };
        let drift = status.drift.iter();
        let drift = drift.filter(|drift| drift.service.as_ref() == Some(&service.service));
        let live = service.live.as_ref();
        Self {
            row: Row::of(service, status, now),
            strategy: match service.strategy {
                Strategy::BlueGreen => "blue/green",
                Strategy::Canary => "canary",
            },
            traffic: service.traffic.to_string(),
            is_open: service.traffic == TrafficMode::Open,
            overlay: service.overlay.map(|color| {
                format!(
                    "{} cannot serve, so {color} stands in. The position stays, and the traffic returns by itself.",
                    !color
                )
            }),
            drift: drift.map(|drift| drift.message.clone()).collect(),
            troubled: live
                .iter()
                .flat_map(|live| &live.troubled)
                .map(|server| {
                    format!("{} {}: {}", server.color, server.url, server.trouble.as_str())
                })
                .collect(),
            live: live.map(|live| {
                format!(
                    "in flight: blue {}, green {}; waiting: {}",
                    live.in_flight.blue, live.in_flight.green, live.held
                )
            }),
            charts,
            silence,
            rollout: service.rollout.as_deref().map(|rollout| Walk::of(rollout, now)),
            history: own().take(LINES).map(|entry| Entry::of(entry, now)).collect(),
            actions: action::of(service, status.balancer == "embedded"),
        }
    }
}

pub(super) const fn tone(standing: Standing) -> &'static str {
    match standing {
        Standing::Drift | Standing::Down => "bad",
        Standing::Stopped | Standing::Failover | Standing::Unknown => "mind",
        Standing::Divided | Standing::Stable => "good",
    }
}

fn side(service: &ServiceStatus, color: Color, now: Timestamp) -> Side {
    let servers = &service.servers[color];
    let count = |health: Health| servers.iter().filter(|one| one.health == health).count();
    let (healthy, all) = (count(Health::Healthy), servers.len());
    let (words, tone) = if all == 0 {
        ("no servers".to_owned(), "mind")
    } else if count(Health::Unknown) == all {
        ("not probed yet".to_owned(), "mind")
    } else {
        let tone = match healthy {
            0 => "bad",
            some if some < all => "mind",
            _ => "good",
        };
        (format!("{healthy} of {all} healthy"), tone)
    };
    Side {
        color,
        role: match (service.strategy, service.active == color) {
            (Strategy::BlueGreen, true) => "active",
            (Strategy::BlueGreen, false) => "idle",
            (Strategy::Canary, true) => "stable",
            (Strategy::Canary, false) => "candidate",
        },
        share: service.split().weight(color).to_string(),
        version: service.versions[color].clone(),
        health: words,
        tone,
        servers: servers.iter().map(|one| server(one, now)).collect(),
    }
}

fn server(server: &ServerStatus, now: Timestamp) -> Server {
    Server {
        url: server.url.clone(),
        health: server.health,
        tone: match server.health {
            Health::Healthy => "good",
            Health::Unknown => "mind",
            Health::Unhealthy => "bad",
        },
        reason: server.reason.clone(),
        version: server.version.clone(),
        checked: server.checked_at.map(|then| Moments::of(then, now)),
    }
}
