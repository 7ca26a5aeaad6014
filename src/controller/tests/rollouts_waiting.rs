//! Rollouts that wait for the change lock: what becomes of whoever asked, and of what was decided before.

use super::daemon::{daemon, fail, pass};
use super::rollouts::{ask, begin, probed_daemon, push, request, until_it};
use super::*;
use crate::store::{ChangeLock, Holder, LockError};

pub(super) async fn somebody_changes(lab: &Lab) -> ChangeLock {
    let holder = Holder::current("somebody", None);
    lab.store().lock(holder, Duration::ZERO).await.unwrap()
}

/// Asked for in the background, with this long for the lock.
fn asked(
    handle: &Handle,
    what: RolloutVerb,
    lock_wait: Duration,
) -> tokio::task::JoinHandle<Result<Arc<RolloutStatus>, RolloutError>> {
    let handle = handle.clone();
    let request = RolloutRequest {
        lock_wait,
        ..request(what)
    };
    tokio::spawn(async move { handle.rollout(request).await })
}

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_step_that_waits_for_the_lock_is_watched_and_a_bad_verdict_takes_it_back() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    let held = somebody_changes(&lab).await;
    push(&handle, &id, 0).await;
    until_it(&handle, &id, |now| now.phase == "shifting").await;
    for _ in 0..2 {
        lab.probed(&handle, Color::Green, fail()).await;
    }
    let returning = until_it(&handle, &id, |now| now.phase == "returning").await;
    assert!(
        returning.reason.contains("no server of green is healthy"),
        "{}",
        returning.reason
    );
    drop(held);
    let over = until_it(&handle, &id, |now| now.status.is_over()).await;
    assert_eq!(
        (over.status, over.step),
        (RolloutStanding::RolledBack, 0),
        "{}",
        over.reason
    );
}

#[tokio::test]
async fn a_step_that_waited_longer_than_an_interval_is_not_made_and_is_judged_anew() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    let held = somebody_changes(&lab).await;
    push(&handle, &id, 0).await;
    until_it(&handle, &id, |now| now.phase == "shifting").await;
    let stays = until_it(&handle, &id, |now| now.reason.contains("judged anew")).await;
    assert_eq!(stays.phase, "shifting");
    drop(held);
    let stays = until_it(&handle, &id, |now| now.phase == "observing").await;
    assert_eq!((stays.weight.to_string().as_str(), stays.step), ("10", 0));
    // what was pushed before says nothing of now
    let held = until_it(&handle, &id, |now| now.status == RolloutStanding::Holding).await;
    assert!(held.reason.contains("too little data"), "{}", held.reason);
    push(&handle, &id, 0).await;
    until_it(&handle, &id, |now| now.step == 1).await;
}

#[tokio::test]
async fn a_promotion_that_was_refused_for_want_of_the_lock_is_not_made_later() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    let held = somebody_changes(&lab).await;
    let refused = asked(&handle, RolloutVerb::Promote(id.clone()), SHORT).await;
    let error = refused.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            RolloutError::Change(ChangeError::Lock(LockError::Held { .. }))
        ),
        "{error:?}"
    );
    drop(held);
    let stays = until_it(&handle, &id, |now| now.phase == "observing").await;
    assert_eq!(stays.weight.to_string(), "10");
    assert_eq!(lab.active(), Color::Blue);
}

#[tokio::test]
async fn a_cancel_that_waits_for_the_lock_in_vain_is_told_that_it_goes_on() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    let held = somebody_changes(&lab).await;
    let told = asked(&handle, RolloutVerb::Cancel(id.clone()), SHORT).await;
    let error = told.unwrap().unwrap_err();
    assert!(
        matches!(
            &error,
            RolloutError::GoesOn { source: Some(source), .. }
                if matches!(**source, ChangeError::Lock(LockError::Held { .. }))
        ),
        "{error:?}"
    );
    drop(held);
    let over = until_it(&handle, &id, |now| now.status.is_over()).await;
    assert_eq!(over.status, RolloutStanding::Cancelled);
}

#[tokio::test]
async fn a_promotion_from_before_turnout_was_away_for_long_is_judged_anew() {
    let lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    let id = begin(&handle).await;
    let held = somebody_changes(&lab).await;
    let promotes = asked(&handle, RolloutVerb::Promote(id.clone()), LONG);
    until_it(&handle, &id, |now| now.phase == "promoting").await;
    promotes.abort();
    assert!(promotes.await.unwrap_err().is_cancelled());
    drop(handle);
    task.await.unwrap();
    drop(held);
    // a day passes
    let record = lab.store().load_rollouts().unwrap().records.remove(0);
    let mut text = serde_json::to_value(&record).unwrap();
    assert_eq!(text["walk"]["phase"], "promoting");
    text["walk"]["since"] = "2026-01-01T00:00:00Z".into();
    let record = serde_json::from_value(text).unwrap();
    lab.store().save_rollout(&record).unwrap();
    let (handle, _) = daemon(&lab).await;
    let stays = until_it(&handle, &id, |now| now.phase == "observing").await;
    assert_eq!(stays.weight.to_string(), "10");
    assert_eq!(lab.active(), Color::Blue);
    let judged = |moved: &crate::rollout::Moved| moved.reason.contains("judged anew");
    assert!(stays.moves.iter().any(judged), "{:?}", stays.moves);
}

