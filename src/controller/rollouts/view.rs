//! A rollout as everybody sees it: in the API, on the page, in the terminal.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{
    CanarySource, Color, JudgeKind, Paired, PolicyAsk, ServiceName, Verdict, WalkAsk, Weight,
};
use crate::rollout::{Moved, Record, RolloutId, Status};

/// Where its figures come from.
pub type RolloutSource = CanarySource;
/// Who judges it.
pub type RolloutJudge = JudgeKind;

/// Verdicts and moves of a rollout that lists and a service's status have; all of them are in its own.
const LAST: usize = 10;

/// One rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Rollout)]
pub struct RolloutStatus {
    /// Its name.
    pub id: RolloutId,
    /// Whose traffic.
    pub service_name: ServiceName,
    /// What the candidate runs.
    pub new_version: String,
    /// What the stable color runs, if known.
    pub baseline_version: Option<String>,
    /// The color that is to become active.
    pub candidate: Color,
    /// How it stands.
    pub status: Status,
    /// What it is at: `starting`, `observing`, `shifting`, `promoting`, `returning`, `over`.
    pub phase: String,
    /// The candidate's percent now.
    pub weight: Weight,
    /// Steps up so far.
    pub step: u32,
    /// Why it stands like that.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it does something by itself next; null: never.
    pub until: Option<Timestamp>,
    /// The walk.
    pub strategy: WalkAsk,
    /// What it is judged by.
    pub policy: PolicyAsk,
    /// Where its figures come from.
    pub source: CanarySource,
    /// Who judges it.
    pub judge: JudgeKind,
    /// What was said at each interval, oldest first.
    pub verdicts: Vec<Verdict>,
    /// Verdicts that were said before those.
    pub forgotten_verdicts: u64,
    /// What happened, oldest first.
    pub moves: Vec<Moved>,
    /// Moves that are not among those.
    #[serde(default)]
    pub forgotten_moves: u64,
    /// What both colors did, oldest first, where the source tells; of a rollout by itself alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<Paired>,
    /// How often neighbours among those were added up to make room.
    #[serde(default)]
    pub merged_counts: u32,
    /// Who began it.
    pub actor: String,
    /// Why, if they said so.
    pub message: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When something happened to it last.
    pub updated_at: Timestamp,
}

impl RolloutStatus {
    /// Of what is kept.
    pub fn of(record: &Record) -> Self {
        let (walk, subject) = (&record.walk, &record.subject);
        let course = walk.course();
        let policy = record.judge.policy();
        Self {
            id: record.id.clone(),
            service_name: subject.service.clone(),
            new_version: subject.new_version.clone(),
            baseline_version: subject.baseline_version.clone(),
            candidate: subject.candidate,
            status: walk.status(),
            phase: walk.phase().as_str().to_owned(),
            weight: walk.weight(),
            step: walk.step_number(),
            reason: match walk.trouble() {
                Some(trouble) => format!("{}; not done yet: {trouble}", walk.reason()),
                None => walk.reason().to_owned(),
            },
            since: walk.since(),
            until: walk.until(),
            strategy: WalkAsk {
                initial_weight: Some(course.initial.percent()),
                step_weight: Some(course.step.percent()),
                interval_sec: u32::try_from(course.interval.as_secs()).ok(),
                max_steps: Some(course.max_steps),
            },
            policy: PolicyAsk {
                max_error_rate: policy.max_error_rate,
                max_latency_p95_ms: policy.max_latency_p95_ms,
                min_availability: policy.min_availability,
                max_cpu_utilization: policy.max_cpu_utilization,
                min_requests: Some(policy.min_requests),
                min_samples: Some(policy.min_samples),
                sample_window_sec: Some(policy.sample_window_sec),
                max_consecutive_failures: Some(policy.max_consecutive_failures),
                alpha: Some(policy.alpha),
                smallest_regression: Some(policy.smallest_regression),
                slow_ms: policy.slow_from_ms(),
                burst_sec: Some(policy.burst_sec),
                incident_sec: Some(policy.incident_sec),
            },
            source: record.source,
            judge: record.judge_kind(),
            verdicts: record.verdicts.clone(),
            forgotten_verdicts: record.forgotten,
            moves: record.moves.clone(),
            forgotten_moves: record.forgotten_moves,
            counts: record.counts.clone(),
            merged_counts: record.merged,
            actor: subject.actor.clone(),
            message: subject.message.clone(),
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }

    /// The same without its counts and with its last verdicts and moves alone, for lists.
    #[must_use]
    pub fn brief(&self) -> Self {
        let mut brief = self.clone();
        brief.counts.clear();
        let over = brief.verdicts.len().saturating_sub(LAST);
        brief.verdicts.drain(..over);
        brief.forgotten_verdicts += over as u64;
        let over = brief.moves.len().saturating_sub(LAST);
        brief.moves.drain(..over);
        brief.forgotten_moves += over as u64;
        brief
    }
}
