//! The judge that compares: the candidate's failed and slow requests against the stable color's at the same time.
//!
//! Stretches of counts are gathered into stretches of `burst_sec`, the unit of evidence: what fails together in one is one event
//! unless the stable color has shown that its failures come singly. Both colors are asked in the same stretch, so an
//! incident that both share, or traffic that comes and goes, does not count against the candidate.
//!
//! The false-alarm rate of the policy holds over the whole rollout and all metrics, at any number of looks, while two things are true:
//! the colors get alike requests (a hash decides, not a person), and no burst is longer than `burst_sec` by much.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::policy::Policy;
use super::real;
use super::track::{Belongs, Question, Side, Stretch, Track};
use super::words::{count, missing, odds, percent, seconds, times, times_the_stable};
use crate::domain::{Arm, Decision, Evidence, Metric, Paired, Verdict};

/// The sequential test, with all that it remembers: sums and capitals, whose size does not grow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sequential {
    policy: Policy,
    /// How old the newest counts may be while all is well with their source.
    #[serde(default)]
    late: Duration,
    errors: Track,
    slow: Track,
    /// The stretch that is being gathered.
    open: Option<Paired>,
    /// When the last counts ended.
    seen_to: Option<Timestamp>,
    /// What was wrong with the last counts.
    trouble: Option<String>,
    /// When the present step began; `None`: what there is all belongs to one.
    step_began: Option<Timestamp>,
    /// Settled in the present step: requests of the candidate, and stretches in which it had some.
    step_requests: u64,
    step_samples: u32,
}

/// What one metric says.
struct Word {
    decision: Decision,
    reason: String,
}

impl Sequential {
    /// Nothing seen so far.
    pub fn new(policy: Policy) -> Self {
        Self::of_late(policy, Duration::ZERO)
    }

    pub(super) fn of_late(policy: Policy, late: Duration) -> Self {
        Self {
            policy,
            late,
            errors: Track::default(),
            slow: Track::default(),
            open: None,
            seen_to: None,
            trouble: None,
            step_began: None,
            step_requests: 0,
            step_samples: 0,
        }
    }

    pub(super) const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes what both colors did in a stretch of time.
    pub(super) fn observe(&mut self, counts: Paired) {
        let backwards = self.seen_to.filter(|seen| counts.from < *seen);
        self.trouble = impossible(&counts).or_else(|| {
            backwards.map(|seen| {
                format!(
                    "the clock went back: counts from {} came after counts to {seen}",
                    counts.from
                )
            })
        });
        // a clock that was set back goes on from where it is now
        if counts.from < counts.to {
            self.seen_to = Some(counts.to);
        }
        if self.trouble.is_some() {
            self.open = None;
            // or a step that began on the clock of before would never have counts of its own
            self.step_began = self.step_began.map(|began| began.min(counts.to));
            return;
        }
        // the weights change with a step: what tells of both weights is not mixed with what tells of the new one
        if let Some(open) = self.open
            && self.belongs(&open) != self.belongs(&counts)
        {
            self.open = None;
            self.settle(&open);
        }
        let open = match self.open.take() {
            None => counts,
            Some(open) => Paired {
                from: open.from,
                to: counts.to,
                stable: sum(open.stable, counts.stable),
                candidate: sum(open.candidate, counts.candidate),
            },
        };
        if length(&open) >= f64::from(self.policy.burst_sec) {
            self.settle(&open);
        } else {
            self.open = Some(open);
        }
    }

    /// A step begins: only what was counted from here on says anything about it.
    pub(super) fn new_step(&mut self, now: Timestamp) {
        self.step_began = Some(now);
        self.errors.new_step();
        self.slow.new_step();
        self.step_requests = 0;
        self.step_samples = 0;
    }

    /// A source may tell late, and in stretches that do not begin with the step.
    fn belongs(&self, counts: &Paired) -> Belongs {
        if self.step_began.is_some_and(|began| counts.from < began) {
            Belongs::Before
        } else {
            Belongs::ToThisStep
        }
    }

