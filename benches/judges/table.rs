//! The figures as tables in Markdown.

use std::fmt::Write as _;

use super::figures::{Figures, Row};
use super::rules::Rule;
use super::traffic::percent;
use super::walk::{Walk, Walked};

impl Figures {
    /// `100 % @ 4.5 min`, or how often alone.
    pub(crate) fn found(&self) -> String {
        let share = self.rolled_back * 100.0;
        match self.minutes {
            Some(minutes) if share >= 1.0 => format!("{share:.0} % @{minutes:.1}"),
            Some(_) | None if share == 0.0 => "0".into(),
            Some(_) | None => format!("{share:.1} %"),
        }
    }
}

/// How often, and at which minute, each judge rolls back.
pub(crate) fn verdicts(rows: &[Row]) -> String {
    let mut out = String::from("| scenario | req/s |");
    for rule in Rule::ALL {
        write!(out, " {} |", rule.name()).expect("a string takes it");
    }
    out.push_str("\n|---|---|");
    out.push_str(&"---|".repeat(Rule::ALL.len()));
    for row in rows {
        let scenario = &row.scenario;
        write!(out, "\n| {} | {} |", scenario.name, scenario.per_second)
            .expect("a string takes it");
        for figures in &row.all {
            write!(out, " {} |", figures.found()).expect("a string takes it");
        }
    }
    out
}

/// What users see of a regression: requests that the candidate got, and failed ones, up to the way back; medians over all runs.
pub(crate) fn exposure(rows: &[Row]) -> String {
    let mut out = String::from("| scenario | req/s |");
    for rule in Rule::ALL {
        write!(out, " {} |", rule.name()).expect("a string takes it");
    }
    out.push_str("\n|---|---|");
    out.push_str(&"---|".repeat(Rule::ALL.len()));
    for row in rows.iter().filter(|row| !row.scenario.is_healthy()) {
        let scenario = &row.scenario;
        write!(out, "\n| {} | {} |", scenario.name, scenario.per_second)
            .expect("a string takes it");
        for one in &row.all {
            write!(out, " {:.0} / {:.0} |", one.exposed, one.failed).expect("a string takes it");
        }
    }
    out
}

/// How often, and when first, the sequential judge says that a regression is ruled out.
pub(crate) fn ruled_out(rows: &[Row]) -> String {
    let mut out = String::from(
        "| scenario | req/s | ruled out within 30 min | first @ min |\n|---|---|---|---|",
    );
    for row in rows {
        let Some(ours) = row.of(Rule::Sequential) else {
            continue;
        };
        let when = ours
            .accepted_minutes
            .map_or("-".into(), |minutes| format!("{minutes:.0}"));
        let (name, share) = (&row.scenario.name, ours.accepted * 100.0);
        let rate = row.scenario.per_second;
        write!(out, "\n| {name} | {rate} | {share:.0} % | {when} |").expect("a string takes it");
    }
    out
}

/// Whole rollouts.
pub(crate) fn walks(all: &[(Walk, [Walked; 2])]) -> String {
    let mut out = String::from(
        "| scenario | req/s | thresholds: promoted / rolled back | min | at weight | failed | sequential: promoted / rolled back | min | at weight | failed |\n|---|---|---|---|---|---|---|---|---|---|",
    );
    for (walk, both) in all {
        write!(out, "\n| {} | {} |", walk.name(), walk.scenario.per_second)
            .expect("a string takes it");
        for one in both {
            write!(
                out,
                " {:.1} % / {:.1} % | {:.1} | {} | {:.0} |",
                one.promoted * 100.0,
                one.rolled_back * 100.0,
                one.minutes,
                percent(one.weight),
                one.failed
            )
            .expect("a string takes it");
        }
    }
    out
}
