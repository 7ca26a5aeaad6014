//! The overview, and one service at length. Reads what the controller has published and waits for nothing.

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::error::Problem;
use super::super::request::pick;
use super::behind::AliasCard;
use super::card::{Card, Entry, Row, words};
use super::viewer::Viewer;
use super::{Desk, draw};
use crate::controller::{
    AliasStatus, AuditEntry, Proof, SO_ALREADY, ServiceStatus, Standing, Status,
};
use crate::domain::ServiceName;

/// Up to here each service is shown at length on the first page.
const AT_LENGTH: usize = 3;
/// Rows on one page.
const ROWS: usize = 100;
/// Lines of the audit log under a list of services.
const LINES: usize = 12;
/// Lines of the audit log that are looked through for one page: an hour of a busy host.
const LOOKED_AT: usize = 400;
/// How long a change is news to who made it.
const FRESH: SignedDuration = SignedDuration::from_mins(1);

/// What the address of the overview may say. All of it may be anybody's, so it chooses among words of ours.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// Part of a name or project.
    q: Option<String>,
    /// From 1.
    page: Option<usize>,
    /// The verb that was done, on coming back from a form.
    done: Option<String>,
    /// Its service.
    service: Option<ServiceName>,
}

/// What stands above everything else.
#[derive(Debug, Serialize)]
struct Head<'a> {
    title: String,
    version: &'static str,
    balancer: &'a str,
    generation: u64,
    proved: bool,
    viewer: &'a Viewer,
    problems: &'a [String],
    /// Of no service in particular.
    drift: Vec<&'a str>,
    notice: Option<String>,
    time: String,
}

#[derive(Debug, Serialize)]
struct Overview<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    cards: Vec<Card>,
    rows: Vec<Row>,
    /// The services behind an alias, on the first page.
    behind: Vec<AliasCard>,
    /// Whether those are shown at length.
    at_length: bool,
    /// How the services stand, in a sentence.
    summary: String,
    /// All that there are, with or without a search.
    total: usize,
    found: usize,
    query: &'a str,
    page: usize,
    pages: usize,
    history: Vec<Entry>,
    history_problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct One<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    cards: Vec<Card>,
    behind: Vec<AliasCard>,
    history_problem: Option<String>,
}

fn head<'a>(
    desk: &Desk,
    status: &'a Status,
    viewer: &'a Viewer,
    title: String,
    notice: Option<String>,
) -> Head<'a> {
    let drift = status.drift.iter();
    Head {
        title,
        version: env!("CARGO_PKG_VERSION"),
        balancer: &status.balancer,
        generation: status.generation.0,
        proved: *desk.api.handle.proof().borrow() == Proof::Seen,
        viewer,
        problems: &status.problems,
        drift: drift
            .filter(|drift| drift.service.is_none())
            .map(|drift| drift.message.as_str())
            .collect(),
        notice,
        time: Timestamp::now().strftime("%H:%M:%SZ").to_string(),
    }
}

/// What was done, for who has no script: said of what the audit log has of the last minute, and not because an address says so.
fn notice(
    status: &Status,
    asked: &Asked,
    history: &[AuditEntry],
    now: Timestamp,
) -> Option<String> {
    asked.done.as_deref()?;
    let service = pick(status, asked.service.as_ref()).ok()?;
    let last = history
        .iter()
        .find(|entry| entry.service.as_ref() == Some(&service.service))?;
    let is_of_now = last.timestamp.duration_until(now) < FRESH;
    let did = if last.message.contains(SO_ALREADY) {
        "It was so already"
    } else {
        "Done and proved"
    };
    (last.success && is_of_now).then(|| {
        format!(
            "{did}: {} of {}. It serves {} now.",
            last.action,
            service.service,
            words(service.split())
        )
    })
}

