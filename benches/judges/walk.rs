//! Whole rollouts with the judges as shipped: from 10 % to all of it in steps of 10, asked each minute, an hour at most.

use jiff::Timestamp;
use turnout::domain::Decision;
use turnout::rollout::judge::Judge;

use super::figures::median;
use super::rules::{paired, policy};
use super::traffic::{Draw, SECONDS, Scenario, percent};

/// Stretches in an hour, and in a minute.
const HOUR: usize = 360;
const MINUTE: usize = 6;

/// What is walked.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    pub(crate) scenario: Scenario,
    /// The regression begins at this weight.
    pub(crate) from_weight: f64,
}

/// What came of it, over all runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walked {
    pub(crate) promoted: f64,
    pub(crate) rolled_back: f64,
    /// Median minutes to the end, or to the hour.
    pub(crate) minutes: f64,
    /// Median weight at the end, and failed answers of the candidate until then.
    pub(crate) weight: f64,
    pub(crate) failed: f64,
}

impl Walk {
    pub(crate) fn name(&self) -> String {
        let begins = if self.from_weight > 0.1 {
            format!(" from a weight of {} on", percent(self.from_weight))
        } else {
            String::new()
        };
        format!("{}{begins}", self.scenario.name)
    }

    pub(crate) fn all() -> Vec<Self> {
        let of = |per_second, stable, candidate, from_weight| Self {
            scenario: Scenario::new(per_second, stable, candidate),
            from_weight,
        };
        let mut all = Vec::new();
        for per_second in [10.0, 100.0, 1000.0] {
            all.push(of(per_second, 0.0, 0.0, 0.1));
            all.push(of(per_second, 0.002, 0.002, 0.1));
            all.push(of(per_second, 0.008, 0.008, 0.1));
            all.push(of(per_second, 0.002, 0.008, 0.1));
            all.push(of(per_second, 0.002, 0.02, 0.1));
            all.push(of(per_second, 0.002, 0.02, 0.5));
        }
        all
    }

    pub(crate) fn run(&self, sequential: bool, runs: usize, draw: &mut Draw) -> Walked {
        let (mut promoted, mut rolled_back) = (0.0, 0.0);
        let (mut minutes, mut weights, mut failed) = (vec![], vec![], vec![]);
        for _ in 0..runs {
            let mut judge = if sequential {
                Judge::sequential(policy())
            } else {
                Judge::thresholds(policy())
            };
            let mut now = self.scenario.clone();
            let (mut bad, mut place, mut began) = (0, 0, Timestamp::UNIX_EPOCH);
            while place < HOUR {
                now.candidate = if now.weight + 1e-9 >= self.from_weight {
                    self.scenario.candidate
                } else {
                    self.scenario.stable
                };
                let bucket = now.bucket(draw, None);
                bad += bucket.candidate_bad;
                let counts = paired(place, &bucket);
                judge.observe(counts);
                place += 1;
                let said = if place % MINUTE == 0 {
                    Some(judge.verdict(counts.to, began))
                } else {
                    judge.alarm(counts.to)
                };
                match said.map(|said| said.decision) {
                    Some(Decision::RollBack) => {
                        rolled_back += 1.0;
                        break;
                    }
                    Some(Decision::Advance) => {
                        now.weight += 0.1;
                        if now.weight > 0.999 {
                            promoted += 1.0;
                            break;
                        }
                        began = counts.to;
                        judge.new_step(counts.to);
                    }
                    Some(Decision::Hold) | None => {}
                }
            }
            minutes.push(place as f64 * SECONDS / 60.0);
            weights.push(now.weight);
            failed.push(bad as f64);
        }
        let of = runs as f64;
        Walked {
            promoted: promoted / of,
            rolled_back: rolled_back / of,
            minutes: median(minutes).unwrap_or_default(),
            weight: median(weights).unwrap_or_default(),
            failed: median(failed).unwrap_or_default(),
        }
    }
}
