//! The thresholds on concrete figures.

use super::*;
use crate::domain::{Metric, Sample};

/// Seed 001's example, with three misses less to wait for.
fn thresholds() -> Judge {
    Judge::thresholds(policy(|draft| {
        draft.max_latency_p95_ms = Some(350.0);
        draft.min_availability = Some(0.995);
        draft.max_cpu_utilization = Some(0.8);
    }))
}

fn sample(seconds: i64, requests: u64, errors: u64) -> Sample {
    Sample {
        at: at(seconds),
        requests,
        errors,
        latency_p95_ms: Some(280.0),
        availability: Some(0.999),
        cpu_utilization: Some(0.45),
    }
}

#[test]
fn too_little_data_in_the_window_of_this_step_holds() {
    let mut judge = thresholds();
    let reason = |judge: &mut Judge, now, began| judge.verdict(at(now), at(began)).reason;
    assert_eq!(
        reason(&mut judge, 60, 0),
        "too little data in the last 60 s of this step: 0 of the 200 requests needed, 0 of the 3 samples needed"
    );
    for second in [10, 20, 30] {
        judge.push(sample(second, 1000, 5));
    }
    // of the step before
    assert_eq!(
        reason(&mut judge, 40, 25),
        "too little data in the last 60 s of this step: 1 of the 3 samples needed"
    );
    // out of the window
    assert_eq!(
        reason(&mut judge, 85, 0),
        "too little data in the last 60 s of this step: 1 of the 3 samples needed"
    );
}

#[test]
fn a_policy_that_is_met_advances_by_the_weighted_figures() {
    let mut judge = thresholds();
    judge.push(sample(10, 100, 4));
    judge.push(sample(20, 900, 1));
    judge.push(Sample {
        latency_p95_ms: Some(400.0),
        availability: Some(0.997),
        cpu_utilization: Some(0.9),
        ..sample(30, 1000, 5)
    });
    let said = judge.verdict(at(60), at(0));
    assert_eq!(said.decision, Decision::Advance);
    assert_eq!(
        said.reason,
        "error rate 0.5 % (1 % allowed), p95 320 ms (350 ms allowed), availability 99.8 % (99.5 % asked), CPU 60 % (80 % allowed), of 2,000 requests"
    );
    let figures: Vec<_> = said
        .evidence
        .iter()
        .map(|one| (one.metric, one.value))
        .collect();
    assert_eq!(figures[0], (Metric::Errors, 0.005));
    assert_eq!(figures[1], (Metric::Latency, 320.0));
    assert!((figures[2].1 - 0.998).abs() < 1e-12);
    assert!((figures[3].1 - 0.6).abs() < 1e-12);
}

#[test]
fn one_miss_more_than_is_borne_rolls_back() {
    let mut judge = thresholds();
    let mut said = Vec::new();
    for interval in 0..4_i64 {
        let began = interval * 60;
        for second in [10, 20, 30] {
            // the second interval is well
            let errors = if interval == 1 { 0 } else { 30 };
            judge.push(sample(began + second, 1000, errors));
        }
        let verdict = judge.verdict(at(began + 60), at(began));
        said.push((verdict.decision, verdict.reason));
    }
    let decisions: Vec<_> = said.iter().map(|(decision, _)| *decision).collect();
    assert_eq!(
        decisions,
        [
            Decision::Hold,
            Decision::Advance,
            Decision::Hold,
            Decision::RollBack
        ]
    );
    assert_eq!(
        said[3].1,
        "error rate 3 % (1 % allowed), of 3,000 requests (miss 2; more than 1 in a row rolls back)"
    );
}

#[test]
fn counts_of_the_traffic_are_judged_as_well() {
    let mut judge = Judge::thresholds(policy(|draft| {
        draft.max_latency_p95_ms = Some(350.0);
        draft.min_availability = Some(0.98);
        draft.max_consecutive_failures = 0;
    }));
    for place in 0..3 {
        let candidate = Arm {
            requests: 100,
            errors: 1,
            slow: 6,
        };
        judge.observe(counts(place * 10, arm(900, 0), candidate));
    }
    let said = judge.verdict(at(30), at(0));
    assert_eq!(said.decision, Decision::RollBack);
    assert_eq!(
        said.reason,
        "6 % slower than 350 ms (5 % allowed), of 300 requests (miss 1; more than 0 in a row rolls back)"
    );
    assert_eq!(said.evidence[0].stable, Some(0.0));
    assert!((said.evidence[2].value - 0.99).abs() < 1e-12);
}

