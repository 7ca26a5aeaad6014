//! `turnout canary report`: what happened in a rollout and why, as text, and as a page with pictures that needs nothing else.

use std::path::Path;

use jiff::Timestamp;

use super::args_rollout::ReportArgs;
use super::canary::chosen;
use super::output;
use super::{CliError, Format, Globals};
use crate::controller::RolloutStatus;
use crate::domain::JudgeKind;
use crate::exit::ExitCode;
use crate::rollout::judge::replay::{Look, looks};
use crate::rollout::report::{self, Record, Step};
use crate::rollout::{Moved, Status, policy_of};

pub(super) async fn run(globals: &Globals, args: &ReportArgs) -> Result<ExitCode, CliError> {
    let rollout = chosen(globals, args.which.as_deref()).await?;
    let record = record(&rollout);
    if let Some(to) = &args.html {
        write(to, &report::page(std::slice::from_ref(&record)))?;
    }
    match (globals.format(), &args.html) {
        (Format::Table, Some(to)) => output::talk(format_args!("pictures: {}", to.display())),
        (Format::Table, None) => output::text(&report::text(&record))?,
        (Format::Json | Format::Yaml, _) => {
            output::value(globals.format(), &record, report::text)?;
        }
    }
    Ok(ExitCode::Done)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a page for people, which the next run of this command makes again"
)]
fn write(to: &Path, page: &str) -> Result<(), CliError> {
    std::fs::write(to, page).map_err(|source| CliError::Write {
        path: to.to_owned(),
        source,
    })
}

/// What a report is made of. What is over is over since its last move.
fn record(rollout: &RolloutStatus) -> Record {
    let mut steps: Vec<Step> = Vec::new();
    for moved in &rollout.moves {
        let weight = moved.weight.percent();
        let is_same = steps
            .last()
            .is_some_and(|last| (last.weight - weight).abs() < 1e-9);
        if !is_same {
            steps.push(Step {
                at: moved.at,
                weight,
            });
        }
    }
    let last = rollout.moves.last().map(|moved| moved.at);
    Record {
        id: rollout.id.to_string(),
        service: rollout.service_name.to_string(),
        candidate: Some(rollout.candidate),
        new_version: Some(rollout.new_version.clone()),
        baseline_version: rollout.baseline_version.clone(),
        judge: rollout.judge.as_str().to_owned(),
        status: rollout.status.as_str().to_owned(),
        reason: rollout.reason.clone(),
        began: rollout.created_at,
        ended: last.filter(|_| rollout.status.is_over()),
        steps,
        verdicts: rollout.verdicts.clone(),
        counts: rollout.counts.clone(),
        looks: evidence(rollout),
    }
}

/// The evidence over time, where the judge gathers any. Where counts were added up, what it made of each is not known any more,
/// and what it said is drawn.
fn evidence(rollout: &RolloutStatus) -> Vec<Look> {
    let policy = match rollout.judge {
        JudgeKind::Sequential if rollout.merged_counts == 0 => policy_of(rollout.policy).ok(),
        JudgeKind::Sequential | JudgeKind::Thresholds => None,
    };
    policy.map_or_else(Vec::new, |policy| {
        looks(&rollout.counts, policy, &begun(&rollout.moves))
    })
}

/// When steps began: a weight came into force. Where one did not, it holds where it was.
fn begun(moves: &[Moved]) -> Vec<Timestamp> {
    let two = moves.windows(2);
    let begun = two.filter(|two| {
        matches!(two[0].phase.as_str(), "starting" | "shifting")
            && two[1].phase == "observing"
            && two[1].status != Status::Holding
    });
    begun.map(|two| two[1].at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Weight;

    #[test]
    fn a_step_begins_where_a_weight_came_into_force() {
        let moves = [
            ("starting", Status::Progressing),
            ("observing", Status::Progressing),
            ("observing", Status::Holding),
            ("shifting", Status::Progressing),
            // the balancer did not take it
            ("observing", Status::Holding),
            ("shifting", Status::Progressing),
            ("observing", Status::Paused),
            ("returning", Status::Progressing),
            ("over", Status::Cancelled),
        ];
        let at = |second| Timestamp::from_second(second).unwrap();
        let moves: Vec<_> = (0..)
            .zip(moves)
            .map(|(second, (phase, status))| Moved {
                at: at(second),
                phase: phase.to_owned(),
                status,
                weight: Weight::ZERO,
                reason: String::new(),
            })
            .collect();
        assert_eq!(begun(&moves), [at(1), at(6)]);
    }
}
