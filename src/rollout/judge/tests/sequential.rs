//! The sequential judge on concrete figures.

use super::*;
use crate::domain::Metric;

fn sequential() -> Judge {
    Judge::sequential(Policy::default())
}

#[test]
fn ten_times_the_stable_colors_errors_are_rolled_back_within_a_minute() {
    let mut judge = sequential();
    let (after, said) = until_said(&mut judge, 100, arm(900, 2), arm(100, 2));
    assert_eq!((after, said.decision), (50, Decision::RollBack));
    assert_eq!(
        said.reason,
        "2 % of the candidate's 500 requests failed, 0.22 % of the stable color's 4,500: 9.0 times as many (evidence 287 to 1, 100 needed)"
    );
    assert_eq!(said.evidence[0].metric, Metric::Errors);
    assert_eq!(said.evidence[0].bound, 100.0);
    assert!(said.evidence[0].value > 100.0, "{:?}", said.evidence);
}

#[test]
fn a_candidate_that_is_as_good_advances_once_a_regression_is_ruled_out() {
    let mut judge = sequential();
    let stable = arm(900, 2);
    for place in 0..100 {
        judge.observe(counts(
            place * 10,
            stable,
            arm(100, u64::from(place % 5 == 0)),
        ));
    }
    let said = judge.verdict(at(1000), at(0));
    assert_eq!(said.decision, Decision::Advance);
    assert_eq!(
        said.reason,
        "0.2 % of the candidate's 10,000 requests failed, 0.22 % of the stable color's 90,000: twice the stable color's rate, or more than 1 %, can be ruled out"
    );
}

#[test]
fn two_colors_without_any_error_advance() {
    let mut judge = sequential();
    let (after, said) = until_said(&mut judge, 100, arm(900, 0), arm(100, 0));
    assert_eq!(
        (after, said.decision),
        (50, Decision::Advance),
        "{}",
        said.reason
    );
}

#[test]
fn a_burst_on_the_candidate_alone_is_one_event() {
    let mut judge = sequential();
    for place in 0..6 {
        judge.observe(counts(place * 10, arm(900, 0), arm(100, 0)));
    }
    judge.observe(counts(60, arm(900, 0), arm(100, 30)));
    let said = judge.verdict(at(70), at(0));
    assert_eq!(said.decision, Decision::Hold, "{}", said.reason);
    for place in 7..60 {
        judge.observe(counts(place * 10, arm(900, 0), arm(100, 0)));
    }
    let said = judge.verdict(at(600), at(0));
    assert_eq!(said.decision, Decision::Advance, "{}", said.reason);
}

#[test]
fn an_incident_that_both_colors_share_holds_and_goes_on_afterwards() {
    let mut judge = sequential();
    for place in 0..30 {
        judge.observe(counts(place * 10, arm(900, 2), arm(100, 0)));
    }
    for place in 30..60 {
        judge.observe(counts(place * 10, arm(900, 45), arm(100, 5)));
        let said = judge.verdict(at(place * 10 + 10), at(0));
        assert_ne!(said.decision, Decision::RollBack, "{}", said.reason);
    }
    let said = judge.verdict(at(600), at(0));
    assert_eq!(said.decision, Decision::Hold);
    assert_eq!(
        said.reason,
        "4.8 % of the candidate's requests failed lately, above the 1 % allowed, and 4.9 % of the stable color's"
    );
    for place in 60..120 {
        judge.observe(counts(place * 10, arm(900, 2), arm(100, 0)));
    }
    assert_eq!(judge.verdict(at(1200), at(0)).decision, Decision::Advance);
}

#[test]
fn a_candidate_as_broken_as_its_stable_color_never_advances_and_goes_back_in_the_end() {
    let mut judge = sequential();
    let (after, said) = until_said(&mut judge, 200, arm(900, 45), arm(100, 5));
    assert_eq!((after, said.decision), (610, Decision::RollBack));
    assert_eq!(
        said.reason,
        "5 % of the candidate's requests failed lately, above the 1 % allowed, and 5 % of the stable color's, for 10 min"
    );
}

#[test]
fn an_incident_is_as_long_as_it_was_seen_and_silence_is_none_of_it() {
    let broken = (arm(900, 45), arm(100, 5));
    let mut judge = sequential();
    for place in 0..7 {
        judge.observe(counts(place * 10, broken.0, broken.1));
    }
    // the source dies, the lines are lost, the users go, or the daemon is stopped
    assert_eq!(judge.alarm(at(700)), None);
    let said = judge.verdict(at(3600), at(0));
    assert_eq!(said.decision, Decision::Hold, "{}", said.reason);
    assert_eq!(said.reason, "no counts of the two colors for 58 min 50 s");
    // it goes on, and nobody knows what was in between
    for place in 360..420 {
        judge.observe(counts(place * 10, broken.0, broken.1));
        assert_eq!(judge.alarm(at(place * 10 + 10)), None, "{place}");
    }
    judge.observe(counts(4200, broken.0, broken.1));
    let said = judge.alarm(at(4210)).unwrap();
    assert!(said.reason.ends_with("for 10 min"), "{}", said.reason);
}

