//! `canary`: what a service's rollouts are like unless they say otherwise.

use std::collections::BTreeMap;

use super::Checker;
use super::release::hook_url;
use crate::config::document::At;
use crate::config::file;
use crate::domain::{CanaryAsk, CanarySource, JudgeKind, PolicyAsk, WalkAsk, Weight};

/// What a rollout is judged by (CONTRACT 8).
const FIGURES: [&str; 5] = [
    "requests",
    "errors",
    "latency_p95_ms",
    "availability",
    "cpu_utilization",
];

pub(super) fn canary(checker: &mut Checker<'_>, at: At<'_>, given: &file::Service) -> CanaryAsk {
    let Some(canary) = &given.canary else {
        return CanaryAsk::default();
    };
    let source = canary.source.as_ref().map(|source| match source {
        file::Source::Word(file::SourceWord::Pushed) => CanarySource::Pushed,
        file::Source::Word(file::SourceWord::Traffic) => CanarySource::Traffic,
        file::Source::Prometheus(source) => {
            prometheus(checker, at.key("source").key("prometheus"), source);
            CanarySource::Prometheus
        }
    });
    let judge = canary.judge.map(|judge| match judge {
        file::Judge::Thresholds => JudgeKind::Thresholds,
        file::Judge::Sequential => JudgeKind::Sequential,
    });
    if judge == Some(JudgeKind::Sequential) && source == Some(CanarySource::Pushed) {
        checker.report.add(
            at.key("judge"),
            format!(
                "{at}: `judge: sequential` compares both colors at the same time, and pushed samples tell of the candidate alone: \
                 take `source: traffic`"
            ),
            "",
        );
    }
    CanaryAsk {
        source,
        judge,
        strategy: walk(checker, at.key("strategy"), canary.strategy.as_ref()),
        policy: canary.policy.as_ref().map(policy).unwrap_or_default(),
    }
}

fn walk(checker: &mut Checker<'_>, at: At<'_>, given: Option<&file::Walk>) -> WalkAsk {
    let Some(walk) = given else {
        return WalkAsk::default();
    };
    for (key, percent) in [
        ("initial_weight", walk.initial_weight),
        ("step_weight", walk.step_weight),
    ] {
        if let Some(Err(error)) = percent.map(Weight::from_percent) {
            let at = at.key(key);
            checker.report.add(at, format!("{at}: {error}"), "");
        }
    }
    WalkAsk {
        initial_weight: walk.initial_weight,
        step_weight: walk.step_weight,
        interval_sec: walk.interval_sec,
        max_steps: walk.max_steps,
    }
}

const fn policy(given: &file::Policy) -> PolicyAsk {
    PolicyAsk {
        max_error_rate: given.max_error_rate,
        max_latency_p95_ms: given.max_latency_p95_ms,
        min_availability: given.min_availability,
        max_cpu_utilization: given.max_cpu_utilization,
        min_requests: given.min_requests,
        min_samples: given.min_samples,
        sample_window_sec: given.sample_window_sec,
        max_consecutive_failures: given.max_consecutive_failures,
        alpha: given.alpha,
        smallest_regression: given.smallest_regression,
        slow_ms: given.slow_ms,
        burst_sec: given.burst_sec,
        incident_sec: given.incident_sec,
    }
}

fn prometheus(checker: &mut Checker<'_>, at: At<'_>, source: &file::PrometheusSource) {
    let prometheus = &source.prometheus;
    checker
        .report
        .read(at.key("url"), Some(&prometheus.url), hook_url);
    let queries = at.key("queries");
    for name in prometheus.queries.iter().flat_map(BTreeMap::keys) {
        if !FIGURES.contains(&name.as_str()) {
            let here = queries.key(name);
            let span = here.key_span().unwrap_or_default();
            checker.report.mark(
                here,
                span,
                format!(
                    "unknown figure `{name}` in {queries}: it is one of {}",
                    FIGURES.join(", ")
                ),
                "",
            );
        }
    }
}
