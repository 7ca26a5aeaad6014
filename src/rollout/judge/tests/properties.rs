//! Both judges on any figures, possible and impossible.

use proptest::prelude::*;

use super::*;

/// Any counts, some of which cannot be true.
fn any_counts() -> impl Strategy<Value = Paired> {
    let arm = (0..5000_u64, 0..5000_u64, 0..5000_u64).prop_map(|(requests, errors, slow)| Arm {
        requests,
        errors: if errors % 3 == 0 {
            errors
        } else {
            errors % (requests + 1)
        },
        slow: slow % (requests + 1),
    });
    (-50..3000_i64, -5..60_i64, arm.clone(), arm).prop_map(|(from, long, stable, candidate)| {
        Paired {
            from: at(from),
            to: at(from + long),
            stable,
            candidate,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn figures_stay_finite_whatever_is_counted(
        all in prop::collection::vec(any_counts(), 1..80),
        steps in prop::collection::vec(0..80_usize, 0..10),
    ) {
        let with_slow = policy(|draft| draft.slow_ms = Some(100.0));
        for mut judge in [Judge::sequential(with_slow), Judge::thresholds(with_slow)] {
            for (place, one) in all.iter().enumerate() {
                judge.observe(*one);
                if steps.contains(&place) {
                    judge.new_step(one.to);
                }
                let said = judge.verdict(one.to, at(0));
                prop_assert!(!said.reason.is_empty());
                for evidence in &said.evidence {
                    prop_assert!(evidence.value.is_finite() && evidence.value >= 0.0);
                    prop_assert!(evidence.candidate.is_finite());
                }
                let text = serde_json::to_string(&judge).unwrap();
                let mut again: Judge = serde_json::from_str(&text).unwrap();
                let (before, after) = (judge.clone().verdict(one.to, at(0)), again.verdict(one.to, at(0)));
                prop_assert_eq!(after.decision, before.decision, "goes on after a restart as it was");
            }
        }
    }

    #[test]
    fn a_candidate_without_a_bad_request_is_never_rolled_back(
        all in prop::collection::vec((1..1000_u64, 0..1000_u64, 1..1000_u64), 1..100),
    ) {
        let mut judge = Judge::sequential(Policy::default());
        for (place, (requests, errors, candidate)) in (0..).zip(all) {
            judge.observe(counts(place * 10, arm(requests, errors % (requests + 1)), arm(candidate, 0)));
            prop_assert_eq!(judge.alarm(at(place * 10 + 10)), None);
        }
    }

    #[test]
    fn the_colors_share_of_traffic_alone_says_nothing(
        weight in 1..100_u64,
        rate in 0..30_u64,
    ) {
        // both fail exactly alike, at any weight: above the floor it takes as long as an incident may
        let mut judge = Judge::sequential(Policy::default());
        for place in 0..55 {
            let part = |requests: u64| arm(requests * 100, requests * rate);
            judge.observe(counts(place * 10, part(100 - weight), part(weight)));
            prop_assert_eq!(judge.alarm(at(place * 10 + 10)), None);
        }
    }

    #[test]
    fn cutting_time_into_finer_pieces_changes_nothing_within_a_burst(
        all in prop::collection::vec((0..200_u64, 0..20_u64), 1..40),
    ) {
        let mut coarse = Judge::sequential(Policy::default());
        let mut fine = Judge::sequential(Policy::default());
        for (place, (stable, candidate)) in (0..).zip(all) {
            let both = counts(place * 10, arm(900, stable), arm(100, candidate));
            coarse.observe(both);
            let middle = at(place * 10 + 4);
            let (one, other) = (stable / 3, candidate / 3);
            fine.observe(Paired { to: middle, stable: arm(400, one), candidate: arm(40, other), ..both });
            fine.observe(Paired {
                from: middle,
                stable: arm(500, stable - one),
                candidate: arm(60, candidate - other),
                ..both
            });
        }
        let (coarse, fine) = (coarse.verdict(at(10), at(0)), fine.verdict(at(10), at(0)));
        prop_assert_eq!(coarse.evidence, fine.evidence);
    }
}