#[tokio::test]
async fn who_waits_for_a_promotion_hears_that_it_was_paused_or_ended_instead() {
    for ends in [false, true] {
        let lab = Lab::new();
        let handle = probed_daemon(&lab).await;
        let id = begin(&handle).await;
        let held = somebody_changes(&lab).await;
        let promotes = asked(&handle, RolloutVerb::Promote(id.clone()), LONG);
        until_it(&handle, &id, |now| now.phase == "promoting").await;
        let instead = if ends {
            let cancels = asked(&handle, RolloutVerb::Cancel(id.clone()), LONG);
            until_it(&handle, &id, |now| now.phase == "returning").await;
            drop(held);
            cancels.await.unwrap().unwrap()
        } else {
            let paused = handle
                .rollout(request(RolloutVerb::Pause(id.clone())))
                .await;
            drop(held);
            paused.unwrap()
        };
        let text = promotes.await.unwrap().unwrap_err().to_string();
        let (status, word) = if ends {
            (RolloutStanding::Cancelled, "cancelled by tester")
        } else {
            (RolloutStanding::Paused, "paused by tester")
        };
        assert_eq!(instead.status, status);
        assert_eq!(
            text,
            format!(
                "the rollout {id} was not promoted, it is {} now: {word}",
                status.as_str()
            )
        );
        assert_eq!(lab.active(), Color::Blue);
    }
}

#[tokio::test]
async fn who_begins_a_rollout_hears_that_it_was_cancelled_before_it_began() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let held = somebody_changes(&lab).await;
    let begins = asked(&handle, RolloutVerb::Begin(Box::new(ask())), LONG);
    let mut shown = handle.watch_rollouts();
    let id = shown.wait_for(|all| !all.is_empty()).await.unwrap()[0]
        .id
        .clone();
    let cancels = asked(&handle, RolloutVerb::Cancel(id.clone()), LONG);
    until_it(&handle, &id, |now| now.phase == "returning").await;
    drop(held);
    let text = begins.await.unwrap().unwrap_err().to_string();
    assert!(text.contains("was not begun, it is cancelled"), "{text}");
    assert_eq!(
        cancels.await.unwrap().unwrap().status,
        RolloutStanding::Cancelled
    );
}

#[tokio::test]
async fn what_has_not_begun_is_neither_promoted_nor_paused_and_begins_all_the_same() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let held = somebody_changes(&lab).await;
    let begins = asked(&handle, RolloutVerb::Begin(Box::new(ask())), LONG);
    let mut shown = handle.watch_rollouts();
    let id = shown.wait_for(|all| !all.is_empty()).await.unwrap()[0]
        .id
        .clone();
    for what in [
        RolloutVerb::Promote(id.clone()),
        RolloutVerb::Pause(id.clone()),
    ] {
        let text = handle.rollout(request(what)).await.unwrap_err().to_string();
        assert!(text.contains("has not begun"), "{text}");
    }
    drop(held);
    let begun = begins.await.unwrap().unwrap();
    assert_eq!(
        (begun.status, begun.weight.to_string().as_str()),
        (RolloutStanding::Progressing, "10")
    );
}

#[tokio::test]
async fn a_new_version_that_comes_to_nothing_leaves_the_one_that_runs_alone() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    let next = || {
        RolloutVerb::Begin(Box::new(BeginRollout {
            new_version: "v3".to_owned(),
            other: OtherRollout::Superseded,
            ..ask()
        }))
    };
    let held = somebody_changes(&lab).await;
    let error = asked(&handle, next(), SHORT).await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            RolloutError::Change(ChangeError::Lock(LockError::Held { .. }))
        ),
        "{error:?}"
    );
    let paused = handle
        .rollout(request(RolloutVerb::Pause(id.clone())))
        .await;
    assert_eq!(paused.unwrap().status, RolloutStanding::Paused);
    // and one that has the time supersedes it
    let (begun, ()) = tokio::join!(handle.rollout(request(next())), async {
        // answered after it was asked for
        handle.verify().await.unwrap();
        drop(held);
    });
    let begun = begun.unwrap();
    assert_eq!(
        (begun.new_version.as_str(), begun.weight.to_string()),
        ("v3", "10".to_owned())
    );
    let over = handle.rollout_of(&id).unwrap();
    assert_eq!(over.status, RolloutStanding::Cancelled);
    assert!(over.reason.contains("superseded by"), "{}", over.reason);
}

#[tokio::test]
async fn a_way_back_that_fails_is_named_in_the_status_until_it_is_done() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    lab.fake.then([Ending::Unreachable; 3]);
    push(&handle, &id, 100).await;
    let failed = until_it(&handle, &id, |now| now.reason.contains("not done yet")).await;
    assert_eq!(failed.phase, "returning");
    assert!(failed.reason.contains("error rate"), "{}", failed.reason);
    let status = super::daemon::until(&handle, |status| !status.problems.is_empty()).await;
    assert!(
        status.problems[0].contains("cannot be taken back to the stable color"),
        "{:?}",
        status.problems
    );
    let over = until_it(&handle, &id, |now| now.status.is_over()).await;
    assert_eq!(over.status, RolloutStanding::RolledBack);
    assert!(!over.reason.contains("not done yet"), "{}", over.reason);
    super::daemon::until(&handle, |status| status.problems.is_empty()).await;
    lab.probed(&handle, Color::Green, pass()).await;
}
