//! Rollouts over a balancer that fails on request: what holds, what is tried again, and what is left of one that never began.

use super::daemon::{SOON, daemon, pass, until};
use super::*;
use crate::domain::{CanaryAsk, PolicyAsk, Sample, WalkAsk};
use crate::store::{Holder, LockError};

pub(super) fn ask() -> BeginRollout {
    BeginRollout {
        service: None,
        new_version: "v2".to_owned(),
        baseline_version: None,
        terms: CanaryAsk {
            strategy: WalkAsk {
                initial_weight: Some(10.0),
                step_weight: Some(40.0),
                interval_sec: Some(1),
                max_steps: Some(5),
            },
            policy: PolicyAsk {
                min_requests: Some(1),
                min_samples: Some(1),
                max_consecutive_failures: Some(0),
                ..PolicyAsk::default()
            },
            ..CanaryAsk::default()
        },
        other: OtherRollout::Stays,
    }
}

pub(super) fn request(what: RolloutVerb) -> RolloutRequest {
    RolloutRequest::new(what, "tester")
}

pub(super) async fn begin(handle: &Handle) -> RolloutId {
    let what = RolloutVerb::Begin(Box::new(ask()));
    let begun = handle.rollout(request(what)).await.unwrap();
    assert_eq!(begun.weight.to_string(), "10");
    begun.id.clone()
}

pub(super) async fn push(handle: &Handle, id: &RolloutId, errors: u64) {
    let sample = Sample {
        at: jiff::Timestamp::UNIX_EPOCH,
        requests: 100,
        errors,
        latency_p95_ms: None,
        availability: None,
        cpu_utilization: None,
    };
    let what = RolloutVerb::Push(id.clone(), sample);
    handle.rollout(request(what)).await.unwrap();
}

/// Waits until the rollout is like this.
pub(super) async fn until_it(
    handle: &Handle,
    id: &RolloutId,
    mut is: impl FnMut(&RolloutStatus) -> bool,
) -> RolloutStatus {
    let mut shown = handle.watch_rollouts();
    let found = shown.wait_for(|all| all.iter().any(|one| one.id == *id && is(one)));
    drop(
        tokio::time::timeout(SOON, found)
            .await
            .expect("the rollout does not go on")
            .unwrap(),
    );
    RolloutStatus::clone(&handle.rollout_of(id).unwrap())
}

pub(super) async fn probed_daemon(lab: &Lab) -> Handle {
    let (handle, _) = daemon(lab).await;
    lab.probed(&handle, Color::Blue, pass()).await;
    lab.probed(&handle, Color::Green, pass()).await;
    handle
}

#[tokio::test]
async fn a_weight_that_cannot_be_put_into_force_holds_where_it_was_and_is_tried_again() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    push(&handle, &id, 0).await;
    lab.fake.then([Ending::Restored]);
    let held = until_it(&handle, &id, |now| now.status == RolloutStanding::Holding).await;
    assert_eq!(
        (held.weight.percent(), held.step, held.phase.as_str()),
        (10.0, 0, "observing")
    );
    push(&handle, &id, 0).await;
    let next = until_it(&handle, &id, |now| now.step == 1).await;
    assert_eq!(next.weight.to_string(), "50");
}

#[tokio::test]
async fn a_way_back_that_fails_is_tried_until_it_is_done() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    lab.fake.then([Ending::Restored, Ending::Unreachable]);
    push(&handle, &id, 100).await;
    let back = until_it(&handle, &id, |now| now.status.is_over()).await;
    assert_eq!(back.status, RolloutStanding::RolledBack);
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Blue, Some(Color::Blue))
    );
    // the caller of a cancel is told that it is not done yet, and it is done all the same
    let id = begin(&handle).await;
    lab.fake.then([Ending::Restored]);
    let error = handle
        .rollout(request(RolloutVerb::Cancel(id.clone())))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("not done yet, and tried until it is: "),
        "{error:?}"
    );
    assert!(
        matches!(
            &error,
            RolloutError::GoesOn { source: Some(source), .. }
                if matches!(**source, ChangeError::Apply(ApplyError::Restored { .. }))
        ),
        "{error:?}"
    );
    let over = until_it(&handle, &id, |now| now.status.is_over()).await;
    assert_eq!(over.status, RolloutStanding::Cancelled);
}

#[tokio::test]
async fn one_that_could_not_begin_leaves_nothing_behind() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    lab.fake.then([Ending::Refused]);
    let what = || request(RolloutVerb::Begin(Box::new(ask())));
    let error = handle.rollout(what()).await.unwrap_err();
    assert!(
        matches!(
            error,
            RolloutError::Change(ChangeError::Apply(ApplyError::Refused { .. }))
        ),
        "{error:?}"
    );
    assert_eq!(handle.rollouts().len(), 0);
    assert_eq!(lab.store().load_rollouts().unwrap().records.len(), 0);
    // nor does one whose time for the change lock ran out
    let store = lab.store();
    let held = store
        .lock(Holder::current("somebody", None), Duration::ZERO)
        .await
        .unwrap();
    let mut patient = what();
    patient.lock_wait = Duration::from_millis(300);
    let error = handle.rollout(patient).await.unwrap_err();
    assert!(
        matches!(
            error,
            RolloutError::Change(ChangeError::Lock(LockError::Held { .. }))
        ),
        "{error:?}"
    );
    drop(held);
    assert_eq!(lab.store().load_rollouts().unwrap().records.len(), 0);
    begin(&handle).await;
}

