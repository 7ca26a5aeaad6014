//! A rollout as it is kept: what was asked for, its walk, its judge, and what was seen and said on the way. Written whole after
//! each event, so it must not grow without an end.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::judge::Judge;
use super::machine::{Action, Event};
use super::phase::Status;
use super::terms::Terms;
use super::walk::Walk;
use crate::domain::{
    CanarySource, Color, JudgeKind, Paired, Sample, ServiceName, Strategy, Verdict, Weight,
};

/// Verdicts that are kept. At one a minute more than a day; then the oldest go, which is counted.
const VERDICTS: usize = 2_000;
/// Stretches of counts that are kept; then neighbours are added up.
const COUNTS: usize = 1_440;
/// Pushed samples that are kept.
const SAMPLES: usize = 2_000;
/// Moves of traffic and changes of status that are kept; then those go first that moved no traffic.
const MOVES: usize = 2_000;

/// The name of a rollout: a UUID of version 4, in lower case.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", example = "3f2b8c1e-9d40-4a7e-8f55-6c1d2e3f4a5b")]
pub struct RolloutId(String);

/// The text is no name of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not the id of a rollout, which is a UUID", .0.escape_debug())]
pub struct InvalidId(String);

impl RolloutId {
    /// From 128 random bits, of which six say that it is such a one (RFC 9562, 5.4).
    pub fn from_random(bits: u128) -> Self {
        let bits = bits & !(0xf << 76) | (4 << 76);
        let bits = bits & !(0b11 << 62) | (0b10 << 62);
        let text = format!("{bits:032x}");
        let parts = [
            &text[..8],
            &text[8..12],
            &text[12..16],
            &text[16..20],
            &text[20..],
        ];
        Self(parts.join("-"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RolloutId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = text.len() == 36
            && text.bytes().enumerate().all(|(place, byte)| match place {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        if fits {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidId(text.chars().take(64).collect()))
        }
    }
}

impl TryFrom<String> for RolloutId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<RolloutId> for String {
    fn from(id: RolloutId) -> Self {
        id.0
    }
}

impl fmt::Display for RolloutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One change of status or weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RolloutMove)]
pub struct Moved {
    /// When.
    pub at: Timestamp,
    /// What it was at from then on.
    pub phase: String,
    /// How it stood.
    pub status: Status,
    /// The candidate's percent.
    pub weight: Weight,
    /// Why.
    pub reason: String,
}

/// Which service, which versions, by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Whose traffic.
    pub service: ServiceName,
    /// The color that is to become active.
    pub candidate: Color,
    /// What it runs.
    pub new_version: String,
    /// What the stable color runs, if known.
    pub baseline_version: Option<String>,
    /// The service's strategy before, which it gets back at the end.
    pub strategy: Strategy,
    /// Who began it.
    pub actor: String,
    /// Why, if they said so.
    pub message: Option<String>,
}

/// One rollout, all of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: RolloutId,
    /// Whose, what, by whom.
    pub subject: Subject,
    /// Where its figures come from.
    pub source: CanarySource,
    /// Where it is.
    pub walk: Walk,
    /// Who judges it, with all that it remembers.
    pub judge: Judge,
    /// What was said, oldest first.
    pub verdicts: Vec<Verdict>,
    /// Verdicts that were said before the first that is kept.
    pub forgotten: u64,
    /// What happened, oldest first.
    pub moves: Vec<Moved>,
    /// Moves that are not kept any more.
    #[serde(default)]
    pub forgotten_moves: u64,
    /// What both colors did, oldest first, where the source tells.
    pub counts: Vec<Paired>,
    /// How often neighbours among the counts were added up to make room.
    #[serde(default)]
    pub merged: u32,
    /// What was pushed, oldest first.
    pub samples: Vec<Sample>,
    /// When it began.
    pub created_at: Timestamp,
    /// When something happened to it last.
    pub updated_at: Timestamp,
}

