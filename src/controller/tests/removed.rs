//! What services that were taken out of the configuration leave behind: nothing that a later change reads or writes.

use super::*;

/// As many as the promise names.
const MANY: usize = 2_000;

/// Bytes of one file of the state directory.
fn size(lab: &Lab, file: &str) -> u64 {
    std::fs::metadata(lab.store().dir().join(file))
        .unwrap()
        .len()
}

/// Bytes that one switch adds to the journal, and the state file after it.
async fn cost(lab: &Lab, to: Color) -> (u64, u64) {
    let before = size(lab, "journal.jsonl");
    let mut controller = lab.controller();
    assert!(ask(&mut controller, &switch(to)).await.unwrap().changed);
    (size(lab, "journal.jsonl") - before, size(lab, "state.json"))
}

#[tokio::test]
async fn a_switch_writes_as_little_after_2_000_services_were_removed_as_before_they_came() {
    let mut lab = Lab::new();
    drop(applied(&lab).await);
    let (journal, state) = cost(&lab, Color::Green).await;
    lab.others = MANY;
    let all = ask(&mut lab.controller(), &Request::new(Verb::Apply, "tester")).await;
    assert_eq!(all.unwrap().generation, Generation(3));
    assert!(size(&lab, "state.json") > 100 * state);
    lab.others = 0;
    let without = ask(&mut lab.controller(), &Request::new(Verb::Apply, "tester")).await;
    assert_eq!(without.unwrap().generation, Generation(4));
    assert_eq!(lab.store().load().unwrap().state.services.len(), 1);

    // the first begins the journal anew, without the 2,000
    ask(&mut lab.controller(), &switch(Color::Blue))
        .await
        .unwrap();
    // a digit more or less in a time or generation
    let about = |bytes: u64| bytes - 8..=bytes + 8;
    let (added, left) = cost(&lab, Color::Green).await;
    assert!(
        about(journal).contains(&added),
        "{added}, and {journal} before"
    );
    assert!(about(state).contains(&left), "{left}, and {state} before");
    // the generation before, which is the backup, is small as well
    assert!(about(state).contains(&size(&lab, "state.json.bak")));
    assert_eq!(
        std::fs::read_dir(lab.store().dir().join("active"))
            .unwrap()
            .count(),
        1
    );
}
