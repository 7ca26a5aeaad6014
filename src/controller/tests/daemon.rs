//! The daemon's controller: what goes on beside what, and what it does by itself.

use super::*;

/// For a machine that does much else besides.
const SOON: Duration = Duration::from_mins(1);

fn pass() -> ProbeOutcome {
    ProbeOutcome::Pass { version: None }
}

fn fail() -> ProbeOutcome {
    ProbeOutcome::Fail(ProbeFailure::Refused)
}

impl Lab {
    /// A probe of the only server of `color` ended like this.
    async fn probed(&self, handle: &Handle, color: Color, outcome: ProbeOutcome) {
        let address = match color {
            Color::Blue => self.blue,
            Color::Green => self.green,
        };
        let report = crate::probe::Report {
            service: "shop".parse().unwrap(),
            color,
            server: format!("http://{address}").parse().unwrap(),
            outcome,
            at: jiff::Timestamp::now(),
        };
        handle.fact(Fact::Probed(report)).await.unwrap();
    }

    /// Blue is down and green is up, as far as probes can tell.
    async fn blue_dies(&self, handle: &Handle) {
        self.probed(handle, Color::Green, pass()).await;
        self.probed(handle, Color::Blue, fail()).await;
        self.probed(handle, Color::Blue, fail()).await;
    }
}

/// A daemon that has its first proof.
async fn daemon(lab: &Lab) -> (Handle, tokio::task::JoinHandle<()>) {
    let (handle, task) = spawn(lab.controller()).await.unwrap();
    let mut proof = handle.proof();
    let seen = proof.wait_for(|proof| *proof == Proof::Seen);
    tokio::time::timeout(SOON, seen).await.unwrap().unwrap();
    (handle, task)
}

/// Waits until the status is like this.
async fn until(handle: &Handle, mut is: impl FnMut(&Status) -> bool) -> Status {
    let mut status = handle.watch();
    let found = status.wait_for(|status| is(status));
    let status = tokio::time::timeout(SOON, found).await;
    Status::clone(
        &status
            .expect("the status does not become like that")
            .unwrap(),
    )
}

fn drained(to: Color) -> Request {
    Request {
        wait_drained: true,
        ..switch(to)
    }
}

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
async fn a_wait_for_a_drain_holds_up_nothing_else() {
    let lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    lab.fake.keep_busy(Color::Blue);
    let wait = || {
        tokio::spawn({
            let handle = handle.clone();
            async move { handle.change(drained(Color::Green)).await }
        })
    };
    let first = wait();
    until(&handle, |status| status.services[0].active == Color::Green).await;
    // a second one waits beside it
    let second = wait();
    // probes are heard and failover is made meanwhile, and other commands too
    lab.probed(&handle, Color::Blue, pass()).await;
    lab.probed(&handle, Color::Green, fail()).await;
    lab.probed(&handle, Color::Green, fail()).await;
    until(&handle, |status| {
        status.services[0].overlay == Some(Color::Blue)
    })
    .await;
    lab.probed(&handle, Color::Green, pass()).await;
    until(&handle, |status| status.services[0].overlay.is_none()).await;
    let verified = tokio::time::timeout(Duration::from_secs(2), handle.verify());
    assert_eq!(verified.await.unwrap().unwrap().drift, []);
    assert!(!first.is_finished() && !second.is_finished());
    lab.fake.finish(Color::Blue);
    let first = tokio::time::timeout(SOON, first)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let second = tokio::time::timeout(SOON, second)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    for outcome in [first, second] {
        assert_eq!(outcome.service.unwrap().active, Color::Green);
    }
    assert_eq!(lab.active(), Color::Green);
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn a_drain_that_does_not_end_is_told_and_the_switch_stays() {
    let mut lab = Lab::new();
    lab.more = "    timeouts: { drain: 10ms }\n";
    let (handle, task) = daemon(&lab).await;
    lab.fake.keep_busy(Color::Blue);
    let error = handle.change(drained(Color::Green)).await.unwrap_err();
    let said = error.to_string();
    let ChangeError::NotDrained {
        color: Color::Blue, ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert!(
        said.contains("shop was switched, which is proved and recorded"),
        "{said}"
    );
    assert!(said.contains("blue is not drained: 1 request"), "{said}");
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Green, Some(Color::Green))
    );
    drop(handle);
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

/// A second service, to be put behind the first.
const BLOG: &str = "  blog:\n    listen: 127.0.0.1:8081\n    blue: { servers: [\"http://127.0.0.1:9\"] }\n    green: { servers: [\"http://127.0.0.1:10\"] }\n";

/// The configuration is edited; nothing comes of it, which is told with this word.
async fn is_edited_in_vain(lab: &mut Lab, handle: &Handle, because: &str) {
    lab.more = BLOG;
    handle.fact(Fact::Config(Ok(lab.config()))).await.unwrap();
    let status = until(handle, |status| !status.problems.is_empty()).await;
    let problem = &status.problems[0];
    assert!(problem.starts_with("not in force: "), "{problem}");
    assert!(problem.contains(because), "{problem}");
    assert_eq!(status.generation, Generation(1));
}

async fn is_taken(handle: &Handle) {
    let status = until(handle, |status| status.generation > Generation(1)).await;
    assert_eq!((status.services.len(), status.problems.len()), (2, 0));
}

#[tokio::test]
async fn a_configuration_edited_while_the_balancer_is_down_is_taken_when_it_is_back() {
    let mut lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    let served = futures_now(crate::balancer::Balancer::observe(&lab.fake)).served;
    lab.fake.serve(Served::Unreachable {
        reason: "nginx is not running".to_owned(),
    });
    is_edited_in_vain(&mut lab, &handle, "nginx is not running").await;
    lab.fake.serve(served);
    is_taken(&handle).await;
    drop(handle);
    task.await.unwrap();
}

#[tokio::test]
async fn a_configuration_edited_while_the_lock_is_held_is_taken_when_it_is_free() {
    let mut lab = Lab::new();
    let (handle, task) = daemon(&lab).await;
    let holder = crate::store::Holder::current("somebody else", None);
    let lock = lab.store().lock(holder, Duration::ZERO).await.unwrap();
    is_edited_in_vain(&mut lab, &handle, "somebody else").await;
    drop(lock);
    is_taken(&handle).await;
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
    assert_eq!(daemon.wishes(&state).len(), 1);
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