    fn settle(&mut self, counts: &Paired) {
        let belongs = self.belongs(counts);
        if belongs == Belongs::ToThisStep && counts.candidate.requests > 0 {
            self.step_requests = self.step_requests.saturating_add(counts.candidate.requests);
            self.step_samples = self.step_samples.saturating_add(1);
        }
        let stretch = |bad: fn(&Arm) -> u64| {
            let side = |arm: &Arm| Side {
                requests: real(arm.requests),
                bad: real(bad(arm)),
            };
            Stretch {
                from: counts.from,
                to: counts.to,
                belongs,
                stable: side(&counts.stable),
                candidate: side(&counts.candidate),
            }
        };
        self.errors
            .settle(self.question(Metric::Errors), stretch(|arm| arm.errors));
        if self.policy.slow_from_ms().is_some() {
            self.slow
                .settle(self.question(Metric::Latency), stretch(|arm| arm.slow));
        }
    }

    fn question(&self, metric: Metric) -> Question {
        let floor = match metric {
            Metric::Errors => self.policy.error_floor(),
            Metric::Latency | Metric::Availability | Metric::Cpu => Policy::slow_floor(),
        };
        Question {
            smallest: self.policy.smallest_regression,
            floor,
        }
    }

    fn tracks(&self) -> Vec<(Metric, &Track)> {
        let slow = self.policy.slow_from_ms();
        let slow = slow.map(|_| (Metric::Latency, &self.slow));
        [(Metric::Errors, &self.errors)]
            .into_iter()
            .chain(slow)
            .collect()
    }

    /// What the evidence is held against: 1 over alpha's part for each metric.
    fn bound(&self) -> f64 {
        real(self.tracks().len() as u64) / self.policy.alpha
    }

    /// The word of now. Changes nothing: the evidence may be looked at as often as one likes.
    pub(super) fn verdict(&self, now: Timestamp) -> Verdict {
        let tracks = self.tracks();
        let evidence = tracks
            .iter()
            .filter(|(_, track)| track.candidate.requests > 0.0)
            .map(|(metric, track)| Evidence {
                metric: *metric,
                stable: Some(track.stable.rate()),
                candidate: track.candidate.rate(),
                value: track.evidence(),
                bound: self.bound(),
            })
            .collect();
        let words: Vec<Word> = tracks
            .iter()
            .map(|(metric, track)| self.word(*metric, track))
            .collect();
        let said = |decision| words.iter().find(|word| word.decision == decision);
        let (decision, reason) = if let Some(word) = said(Decision::RollBack) {
            (Decision::RollBack, word.reason.clone())
        } else if let Some(reason) = self.nothing_to_judge(now) {
            (Decision::Hold, reason)
        } else if let Some(word) = said(Decision::Hold) {
            (Decision::Hold, word.reason.clone())
        } else {
            let all: Vec<&str> = words.iter().map(|word| word.reason.as_str()).collect();
            (Decision::Advance, all.join("; "))
        };
        Verdict {
            at: now,
            decision,
            reason,
            evidence,
        }
    }

    /// Why there is nothing to judge by.
    fn nothing_to_judge(&self, now: Timestamp) -> Option<String> {
        if let Some(trouble) = &self.trouble {
            return Some(trouble.clone());
        }
        let Some(seen) = self.seen_to else {
            return Some("no counts of the two colors so far".into());
        };
        // three stretches, and at least half a minute
        let stretches = (3.0 * f64::from(self.policy.burst_sec)).max(30.0);
        let patience = stretches.max(self.late.as_secs_f64());
        let ago = now.duration_since(seen).as_secs_f64();
        if ago < -patience {
            let ahead = seconds(-ago);
            return Some(format!(
                "the newest counts of the two colors are of {ahead} from now: the clock was set back, and there are none of now"
            ));
        }
        if ago > patience {
            return Some(format!("no counts of the two colors for {}", seconds(ago)));
        }
        if self.step_samples == 0
            && let Some(open) = &self.open
            && open.candidate.requests > 0
            && self.belongs(open) == Belongs::ToThisStep
        {
            return Some(format!(
                "nothing of this step is compared yet: its first stretch of {} s is still being counted",
                self.policy.burst_sec
            ));
        }
        let enough = [
            ("request", self.step_requests, self.policy.min_requests),
            (
                "sample",
                self.step_samples.into(),
                self.policy.min_samples.into(),
            ),
        ];
        missing(&enough)
            .map(|missing| format!("too little data of the candidate in this step: {missing}"))
    }