#[test]
fn a_limit_within_a_bucket_is_judged_at_its_end_which_is_said() {
    let mut judge = Judge::thresholds(policy(|draft| {
        draft.max_latency_p95_ms = Some(400.0);
        draft.slow_ms = Some(500.0);
        draft.min_samples = 1;
    }));
    let candidate = Arm {
        requests: 1000,
        errors: 0,
        slow: 60,
    };
    judge.observe(counts(0, arm(900, 0), candidate));
    assert_eq!(
        judge.verdict(at(10), at(0)).reason,
        "6 % slower than 500 ms, the end of the bucket that 400 ms is in (5 % allowed), of 1,000 requests (miss 1; more than 1 in \
         a row rolls back)"
    );
}

#[test]
fn what_began_to_be_counted_before_a_step_says_nothing_about_it() {
    let mut judge = Judge::thresholds(policy(|draft| draft.min_samples = 2));
    for place in 0..3 {
        judge.observe(counts(place * 10, arm(900, 0), arm(100, 0)));
    }
    // the step began within the first of the three
    let said = judge.verdict(at(30), at(1));
    assert_eq!(said.decision, Decision::Advance, "{}", said.reason);
    assert!(said.reason.ends_with("of 200 requests"), "{}", said.reason);
    // and here within the second
    let said = judge.verdict(at(30), at(11));
    assert_eq!(said.decision, Decision::Hold);
    assert_eq!(
        said.reason,
        "too little data in the last 60 s of this step: 100 of the 200 requests needed, 1 of the 2 samples needed"
    );
}

#[test]
fn a_limit_that_nobody_reports_on_holds() {
    let mut judge = thresholds();
    for second in [10, 20, 30] {
        judge.push(Sample {
            cpu_utilization: None,
            ..sample(second, 1000, 0)
        });
    }
    let said = judge.verdict(at(60), at(0));
    assert_eq!(said.decision, Decision::Hold);
    assert_eq!(
        said.reason,
        "the policy has max_cpu_utilization, and no sample of the window reports cpu_utilization"
    );
}

#[test]
fn a_sample_that_cannot_be_true_is_dropped_and_holds_until_a_good_one_comes() {
    let mut judge = thresholds();
    for second in [10, 20, 30] {
        judge.push(sample(second, 1000, 0));
    }
    let wrong = [
        (sample(40, 10, 11), "11 errors of 10 requests"),
        (
            Sample {
                availability: Some(f64::NAN),
                ..sample(40, 10, 0)
            },
            "an availability of NaN, which is not from 0 to 1",
        ),
        (
            Sample {
                latency_p95_ms: Some(f64::INFINITY),
                ..sample(40, 10, 0)
            },
            "a latency_p95_ms of inf",
        ),
    ];
    for (sample, expected) in wrong {
        judge.push(sample);
        let said = judge.verdict(at(50), at(0));
        assert_eq!(said.decision, Decision::Hold);
        assert_eq!(
            said.reason,
            format!("a sample that cannot be true: {expected}")
        );
    }
    judge.push(sample(45, 1000, 0));
    assert_eq!(judge.verdict(at(50), at(0)).decision, Decision::Advance);
}

#[test]
fn a_clock_that_went_back_holds_and_goes_on() {
    let mut judge = thresholds();
    judge.push(sample(1000, 1000, 0));
    judge.push(sample(100, 1000, 0));
    let said = judge.verdict(at(110), at(0));
    assert_eq!(said.decision, Decision::Hold);
    assert!(
        said.reason.starts_with("the clock went back"),
        "{}",
        said.reason
    );
    judge.push(sample(110, 1000, 0));
    judge.push(sample(120, 1000, 0));
    assert_eq!(judge.verdict(at(120), at(0)).decision, Decision::Advance);
}
