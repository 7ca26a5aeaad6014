//! The report as text: what became of it, what each step saw, and what was said.

use jiff::Timestamp;

use super::bins::real_count;
use super::record::Record;
use super::wilson::interval;
use crate::domain::{Arm, Decision, Verdict};
use crate::rollout::judge::words::{count, percent, seconds};

/// The whole report, for a terminal.
pub fn text(record: &Record) -> String {
    let mut out = String::new();
    let [stable, candidate] = record.names();
    let (from, to) = record.span();
    let mut line = |text: String| {
        // names and reasons come from outside, and a terminal obeys control characters
        out.extend(
            text.trim_end()
                .chars()
                .filter(|letter| !letter.is_control()),
        );
        out.push('\n');
    };
    line(format!("{}  {}", record.service, record.id));
    line(format!(
        "{candidate} against {stable}, judge: {}",
        record.judge
    ));
    line(format!("{}: {}", record.status, record.reason));
    let lasted = to.duration_since(from).as_secs_f64();
    line(format!(
        "{} to {}, {}",
        second(from),
        second(to),
        seconds(lasted)
    ));
    for step in steps(record) {
        line(String::new());
        line(step.heading);
        for row in step.rows {
            line(format!("  {row}"));
        }
    }
    line(String::new());
    line("What was said".into());
    for said in said(&record.verdicts) {
        let times = if said.times > 1 {
            format!(" ({} times, until {})", said.times, clock(said.last.at))
        } else {
            String::new()
        };
        line(format!(
            "  {}  {:<9}  {}{times}",
            clock(said.first.at),
            word(said.last.decision),
            said.last.reason
        ));
    }
    out
}

/// A weight, and what both colors did while it was in force.
pub(super) struct StepText {
    pub(super) heading: String,
    pub(super) rows: Vec<String>,
}

/// Each step with what was counted in it; without steps, all of it as one.
pub(super) fn steps(record: &Record) -> Vec<StepText> {
    let (from, to) = record.span();
    let mut bounds: Vec<(Timestamp, Option<f64>)> = record
        .steps
        .iter()
        .map(|step| (step.at, Some(step.weight)))
        .collect();
    if bounds.is_empty() {
        bounds.push((from, None));
    }
    let ends = bounds.iter().skip(1).map(|(at, _)| *at).chain([to]);
    let all = bounds.iter().zip(ends).filter(|((at, weight), end)| {
        // the way back and the end are no steps that anything was counted in
        *end > *at && *weight != Some(0.0)
    });
    all.map(|((at, weight), end)| {
        let inside = record
            .counts
            .iter()
            .filter(|one| one.from >= *at && one.from < end);
        let mut sums = [Arm::default(); 2];
        for one in inside {
            for (sum, arm) in sums.iter_mut().zip([one.stable, one.candidate]) {
                sum.requests = sum.requests.saturating_add(arm.requests);
                sum.errors = sum.errors.saturating_add(arm.errors);
                sum.slow = sum.slow.saturating_add(arm.slow);
            }
        }
        let weight = weight.map_or("All".into(), |weight| percent(weight / 100.0));
        let lasted = seconds(end.duration_since(*at).as_secs_f64());
        let names = record.names();
        let longest = names
            .iter()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0);
        let rows = names
            .iter()
            .zip(sums)
            .rev()
            .filter(|(_, arm)| arm.requests > 0);
        StepText {
            heading: format!("{weight} from {} for {lasted}", clock(*at)),
            rows: rows
                .map(|(name, arm)| format!("{name:<longest$}  {}", figures(arm)))
                .collect(),
        }
    })
    .collect()
}

/// `612 requests, 2.1 % failed (1.3 % to 3.6 %)`.
fn figures(arm: Arm) -> String {
    let of = real_count(arm.requests);
    let share = |bad: u64, what: &str| {
        let bad = real_count(bad);
        let (low, high) = interval(bad, of);
        let (rate, low, high) = (percent(bad / of), percent(low), percent(high));
        format!("{rate} {what} ({low} to {high})")
    };
    let mut parts = vec![
        format!("{} requests", count(of)),
        share(arm.errors, "failed"),
    ];
    if arm.slow > 0 {
        parts.push(share(arm.slow, "slow"));
    }
    parts.join(", ")
}

/// The same word said several times on end.
pub(super) struct Said<'a> {
    pub(super) first: &'a Verdict,
    pub(super) last: &'a Verdict,
    pub(super) times: usize,
}

/// What was said, holds on end as one.
pub(super) fn said(verdicts: &[Verdict]) -> Vec<Said<'_>> {
    let mut all: Vec<Said<'_>> = Vec::new();
    for verdict in verdicts {
        match all.last_mut() {
            Some(said)
                if said.last.decision == verdict.decision
                    && verdict.decision == Decision::Hold
                    && kind(&said.last.reason) == kind(&verdict.reason) =>
            {
                said.last = verdict;
                said.times += 1;
            }
            Some(_) | None => all.push(Said {
                first: verdict,
                last: verdict,
                times: 1,
            }),
        }
    }
    all
}

/// What a reason is about, apart from its figures.
fn kind(reason: &str) -> String {
    let letters = reason.chars().filter(|letter| letter.is_alphabetic());
    letters.collect()
}

/// A decision for people.
pub(super) const fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Advance => "advance",
        Decision::Hold => "hold",
        Decision::RollBack => "roll back",
    }
}

/// `2026-11-21 16:40:07Z`.
pub(super) fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// `16:40:07`.
pub(super) fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}
