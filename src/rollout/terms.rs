//! What a rollout is to be, whole and checked: what was asked for, what nobody said built in, and whether its source can tell at
//! all what its policy limits. What could only ever hold is refused here, before any traffic moves.

use std::time::Duration;

use super::judge::{Draft, Policy, PolicyError};
use super::phase::{Course, CourseError};
use crate::domain::{
    CanaryAsk, CanarySource, DURATION_BOUNDS, JudgeKind, PolicyAsk, Weight, duration_bound,
};

/// The time between two looks at a source, at most.
const LOOK: Duration = Duration::from_secs(10);
/// The longest window of samples: a day.
const DAY: u32 = 86_400;

/// What was asked for, whole and checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// The walk.
    pub course: Course,
    /// Where its figures come from.
    pub source: CanarySource,
    /// Who judges it.
    pub judge: JudgeKind,
    /// By what.
    pub policy: Policy,
    /// How old the newest counts of the source may be while all is well.
    pub late: Duration,
}

/// How a source that counts both colors tells of them, by the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The stretch of time of one figure, at most.
    pub window: Duration,
    /// How long after its end a stretch is told of.
    pub lag: Duration,
    /// Whether slow requests are told of as well.
    pub tells_slow: bool,
}

/// Why a rollout cannot be as it was asked for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TermsError {
    /// The walk.
    #[error(transparent)]
    Course(#[from] CourseError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Pushed samples tell of the candidate alone.
    #[error(
        "judge: sequential compares both colors at the same time, and pushed samples tell of the candidate alone: take \
         source: traffic, or judge: thresholds"
    )]
    OneColor,
    /// Nobody would ever see a slow request.
    #[error(
        "the policy limits the latency ({limit} ms), and canary.source.prometheus has no query for slow: add one, or leave \
         max_latency_p95_ms and slow_ms out"
    )]
    NoSlow {
        /// From how many milliseconds a request is slow.
        limit: f64,
    },
    /// Longer than what is told apart.
    #[error(
        "the policy limits the latency to {limit} ms, and source: traffic tells no times above {most} ms apart: say less, or \
         push the figures"
    )]
    TooLong {
        /// As asked for.
        limit: f64,
        /// The last bound there is.
        most: f64,
    },
    /// A limit of the percentile that is counted at another one.
    #[error(
        "max_latency_p95_ms is {limit} and slow_ms is {slow}: judge: thresholds holds the share of slow requests against the \
         first, so leave slow_ms out"
    )]
    TwoLimits {
        /// `max_latency_p95_ms`
        limit: f64,
        /// `slow_ms`
        slow: f64,
    },
    /// Nobody would ever see a slow request either: the limit that this judge has is the other one.
    #[error(
        "slow_ms is {slow}, by which alone judge: thresholds limits nothing: say max_latency_p95_ms in its place"
    )]
    NoLimit {
        /// `slow_ms`
        slow: f64,
    },
    /// The candidate would never do anything.
    #[error(
        "strategy.initial_weight is 0, so that the candidate gets no request, and source: {} would hold for ever: say more than 0, \
         or push the figures", by.as_str()
    )]
    NoRequests {
        /// Who counts requests.
        by: CanarySource,
    },
    /// There would never be enough samples in it.
    #[error(
        "sample_window_sec is {given}, and min_samples ({samples}) need {needed} s, since each is of {} s and comes {} s late: say \
         {needed} or more, or ask for fewer or shorter samples", window.as_secs_f64(), lag.as_secs_f64()
    )]
    ShortWindow {
        /// As asked for.
        given: u32,
        /// Samples that a verdict needs.
        samples: u32,
        /// Seconds that they take.
        needed: u64,
        /// Of one figure.
        window: Duration,
        /// After its end.
        lag: Duration,
    },
}

