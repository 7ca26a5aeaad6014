//! `turnout canary report`: what happened in a rollout and why, as text, and as a page with pictures that needs nothing else.

use std::path::Path;

use super::args_rollout::ReportArgs;
use super::canary::chosen;
use super::output;
use super::{CliError, Format, Globals};
use crate::controller::RolloutStatus;
use crate::domain::JudgeKind;
use crate::exit::ExitCode;
use crate::rollout::judge::replay::{Look, looks};
use crate::rollout::policy_of;
use crate::rollout::report::{self, Record, Step};

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

/// The evidence over time, where the judge gathers any.
fn evidence(rollout: &RolloutStatus) -> Vec<Look> {
    let policy = match rollout.judge {
        JudgeKind::Sequential => policy_of(rollout.policy).ok(),
        JudgeKind::Thresholds => None,
    };
    policy.map_or_else(Vec::new, |policy| looks(&rollout.counts, policy))
}