#[test]
fn a_step_is_passed_by_its_own_settled_counts_alone() {
    let mut judge = Judge::sequential(policy(|draft| draft.min_samples = 1));
    for place in 0..30 {
        judge.observe(counts(place * 10, arm(900, 0), arm(100, 0)));
    }
    assert_eq!(judge.verdict(at(300), at(0)).decision, Decision::Advance);
    let until = |from, to, stable, candidate| Paired {
        from: at(from),
        to: at(to),
        stable,
        candidate,
    };
    judge.new_step(at(305));
    // told of both weights, as by a source that is late or by the look before the step
    judge.observe(until(300, 306, arm(500, 0), arm(500, 0)));
    let said = judge.verdict(at(306), at(305));
    assert_eq!(said.decision, Decision::Hold);
    assert_eq!(
        said.reason,
        "too little data of the candidate in this step: 0 of the 200 requests needed, no sample"
    );
    // everything of the new weight fails, and is not settled yet
    judge.observe(until(306, 311, arm(500, 0), arm(500, 500)));
    let said = judge.verdict(at(311), at(305));
    assert_eq!(said.decision, Decision::Hold);
    assert_eq!(
        said.reason,
        "nothing of this step is compared yet: its first stretch of 10 s is still being counted"
    );
    judge.observe(until(311, 316, arm(500, 0), arm(500, 500)));
    let said = judge.verdict(at(316), at(305));
    assert_eq!(said.decision, Decision::Hold, "{}", said.reason);
    for from in [316, 326] {
        judge.observe(until(from, from + 10, arm(1000, 0), arm(1000, 1000)));
    }
    let said = judge.verdict(at(336), at(305));
    assert_eq!(said.decision, Decision::RollBack, "{}", said.reason);
    // the figures are those of the step, without what began before it
    assert!(
        said.reason.starts_with(
            "100 % of the candidate's 3,000 requests failed, 0 % of the stable color's 3,000"
        ),
        "{}",
        said.reason
    );
}

#[test]
fn above_the_floor_is_found_where_the_stable_color_is_just_below() {
    let mut judge = sequential();
    // 1.5 times as many, which alone would not matter
    let (after, said) = until_said(&mut judge, 400, arm(9000, 81), arm(1000, 14));
    assert_eq!(
        (after, said.decision),
        (280, Decision::RollBack),
        "{}",
        said.reason
    );
}

#[test]
fn slow_requests_are_judged_as_failed_ones_are() {
    let mut judge = Judge::sequential(policy(|draft| draft.slow_ms = Some(300.0)));
    let slow = |requests, slow| Arm {
        requests,
        errors: 0,
        slow,
    };
    let (after, said) = until_said(&mut judge, 100, slow(900, 9), slow(100, 8));
    assert_eq!((after, said.decision), (50, Decision::RollBack));
    assert_eq!(
        said.reason,
        "8 % of the candidate's 500 requests took over 300 ms, 1 % of the stable color's 4,500: 8.0 times as many (evidence 215 to 1, 200 needed)"
    );
    assert_eq!(said.evidence.len(), 2);
    assert_eq!(said.evidence[1].bound, 200.0);
}

#[test]
fn a_regression_that_begins_with_a_later_step_is_found_soon() {
    let mut judge = sequential();
    for place in 0..360 {
        judge.observe(counts(
            place * 10,
            arm(900, 2),
            arm(100, u64::from(place % 5 == 0)),
        ));
    }
    judge.new_step(at(3600));
    let mut found = None;
    for place in 360..420 {
        judge.observe(counts(place * 10, arm(800, 2), arm(200, 4)));
        let said = judge.verdict(at(place * 10 + 10), at(3600));
        if said.decision == Decision::RollBack {
            found = Some((place - 359) * 10);
            break;
        }
    }
    assert_eq!(found, Some(50));
}

#[test]
fn what_the_stable_color_did_before_the_rollout_teaches_how_its_errors_clump() {
    let broken = (arm(900, 2), arm(100, 50));
    let (unlearned, _) = until_said(&mut sequential(), 10, broken.0, broken.1);
    let mut judge = sequential();
    for place in -60..0 {
        judge.observe(counts(place * 10, arm(1000, 2), arm(0, 0)));
    }
    let (learned, said) = until_said(&mut judge, 10, broken.0, broken.1);
    assert_eq!(said.decision, Decision::RollBack);
    assert_eq!((unlearned, learned), (30, 10));
}