impl Terms {
    /// What was asked for, with what nobody said built in. `told`: how the source tells, if it counts and the configuration knows it.
    pub fn of(ask: CanaryAsk, told: Option<Told>) -> Result<Self, TermsError> {
        let mut course = Course::of(ask.strategy)?;
        let source = ask.source.unwrap_or_default();
        // what both colors did at the same time is there to be compared; benches/judges has the figures
        let judge = ask.judge.unwrap_or(match source {
            CanarySource::Traffic => JudgeKind::Sequential,
            CanarySource::Pushed | CanarySource::Prometheus => JudgeKind::Thresholds,
        });
        if source == CanarySource::Pushed && judge == JudgeKind::Sequential {
            return Err(TermsError::OneColor);
        }
        if source != CanarySource::Pushed && course.initial == Weight::ZERO {
            return Err(TermsError::NoRequests { by: source });
        }
        let mut draft = draft(ask.policy, course.interval);
        if source != CanarySource::Pushed {
            // nobody else tells of it, and a limit without figures would hold for ever
            draft.max_cpu_utilization = None;
        }
        // before anything is worked out from its figures
        Policy::new(draft)?;
        if let Some(told) = told {
            told.suits(&draft, ask.policy, judge)?;
        }
        if source == CanarySource::Traffic {
            on_bounds(&mut draft)?;
        }
        if let Some(told) = told.filter(|_| ask.policy.sample_window_sec.is_none()) {
            let needed = told.needed(draft.min_samples).try_into().unwrap_or(DAY);
            draft.sample_window_sec = draft.sample_window_sec.max(needed).min(DAY);
        }
        if source != CanarySource::Pushed && judge == JudgeKind::Thresholds {
            one_limit(&draft, ask.policy)?;
        }
        if source == CanarySource::Prometheus
            && judge == JudgeKind::Thresholds
            && ask.strategy.interval_sec.is_none()
        {
            // its window is long for the sake of its samples: at shorter intervals one bad minute is in several of them, and each
            // would be a miss
            course.interval = Duration::from_secs(draft.sample_window_sec.into());
        }
        Ok(Self {
            course,
            source,
            judge,
            policy: Policy::new(draft)?,
            late: told.map_or(Duration::ZERO, Told::late),
        })
    }
}

impl Told {
    /// A stretch is the newest until the next one is told of and somebody looks, and one may be missed.
    fn late(self) -> Duration {
        let two = self.window.saturating_mul(2);
        self.lag.saturating_add(two).saturating_add(LOOK)
    }

    /// Seconds in which so many stretches are told of, and the one that has begun.
    fn needed(self, samples: u32) -> u64 {
        let stretches = self.window.saturating_mul(samples.saturating_add(1));
        let time = self.lag.saturating_add(stretches);
        time.as_secs() + u64::from(time.subsec_nanos() > 0)
    }

    fn suits(self, draft: &Draft, ask: PolicyAsk, judge: JudgeKind) -> Result<(), TermsError> {
        if let Some(limit) = draft.slow_ms.or(draft.max_latency_p95_ms)
            && !self.tells_slow
        {
            return Err(TermsError::NoSlow { limit });
        }
        let needed = self.needed(draft.min_samples);
        let given = ask.sample_window_sec.unwrap_or(DAY);
        // the sequential judge has no window
        if judge == JudgeKind::Thresholds && u64::from(given) < needed {
            return Err(TermsError::ShortWindow {
                given,
                samples: draft.min_samples,
                needed,
                window: self.window,
                lag: self.lag,
            });
        }
        Ok(())
    }
}

/// The traffic is counted in buckets of time: slow is what is above the first bound that is not below the limit, and the policy
/// says so.
fn on_bounds(draft: &mut Draft) -> Result<(), TermsError> {
    if let Some(limit) = draft.slow_ms.or(draft.max_latency_p95_ms) {
        draft.slow_ms = Some(duration_bound(limit).ok_or_else(|| {
            TermsError::TooLong {
                limit,
                most: DURATION_BOUNDS
                    .last()
                    .map_or(0.0, |most| Duration::from_micros(*most).as_secs_f64() * 1e3),
            }
        })?);
    }
    Ok(())
}

/// What is counted as slow is what the limit says.
fn one_limit(draft: &Draft, ask: PolicyAsk) -> Result<(), TermsError> {
    match (draft.max_latency_p95_ms, ask.slow_ms) {
        (Some(limit), Some(slow)) if limit.to_bits() != slow.to_bits() => {
            Err(TermsError::TwoLimits { limit, slow })
        }
        (None, Some(slow)) => Err(TermsError::NoLimit { slow }),
        _ => Ok(()),
    }
}

/// The policy of a rollout, from what is shown of it.
pub fn policy_of(shown: PolicyAsk) -> Result<Policy, PolicyError> {
    Policy::new(draft(shown, Duration::ZERO))
}

