//! `render`, and `reload` of what it staged.

use super::*;

#[tokio::test]
async fn reload_takes_what_was_staged_and_nothing_older() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    let reload = Request::new(Verb::Reload, "tester");
    let error = ask(&mut controller, &reload).await.unwrap_err();
    assert!(matches!(error, ChangeError::NothingStaged), "{error:?}");
    let (rendered, folder) = controller
        .stage(None, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(rendered.generation, Generation(2));
    assert!(folder.join("staged.json").exists());
    assert_eq!(
        ask(&mut controller, &reload).await.unwrap().generation,
        Generation(2)
    );
    let error = ask(&mut controller, &reload).await.unwrap_err();
    assert!(matches!(error, ChangeError::NothingStaged), "{error:?}");
    controller
        .stage(None, Duration::from_secs(1))
        .await
        .unwrap();
    ask(&mut controller, &switch(Color::Green)).await.unwrap();
    let error = ask(&mut controller, &reload).await.unwrap_err();
    assert!(
        matches!(error, ChangeError::StagedOutdated { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn reload_of_what_is_in_force_already_has_nothing_to_do() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    let reload = Request::new(Verb::Reload, "tester");
    let apply = Request::new(Verb::Apply, "turnout");
    let (rendered, _) = controller
        .stage(None, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(rendered.generation, Generation(2));
    // as a daemon does that takes the same edit between `render` and `reload`
    std::fs::remove_file(&rendered.files[0].path).unwrap();
    let taken = ask(&mut controller, &apply).await.unwrap();
    assert_eq!((taken.changed, taken.generation), (true, Generation(2)));
    let outcome = ask(&mut controller, &reload).await.unwrap();
    assert_eq!(
        (outcome.changed, outcome.generation, outcome.plan.is_empty()),
        (false, Generation(2), true)
    );
    let error = ask(&mut controller, &reload).await.unwrap_err();
    assert!(matches!(error, ChangeError::NothingStaged), "{error:?}");
}