    fn word(&self, metric: Metric, track: &Track) -> Word {
        let asked = self.question(metric);
        let bad = match (metric, self.policy.slow_from_ms()) {
            (Metric::Latency, Some(from)) => format!("took over {from} ms"),
            _ => "failed".to_owned(),
        };
        let figures = |stable: Side, candidate: Side| {
            format!(
                "{} of the candidate's {} requests {bad}, {} of the stable color's {}",
                percent(candidate.rate()),
                count(candidate.requests),
                percent(stable.rate()),
                count(stable.requests),
            )
        };
        let (evidence, bound) = (track.evidence(), self.bound());
        let odds = format!("evidence {}, {} needed", odds(evidence), count(bound));
        // one bad request is an anecdote, whatever it was bet
        if evidence >= bound && track.candidate.bad >= 2.0 {
            let (stable, candidate) = track.worst();
            let how = if !track.is_by_comparison() {
                format!("above the {} allowed", percent(asked.floor))
            } else if stable.bad > 0.0 {
                times(candidate.rate(), stable.rate()) + " as many"
            } else {
                "none there".into()
            };
            return Word {
                decision: Decision::RollBack,
                reason: format!("{}: {how} ({odds})", figures(stable, candidate)),
            };
        }
        if let Some(spell) = track.spell {
            let lasted = spell.seconds();
            let present = format!(
                "{} of the candidate's requests {bad} lately, above the {} allowed, and {} of the stable color's",
                percent(track.candidate_now.rate()),
                percent(asked.floor),
                percent(track.stable_now.rate()),
            );
            return if lasted >= f64::from(self.policy.incident_sec) {
                Word {
                    decision: Decision::RollBack,
                    reason: format!("{present}, for {}", seconds(lasted)),
                }
            } else {
                Word {
                    decision: Decision::Hold,
                    reason: present,
                }
            };
        }
        let figures = figures(track.stable, track.candidate);
        if track.is_ruled_out() {
            return Word {
                decision: Decision::Advance,
                reason: format!(
                    "{figures}: {}, or more than {}, can be ruled out",
                    times_the_stable(asked.smallest),
                    percent(asked.floor)
                ),
            };
        }
        let way = percent(track.way_to_ruled_out());
        Word {
            decision: Decision::Hold,
            reason: format!(
                "{figures}: not seen to be worse ({odds}), and not ruled out that it is ({way} of the evidence needed to go on)"
            ),
        }
    }
}

fn length(counts: &Paired) -> f64 {
    counts.to.duration_since(counts.from).as_secs_f64()
}

const fn sum(one: Arm, other: Arm) -> Arm {
    Arm {
        requests: one.requests.saturating_add(other.requests),
        errors: one.errors.saturating_add(other.errors),
        slow: one.slow.saturating_add(other.slow),
    }
}

/// What cannot be true of counts.
pub(super) fn impossible(counts: &Paired) -> Option<String> {
    let most = u64::from(u32::MAX) * 1000;
    for (color, arm) in [
        ("stable color", counts.stable),
        ("candidate", counts.candidate),
    ] {
        for (bad, number) in [("failed", arm.errors), ("slow", arm.slow)] {
            if number > arm.requests {
                return Some(format!(
                    "counts that cannot be true: the {color} has {number} {bad} of {} requests",
                    arm.requests
                ));
            }
        }
        if arm.requests > most {
            return Some(format!(
                "counts that cannot be true: the {color} has {} requests in one stretch",
                arm.requests
            ));
        }
    }
    (counts.to <= counts.from).then(|| {
        format!(
            "counts that cannot be true: a stretch from {} to {}",
            counts.from, counts.to
        )
    })
}