pub(super) async fn overview(
    State(desk): State<Desk>,
    viewer: Viewer,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let status = desk.api.handle.status();
    let now = Timestamp::now();
    let (history, history_problem) = recall(&desk, None).await;
    let query = asked.q.as_deref().unwrap_or_default().trim();
    let is_meant = |name: &ServiceName, project: Option<&String>| {
        query.is_empty()
            || name.as_str().contains(query)
            || project.is_some_and(|project| project.contains(query))
    };
    let mut found: Vec<&ServiceStatus> = status
        .services
        .iter()
        .filter(|service| is_meant(&service.service, service.project.as_ref()))
        .collect();
    let aliases = desk.api.handle.aliases_now();
    let mut aliases: Vec<&AliasStatus> = aliases
        .iter()
        .filter(|alias| is_meant(&alias.service, alias.project.as_ref()))
        .collect();
    let total = status.services.len() + status.aliases.len();
    let all_found = found.len() + aliases.len();
    let at_length = total <= AT_LENGTH;
    let pages = found.len().max(aliases.len()).div_ceil(ROWS).max(1);
    let page = asked.page.unwrap_or(1).clamp(1, pages);
    let (mut cards, mut rows) = (Vec::new(), Vec::new());
    if at_length {
        let card =
            |service: &&ServiceStatus| Card::of(service, &status, &desk.api.figures, &history, now);
        cards = found.iter().map(card).collect();
    } else {
        // who needs a person is first; the rest in the order of their names
        found.sort_by_key(|service| Standing::of(service, &status.drift));
        aliases.sort_by_key(|alias| Standing::of_alias(alias, &status.drift));
        let here = found.iter().skip((page - 1) * ROWS).take(ROWS);
        rows = here.map(|service| Row::of(service, &status, now)).collect();
    }
    let here = aliases.iter().skip((page - 1) * ROWS).take(ROWS);
    let behind = here.map(|alias| AliasCard::of(alias, &status, &history, now));
    draw::page(
        "overview.html",
        &Overview {
            head: head(
                &desk,
                &status,
                &viewer,
                "turnout".to_owned(),
                notice(&status, &asked, &history, now),
            ),
            cards,
            rows,
            behind: behind.collect(),
            at_length,
            summary: summary(&status),
            total,
            found: all_found,
            query,
            page,
            pages,
            history: if at_length {
                Vec::new()
            } else {
                history
                    .iter()
                    .take(LINES)
                    .map(|entry| Entry::of(entry, now))
                    .collect()
            },
            history_problem,
        },
    )
}

pub(super) async fn service(
    State(desk): State<Desk>,
    viewer: Viewer,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let status = desk.api.handle.status();
    let name = name.parse::<ServiceName>();
    if let Ok(name) = &name
        && let Some(alias) = desk
            .api
            .handle
            .aliases_now()
            .iter()
            .find(|alias| alias.service == *name)
    {
        return behind(&desk, &viewer, &status, alias).await;
    }
    let found = match name {
        Ok(name) => pick(&status, Some(&name)).map_err(Problem::from),
        // a text that is no name at all is not there either
        Err(error) => Err(Problem::not_found(error.to_string())),
    };
    let service = match found {
        Ok(service) => service,
        Err(problem) => return draw::refusal(&problem),
    };
    let (history, history_problem) = recall(&desk, Some(service.service.clone())).await;
    let now = Timestamp::now();
    let card = Card::of(&service, &status, &desk.api.figures, &history, now);
    let notice = notice(&status, &asked, &history, now);
    let title = format!("{} – turnout", service.service);
    draw::page(
        "service.html",
        &One {
            head: head(&desk, &status, &viewer, title, notice),
            cards: vec![card],
            behind: Vec::new(),
            history_problem,
        },
    )
}

/// One service behind an alias.
async fn behind(
    desk: &Desk,
    viewer: &Viewer,
    status: &Status,
    alias: &AliasStatus,
) -> Result<Response, Problem> {
    let (history, history_problem) = recall(desk, Some(alias.service.clone())).await;
    let card = AliasCard::of(alias, status, &history, Timestamp::now());
    let title = format!("{} – turnout", alias.service);
    draw::page(
        "service.html",
        &One {
            head: head(desk, status, viewer, title, None),
            cards: Vec::new(),
            behind: vec![card],
            history_problem,
        },
    )
}

/// The audit log as far as it is shown; a log that cannot be read is no reason not to show the rest.
async fn recall(desk: &Desk, service: Option<ServiceName>) -> (Vec<AuditEntry>, Option<String>) {
    match desk.api.handle.recent(service, LOOKED_AT).await {
        Ok(history) => (history, None),
        Err(error) => (Vec::new(), Some(Problem::from(error).detail().to_owned())),
    }
}

fn summary(status: &Status) -> String {
    let all = status.services.len() + status.aliases.len();
    let colored = status.services.iter();
    let colored = colored.map(|service| Standing::of(service, &status.drift));
    let aliases = status.aliases.iter();
    let aliases = aliases.map(|alias| Standing::of_alias(alias, &status.drift));
    let standings = colored.chain(aliases);
    let needy = standings.filter(|standing| standing.needs_person()).count();
    let services = if all == 1 { "service" } else { "services" };
    match needy {
        0 => format!("{all} {services}, all as recorded"),
        1 => format!("{all} {services}, 1 needs you"),
        several => format!("{all} {services}, {several} need you"),
    }
}

/// A problem as a page, for who has no script.
pub(super) fn refused(problem: &Problem) -> Response {
    draw::refusal(problem).unwrap_or_else(IntoResponse::into_response)
}
