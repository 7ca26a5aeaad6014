//! The judges that are compared: those of the peers, rebuilt from their sources and reduced to their rule, and turnout's as shipped.

use jiff::{SignedDuration, Timestamp};
use turnout::domain::{Arm, Decision, Paired};
use turnout::rollout::judge::{Draft, Judge, Policy};

use super::kayenta;
use super::traffic::{Bucket, SECONDS};

/// Who judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Below 99 % in a minute five times.
    Flagger,
    /// Four times: `failureLimit: 3`.
    Argo,
    /// The same, minutes with fewer than 50 requests left out.
    ArgoFloor,
    /// Mann-Whitney over windows of 30 s, once at the end.
    Kayenta,
    /// The mixture over seven ratios, at 1 %.
    Plain,
    /// Wald's test for three times as many.
    Sprt,
    /// `judge: thresholds`.
    Thresholds,
    /// `judge: sequential`.
    Sequential,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// The stretch at whose end it was rolled back.
    pub(crate) rolled_back: Option<usize>,
    /// The stretch at whose end it was said, for the first time, that all is well.
    pub(crate) accepted: Option<usize>,
}

impl Rule {
    pub(crate) const ALL: [Self; 8] = [
        Self::Flagger,
        Self::Argo,
        Self::ArgoFloor,
        Self::Kayenta,
        Self::Plain,
        Self::Sprt,
        Self::Thresholds,
        Self::Sequential,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flagger => "Flagger-like",
            Self::Argo => "Argo-like",
            Self::ArgoFloor => "Argo-like, 50 requests",
            Self::Kayenta => "Kayenta",
            Self::Plain => "plain e-process",
            Self::Sprt => "SPRT, 3 times",
            Self::Thresholds => "turnout, thresholds",
            Self::Sequential => "turnout, sequential",
        }
    }

    pub(crate) const fn is_threshold(self) -> bool {
        matches!(
            self,
            Self::Flagger | Self::Argo | Self::ArgoFloor | Self::Thresholds
        )
    }

    pub(crate) fn judge(self, run: &[Bucket]) -> Outcome {
        match self {
            Self::Flagger => windows(run, 0, 5),
            Self::Argo => windows(run, 0, 4),
            Self::ArgoFloor => windows(run, 50, 4),
            Self::Kayenta => Outcome {
                rolled_back: kayenta::is_high(run).then_some(run.len() - 1),
                accepted: None,
            },
            Self::Plain => plain(run),
            Self::Sprt => sprt(run),
            Self::Thresholds => shipped(Judge::thresholds(policy()), run),
            Self::Sequential => shipped(Judge::sequential(policy()), run),
        }
    }
}

/// Six stretches are a window, of the candidate alone.
const WINDOW: usize = 6;

fn windows(run: &[Bucket], least: u64, most: u32) -> Outcome {
    let mut failed = 0;
    for (place, window) in run.chunks(WINDOW).enumerate() {
        let requests: u64 = window.iter().map(|one| one.candidate).sum();
        let bad: u64 = window.iter().map(|one| one.candidate_bad).sum();
        if requests < least {
            continue;
        }
        if requests == 0 || 1.0 - bad as f64 / (requests as f64) < 0.99 {
            failed += 1;
        }
        if failed == most {
            return Outcome {
                rolled_back: Some((place + 1) * WINDOW - 1),
                accepted: None,
            };
        }
    }
    Outcome::default()
}

/// The stretches in which two colors can be compared: its place, and `n_s`, `e_s`, `n_c`, `e_c`.
fn compared(run: &[Bucket]) -> impl Iterator<Item = (usize, [f64; 4])> {
    let all = run.iter().enumerate();
    all.filter(|(_, one)| {
        one.stable > 0 && one.candidate > 0 && one.stable_bad + one.candidate_bad > 0
    })
    .map(|(place, one)| {
        let figures = [one.stable, one.stable_bad, one.candidate, one.candidate_bad];
        (place, figures.map(|figure| figure as f64))
    })
}

fn plain(run: &[Bucket]) -> Outcome {
    let ratios = [1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0];
    let mut sums = [0.0; 7];
    for (place, [stable, stable_bad, candidate, candidate_bad]) in compared(run) {
        let null = candidate / (candidate + stable);
        for (sum, ratio) in sums.iter_mut().zip(ratios) {
            let other = ratio * candidate / (ratio * candidate + stable);
            *sum += candidate_bad * (other / null).ln()
                + stable_bad * ((1.0 - other) / (1.0 - null)).ln();
        }
        let most = sums.iter().copied().fold(f64::MIN, f64::max);
        let mean = sums.iter().map(|sum| (sum - most).exp()).sum::<f64>() / 7.0;
        if most + mean.ln() >= 100.0_f64.ln() {
            return Outcome {
                rolled_back: Some(place),
                accepted: None,
            };
        }
    }
    Outcome::default()
}

fn sprt(run: &[Bucket]) -> Outcome {
    let (alpha, beta) = (0.01_f64, 0.05_f64);
    let mut sum = 0.0;
    for (place, [stable, stable_bad, candidate, candidate_bad]) in compared(run) {
        let null = candidate / (candidate + stable);
        let other = 3.0 * candidate / (3.0 * candidate + stable);
        sum +=
            candidate_bad * (other / null).ln() + stable_bad * ((1.0 - other) / (1.0 - null)).ln();
        if sum >= ((1.0 - beta) / alpha).ln() {
            return Outcome {
                rolled_back: Some(place),
                accepted: None,
            };
        }
        if sum <= (beta / (1.0 - alpha)).ln() {
            return Outcome {
                rolled_back: None,
                accepted: Some(place),
            };
        }
    }
    Outcome::default()
}

/// Both of turnout's judges have it. 1 % is the peers' limit; the thresholds look each minute at the last, bear three misses in a row,
/// and want 50 requests; the test has its defaults, with errors alone judged.
pub(crate) fn policy() -> Policy {
    Policy::new(Draft {
        max_error_rate: Some(0.01),
        min_requests: 50,
        max_consecutive_failures: 3,
        ..Draft::default()
    })
    .expect("a policy in range")
}

pub(crate) fn paired(place: usize, one: &Bucket) -> Paired {
    let at = |place: usize| {
        let seconds = i64::try_from(place).expect("a small number") * SECONDS as i64;
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    };
    Paired {
        from: at(place),
        to: at(place + 1),
        stable: Arm {
            requests: one.stable,
            errors: one.stable_bad,
            slow: 0,
        },
        candidate: Arm {
            requests: one.candidate,
            errors: one.candidate_bad,
            slow: 0,
        },
    }
}

/// As the controller asks: for an alarm at each stretch, for a verdict each minute. The weight stays.
fn shipped(mut judge: Judge, run: &[Bucket]) -> Outcome {
    let began = Timestamp::UNIX_EPOCH;
    let mut accepted = None;
    for (place, one) in run.iter().enumerate() {
        let counts = paired(place, one);
        judge.observe(counts);
        let said = if (place + 1) % WINDOW == 0 {
            Some(judge.verdict(counts.to, began))
        } else {
            judge.alarm(counts.to)
        };
        match said.map(|said| said.decision) {
            Some(Decision::RollBack) => {
                return Outcome {
                    rolled_back: Some(place),
                    accepted,
                };
            }
            Some(Decision::Advance) => accepted = accepted.or(Some(place)),
            Some(Decision::Hold) | None => {}
        }
    }
    Outcome {
        rolled_back: None,
        accepted,
    }
}