impl Record {
    /// A new one, and the first thing to do.
    pub fn begin(
        id: RolloutId,
        subject: Subject,
        terms: Terms,
        now: Timestamp,
    ) -> (Self, Vec<Action>) {
        let (walk, actions) = Walk::begin(terms.course, now);
        let mut record = Self {
            id,
            subject,
            source: terms.source,
            walk,
            judge: match terms.judge {
                JudgeKind::Thresholds => Judge::thresholds(terms.policy),
                JudgeKind::Sequential => Judge::sequential_late(terms.policy, terms.late),
            },
            verdicts: Vec::new(),
            forgotten: 0,
            moves: Vec::new(),
            forgotten_moves: 0,
            counts: Vec::new(),
            merged: 0,
            samples: Vec::new(),
            created_at: now,
            updated_at: now,
        };
        record.note_move(now);
        (record, actions)
    }

    /// Who judges it.
    pub const fn judge_kind(&self) -> JudgeKind {
        match self.judge {
            Judge::Thresholds(_) => JudgeKind::Thresholds,
            Judge::Sequential(_) => JudgeKind::Sequential,
        }
    }

    /// One event to its machine.
    pub fn step(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let before = (self.walk.phase(), self.walk.weight());
        let (walk, actions) = self.walk.clone().step(event, now);
        self.walk = walk;
        self.updated_at = now;
        if before != (self.walk.phase(), self.walk.weight()) {
            self.note_move(now);
        }
        if actions.contains(&Action::NewStep) {
            self.judge.new_step(now);
        }
        actions
    }

    fn note_move(&mut self, now: Timestamp) {
        if self.moves.len() >= MOVES {
            let mut two = self.moves.windows(2);
            let idle = two.position(|two| two[0].weight == two[1].weight);
            self.moves.remove(idle.map_or(0, |place| place + 1));
            self.forgotten_moves += 1;
        }
        self.moves.push(Moved {
            at: now,
            phase: self.walk.phase().as_str().to_owned(),
            status: self.walk.status(),
            weight: self.walk.weight(),
            reason: self.walk.reason().to_owned(),
        });
    }

    /// What the judge says at the end of an interval; kept.
    pub fn verdict(&mut self, now: Timestamp) -> Verdict {
        let verdict = self.judge.verdict(now, self.walk.step_began());
        self.said(verdict.clone());
        verdict
    }

    /// A word that was not the judge's at the end of an interval, such as that nobody can be asked; kept.
    pub fn said(&mut self, mut verdict: Verdict) {
        for figure in &mut verdict.evidence {
            // JSON has no infinity, and what cannot be read back is lost
            let figures = [&mut figure.candidate, &mut figure.value, &mut figure.bound];
            for value in figures.into_iter().chain(figure.stable.as_mut()) {
                *value = if value.is_nan() {
                    0.0
                } else {
                    value.clamp(f64::MIN, f64::MAX)
                };
            }
        }
        self.forgotten += bound(&mut self.verdicts, VERDICTS);
        self.updated_at = verdict.at;
        self.verdicts.push(verdict);
    }

    /// Takes what was pushed.
    pub fn push(&mut self, sample: Sample) {
        bound(&mut self.samples, SAMPLES);
        self.samples.push(sample);
        self.judge.push(sample);
        self.updated_at = sample.at;
    }

    /// Takes what both colors did.
    pub fn observe(&mut self, counts: Paired) {
        self.judge.observe(counts);
        self.updated_at = self.updated_at.max(counts.to);
        self.counts.push(counts);
        if self.counts.len() > COUNTS {
            self.counts = self.counts.chunks(2).map(together).collect();
            self.merged = self.merged.saturating_add(1);
        }
    }
}

/// Makes room for one more; says how many had to go.
fn bound<T>(list: &mut Vec<T>, most: usize) -> u64 {
    let over = (list.len() + 1).saturating_sub(most);
    list.drain(..over);
    over as u64
}

