//! The judge of fixed limits, as `POST /deployments` has it: the candidate's samples of the last window, aggregated, against the policy.
//!
//! Error rate and availability are weighted by requests, the 95th percentile is the mean of the reported ones, CPU is the mean. It is
//! easy to explain, and has no idea of chance: few requests with one failure among them are above any limit.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::policy::Policy;
use super::words::{count, missing, percent};
use super::{real, sequential::impossible};
use crate::domain::{Decision, Evidence, Metric, Paired, Sample, Verdict, duration_bound};

/// Fixed limits, with the samples of the window and the misses so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    policy: Policy,
    samples: VecDeque<Seen>,
    misses: u32,
    /// What was wrong with the last report.
    trouble: Option<String>,
}

/// A sample, reported or counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Seen {
    sample: Sample,
    /// When the counting of it began; `None`: it was reported, and tells of its moment.
    from: Option<Timestamp>,
    /// Of its requests, the slow ones, where they were counted.
    slow: Option<u64>,
    /// The stable color's rates of failed and of slow requests at the same time, where they were counted.
    stable: Option<(f64, f64)>,
}

/// Samples that are kept. Older ones go first, so that a reporter in a hurry does not fill the state file.
const KEPT: usize = 4096;

/// One limit, and where the candidate stands.
struct Held {
    evidence: Evidence,
    is_met: bool,
    words: String,
}