#[test]
fn nothing_to_judge_by_is_a_hold_with_a_reason() {
    let mut judge = sequential();
    let reason = |judge: &mut Judge, now| {
        let said = judge.verdict(at(now), at(0));
        assert_eq!(said.decision, Decision::Hold);
        said.reason
    };
    assert_eq!(reason(&mut judge, 0), "no counts of the two colors so far");
    judge.observe(counts(0, arm(900, 0), arm(100, 0)));
    assert_eq!(
        reason(&mut judge, 10),
        "too little data of the candidate in this step: 100 of the 200 requests needed, 1 of the 3 samples needed"
    );
    assert_eq!(
        reason(&mut judge, 60),
        "no counts of the two colors for 50 s"
    );
    judge.observe(counts(60, arm(900, 0), arm(100, 101)));
    assert_eq!(
        reason(&mut judge, 70),
        "counts that cannot be true: the candidate has 101 failed of 100 requests"
    );
    judge.observe(counts(10, arm(900, 0), arm(100, 0)));
    assert_eq!(
        reason(&mut judge, 70),
        "the clock went back: counts from 1970-01-01T00:00:10Z came after counts to 1970-01-01T00:01:10Z"
    );
    // and goes on from there
    judge.observe(counts(20, arm(900, 0), arm(100, 0)));
    judge.observe(counts(30, arm(900, 0), arm(100, 0)));
    assert!(
        reason(&mut judge, 40).contains("ruled out"),
        "{}",
        reason(&mut judge, 40)
    );
}

#[test]
fn before_the_first_stretch_is_whole_nothing_is_said_of_figures() {
    let mut judge = sequential();
    for place in 0..4 {
        judge.observe(Paired {
            to: at(place * 2 + 2),
            ..counts(place * 2, arm(900, 0), arm(100, 0))
        });
    }
    let said = judge.verdict(at(8), at(0));
    assert_eq!(said.decision, Decision::Hold);
    assert_eq!(
        said.reason,
        "nothing of this step is compared yet: its first stretch of 10 s is still being counted"
    );
    assert_eq!(said.evidence, []);
}

#[test]
fn a_source_that_is_always_late_is_not_taken_for_a_silent_one() {
    let late = std::time::Duration::from_secs(150);
    let mut judge = Judge::sequential_late(Policy::default(), late);
    let mut said = Vec::new();
    for place in 0..10 {
        // a minute of counts, half a minute after its end, and looked at until the next one comes
        let minute = Paired {
            from: at(place * 60),
            to: at(place * 60 + 60),
            stable: arm(900, 0),
            candidate: arm(100, 0),
        };
        judge.observe(minute);
        said.push(judge.verdict(at(place * 60 + 149), at(0)));
    }
    assert_eq!(said[9].decision, Decision::Advance, "{}", said[9].reason);
    let silent = judge.verdict(at(600 + 151), at(0));
    assert_eq!(silent.reason, "no counts of the two colors for 2 min 31 s");
}

#[test]
fn alarm_says_what_the_verdict_would_and_nothing_else() {
    let mut judge = sequential();
    assert_eq!(judge.alarm(at(0)), None);
    let (after, said) = until_said(&mut judge, 100, arm(900, 2), arm(100, 10));
    assert_eq!(judge.alarm(at(after)), Some(said));
}

#[test]
fn the_state_is_small_and_goes_through_json() {
    let mut judge = sequential();
    for place in 0..1000 {
        judge.observe(counts(
            place * 10,
            arm(900, 2),
            arm(100, u64::from(place % 5 == 0)),
        ));
    }
    let text = serde_json::to_string(&judge).unwrap();
    assert!(text.len() < 4000, "{} bytes", text.len());
    let mut again: Judge = serde_json::from_str(&text).unwrap();
    let (before, after) = (
        judge.verdict(at(9990), at(0)),
        again.verdict(at(9990), at(0)),
    );
    assert_eq!(
        (after.decision, after.reason),
        (before.decision, before.reason)
    );
}

#[test]
fn counts_from_before_the_clock_was_set_back_are_no_verdict_of_now() {
    let mut judge = sequential();
    let mut said = Vec::new();
    for place in 0..60 {
        judge.observe(counts(place * 10, arm(900, 0), arm(100, 0)));
    }
    for now in [600, 580, 0] {
        said.push(judge.verdict(at(now), at(0)));
    }
    let decisions: Vec<_> = said.iter().map(|said| said.decision).collect();
    let (advance, hold) = (Decision::Advance, Decision::Hold);
    assert_eq!(decisions, [advance, advance, hold]);
    assert_eq!(
        said[2].reason,
        "the newest counts of the two colors are of 10 min from now: the clock was set back, and there are none of now"
    );
    // and it goes on with those of now
    for place in 0..4 {
        judge.observe(counts(place * 10, arm(900, 0), arm(100, 0)));
    }
    assert_eq!(judge.verdict(at(40), at(0)).decision, Decision::Advance);
}
