//! What health does by itself: failover, its end, and what a person has forced.

use super::daemon::{SOON, daemon, fail, is_edited_in_vain, is_taken, pass, until};
use super::*;

#[tokio::test]
async fn failover_is_an_overlay_that_comes_and_goes_and_never_the_position() {
    let lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    lab.probed(&handle, Color::Green, pass()).await;
    lab.probed(&handle, Color::Blue, fail()).await;
    lab.probed(&handle, Color::Blue, fail()).await;
    let mut status = handle.watch();
    let deadline = SOON;
    let over = status.wait_for(|status| status.services[0].overlay == Some(Color::Green));
    let over = tokio::time::timeout(deadline, over)
        .await
        .unwrap()
        .unwrap()
        .clone();
    assert_eq!(
        over.services[0].active,
        Color::Blue,
        "the position is not moved"
    );
    assert!(over.drift.is_empty(), "{:?}", over.drift);
    assert_eq!(lab.served(), Some(Color::Green));
    lab.probed(&handle, Color::Blue, pass()).await;
    let back = status.wait_for(|status| status.services[0].overlay.is_none());
    tokio::time::timeout(deadline, back).await.unwrap().unwrap();
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Blue, Some(Color::Blue))
    );
    let actions: Vec<_> = lab
        .store()
        .history(None, 2)
        .unwrap()
        .into_iter()
        .map(|entry| entry.action)
        .collect();
    assert_eq!(actions, ["failback", "failover"]);
    drop((handle, status));
    task.await.unwrap();
}