/// The policy that is meant. A window that nobody named is as long as the interval.
fn draft(ask: PolicyAsk, interval: Duration) -> Draft {
    let built_in = Draft::default();
    let window = u32::try_from(interval.as_secs()).unwrap_or(u32::MAX);
    Draft {
        max_error_rate: ask.max_error_rate.or(built_in.max_error_rate),
        max_latency_p95_ms: ask.max_latency_p95_ms,
        min_availability: ask.min_availability,
        max_cpu_utilization: ask.max_cpu_utilization,
        min_requests: ask.min_requests.unwrap_or(built_in.min_requests),
        min_samples: ask.min_samples.unwrap_or(built_in.min_samples),
        sample_window_sec: ask
            .sample_window_sec
            .unwrap_or_else(|| window.clamp(built_in.sample_window_sec, DAY)),
        max_consecutive_failures: ask
            .max_consecutive_failures
            .unwrap_or(built_in.max_consecutive_failures),
        alpha: ask.alpha.unwrap_or(built_in.alpha),
        smallest_regression: ask
            .smallest_regression
            .unwrap_or(built_in.smallest_regression),
        slow_ms: ask.slow_ms,
        burst_sec: ask.burst_sec.unwrap_or(built_in.burst_sec),
        incident_sec: ask.incident_sec.unwrap_or(built_in.incident_sec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Arm, Decision, Paired};

    #[test]
    fn what_nobody_said_is_built_in_and_the_window_is_as_long_as_the_interval() {
        let mut ask = CanaryAsk::default();
        let terms = Terms::of(ask, None).unwrap();
        assert_eq!(
            (terms.source, terms.judge),
            (CanarySource::Pushed, JudgeKind::Thresholds)
        );
        assert_eq!(
            (terms.policy.sample_window_sec, terms.policy.min_samples),
            (60, 3)
        );
        assert_eq!(terms.policy.max_error_rate, Some(0.01));
        ask.strategy.interval_sec = Some(300);
        assert_eq!(Terms::of(ask, None).unwrap().policy.sample_window_sec, 300);
        ask.judge = Some(JudgeKind::Sequential);
        assert_eq!(Terms::of(ask, None).unwrap_err(), TermsError::OneColor);
        ask.source = Some(CanarySource::Traffic);
        ask.policy.max_cpu_utilization = Some(0.8);
        assert_eq!(
            Terms::of(ask, None).unwrap().policy.max_cpu_utilization,
            None
        );
        ask.judge = None;
        assert_eq!(Terms::of(ask, None).unwrap().judge, JudgeKind::Sequential);
        ask.policy.max_error_rate = Some(2.0);
        assert!(matches!(
            Terms::of(ask, None).unwrap_err(),
            TermsError::Policy(_)
        ));
    }

    /// With the defaults of the configuration.
    const TOLD: Told = Told {
        window: Duration::from_mins(1),
        lag: Duration::from_secs(30),
        tells_slow: true,
    };

    fn ask(source: CanarySource, change: impl FnOnce(&mut CanaryAsk)) -> CanaryAsk {
        let mut ask = CanaryAsk {
            source: Some(source),
            ..CanaryAsk::default()
        };
        change(&mut ask);
        ask
    }

    #[test]
    fn the_window_has_room_for_the_samples_that_a_verdict_needs() {
        let of = |change: fn(&mut CanaryAsk)| {
            Terms::of(ask(CanarySource::Prometheus, change), Some(TOLD))
        };
        let terms = of(|_| {}).unwrap();
        assert_eq!(terms.policy.sample_window_sec, 30 + 4 * 60);
        assert_eq!(terms.late, Duration::from_secs(160));
        assert_eq!(terms.course.interval, Duration::from_secs(270));
        let refused = of(|ask| ask.policy.sample_window_sec = Some(269)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "sample_window_sec is 269, and min_samples (3) need 270 s, since each is of 60 s and comes 30 s late: say 270 or more, \
             or ask for fewer or shorter samples"
        );
        let terms = of(|ask| ask.policy.sample_window_sec = Some(300)).unwrap();
        assert_eq!(
            (terms.policy.sample_window_sec, terms.course.interval),
            (300, Duration::from_mins(5))
        );
        let said = of(|ask| ask.strategy.interval_sec = Some(90)).unwrap();
        assert_eq!(
            (said.policy.sample_window_sec, said.course.interval),
            (270, Duration::from_secs(90))
        );
        assert!(of(|ask| ask.policy.min_samples = Some(u32::MAX)).is_err());
        // the other judge has no window
        let terms = of(|ask| {
            ask.policy.sample_window_sec = Some(1);
            ask.judge = Some(JudgeKind::Sequential);
        });
        let terms = terms.unwrap();
        assert_eq!(
            (terms.late, terms.course.interval),
            (Duration::from_secs(160), Duration::from_mins(1))
        );
    }

    #[test]
    fn one_bad_minute_of_a_prometheus_is_one_miss() {
        let terms = Terms::of(ask(CanarySource::Prometheus, |_| {}), Some(TOLD)).unwrap();
        let at = |second: u64| {
            let second = i64::try_from(second).unwrap();
            jiff::Timestamp::from_second(second).unwrap()
        };
        let every = terms.course.interval.as_secs();
        let mut judge = super::super::judge::Judge::thresholds(terms.policy);
        let mut said = Vec::new();
        // told half a minute after their end
        let mut minute = 0;
        for verdict in 1..=4 {
            while minute * 60 + 90 <= verdict * every {
                let errors = if minute == 6 { 100 } else { 0 };
                let arm = |errors| Arm {
                    requests: 1_000,
                    errors,
                    slow: 0,
                };
                judge.observe(Paired {
                    from: at(minute * 60),
                    to: at(minute * 60 + 60),
                    stable: arm(0),
                    candidate: arm(errors),
                });
                minute += 1;
            }
            said.push(judge.verdict(at(verdict * every), at(0)).decision);
        }
        let (hold, advance) = (Decision::Hold, Decision::Advance);
        assert_eq!(said, [advance, hold, advance, advance]);
    }

    #[test]
    fn the_traffic_is_refused_where_it_could_only_hold() {
        let told = Told {
            window: Duration::from_secs(10),
            lag: Duration::ZERO,
            tells_slow: true,
        };
        let of = |change: &dyn Fn(&mut CanaryAsk)| {
            Terms::of(ask(CanarySource::Traffic, change), Some(told))
        };
        let window = |samples| {
            let terms = of(&|ask| ask.policy.min_samples = Some(samples)).unwrap();
            assert_eq!(terms.late, Duration::from_secs(30));
            terms.policy.sample_window_sec
        };
        assert_eq!([3, 10].map(window), [60, 110]);
        let given = |seconds, judge| {
            of(&|ask| {
                ask.judge = Some(judge);
                ask.policy.sample_window_sec = Some(seconds);
            })
            .map(|terms| terms.policy.sample_window_sec)
        };
        let (thresholds, sequential) = (JudgeKind::Thresholds, JudgeKind::Sequential);
        assert_eq!(given(40, thresholds), Ok(40));
        assert_eq!(
            given(39, thresholds).unwrap_err().to_string(),
            "sample_window_sec is 39, and min_samples (3) need 40 s, since each is of 10 s and comes 0 s late: say 40 or more, or \
             ask for fewer or shorter samples"
        );
        assert_eq!(given(39, sequential), Ok(39));
        let idle = |ask: &mut CanaryAsk| ask.strategy.initial_weight = Some(0.0);
        let by = CanarySource::Traffic;
        assert_eq!(of(&idle), Err(TermsError::NoRequests { by }));
        assert!(Terms::of(ask(CanarySource::Pushed, idle), None).is_ok());
        let slow = |judge| {
            of(&|ask| {
                ask.judge = Some(judge);
                ask.policy.slow_ms = Some(500.0);
            })
            .map(|terms| terms.policy.slow_ms)
        };
        assert_eq!(slow(thresholds), Err(TermsError::NoLimit { slow: 500.0 }));
        assert_eq!(slow(sequential), Ok(Some(500.0)));
    }

    #[test]
    fn a_limit_of_the_latency_needs_somebody_who_counts_slow_requests() {
        let mut told = TOLD;
        told.tells_slow = false;
        for change in [
            (|ask| ask.policy.max_latency_p95_ms = Some(350.0)) as fn(&mut CanaryAsk),
            |ask| {
                ask.policy.slow_ms = Some(350.0);
                ask.judge = Some(JudgeKind::Sequential);
            },
        ] {
            let ask = ask(CanarySource::Prometheus, change);
            let refused = Terms::of(ask, Some(told)).unwrap_err();
            assert_eq!(refused, TermsError::NoSlow { limit: 350.0 });
            assert!(Terms::of(ask, Some(TOLD)).is_ok());
        }
        let plain = ask(CanarySource::Prometheus, |_| {});
        assert!(Terms::of(plain, Some(told)).is_ok());
    }

    #[test]
    fn the_traffic_is_judged_at_a_bound_of_its_buckets_and_the_policy_says_which() {
        let of = |limit, slow, judge| {
            let ask = ask(CanarySource::Traffic, |ask| {
                ask.policy.max_latency_p95_ms = limit;
                ask.policy.slow_ms = slow;
                ask.judge = Some(judge);
            });
            Terms::of(ask, None)
                .map(|terms| (terms.policy.max_latency_p95_ms, terms.policy.slow_ms))
        };
        let (thresholds, sequential) = (JudgeKind::Thresholds, JudgeKind::Sequential);
        for (limit, slow) in [
            (350.0, 350.0),
            (400.0, 500.0),
            (0.5, 1.0),
            (10_000.0, 10_000.0),
        ] {
            for judge in [thresholds, sequential] {
                let said = of(Some(limit), None, judge);
                assert_eq!(said, Ok((Some(limit), Some(slow))));
            }
        }
        let too_long = TermsError::TooLong {
            limit: 10_001.0,
            most: 10_000.0,
        };
        assert_eq!(of(Some(10_001.0), None, sequential), Err(too_long));
        let two = TermsError::TwoLimits {
            limit: 350.0,
            slow: 500.0,
        };
        assert_eq!(of(Some(350.0), Some(500.0), thresholds), Err(two));
        assert_eq!(
            of(Some(350.0), Some(500.0), sequential),
            Ok((Some(350.0), Some(500.0)))
        );
        assert_eq!(
            of(Some(350.0), Some(350.0), thresholds),
            Ok((Some(350.0), Some(350.0)))
        );
    }
}
