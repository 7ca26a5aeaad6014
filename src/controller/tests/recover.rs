//! What killed processes left behind, and changes that could not be recorded: finished, taken back, or left to a person.

use super::*;

#[tokio::test]
async fn no_failed_apply_moves_the_record() {
    for ending in [
        Ending::Refused,
        Ending::Unreachable,
        Ending::Unchanged,
        Ending::Restored,
        Ending::NotRestored,
    ] {
        let lab = Lab::new();
        let mut controller = applied(&lab).await;
        lab.fake.then([ending]);
        let error = ask(&mut controller, &switch(Color::Green))
            .await
            .unwrap_err();
        assert!(
            matches!(
                (&error, ending),
                (
                    ChangeError::Apply(ApplyError::Refused { .. }),
                    Ending::Refused
                ) | (
                    ChangeError::Apply(ApplyError::Unreachable { .. }),
                    Ending::Unreachable
                ) | (
                    ChangeError::Apply(ApplyError::Unchanged { .. }),
                    Ending::Unchanged
                ) | (
                    ChangeError::Apply(ApplyError::Restored { .. }),
                    Ending::Restored
                ) | (
                    ChangeError::Apply(ApplyError::NotRestored { .. }),
                    Ending::NotRestored
                )
            ),
            "{ending:?}: {error:?}"
        );
        assert_eq!(lab.active(), Color::Blue, "{ending:?}");
        let last = &lab.store().history(None, 1).unwrap()[0];
        assert_eq!(
            (last.action.as_str(), last.success),
            ("switch", false),
            "{ending:?}"
        );
        // and the next one works
        ask(&mut lab.controller(), &switch(Color::Green))
            .await
            .unwrap();
        assert_eq!(
            (lab.active(), lab.served()),
            (Color::Green, Some(Color::Green))
        );
    }
}

#[tokio::test]
async fn a_change_that_was_killed_after_it_took_effect_is_finished() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    lab.fake.then([Ending::Hang]);
    killed(&mut controller).await;
    drop(controller);
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Blue, Some(Color::Green))
    );
    let outcome = ask(&mut lab.controller(), &Request::new(Verb::Apply, "tester"))
        .await
        .unwrap();
    assert_eq!(
        (outcome.changed, outcome.generation),
        (false, Generation(2))
    );
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Green, Some(Color::Green))
    );
}

#[tokio::test]
async fn a_change_that_was_killed_before_it_took_effect_is_taken_back() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    let before = futures_now(crate::balancer::Balancer::observe(&lab.fake)).served;
    lab.fake.then([Ending::Hang]);
    killed(&mut controller).await;
    drop(controller);
    lab.fake.serve(before);
    let outcome = ask(&mut lab.controller(), &Request::new(Verb::Apply, "tester"))
        .await
        .unwrap();
    assert_eq!(
        (outcome.changed, outcome.generation),
        (false, Generation(1))
    );
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Blue, Some(Color::Blue))
    );
    // the number of the change that was taken back is not used again
    let next = ask(&mut lab.controller(), &switch(Color::Green))
        .await
        .unwrap();
    assert_eq!(next.generation, Generation(3));
}

/// A change whose state file cannot be put in its place once the balancer has proved it.
async fn unrecorded(
    lab: &Lab,
    controller: &mut Controller<Fake>,
    request: &Request,
) -> ChangeError {
    let temporary = lab.store().dir().join(".state.json.tmp");
    let listener = |step: Step, _: &str| {
        if step == Step::Prove {
            std::fs::remove_file(&temporary).unwrap();
        }
    };
    let changed = controller.change(request, Progress::new(&listener)).await;
    changed.unwrap_err()
}

#[tokio::test]
async fn a_change_that_cannot_be_recorded_is_undone_byte_for_byte_whatever_the_configuration_says()
{
    let mut lab = Lab::new();
    drop(applied(&lab).await);
    let before = lab.fake.bytes();
    lab.green = healthy_server();
    let mut controller = lab.controller();
    let apply = Request::new(Verb::Apply, "tester");
    let error = unrecorded(&lab, &mut controller, &apply).await;
    assert!(matches!(error, ChangeError::Store(_)), "{error:?}");
    assert_eq!(lab.fake.bytes(), before);
    let observed = futures_now(crate::balancer::Balancer::observe(&lab.fake));
    assert!(
        matches!(
            observed.served,
            Served::Generation {
                generation: Generation(1),
                ..
            }
        ),
        "{observed:?}"
    );
    assert_eq!(lab.store().load().unwrap().state.generation, Generation(1));
    assert!(lab.store().load().unwrap().open.is_none());
    // nothing was rendered for the way back, and the edit goes in with the next change
    let generations = |lab: &Lab| -> Vec<u64> {
        let applies = lab.fake.applies();
        applies.iter().map(|seen| seen.generation.0).collect()
    };
    assert_eq!(generations(&lab), [1, 2]);
    let outcome = ask(&mut controller, &apply).await.unwrap();
    assert_eq!((outcome.changed, outcome.generation), (true, Generation(3)));
    assert_ne!(lab.fake.bytes(), before);
}