impl Thresholds {
    /// Nothing seen so far.
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            samples: VecDeque::new(),
            misses: 0,
            trouble: None,
        }
    }

    pub(super) const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes what somebody reported of the candidate.
    pub(super) fn push(&mut self, sample: Sample) {
        self.trouble = unbelievable(&sample);
        if self.trouble.is_none() {
            self.keep(Seen {
                sample,
                from: None,
                slow: None,
                stable: None,
            });
        }
    }

    /// Takes the candidate's side of what was counted.
    pub(super) fn observe(&mut self, counts: Paired) {
        self.trouble = impossible(&counts);
        if self.trouble.is_some() {
            return;
        }
        let arm = counts.candidate;
        let stable = counts.stable;
        let of = |bad: u64| real(bad) / real(stable.requests);
        let available = 1.0 - real(arm.errors) / real(arm.requests.max(1));
        self.keep(Seen {
            from: Some(counts.from),
            sample: Sample {
                at: counts.to,
                requests: arm.requests,
                errors: arm.errors,
                latency_p95_ms: None,
                availability: (arm.requests > 0).then_some(available),
                cpu_utilization: None,
            },
            slow: Some(arm.slow),
            stable: (stable.requests > 0).then(|| (of(stable.errors), of(stable.slow))),
        });
    }

    fn keep(&mut self, seen: Seen) {
        let window = self.window();
        let last = self.samples.back().map(|last| last.sample.at);
        if let Some(last) = last.filter(|last| seen.sample.at.duration_since(*last) < -window) {
            self.trouble = Some(format!(
                "the clock went back: a sample of {} came after one of {last}",
                seen.sample.at
            ));
            // goes on from where the clock is now
            self.samples.clear();
        }
        let newest = seen.sample.at.max(last.unwrap_or(seen.sample.at));
        self.samples
            .retain(|kept| newest.duration_since(kept.sample.at) <= window);
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(seen);
    }

    fn window(&self) -> SignedDuration {
        SignedDuration::from_secs(self.policy.sample_window_sec.into())
    }

    /// The word at the end of an interval: counts the misses in a row.
    pub(super) fn verdict(&mut self, now: Timestamp, step_began: Timestamp) -> Verdict {
        let hold = |reason| Verdict {
            at: now,
            decision: Decision::Hold,
            reason,
            evidence: Vec::new(),
        };
        if let Some(trouble) = &self.trouble {
            return hold(trouble.clone());
        }
        let window = self.window();
        // what was reported at the moment of a step belongs to the step before, and so does what began to be counted in it
        let of_step = |seen: &Seen| match seen.from {
            Some(from) => from >= step_began,
            None => seen.sample.at > step_began,
        };
        let inside: Vec<Seen> = self
            .samples
            .iter()
            .filter(|seen| {
                let at = seen.sample.at;
                of_step(seen) && at <= now && now.duration_since(at) < window
            })
            .copied()
            .collect();
        let requests: u64 = inside.iter().map(|seen| seen.sample.requests).sum();
        let enough = [
            ("request", requests, self.policy.min_requests.max(1)),
            (
                "sample",
                inside.len() as u64,
                self.policy.min_samples.into(),
            ),
        ];
        if let Some(missing) = missing(&enough) {
            return hold(format!(
                "too little data in the last {} s of this step: {missing}",
                self.policy.sample_window_sec
            ));
        }
        let held = match self.held(&inside) {
            Ok(held) => held,
            Err(reason) => return hold(reason),
        };
        let words = |met| {
            let those = held.iter().filter(|one| one.is_met == met);
            those
                .map(|one| one.words.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let (decision, reason) = if held.iter().all(|one| one.is_met) {
            self.misses = 0;
            let of = format!("of {} requests", count(real(requests)));
            let words = if held.is_empty() {
                "nothing is limited".to_owned()
            } else {
                words(true)
            };
            (Decision::Advance, format!("{words}, {of}"))
        } else {
            self.misses = self.misses.saturating_add(1);
            let borne = self.policy.max_consecutive_failures;
            let decision = if self.misses > borne {
                Decision::RollBack
            } else {
                Decision::Hold
            };
            let misses = self.misses;
            let reason = format!(
                "{}, of {} requests (miss {misses}; more than {borne} in a row rolls back)",
                words(false),
                count(real(requests))
            );
            (decision, reason)
        };
        Verdict {
            at: now,
            decision,
            reason,
            evidence: held.into_iter().map(|one| one.evidence).collect(),
        }
    }

    /// Each limit of the policy. The error is why one of them cannot be judged: unknown is a hold.
    fn held(&self, inside: &[Seen]) -> Result<Vec<Held>, String> {
        let policy = &self.policy;
        let requests: u64 = inside.iter().map(|seen| seen.sample.requests).sum();
        let errors: u64 = inside.iter().map(|seen| seen.sample.errors).sum();
        let stable =
            |of: fn((f64, f64)) -> f64| mean(inside.iter().map(|seen| seen.stable.map(of)));
        let mut held = Vec::new();
        if let Some(limit) = policy.max_error_rate {
            let rate = real(errors) / real(requests);
            held.push(Held {
                is_met: rate <= limit,
                words: format!("error rate {} ({} allowed)", percent(rate), percent(limit)),
                evidence: Evidence {
                    metric: Metric::Errors,
                    stable: stable(|(errors, _)| errors),
                    candidate: rate,
                    value: rate,
                    bound: limit,
                },
            });
        }
        if let Some(limit) = policy.max_latency_p95_ms {
            held.push(self.latency(inside, limit, stable(|(_, slow)| slow))?);
        }
        if let Some(limit) = policy.min_availability {
            let known = inside
                .iter()
                .filter_map(|seen| Some((seen.sample.availability?, real(seen.sample.requests))));
            let (sum, weight) = known.fold((0.0, 0.0), |(sum, weight), (value, requests)| {
                (sum + value * requests, weight + requests)
            });
            if weight <= 0.0 {
                return Err(unknown("min_availability", "availability"));
            }
            let value = sum / weight;
            held.push(Held {
                is_met: value >= limit,
                words: format!("availability {} ({} asked)", finely(value), finely(limit)),
                evidence: Evidence {
                    metric: Metric::Availability,
                    stable: stable(|(errors, _)| 1.0 - errors),
                    candidate: value,
                    value,
                    bound: limit,
                },
            });
        }
        if let Some(limit) = policy.max_cpu_utilization {
            let value = mean(inside.iter().map(|seen| seen.sample.cpu_utilization))
                .ok_or_else(|| unknown("max_cpu_utilization", "cpu_utilization"))?;
            held.push(Held {
                is_met: value <= limit,
                words: format!("CPU {} ({} allowed)", percent(value), percent(limit)),
                evidence: Evidence {
                    metric: Metric::Cpu,
                    stable: None,
                    candidate: value,
                    value,
                    bound: limit,
                },
            });
        }
        Ok(held)
    }

    /// The mean of the reported percentiles; where requests were counted, the share of those that were slower than the limit.
    fn latency(&self, inside: &[Seen], limit: f64, stable: Option<f64>) -> Result<Held, String> {
        if let Some(value) = mean(inside.iter().map(|seen| seen.sample.latency_p95_ms)) {
            return Ok(Held {
                is_met: value <= limit,
                words: format!("p95 {value:.0} ms ({limit:.0} ms allowed)"),
                evidence: Evidence {
                    metric: Metric::Latency,
                    stable: None,
                    candidate: value,
                    value,
                    bound: limit,
                },
            });
        }
        // slow ones are counted from `slow_ms` on, which says nothing about the limit unless it is that, or its bucket's end
        let meant = [Some(limit), duration_bound(limit)];
        let slow_from = self.policy.slow_from_ms();
        let slow_from = slow_from.filter(|from| meant.contains(&Some(*from)));
        let counted: Vec<(u64, u64)> = inside
            .iter()
            .filter_map(|seen| Some((seen.slow?, seen.sample.requests)))
            .collect();
        let of: u64 = counted.iter().map(|(_, requests)| requests).sum();
        let Some(slow_from) = slow_from.filter(|_| of > 0) else {
            return Err(unknown("max_latency_p95_ms", "latency_p95_ms"));
        };
        let slow: u64 = counted.iter().map(|(slow, _)| slow).sum();
        let (share, borne) = (real(slow) / real(of), Policy::slow_floor());
        let bucket = if slow_from > limit {
            format!(", the end of the bucket that {limit} ms is in")
        } else {
            String::new()
        };
        Ok(Held {
            is_met: share <= borne,
            words: format!(
                "{} slower than {slow_from} ms{bucket} ({} allowed)",
                percent(share),
                percent(borne)
            ),
            evidence: Evidence {
                metric: Metric::Latency,
                stable,
                candidate: share,
                value: share,
                bound: borne,
            },
        })
    }
}

fn unknown(limit: &str, field: &str) -> String {
    format!("the policy has {limit}, and no sample of the window reports {field}")
}

/// The mean of what is known; `None` if nothing is.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, number) = values.flatten().fold((0.0, 0.0), |(sum, number), value| {
        (sum + value, number + 1.0)
    });
    (number > 0.0).then(|| sum / number)
}

/// A share near 1, whose places after the point matter.
fn finely(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// What cannot be true of a sample.
fn unbelievable(sample: &Sample) -> Option<String> {
    let share = 0.0..=1.0;
    let positive = 0.0..=f64::MAX;
    // NaN and infinity are in no range
    let wrong = if sample.errors > sample.requests {
        format!("{} errors of {} requests", sample.errors, sample.requests)
    } else if let Some(value) = sample.availability.filter(|value| !share.contains(value)) {
        format!("an availability of {value}, which is not from 0 to 1")
    } else if let Some(value) = sample
        .latency_p95_ms
        .filter(|value| !positive.contains(value))
    {
        format!("a latency_p95_ms of {value}")
    } else if let Some(value) = sample
        .cpu_utilization
        .filter(|value| !positive.contains(value))
    {
        format!("a cpu_utilization of {value}")
    } else {
        return None;
    };
    Some(format!("a sample that cannot be true: {wrong}"))
}