/// One stretch out of neighbours.
fn together(counts: &[Paired]) -> Paired {
    let mut sum = counts[0];
    for next in &counts[1..] {
        sum.to = next.to;
        for (sum, next) in [
            (&mut sum.stable, next.stable),
            (&mut sum.candidate, next.candidate),
        ] {
            sum.requests += next.requests;
            sum.errors += next.errors;
            sum.slow += next.slow;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Arm, CanaryAsk};

    fn record() -> Record {
        let subject = Subject {
            service: "shop".parse().unwrap(),
            candidate: Color::Green,
            new_version: "v2".to_owned(),
            baseline_version: Some("v1".to_owned()),
            strategy: Strategy::BlueGreen,
            actor: "tester".to_owned(),
            message: None,
        };
        let terms = Terms::of(CanaryAsk::default(), None).unwrap();
        let id = RolloutId::from_random(7);
        Record::begin(id, subject, terms, Timestamp::UNIX_EPOCH).0
    }

    #[test]
    fn an_id_is_a_uuid_of_version_4() {
        let id = RolloutId::from_random(u128::MAX);
        assert_eq!(id.as_str(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let id = RolloutId::from_random(0);
        assert_eq!(id.as_str(), "00000000-0000-4000-8000-000000000000");
        let upper = "FFFFFFFF-ffff-4fff-bfff-ffffffffffff";
        assert_eq!(
            upper.parse::<RolloutId>().unwrap().as_str(),
            upper.to_lowercase()
        );
        for wrong in [
            "",
            "../../../../etc/passwd",
            "ffffffff-ffff-4fff-bfff-fffffffffff",
            "é",
        ] {
            assert!(wrong.parse::<RolloutId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn of_moves_without_an_end_those_of_traffic_are_kept() {
        let mut record = record();
        let mut second = 0;
        let mut now = || {
            second += 1;
            Timestamp::from_second(second).unwrap()
        };
        let why = || "why".to_owned();
        record.step(Event::Applied, now());
        for _ in 0..3_000 {
            record.step(Event::SourceLost(why()), now());
            record.step(Event::SourceBack, now());
        }
        record.step(Event::Cancel(why()), now());
        record.step(Event::Applied, now());
        assert_eq!((record.moves.len(), record.forgotten_moves), (2_000, 4_004));
        let mut weights: Vec<_> = record.moves.iter().map(|moved| moved.weight).collect();
        weights.dedup();
        assert_eq!(
            weights.iter().map(Weight::to_string).collect::<Vec<_>>(),
            ["0", "5", "0"]
        );
    }

    #[test]
    fn what_is_kept_has_an_end_and_no_request_is_lost_from_the_counts() {
        let mut record = record();
        let at = |second: i64| {
            Timestamp::UNIX_EPOCH
                .checked_add(jiff::SignedDuration::from_secs(second))
                .unwrap()
        };
        for second in 0..4_000 {
            record.observe(Paired {
                from: at(second),
                to: at(second + 1),
                stable: Arm {
                    requests: 9,
                    errors: 1,
                    slow: 0,
                },
                candidate: Arm {
                    requests: 1,
                    errors: 0,
                    slow: 1,
                },
            });
            record.said(Verdict {
                at: at(second),
                decision: crate::domain::Decision::Hold,
                reason: "x".to_owned(),
                evidence: Vec::new(),
            });
        }
        assert!(record.counts.len() <= COUNTS);
        assert_eq!(record.merged, 4);
        let stable: u64 = record
            .counts
            .iter()
            .map(|counts| counts.stable.requests)
            .sum();
        assert_eq!(stable, 36_000);
        let gaps = record
            .counts
            .windows(2)
            .filter(|two| two[0].to != two[1].from);
        assert_eq!(gaps.count(), 0);
        assert_eq!((record.verdicts.len(), record.forgotten), (2_000, 2_000));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