#[tokio::test]
async fn a_first_change_that_cannot_be_recorded_leaves_nothing_behind() {
    let lab = Lab::new();
    let apply = Request::new(Verb::Apply, "tester");
    let error = unrecorded(&lab, &mut lab.controller(), &apply).await;
    assert!(matches!(error, ChangeError::Store(_)), "{error:?}");
    assert_eq!((lab.fake.bytes(), lab.served()), (None, None));
    ask(&mut lab.controller(), &apply).await.unwrap();
    assert_eq!(lab.active(), Color::Blue);
}

#[tokio::test]
async fn a_change_that_can_neither_be_recorded_nor_undone_needs_a_person_and_is_finished_later() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    lab.fake.refuse_to_revert();
    let error = unrecorded(&lab, &mut controller, &switch(Color::Green)).await;
    assert!(
        matches!(error, ChangeError::NeedsPerson { .. }),
        "{error:?}"
    );
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Blue, Some(Color::Green))
    );
    assert!(lab.store().load().unwrap().open.is_some());
}

#[tokio::test]
async fn an_edit_of_the_configuration_is_no_part_of_settling_what_was_interrupted() {
    for (took_effect, color) in [(true, Color::Green), (false, Color::Blue)] {
        let mut lab = Lab::new();
        let mut controller = applied(&lab).await;
        let before = futures_now(crate::balancer::Balancer::observe(&lab.fake)).served;
        let bytes = lab.fake.bytes();
        lab.fake.then([Ending::Hang]);
        killed(&mut controller).await;
        drop(controller);
        if !took_effect {
            lab.fake.serve(before);
        }
        lab.green = healthy_server();
        // it is refused, and what was interrupted is settled before
        let reload = Request::new(Verb::Reload, "tester");
        let error = ask(&mut lab.controller(), &reload).await.unwrap_err();
        assert!(matches!(error, ChangeError::NothingStaged), "{error:?}");
        assert_eq!((lab.active(), lab.served()), (color, Some(color)));
        assert_eq!(lab.fake.applies().len(), 2, "nothing was rendered anew");
        assert_eq!(lab.fake.bytes() == bytes, !took_effect);
    }
}

#[tokio::test]
async fn what_the_balancer_has_nothing_of_any_more_is_rendered_anew() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    let before = futures_now(crate::balancer::Balancer::observe(&lab.fake)).served;
    lab.fake.then([Ending::Hang]);
    killed(&mut controller).await;
    drop(controller);
    lab.fake.forget();
    let Served::Generation { splits, .. } = before else {
        panic!()
    };
    lab.fake.serve(Served::Generation {
        generation: Generation(0),
        splits,
    });
    let outcome = ask(&mut lab.controller(), &Request::new(Verb::Apply, "tester"))
        .await
        .unwrap();
    assert_eq!(outcome.generation, Generation(1));
    assert_eq!(
        lab.fake
            .applies()
            .iter()
            .map(|seen| seen.generation.0)
            .collect::<Vec<_>>(),
        [1, 2, 1]
    );
}

#[tokio::test]
async fn an_interrupted_change_stays_open_while_nobody_can_be_asked() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    lab.fake.then([Ending::Hang]);
    killed(&mut controller).await;
    drop(controller);
    let served = futures_now(crate::balancer::Balancer::observe(&lab.fake)).served;
    lab.fake.serve(Served::Unreachable {
        reason: "nginx is not running".to_owned(),
    });
    let error = ask(&mut lab.controller(), &switch(Color::Blue))
        .await
        .unwrap_err();
    assert!(
        matches!(error, ChangeError::Apply(ApplyError::Unreachable { .. })),
        "{error:?}"
    );
    lab.fake.serve(served);
    ask(&mut lab.controller(), &Request::new(Verb::Apply, "tester"))
        .await
        .unwrap();
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Green, Some(Color::Green))
    );
}

#[tokio::test]
async fn a_state_that_nothing_remembers_is_read_off_the_balancer() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    ask(&mut controller, &switch(Color::Green)).await.unwrap();
    for file in ["state.json", "state.json.bak", "journal.jsonl"] {
        std::fs::write(lab.store().dir().join(file), "{ torn").unwrap();
    }
    let status = lab.controller().status(None).await.unwrap();
    assert_eq!(status.services[0].active, Color::Green);
    assert!(
        status.problems[0].contains("state.json"),
        "{:?}",
        status.problems
    );
    lab.fake.serve(Served::Unreachable {
        reason: "nginx is not running".to_owned(),
    });
    let error = lab.controller().status(None).await.unwrap_err();
    assert!(
        matches!(error, ChangeError::NeedsPerson { .. }),
        "{error:?}"
    );
}
