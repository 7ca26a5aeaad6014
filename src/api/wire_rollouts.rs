//! The bodies of `/deployments`, as seed 001 has them, and what may stand in them besides.

use std::time::Duration;

use serde::Deserialize;

use super::error::Problem;
use super::wire::{Checked, check_message};
use crate::controller::{BeginRollout, OtherRollout, RolloutJudge, RolloutSource};
use crate::domain::{CanaryAsk, PolicyAsk, ServiceName, WalkAsk, whole};

/// The longest name of a version, in characters.
const LONGEST_VERSION: usize = 200;

/// POST /deployments
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BeginRollout)]
pub(super) struct BeginBody {
    /// Whose traffic; may be left out where there is only one service.
    service_name: Option<ServiceName>,
    /// What the idle color runs.
    #[schema(min_length = 1, max_length = 200)]
    new_version: String,
    /// What the active color runs.
    #[schema(min_length = 1, max_length = 200)]
    baseline_version: Option<String>,
    /// The walk.
    #[serde(default)]
    strategy: WalkAsk,
    /// What it is judged by.
    #[serde(default)]
    policy: PolicyAsk,
    /// Where its figures come from. Default: the configuration's, else `pushed`.
    source: Option<RolloutSource>,
    /// Who judges it. Default: the configuration's, else `sequential` with `source: traffic` and `thresholds` otherwise.
    judge: Option<RolloutJudge>,
    /// Cancel a rollout of the same service that runs.
    #[serde(default)]
    supersede: bool,
    /// Why, for the audit log.
    #[schema(max_length = 1000)]
    pub(super) message: Option<String>,
    /// Milliseconds to wait while another change is made. Default: 10 s.
    #[schema(maximum = 86_400_000)]
    #[serde(default, deserialize_with = "whole::optional")]
    lock_wait: Option<u64>,
}

impl BeginBody {
    pub(super) fn lock_wait(&self) -> Duration {
        patience(self.lock_wait)
    }
}

/// How long is waited for the change lock.
fn patience(given: Option<u64>) -> Duration {
    given.map_or(Duration::from_secs(10), Duration::from_millis)
}

fn check_patience(given: Option<u64>) -> Result<(), Problem> {
    match given {
        Some(longer) if longer > 86_400_000 => {
            Err(Problem::unfitting("lock_wait: at most a day (86400000 ms)"))
        }
        Some(_) | None => Ok(()),
    }
}

impl From<BeginBody> for BeginRollout {
    fn from(body: BeginBody) -> Self {
        Self {
            service: body.service_name,
            new_version: body.new_version,
            baseline_version: body.baseline_version,
            terms: CanaryAsk {
                source: body.source,
                judge: body.judge,
                strategy: body.strategy,
                policy: body.policy,
            },
            other: if body.supersede {
                OtherRollout::Superseded
            } else {
                OtherRollout::Stays
            },
        }
    }
}

fn check_version(field: &str, version: &str) -> Result<(), Problem> {
    let length = version.chars().count();
    if !(1..=LONGEST_VERSION).contains(&length) || version.chars().any(char::is_control) {
        return Err(Problem::unfitting(format!(
            "{field}: 1 to {LONGEST_VERSION} characters, and no control characters"
        )));
    }
    Ok(())
}

impl Checked for BeginBody {
    fn check(&self) -> Result<(), Problem> {
        check_message(self.message.as_ref())?;
        check_patience(self.lock_wait)?;
        check_version("new_version", &self.new_version)?;
        match &self.baseline_version {
            Some(version) => check_version("baseline_version", version),
            None => Ok(()),
        }
    }
}

/// What may be said with a cancel, pause, resume or promote.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Reason)]
pub(super) struct Why {
    /// Why, for the audit log.
    #[schema(max_length = 1000)]
    pub(super) message: Option<String>,
    /// Milliseconds to wait while another change is made. Default: 10 s.
    #[schema(maximum = 86_400_000)]
    #[serde(default, deserialize_with = "whole::optional")]
    lock_wait: Option<u64>,
}

impl Why {
    pub(super) fn lock_wait(&self) -> Duration {
        patience(self.lock_wait)
    }
}

impl Checked for Why {
    /// `{}` has nothing to say, so no body is as good.
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn check(&self) -> Result<(), Problem> {
        check_message(self.message.as_ref())?;
        check_patience(self.lock_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::parse;
    use super::*;

    fn refused(text: &str) -> (u16, String) {
        let problem = parse::<BeginBody>(text.as_bytes()).unwrap_err();
        (problem.status(), problem.detail().to_owned())
    }

    #[test]
    fn the_body_of_the_seed_is_taken() {
        let body: BeginBody = parse(
            br#"{
                "service_name": "checkout-api", "new_version": "v2.1.0", "baseline_version": "v2.0.3",
                "strategy": {"initial_weight": 5, "step_weight": 10, "interval_sec": 60, "max_steps": 10},
                "policy": {"max_error_rate": 0.01, "max_latency_p95_ms": 350, "min_availability": 0.995,
                  "max_cpu_utilization": 0.8, "min_requests": 200, "min_samples": 3, "sample_window_sec": 60,
                  "max_consecutive_failures": 1}
            }"#,
        )
        .unwrap();
        let begin = BeginRollout::from(body);
        assert_eq!(begin.terms.strategy.max_steps, Some(10));
        assert_eq!(begin.terms.policy.max_cpu_utilization, Some(0.8));
        assert_eq!(begin.other, OtherRollout::Stays);
    }

    #[test]
    fn what_does_not_fit_names_its_field() {
        for (text, word) in [
            ("{}", "new_version"),
            (r#"{"new_version":""}"#, "new_version"),
            (r#"{"new_version":"a\nb"}"#, "new_version"),
            (r#"{"new_version":"v","stratgy":{}}"#, "stratgy"),
            (
                r#"{"new_version":"v","strategy":{"interval_sec":-1}}"#,
                "interval_sec",
            ),
            (
                r#"{"new_version":"v","strategy":{"initial_weight":"5"}}"#,
                "initial_weight",
            ),
            (
                r#"{"new_version":"v","policy":{"max_error_rate":1e999}}"#,
                "max_error_rate",
            ),
            (r#"{"new_version":"v","source":"statsd"}"#, "source"),
            (
                r#"{"new_version":"v","service_name":"blue"}"#,
                "service_name",
            ),
        ] {
            let (status, detail) = refused(text);
            assert_eq!(status, 422, "{text}: {detail}");
            assert!(detail.contains(word), "{text}: {detail}");
        }
        assert_eq!(refused(r#"{"new_version": NaN}"#).0, 400);
    }
}
