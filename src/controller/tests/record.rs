//! What is remembered, and what is told of it: a damaged state, a change that failed, one that was interrupted.

use std::sync::Mutex;

use super::*;

fn damage(lab: &Lab, files: &[&str]) {
    for file in files {
        std::fs::write(lab.store().dir().join(file), "{ torn").unwrap();
    }
}

#[tokio::test]
async fn a_service_that_is_new_does_not_keep_a_lost_state_from_being_read_off_the_balancer() {
    let mut lab = Lab::new();
    let mut controller = applied(&lab).await;
    ask(&mut controller, &switch(Color::Green)).await.unwrap();
    damage(&lab, &["state.json", "state.json.bak", "journal.jsonl"]);
    lab.others = 1;
    let mut controller = lab.controller();
    let status = controller.status(None).await.unwrap();
    let active: Vec<_> = status
        .services
        .iter()
        .map(|service| (service.service.as_str(), service.active))
        .collect();
    assert_eq!(active, [("other-0", Color::Blue), ("shop", Color::Green)]);
}

#[tokio::test]
async fn a_state_file_that_was_written_anew_is_a_problem_no_more() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    damage(&lab, &["state.json"]);
    let before = controller.status(None).await.unwrap().problems;
    assert!(
        before[0].starts_with("state: the state file was not used: "),
        "{before:?}"
    );
    ask(&mut controller, &switch(Color::Green)).await.unwrap();
    let after = controller.status(None).await.unwrap().problems;
    assert_eq!(after, Vec::<String>::new());
}

#[tokio::test]
async fn the_record_of_a_failed_change_names_the_color_that_was_asked_for() {
    let lab = Lab::with(healthy_server(), dead_server());
    let mut controller = applied(&lab).await;
    let idle = Verb::Switch {
        service: None,
        to: None,
    };
    for request in [switch(Color::Green), Request::new(idle, "tester")] {
        ask(&mut controller, &request).await.unwrap_err();
        let last = &lab.store().history(None, 1).unwrap()[0];
        assert_eq!(
            (last.success, last.environment),
            (false, Some(Color::Green))
        );
    }
}

#[tokio::test]
async fn the_settling_of_what_was_interrupted_is_told_before_anything_is_touched() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    lab.fake.then([Ending::Hang]);
    killed(&mut controller).await;
    drop(controller);
    let as_before = lab.fake.applies().len();
    let first = Mutex::new(None);
    let tell = |step, said: &str| {
        let mut first = first.lock().unwrap();
        first.get_or_insert((
            step,
            said.to_owned(),
            lab.fake.applies().len(),
            lab.active(),
        ));
    };
    let request = Request::new(Verb::Apply, "tester");
    lab.controller()
        .change(&request, Progress::new(&tell))
        .await
        .unwrap();
    let said = "an interrupted switch (generation 2) is finished first".to_owned();
    assert_eq!(
        first.into_inner().unwrap(),
        Some((Step::Restore, said, as_before, Color::Blue))
    );
    assert_eq!(lab.active(), Color::Green);
}
