//! The files of rollouts: one that cannot be read is named and costs no other, and what a rollout keeps fits into its own.

use super::*;
use crate::domain::{CanaryAsk, Decision, Evidence, Metric, Strategy, Verdict};
use crate::rollout::{Event, Record, RolloutId, Subject, Terms};

fn record(number: u128) -> Record {
    let subject = Subject {
        service: shop(),
        candidate: Color::Green,
        new_version: "v2".to_owned(),
        baseline_version: None,
        strategy: Strategy::BlueGreen,
        actor: "tester".to_owned(),
        message: None,
    };
    let terms = Terms::of(CanaryAsk::default(), None).unwrap();
    Record::begin(RolloutId::from_random(number), subject, terms, moment()).0
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_costs_no_other_rollout() {
    let place = Place::new();
    let records = [1, 2, 3, 4].map(record);
    for record in &records {
        place.store.save_rollout(record).unwrap();
    }
    let path = |record: &Record| format!("rollouts/{}.json", record.id);
    // a directory in its place, too much of it, and no longer what was written
    fs::remove_file(place.path(&path(&records[0]))).unwrap();
    fs::create_dir(place.path(&path(&records[0]))).unwrap();
    let large = fs::OpenOptions::new()
        .write(true)
        .open(place.path(&path(&records[1])));
    large.unwrap().set_len((64 << 20) + 1).unwrap();
    place.put(&path(&records[2]), b"{}\n");
    let found = place.store.load_rollouts().unwrap();
    assert_eq!(found.records, [records[3].clone()]);
    assert_eq!(found.problems.len(), 3, "{:?}", found.problems);
    for record in &records[..3] {
        let named = found
            .problems
            .iter()
            .any(|text| text.contains(record.id.as_str()));
        assert!(named, "{:?}", found.problems);
    }
}

#[test]
fn a_rollout_that_keeps_all_it_may_can_be_read_again() {
    let place = Place::new();
    let mut record = record(7);
    let long = || "\u{1f600}".repeat(1_000);
    record.step(Event::Applied, moment());
    for _ in 0..1_500 {
        record.step(Event::Pause(long()), moment());
        record.step(Event::Resume(long()), moment());
    }
    for _ in 0..2_500 {
        record.said(Verdict {
            at: moment(),
            decision: Decision::Hold,
            reason: long(),
            evidence: vec![Evidence {
                metric: Metric::Errors,
                stable: Some(0.1),
                candidate: 0.1,
                value: 0.1,
                bound: 0.1,
            }],
        });
    }
    place.store.save_rollout(&record).unwrap();
    let found = place.store.load_rollouts().unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    assert_eq!(found.records, [record]);
}