#[tokio::test]
async fn a_forced_color_outlives_the_daemon_until_it_was_healthy_once() {
    let lab = Lab::with(healthy_server(), dead_server());
    let (handle, task) = daemon(&lab).await;
    lab.probed(&handle, Color::Blue, pass()).await;
    let mut forced = switch(Color::Green);
    forced.force = true;
    handle.change(forced).await.unwrap();
    drop(handle);
    task.await.unwrap();

    let (handle, task) = daemon(&lab).await;
    lab.probed(&handle, Color::Blue, pass()).await;
    lab.probed(&handle, Color::Green, fail()).await;
    lab.probed(&handle, Color::Green, fail()).await;
    let status = until(&handle, |status| {
        status.services[0].servers.green[0].health == crate::domain::Health::Unhealthy
    })
    .await;
    assert_eq!(handle.verify().await.unwrap().drift, []);
    assert_eq!(
        (status.services[0].overlay, lab.served()),
        (None, Some(Color::Green))
    );
    // once it was healthy it is like any other, and a restart does not forget that either
    lab.probed(&handle, Color::Green, pass()).await;
    until(&handle, |status| status.generation > Generation(2)).await;
    assert_eq!(lab.store().history(None, 1).unwrap()[0].action, "heal");
    drop(handle);
    task.await.unwrap();

    let (handle, task) = daemon(&lab).await;
    lab.probed(&handle, Color::Blue, pass()).await;
    lab.probed(&handle, Color::Green, fail()).await;
    lab.probed(&handle, Color::Green, fail()).await;
    until(&handle, |status| {
        status.services[0].overlay == Some(Color::Blue)
    })
    .await;
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_moved_again_is_forced_no_more() {
    let lab = Lab::with(healthy_server(), dead_server());
    let mut controller = applied(&lab).await;
    let mut forced = switch(Color::Green);
    forced.force = true;
    let recorded = || lab.store().load().unwrap().state.services[&"shop".parse().unwrap()].forced;
    ask(&mut controller, &forced).await.unwrap();
    assert_eq!(recorded(), Some(Color::Green));
    ask(&mut controller, &switch(Color::Blue)).await.unwrap();
    assert_eq!(recorded(), None);
}

#[tokio::test]
async fn a_change_of_strategy_leaves_the_traffic_on_a_forced_color() {
    let lab = Lab::with(healthy_server(), dead_server());
    let (handle, task) = daemon(&lab).await;
    lab.probed(&handle, Color::Blue, pass()).await;
    let mut forced = switch(Color::Green);
    forced.force = true;
    handle.change(forced).await.unwrap();
    let verb = Verb::Strategy {
        service: None,
        strategy: crate::domain::Strategy::Canary,
    };
    handle.change(Request::new(verb, "tester")).await.unwrap();
    lab.probed(&handle, Color::Green, fail()).await;
    lab.probed(&handle, Color::Green, fail()).await;
    let status = until(&handle, |status| {
        status.services[0].servers.green[0].health == crate::domain::Health::Unhealthy
    })
    .await;
    assert_eq!(handle.verify().await.unwrap().drift, []);
    assert_eq!(
        (status.services[0].overlay, lab.served()),
        (None, Some(Color::Green))
    );
    let state = lab.store().load().unwrap().state;
    let shop = &state.services[&"shop".parse().unwrap()];
    assert_eq!(shop.forced, Some(Color::Green));
    // who takes traffic from it has had their say anew
    let weights = Verb::Weights {
        service: None,
        weights: Split::from_percents(50.0, 50.0).unwrap(),
    };
    handle
        .change(Request::new(weights, "tester"))
        .await
        .unwrap();
    until(&handle, |status| {
        status.services[0].overlay == Some(Color::Blue)
    })
    .await;
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn failover_waits_for_a_lock_that_somebody_holds_and_then_comes() {
    let lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    let holder = crate::store::Holder::current("somebody else", None);
    let lock = lab.store().lock(holder, Duration::ZERO).await.unwrap();
    lab.blue_dies(&handle).await;
    let status = until(&handle, |status| !status.problems.is_empty()).await;
    let [problem] = status.problems.as_slice() else {
        panic!("{:?}", status.problems)
    };
    assert!(problem.starts_with("failover: "), "{problem}");
    assert!(problem.contains("somebody else"), "{problem}");
    assert_eq!(lab.served(), Some(Color::Blue));
    drop(lock);
    let status = until(&handle, |status| status.services[0].overlay.is_some()).await;
    assert_eq!(lab.served(), Some(Color::Green));
    assert_eq!(status.problems, Vec::<String>::new());
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn health_that_was_learned_before_the_first_proof_is_heeded_with_it() {
    let lab = Lab::new();
    lab.fake.serve(Served::Unreachable {
        reason: "nginx is not running".to_owned(),
    });
    let (handle, task) = spawn(lab.controller()).await.unwrap();
    lab.blue_dies(&handle).await;
    until(&handle, |status| {
        status.services[0].servers.blue[0].health == crate::domain::Health::Unhealthy
    })
    .await;
    assert_eq!(*handle.proof().borrow(), Proof::Pending);
    assert_eq!(lab.fake.applies().len(), 0, "there is nobody to apply to");
    lab.fake.serve(Served::Foreign {
        reason: "started with nothing of turnout's".to_owned(),
    });
    until(&handle, |status| {
        status.services[0].overlay == Some(Color::Green)
    })
    .await;
    assert_eq!(*handle.proof().borrow(), Proof::Seen);
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Blue, Some(Color::Green))
    );
    drop(handle);
    task.await.unwrap();
}

/// How many applies there were of failovers that failed, and how many lines of audit.
fn failed_failovers(lab: &Lab) -> (usize, usize) {
    let failovers = lab.fake.applies();
    let failovers = failovers.iter();
    let history = lab.store().history(None, 100).unwrap();
    let lines = history
        .iter()
        .filter(|entry| entry.action == "failover" && !entry.success);
    (
        failovers
            .filter(|seen| seen.front_door == FrontDoor::Turnout)
            .count(),
        lines.count(),
    )
}

#[tokio::test]
async fn a_failover_stays_while_both_colors_are_down_and_ends_with_the_first_that_is_back() {
    let lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    lab.blue_dies(&handle).await;
    until(&handle, |status| {
        status.services[0].overlay == Some(Color::Green)
    })
    .await;
    lab.probed(&handle, Color::Green, fail()).await;
    lab.probed(&handle, Color::Green, fail()).await;
    let status = until(&handle, |status| {
        status.services[0].servers.green[0].health == crate::domain::Health::Unhealthy
    })
    .await;
    assert_eq!(
        status.services[0].overlay,
        Some(Color::Green),
        "there is nobody to go back to"
    );
    lab.probed(&handle, Color::Blue, pass()).await;
    until(&handle, |status| status.services[0].overlay.is_none()).await;
    assert_eq!(lab.served(), Some(Color::Blue));
    let last = lab.fake.applies().pop().unwrap();
    assert_eq!(
        last.front_door,
        FrontDoor::Turnout,
        "a door that shows no color is no reason to stay"
    );
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn a_failover_that_fails_is_tried_less_and_less_often_and_audited_once() {
    let lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    lab.fake.then([Ending::Restored; 3]);
    lab.blue_dies(&handle).await;
    // at once and after 5 s; then not before 15 s
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (tries, lines) = failed_failovers(&lab);
    assert_eq!((tries, lines), (2, 1));
    assert!(handle.status().problems[0].starts_with("failover: "));
    // health that asks for something else is heeded at once
    lab.probed(&handle, Color::Blue, pass()).await;
    until(&handle, |status| status.problems.is_empty()).await;
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn a_shape_that_cannot_be_proved_is_tried_less_and_less_often() {
    let mut lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    lab.fake.then([Ending::Restored; 3]);
    is_edited_in_vain(&mut lab, &handle, "told to fail").await;
    // at once and after 5 s; then not before 15 s
    tokio::time::sleep(Duration::from_secs(12)).await;
    let tries = lab.fake.applies().len() - 1;
    assert_eq!(tries, 2);
    let (status, drift) = (
        handle.status_now().await.unwrap(),
        handle.verify().await.unwrap(),
    );
    assert_eq!(status.generation, Generation(1));
    assert_eq!(status.drift, drift.drift);
    // who asks for it does not wait for that
    let apply = Request::new(Verb::Apply, "tester");
    handle.change(apply.clone()).await.unwrap_err();
    handle.change(apply).await.unwrap();
    is_taken(&handle).await;
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn what_health_asked_for_before_somebody_elses_change_is_asked_for_anew() {
    let lab = Lab::with(dead_server(), healthy_server());
    let mut daemon = applied(&lab).await;
    for (color, outcome) in [
        (Color::Green, pass()),
        (Color::Blue, fail()),
        (Color::Blue, fail()),
    ] {
        let address = if color == Color::Blue {
            lab.blue
        } else {
            lab.green
        };
        let report = crate::probe::Report {
            service: "shop".parse().unwrap(),
            color,
            server: format!("http://{address}").parse().unwrap(),
            outcome,
            at: jiff::Timestamp::now(),
        };
        daemon.take_probe(&report);
    }
    let state = lab.store().load().unwrap().state;
    assert_eq!(daemon.wishes(&state).colors.len(), 1);
    // a command beside the daemon comes first
    let mut beside = lab.controller();
    ask(&mut beside, &switch(Color::Green)).await.unwrap();
    let mut forced = switch(Color::Blue);
    forced.force = true;
    ask(&mut beside, &forced).await.unwrap();
    let before = lab.store().load().unwrap().state;
    daemon
        .grant(crate::balancer::Foreign::Replace)
        .await
        .unwrap();
    assert_eq!(lab.store().load().unwrap().state, before);
    let shop = &before.services[&"shop".parse().unwrap()];
    assert_eq!((shop.forced, shop.overlay), (Some(Color::Blue), None));
}

#[tokio::test]
async fn health_that_a_gate_finds_is_heeded_at_once() {
    let lab = Lab::with(dead_server(), healthy_server());
    let (handle, task) = daemon(&lab).await;
    lab.probed(&handle, Color::Blue, fail()).await;
    lab.probed(&handle, Color::Blue, fail()).await;
    lab.fake.then([Ending::Unchanged]);
    handle.change(switch(Color::Green)).await.unwrap_err();
    let begin = std::time::Instant::now();
    until(&handle, |status| {
        status.services[0].overlay == Some(Color::Green)
    })
    .await;
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "not before the next look"
    );
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Blue, Some(Color::Green))
    );
    drop(handle);
    task.await.unwrap();
}
