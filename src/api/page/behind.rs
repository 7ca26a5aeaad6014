//! One service behind an alias as the templates see it. It has no colors that turnout knows, so nothing of it is switched here.
//!
//! Every text is as hostile as whoever wrote it; the templates escape all of them.

use jiff::Timestamp;
use serde::Serialize;

use super::card::{Entry, LINES, Moments, Word, tone};
use crate::controller::{AliasStatus, AuditEntry, Standing, Status};
use crate::domain::{Admission, Health};

/// Everything about a service behind an alias.
#[derive(Debug, Serialize)]
pub(super) struct AliasCard {
    name: String,
    project: Option<String>,
    standing: Word,
    target: String,
    addresses: Vec<String>,
    /// What is wrong with the last lookup.
    lookup: Option<String>,
    health: Health,
    tone: &'static str,
    /// Why the last probe failed.
    reason: Option<String>,
    checked: Option<Moments>,
    version: Option<String>,
    is_blocked: bool,
    drift: Vec<String>,
    /// What was counted since the router began.
    figures: Vec<Figure>,
    /// Why nothing was.
    silence: Option<&'static str>,
    history: Vec<Entry>,
}

/// A number with its name.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    value: String,
}

impl AliasCard {
    /// `history`: of this service and of all together, newest first.
    pub(super) fn of(
        alias: &AliasStatus,
        status: &Status,
        history: &[AuditEntry],
        now: Timestamp,
    ) -> Self {
        let standing = Standing::of_alias(alias, &status.drift);
        let own = history.iter().filter(|entry| {
            entry.service.is_none() || entry.service.as_ref() == Some(&alias.service)
        });
        let drift = status.drift.iter();
        let drift = drift.filter(|drift| drift.service.as_ref() == Some(&alias.service));
        Self {
            name: alias.service.to_string(),
            project: alias.project.clone(),
            standing: Word {
                word: standing.word(),
                tone: tone(standing),
            },
            target: alias.target.clone(),
            addresses: alias.addresses.iter().map(ToString::to_string).collect(),
            lookup: alias.problem.clone(),
            health: alias.health,
            tone: match alias.health {
                Health::Healthy => "good",
                Health::Unknown => "mind",
                Health::Unhealthy => "bad",
            },
            reason: alias.reason.clone(),
            checked: alias.checked_at.map(|then| Moments::of(then, now)),
            version: alias.version.clone(),
            is_blocked: alias.admission == Admission::Blocked,
            drift: drift.map(|drift| drift.message.clone()).collect(),
            figures: figures(alias),
            silence: alias.live.is_none().then_some(if status.balancer == "embedded" {
                "the service has `metrics: false`, or is not in force yet"
            } else {
                "this balancer carries the traffic itself, and turnout does not count its requests"
            }),
            history: own.take(LINES).map(|entry| Entry::of(entry, now)).collect(),
        }
    }
}

fn figures(alias: &AliasStatus) -> Vec<Figure> {
    let Some(live) = &alias.live else {
        return Vec::new();
    };
    let router = &live.router;
    let figure = |name, value| Figure { name, value };
    vec![
        figure("requests", router.total_requests.to_string()),
        figure("failed", router.failed_requests.to_string()),
        figure("successful", format!("{:.1} %", router.success_rate)),
        figure(
            "on average",
            format!("{:.1} ms", router.avg_request_time_ms),
        ),
        figure("in flight", live.in_flight.to_string()),
    ]
}