#[tokio::test]
async fn a_rollout_whose_file_is_lost_stays_where_it_is_and_a_rollback_ends_it() {
    let lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    lab.probed(&handle, Color::Blue, pass()).await;
    lab.probed(&handle, Color::Green, pass()).await;
    let id = begin(&handle).await;
    drop(handle);
    task.await.unwrap();
    lab.store().remove_rollout(&id).unwrap();
    let (handle, _) = daemon(&lab).await;
    let status = until(&handle, |status| {
        status
            .problems
            .iter()
            .any(|text| text.contains(id.as_str()))
    })
    .await;
    assert_eq!(status.services[0].weights.green.to_string(), "10");
    let what = RolloutVerb::Begin(Box::new(ask()));
    let error = handle.rollout(request(what)).await.unwrap_err();
    assert!(matches!(error, RolloutError::NotAtRest { .. }), "{error:?}");
    let back = Request::new(Verb::Rollback { service: None }, "tester");
    handle.change(back).await.unwrap();
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Blue, Some(Color::Blue))
    );
}

#[tokio::test]
async fn a_candidate_without_a_healthy_server_is_taken_back_without_a_sample() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    for _ in 0..2 {
        lab.probed(&handle, Color::Green, super::daemon::fail())
            .await;
    }
    let over = until_it(&handle, &id, |now| now.status.is_over()).await;
    assert_eq!(over.status, RolloutStanding::RolledBack);
    assert!(
        over.reason.contains("no server of green is healthy"),
        "{}",
        over.reason
    );
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Blue, Some(Color::Blue))
    );
}

#[tokio::test]
async fn a_source_that_cannot_be_asked_holds_and_goes_on_when_it_is_back() {
    let lab = Lab::new();
    let is_down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let feed = Feed::new({
        let is_down = Arc::clone(&is_down);
        move |look| {
            let down = is_down.load(std::sync::atomic::Ordering::SeqCst);
            async move {
                let now = jiff::Timestamp::now();
                let arm = crate::domain::Arm {
                    requests: 50,
                    errors: 0,
                    slow: 0,
                };
                if down {
                    Err("connection refused".to_owned())
                } else {
                    Ok(vec![crate::domain::Paired {
                        from: look.since,
                        to: now,
                        stable: arm,
                        candidate: arm,
                    }])
                }
            }
        }
    });
    let (handle, _) = spawn(lab.controller().fed_by(feed)).await.unwrap();
    let mut proof = handle.proof();
    let seen = proof.wait_for(|proof| *proof == Proof::Seen);
    drop(tokio::time::timeout(SOON, seen).await.unwrap().unwrap());
    let mut begin = ask();
    begin.terms.source = Some(crate::domain::CanarySource::Traffic);
    let begun = handle
        .rollout(request(RolloutVerb::Begin(Box::new(begin))))
        .await
        .unwrap();
    let held = until_it(&handle, &begun.id, |now| now.verdicts.len() >= 2).await;
    assert_eq!(
        (held.status, held.weight.percent()),
        (RolloutStanding::Holding, 10.0)
    );
    assert!(
        held.reason.contains("connection refused"),
        "{}",
        held.reason
    );
    is_down.store(false, std::sync::atomic::Ordering::SeqCst);
    let over = until_it(&handle, &begun.id, |now| now.status.is_over()).await;
    assert_eq!(over.status, RolloutStanding::Promoted, "{}", over.reason);
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Green, Some(Color::Green))
    );
}

#[tokio::test]
async fn the_end_of_a_rollout_moves_nothing_where_none_runs() {
    let lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    lab.probed(&handle, Color::Blue, pass()).await;
    lab.probed(&handle, Color::Green, pass()).await;
    let id = begin(&handle).await;
    let promote = request(RolloutVerb::Promote(id));
    handle.rollout(promote).await.unwrap();
    drop(handle);
    task.await.unwrap();
    // as `turnout abort` where no daemon runs: green was active before, and blue is what a rollback would go to
    let abort = || Request {
        provided: Provided::RolloutRuns,
        ..Request::new(Verb::Rollback { service: None }, "tester")
    };
    let mut controller = lab.controller();
    let error = super::ask(&mut controller, &abort()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no rollout runs on shop, and nothing was changed: `turnout rollback shop` goes to the color before the last switch"
    );
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Green, Some(Color::Green))
    );
    // and one that runs is ended by it
    let (handle, task) = daemon(&lab).await;
    begin(&handle).await;
    drop(handle);
    task.await.unwrap();
    super::ask(&mut lab.controller(), &abort()).await.unwrap();
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Green, Some(Color::Green))
    );
}
