//! Rollouts in the audit log: each line names whoever wanted just that, and what was asked for in vain has a line of its own.

use super::rollouts::{ask, begin, probed_daemon, push, until_it};
use super::rollouts_waiting::somebody_changes;
use super::*;
use crate::store::AuditEntry;

fn by(actor: &str, what: RolloutVerb) -> RolloutRequest {
    RolloutRequest::new(what, actor)
}

/// Newest first: who, what, whether it was done.
fn told(lab: &Lab) -> Vec<(String, String, bool)> {
    let lines = lab.store().history(None, 100).unwrap().into_iter();
    lines
        .map(|entry: AuditEntry| (entry.actor, entry.action, entry.success))
        .collect()
}

fn line(actor: &str, action: &str, success: bool) -> (String, String, bool) {
    (actor.to_owned(), action.to_owned(), success)
}

#[tokio::test]
async fn a_wish_that_came_to_nothing_names_nobody_for_what_comes_later() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    lab.fake.then([Ending::Restored]);
    let promote = by("alice", RolloutVerb::Promote(id.clone()));
    handle.rollout(promote).await.unwrap_err();
    push(&handle, &id, 0).await;
    until_it(&handle, &id, |now| now.step == 1).await;
    let lines = told(&lab);
    assert_eq!(
        lines[..3],
        [
            line("turnout", "weights", true),
            line("alice", "promote", false),
            line("tester", "rollout", true)
        ]
    );
}

#[tokio::test]
async fn a_way_back_is_that_of_who_asked_for_it_first_or_of_nobody() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    let held = somebody_changes(&lab).await;
    let cancel = by("alice", RolloutVerb::Cancel(id.clone()));
    let cancels = tokio::spawn({
        let handle = handle.clone();
        async move { handle.rollout(cancel).await }
    });
    until_it(&handle, &id, |now| now.phase == "returning").await;
    let promote = by("bob", RolloutVerb::Promote(id.clone()));
    handle.rollout(promote).await.unwrap_err();
    drop(held);
    cancels.await.unwrap().unwrap();
    assert_eq!(told(&lab)[0], line("alice", "rollback", true));
    // one that a verdict takes back is nobody's, whoever wants it too
    let id = begin(&handle).await;
    let held = somebody_changes(&lab).await;
    push(&handle, &id, 100).await;
    until_it(&handle, &id, |now| now.phase == "returning").await;
    let cancel = by("bob", RolloutVerb::Cancel(id.clone()));
    let (over, ()) = tokio::join!(handle.rollout(cancel), async {
        // answered after it was asked for
        handle.verify().await.unwrap();
        drop(held);
    });
    assert_eq!(over.unwrap().status, RolloutStanding::RolledBack);
    assert_eq!(told(&lab)[0], line("turnout", "rollback", true));
}

#[tokio::test]
async fn a_promotion_that_cannot_be_written_down_is_given_up_and_not_made_later() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    let folder = lab.store().dir().join("rollouts");
    let aside = lab.store().dir().join("aside");
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, "").unwrap();
    let promote = RolloutRequest {
        lock_wait: Duration::from_millis(500),
        ..by("alice", RolloutVerb::Promote(id.clone()))
    };
    let told = tokio::time::timeout(super::daemon::SOON, handle.rollout(promote)).await;
    let error = told.expect("nobody tells").unwrap_err();
    assert!(
        matches!(error, RolloutError::Change(ChangeError::Store(_))),
        "{error:?}"
    );
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    let stays = until_it(&handle, &id, |now| now.phase == "observing").await;
    assert_eq!(stays.weight.to_string(), "10");
    let given_up =
        |moved: &crate::rollout::Moved| moved.reason.starts_with("the promotion was given up: ");
    assert!(stays.moves.iter().any(given_up), "{:?}", stays.moves);
    assert_eq!(lab.active(), Color::Blue);
}

#[tokio::test]
async fn what_was_asked_for_in_vain_has_a_line_and_so_has_a_pause_while_somebody_changes() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    let held = somebody_changes(&lab).await;
    let paused = by("bob", RolloutVerb::Pause(id.clone()));
    handle.rollout(paused).await.unwrap();
    let promote = RolloutRequest {
        lock_wait: Duration::from_millis(100),
        ..by("alice", RolloutVerb::Promote(id.clone()))
    };
    handle.rollout(promote).await.unwrap_err();
    let next = RolloutRequest {
        lock_wait: Duration::ZERO,
        ..by(
            "carol",
            RolloutVerb::Begin(Box::new(BeginRollout {
                other: OtherRollout::Superseded,
                ..ask()
            })),
        )
    };
    handle.rollout(next).await.unwrap_err();
    drop(held);
    let lines = told(&lab);
    assert_eq!(
        lines[..3],
        [
            line("carol", "rollout", false),
            line("alice", "promote", false),
            line("bob", "pause", true),
        ]
    );
    let history = lab.store().history(None, 2).unwrap();
    let held = |entry: &AuditEntry| entry.message.contains("change.lock is held by ");
    assert!(history.iter().all(held), "{history:?}");
}

#[tokio::test]
async fn a_candidate_that_is_refused_has_a_line() {
    let lab = Lab::with(healthy_server(), dead_server());
    let (handle, _) = super::daemon::daemon(&lab).await;
    let begin = by("alice", RolloutVerb::Begin(Box::new(ask())));
    handle.rollout(begin).await.unwrap_err();
    assert_eq!(told(&lab)[0], line("alice", "rollout", false));
    let history = lab.store().history(None, 1).unwrap();
    assert!(
        history[0].message.contains("green of shop is unhealthy"),
        "{history:?}"
    );
}
