//! A rollout on the page: what is shown of it, and the buttons that steer it. Every text is as hostile as whoever wrote it; the
//! templates escape all of them.

use jiff::Timestamp;
use serde::Serialize;

use super::card::Moments;
use crate::controller::{RolloutId, RolloutStanding, RolloutStatus, RolloutVerb, ServiceStatus};
use crate::domain::{Color, Decision};

/// The last parts of the addresses of the forms that steer a rollout.
pub(super) const VERBS: [&str; 4] = ["promote", "pause", "resume", "abort"];

/// One rollout.
#[derive(Debug, Serialize)]
pub(super) struct Walk {
    id: String,
    status: &'static str,
    tone: &'static str,
    versions: String,
    candidate: Color,
    weight: String,
    step: String,
    phase: String,
    reason: String,
    since: Moments,
    until: Option<String>,
    source: &'static str,
    judge: &'static str,
    forgotten: u64,
    /// Newest first.
    verdicts: Vec<Said>,
    /// Oldest first.
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Said {
    at: Moments,
    word: &'static str,
    tone: &'static str,
    reason: String,
    figures: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Step {
    at: Moments,
    phase: String,
    weight: String,
    reason: String,
}

impl Walk {
    pub(super) fn of(rollout: &RolloutStatus, now: Timestamp) -> Self {
        let before = rollout.baseline_version.as_deref().unwrap_or("?");
        let verdicts = rollout.verdicts.iter().rev().map(|verdict| {
            let (word, tone) = match verdict.decision {
                Decision::Advance => ("advance", "good"),
                Decision::Hold => ("hold", "mind"),
                Decision::RollBack => ("roll back", "bad"),
            };
            let figures = verdict.evidence.iter().map(|figure| {
                format!(
                    "{:?} {:.4} of {:.4}",
                    figure.metric, figure.value, figure.bound
                )
            });
            Said {
                at: Moments::of(verdict.at, now),
                word,
                tone,
                reason: verdict.reason.clone(),
                figures: figures.collect(),
            }
        });
        let steps = rollout.moves.iter().map(|moved| Step {
            at: Moments::of(moved.at, now),
            phase: moved.phase.clone(),
            weight: moved.weight.to_string(),
            reason: moved.reason.clone(),
        });
        Self {
            id: rollout.id.to_string(),
            status: rollout.status.as_str(),
            tone: match rollout.status {
                RolloutStanding::Progressing | RolloutStanding::Promoted => "good",
                RolloutStanding::Paused | RolloutStanding::Holding => "mind",
                RolloutStanding::RolledBack | RolloutStanding::Cancelled => "bad",
            },
            versions: format!("{before} → {}", rollout.new_version),
            candidate: rollout.candidate,
            weight: rollout.weight.to_string(),
            step: match rollout.strategy.max_steps {
                Some(most) => format!("{} of at most {most}", rollout.step),
                None => rollout.step.to_string(),
            },
            phase: rollout.phase.clone(),
            reason: rollout.reason.clone(),
            since: Moments::of(rollout.since, now),
            until: rollout
                .until
                .map(|until| until.strftime("%H:%M:%S UTC").to_string()),
            source: rollout.source.as_str(),
            judge: rollout.judge.as_str(),
            forgotten: rollout.forgotten_verdicts,
            verdicts: verdicts.collect(),
            steps: steps.collect(),
        }
    }
}

/// The rollout that runs on a service.
pub(super) fn running(service: &ServiceStatus) -> Option<&RolloutStatus> {
    let rollout = service.rollout.as_deref();
    rollout.filter(|rollout| !rollout.status.is_over())
}

/// What a button asks of a rollout; `None`: it is not one of these.
pub(super) fn verb(name: &str, id: RolloutId) -> Option<RolloutVerb> {
    Some(match name {
        "promote" => RolloutVerb::Promote(id),
        "pause" => RolloutVerb::Pause(id),
        "resume" => RolloutVerb::Resume(id),
        "abort" => RolloutVerb::Cancel(id),
        _ => return None,
    })
}
