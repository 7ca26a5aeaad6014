//! The daemon's controller: what goes on beside what, and what it does by itself.

use super::*;

/// For a machine that does much else besides.
pub(super) const SOON: Duration = Duration::from_mins(1);

/// A second service, to be put behind the first.
const BLOG: &str = "  blog:\n    listen: 127.0.0.1:8081\n    blue: { servers: [\"http://127.0.0.1:9\"] }\n    green: { servers: [\"http://127.0.0.1:10\"] }\n";

pub(super) fn pass() -> ProbeOutcome {
    ProbeOutcome::Pass { version: None }
}

pub(super) fn fail() -> ProbeOutcome {
    ProbeOutcome::Fail(ProbeFailure::Refused)
}

impl Lab {
    /// A probe of the only server of `color` ended like this.
    pub(super) async fn probed(&self, handle: &Handle, color: Color, outcome: ProbeOutcome) {
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
    pub(super) async fn blue_dies(&self, handle: &Handle) {
        self.probed(handle, Color::Green, pass()).await;
        self.probed(handle, Color::Blue, fail()).await;
        self.probed(handle, Color::Blue, fail()).await;
    }
}

/// A daemon that has its first proof.
pub(super) async fn daemon(lab: &Lab) -> (Handle, tokio::task::JoinHandle<()>) {
    let (handle, task) = spawn(lab.controller()).await.unwrap();
    let mut proof = handle.proof();
    let seen = proof.wait_for(|proof| *proof == Proof::Seen);
    tokio::time::timeout(SOON, seen).await.unwrap().unwrap();
    (handle, task)
}

/// Waits until the status is like this.
pub(super) async fn until(handle: &Handle, mut is: impl FnMut(&Status) -> bool) -> Status {
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

/// The configuration is edited; nothing comes of it, which is told with this word.
pub(super) async fn is_edited_in_vain(lab: &mut Lab, handle: &Handle, because: &str) {
    lab.more = BLOG;
    handle.fact(Fact::Config(Ok(lab.config()))).await.unwrap();
    let status = until(handle, |status| !status.problems.is_empty()).await;
    let problem = &status.problems[0];
    assert!(problem.starts_with("not in force: "), "{problem}");
    assert!(problem.contains(because), "{problem}");
    assert_eq!(status.generation, Generation(1));
}

pub(super) async fn is_taken(handle: &Handle) {
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
