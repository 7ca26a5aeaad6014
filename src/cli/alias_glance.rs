//! What `status` shows of services behind an alias. Pure: the time comes in as an argument.

use comfy_table::Cell;
use jiff::Timestamp;

use super::glance::tone;
use super::output::BOLD;
use super::table::{self, Page, Tone};
use crate::controller::{AliasStatus, Standing, Status};
use crate::domain::Admission;

/// All of them, grouped by project.
pub(super) fn table_of(status: &Status) -> String {
    let projects = status.aliases.iter().any(|alias| alias.project.is_some());
    let mut head = vec!["SERVICE", "STATUS", "ALIAS", "ADDRESSES", "VERSION", ""];
    if projects {
        head.insert(0, "PROJECT");
    }
    let mut aliases: Vec<&AliasStatus> = status.aliases.iter().collect();
    aliases.sort_by_key(|alias| (&alias.project, &alias.service));
    let mut table = table::new(&head);
    for alias in aliases {
        let standing = Standing::of_alias(alias, &status.drift);
        let mut row = vec![
            Cell::new(&alias.service),
            table::toned(standing.word(), tone(standing)),
            Cell::new(&alias.target),
            Cell::new(addresses(alias)),
            Cell::new(table::or_dash(alias.version.as_ref())),
            table::toned(&remark(alias), Tone::Dim),
        ];
        if projects {
            row.insert(0, Cell::new(table::or_dash(alias.project.as_ref())));
        }
        table.add_row(row);
    }
    table::render(table)
}

fn addresses(alias: &AliasStatus) -> String {
    match alias.addresses.as_slice() {
        [] => "-".to_owned(),
        some => some
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" "),
    }
}

fn remark(alias: &AliasStatus) -> String {
    let blocked = (alias.admission == Admission::Blocked).then(|| "answered with 503".to_owned());
    let problem = alias
        .problem
        .as_ref()
        .map(|problem| format!("not looked up, the last addresses stay: {problem}"));
    let remarks = [blocked, alias.reason.clone(), problem];
    remarks.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// One at length.
pub(super) fn one(status: &Status, alias: &AliasStatus, now: Timestamp) -> String {
    let checked = match (&alias.reason, alias.checked_at) {
        (reason, Some(then)) => Some(format!(
            "{}, {} ago",
            reason.as_deref().unwrap_or("passed"),
            table::ago(then, now)
        )),
        (reason, None) => reason.clone(),
    };
    let requests = alias.live.as_ref().map(|live| {
        let router = &live.router;
        format!(
            "{} so far, {} failed, {} in flight",
            router.total_requests, router.failed_requests, live.in_flight
        )
    });
    let head = [
        ("Name", Some(alias.service.to_string())),
        ("Project", alias.project.clone()),
        (
            "Status",
            Some(Standing::of_alias(alias, &status.drift).word().to_owned()),
        ),
        (
            "Balancer",
            Some(format!(
                "{}, generation {} proved",
                status.balancer, status.generation
            )),
        ),
        ("Alias", Some(alias.target.clone())),
        ("Addresses", Some(addresses(alias))),
        ("Lookup", alias.problem.clone()),
        ("Version", alias.version.clone()),
        ("Probed", checked),
        ("Requests", requests),
    ];
    let mut page = Page::default();
    for (name, value) in head {
        if let Some(value) = value {
            page.line(format_args!("{BOLD}{name:<9}{BOLD:#}  {value}"));
        }
    }
    page.finish()
}

/// In one line, for a log that is followed.
pub(super) fn line(alias: &AliasStatus, status: &Status) -> String {
    let remark = remark(alias);
    let dash = if remark.is_empty() { "" } else { "  " };
    format!(
        "{}: {} alias {} at {}{dash}{remark}",
        alias.service,
        Standing::of_alias(alias, &status.drift).word(),
        alias.target,
        addresses(alias)
    )
}
