//! What `canary` shows: a row, a line, a page. Pure: what is shown is all there is to it.

use comfy_table::Cell;

use super::output::{BOLD, DIM};
use super::table::{self, Page, Tone};
use crate::controller::{RolloutStanding, RolloutStatus};
use crate::domain::Decision;

/// Verdicts on a page; `-o json` has all of them.
const LAST: usize = 12;

const fn word(status: RolloutStanding) -> (&'static str, Tone) {
    match status {
        RolloutStanding::Progressing => ("↻ Progressing", Tone::Good),
        RolloutStanding::Paused => ("‖ Paused", Tone::Mind),
        RolloutStanding::Holding => ("◌ Holding", Tone::Mind),
        RolloutStanding::Promoted => ("✔ Promoted", Tone::Good),
        RolloutStanding::RolledBack => ("✖ Rolled back", Tone::Bad),
        RolloutStanding::Cancelled => ("✖ Cancelled", Tone::Dim),
    }
}

fn versions(rollout: &RolloutStatus) -> String {
    let before = rollout.baseline_version.as_deref().unwrap_or("?");
    format!(
        "{before} ({}) → {} ({})",
        !rollout.candidate, rollout.new_version, rollout.candidate
    )
}

/// All of them.
pub(super) fn list(all: &[RolloutStatus]) -> String {
    let mut table = table::new(&[
        "BEGUN", "SERVICE", "STATUS", "WEIGHT", "STEP", "VERSIONS", "ID", "REASON",
    ]);
    for rollout in all {
        let (text, tone) = word(rollout.status);
        table.add_row(vec![
            Cell::new(table::second(rollout.created_at)),
            Cell::new(&rollout.service_name),
            table::toned(text, tone),
            Cell::new(format!("{}%", rollout.weight)),
            Cell::new(rollout.step),
            Cell::new(versions(rollout)),
            Cell::new(&rollout.id),
            table::toned(&rollout.reason, Tone::Dim),
        ]);
    }
    let mut page = Page::default();
    page.add(&table::render(table));
    page.finish()
}

/// One change of it.
pub(super) fn line(rollout: &RolloutStatus) -> String {
    let (text, _) = word(rollout.status);
    format!(
        "{} {} {text} {}% {}: {}",
        table::second(rollout.updated_at),
        rollout.service_name,
        rollout.weight,
        rollout.candidate,
        rollout.reason
    )
}

/// What was asked for, and how it stands.
pub(super) fn brief(rollout: &RolloutStatus) -> String {
    let mut page = Page::default();
    head(rollout, &mut page);
    page.finish()
}

fn head(rollout: &RolloutStatus, page: &mut Page) {
    let (text, _) = word(rollout.status);
    page.line(format_args!(
        "{BOLD}{}{BOLD:#}  {text}  {}",
        rollout.service_name,
        versions(rollout)
    ));
    page.line(format_args!(
        "  {} {}% to {}, step {}{}",
        table::bar(rollout.weight),
        rollout.weight,
        rollout.candidate,
        rollout.step,
        rollout
            .strategy
            .max_steps
            .map_or_else(String::new, |most| format!(" of at most {most}")),
    ));
    page.line(format_args!("  {}", rollout.reason));
    let until = rollout.until.map_or_else(String::new, |until| {
        format!(", next look {}", table::second(until))
    });
    page.line(format_args!(
        "  {DIM}{} by {}, since {}{until}{DIM:#}",
        rollout.id,
        rollout.actor,
        table::second(rollout.since)
    ));
}

/// All that is worth a line.
pub(super) fn whole(rollout: &RolloutStatus) -> String {
    let mut page = Page::default();
    head(rollout, &mut page);
    let over = rollout.verdicts.len().saturating_sub(LAST);
    if !rollout.verdicts.is_empty() {
        let mut table = table::new(&["VERDICT AT", "", "REASON"]);
        for verdict in &rollout.verdicts[over..] {
            let (text, tone) = match verdict.decision {
                Decision::Advance => ("✔ advance", Tone::Good),
                Decision::Hold => ("◌ hold", Tone::Mind),
                Decision::RollBack => ("✖ roll back", Tone::Bad),
            };
            table.add_row(vec![
                Cell::new(table::second(verdict.at)),
                table::toned(text, tone),
                Cell::new(&verdict.reason),
            ]);
        }
        page.line("");
        page.add(&table::render(table));
    }
    let before = rollout.forgotten_verdicts + over as u64;
    if before > 0 {
        page.line(format_args!("{DIM}and {before} before them{DIM:#}"));
    }
    let mut table = table::new(&["AT", "PHASE", "WEIGHT", "WHY"]);
    for moved in &rollout.moves {
        table.add_row(vec![
            Cell::new(table::second(moved.at)),
            Cell::new(&moved.phase),
            Cell::new(format!("{}%", moved.weight)),
            Cell::new(&moved.reason),
        ]);
    }
    page.line("");
    page.add(&table::render(table));
    page.finish()
}
