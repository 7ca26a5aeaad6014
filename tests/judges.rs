//! The judges on made-up traffic: a reduced `cargo bench --bench judges`, held to what its figures are quoted for.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::many_single_char_names,
    reason = "as in the benchmark, whose modules these are"
)]

#[expect(dead_code, reason = "the benchmark says where it is weaker as well")]
#[path = "../benches/judges/claims.rs"]
mod claims;
#[path = "../benches/judges/figures.rs"]
mod figures;
#[path = "../benches/judges/kayenta.rs"]
mod kayenta;
#[path = "../benches/judges/rules.rs"]
mod rules;
#[expect(dead_code, reason = "the benchmark prints more of it")]
#[path = "../benches/judges/table.rs"]
mod table;
#[path = "../benches/judges/traffic.rs"]
mod traffic;
#[path = "../benches/judges/walk.rs"]
mod walk;

use rules::Rule;
use traffic::{Clumps, Draw};
use walk::Walk;

const RUNS: usize = 200;

#[test]
fn the_sequential_judge_leaves_healthy_candidates_alone_and_is_as_early_as_the_thresholds() {
    let mut draw = Draw::new(20_261_121);
    let rules = [
        Rule::Flagger,
        Rule::Argo,
        Rule::ArgoFloor,
        Rule::Thresholds,
        Rule::Sequential,
    ];
    let mut rows: Vec<_> = figures::scenarios()
        .into_iter()
        .filter(|scenario| scenario.per_second <= 100.0)
        .map(|scenario| figures::row(scenario, &rules, RUNS, &mut draw))
        .collect();
    assert_eq!(claims::false_alarms(&rows), [""; 0]);
    // one event a minute or less on the candidate: RESULTS.md says what is not held there
    let large = [Clumps::Of(10), Clumps::About(10)];
    rows.retain(|row| row.scenario.per_second >= 100.0 || !large.contains(&row.scenario.clumps));
    assert_eq!(claims::later(&rows), [""; 0]);
    for (name, least) in [
        ("2 % against 0.2 %, 100/s", 1.0),
        ("10 % against 0.2 %, 1/s", 0.98),
        ("2.5 % against 0.5 %, clumps of 10, 100/s", 0.97),
    ] {
        let row = rows.iter().find(|row| row.full_name() == name).unwrap();
        let found = row.of(Rule::Sequential).unwrap().rolled_back;
        assert!(found >= least, "{name}: found in {found} of the runs");
    }
}

#[test]
fn whole_rollouts_end_where_they_should() {
    let mut draw = Draw::new(20_261_121);
    for walk in Walk::all() {
        if walk.scenario.per_second != 100.0 {
            continue;
        }
        let walked = walk.run(true, 40, &mut draw);
        let name = walk.name();
        if walk.scenario.is_healthy() {
            assert!(walked.promoted >= 0.95, "{name}: {walked:?}");
        } else {
            assert!(walked.rolled_back >= 0.95, "{name}: {walked:?}");
        }
    }
}

#[test]
fn kayentas_judge_is_rebuilt_so_that_it_finds_what_it_finds() {
    let run = |bad: [u64; 2]| {
        let bucket = |place: u64| traffic::Bucket {
            stable: 900,
            stable_bad: bad[0] + place % 5,
            candidate: 900,
            candidate_bad: bad[1] + (2 * place + 1) % 5,
        };
        (0..180).map(bucket).collect::<Vec<_>>()
    };
    assert!(kayenta::is_high(&run([2, 20])));
    assert!(!kayenta::is_high(&run([20, 2])));
    assert!(!kayenta::is_high(&run([2, 2])));
}
