//! Rollouts that are judged by a source: what is not known is a hold, and nothing goes back to where nobody serves.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::daemon::{fail, pass, until};
use super::rollouts::{ask, request, until_it};
use super::*;
use crate::domain::{Arm, CanarySource, JudgeKind, Paired, Sample};

/// What a source says, one of these at a time.
#[derive(Clone, Default)]
struct Says {
    what: Arc<AtomicUsize>,
    /// How often it was asked.
    asked: Arc<AtomicUsize>,
}

const GOOD: usize = 0;
const BAD: usize = 1;
const NOTHING: usize = 2;

impl Says {
    fn now_say(&self, what: usize) {
        self.what.store(what, Ordering::SeqCst);
    }

    /// What both colors did since then.
    fn feed(&self) -> Feed {
        let says = self.clone();
        Feed::new(move |look| {
            let what = says.what.load(Ordering::SeqCst);
            says.asked.fetch_add(1, Ordering::SeqCst);
            async move {
                let arm = |errors| Arm {
                    requests: 1_000,
                    errors,
                    slow: 0,
                };
                match what {
                    NOTHING => Err("connection refused".to_owned()),
                    _ => Ok(vec![Paired {
                        from: look.since,
                        to: jiff::Timestamp::now(),
                        stable: arm(0),
                        candidate: arm(if what == BAD { 500 } else { 0 }),
                    }]),
                }
            }
        })
    }
}

/// A daemon that is fed so, and a rollout of intervals of so many seconds.
async fn fed(lab: &Lab, seconds: u32) -> (Handle, Says, RolloutId) {
    let says = Says::default();
    let controller = lab.controller().fed_by(says.feed());
    let (handle, _) = spawn(controller).await.unwrap();
    let mut proof = handle.proof();
    let seen = proof.wait_for(|proof| *proof == Proof::Seen);
    drop(
        tokio::time::timeout(super::daemon::SOON, seen)
            .await
            .unwrap()
            .unwrap(),
    );
    lab.probed(&handle, Color::Blue, pass()).await;
    lab.probed(&handle, Color::Green, pass()).await;
    let mut begin = ask();
    begin.terms.source = Some(CanarySource::Traffic);
    begin.terms.judge = Some(JudgeKind::Sequential);
    begin.terms.strategy.interval_sec = Some(seconds);
    begin.terms.policy.burst_sec = Some(1);
    let begun = handle.rollout(request(RolloutVerb::Begin(Box::new(begin))));
    let id = begun.await.unwrap().id.clone();
    (handle, says, id)
}

#[tokio::test]
async fn nothing_goes_back_to_a_stable_color_without_a_healthy_server_until_it_has_one() {
    let lab = Lab::new();
    let (handle, says, id) = fed(&lab, 4).await;
    for _ in 0..2 {
        lab.probed(&handle, Color::Blue, fail()).await;
    }
    until(&handle, |status| {
        status.services[0].overlay == Some(Color::Green)
    })
    .await;
    says.now_say(BAD);
    // four looks are made before this
    let held = until_it(&handle, &id, |now| !now.verdicts.is_empty()).await;
    assert_eq!(held.status, RolloutStanding::Holding, "{}", held.reason);
    assert!(
        held.reason.contains("no server of blue is healthy"),
        "{}",
        held.reason
    );
    assert_eq!(lab.served(), Some(Color::Green));
    for _ in 0..2 {
        lab.probed(&handle, Color::Blue, pass()).await;
    }
    let over = until_it(&handle, &id, |now| now.status.is_over()).await;
    assert_eq!(over.status, RolloutStanding::RolledBack, "{}", over.reason);
    assert_eq!(lab.served(), Some(Color::Blue));
}

#[tokio::test]
async fn a_source_that_dies_amid_an_interval_is_told_at_once_and_so_is_that_it_is_back() {
    let lab = Lab::new();
    let (handle, says, id) = fed(&lab, 60).await;
    let before = handle.rollout_of(&id).unwrap();
    says.now_say(NOTHING);
    let held = until_it(&handle, &id, |now| now.status == RolloutStanding::Holding).await;
    assert_eq!(
        (held.reason.as_str(), held.until),
        ("connection refused", before.until)
    );
    // the list of what a person should know has it too
    let problem =
        format!("rollout: {id} holds: the figures of shop cannot be had: connection refused");
    until(&handle, |status| status.problems.contains(&problem)).await;
    says.now_say(GOOD);
    let back = until_it(&handle, &id, |now| {
        now.status == RolloutStanding::Progressing
    })
    .await;
    assert_eq!(
        (back.reason.as_str(), back.until),
        ("the source of its figures is back", before.until)
    );
    until(&handle, |status| status.problems.is_empty()).await;
    says.now_say(NOTHING);
    until_it(&handle, &id, |now| now.status == RolloutStanding::Holding).await;
    let cancel = request(RolloutVerb::Cancel(id.clone()));
    handle.rollout(cancel).await.unwrap();
    until(&handle, |status| status.problems.is_empty()).await;
}

#[tokio::test]
async fn what_was_seen_since_the_last_verdict_is_on_disk_at_the_end_of_the_daemon() {
    let lab = Lab::new();
    // looked at each ten seconds, and judged after a minute
    let (handle, says, _) = fed(&lab, 60).await;
    let begun = std::time::Instant::now();
    let counts = || lab.store().load_rollouts().unwrap().records[0].counts.len();
    // the second look is made after the first was seen
    while says.asked.load(Ordering::SeqCst) < 2 {
        assert!(begun.elapsed() < super::daemon::SOON);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(counts(), 0);
    drop(handle);
    while counts() == 0 {
        assert!(begun.elapsed() < super::daemon::SOON, "it is lost");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_traffic_of_a_service_that_is_not_counted_judges_no_rollout() {
    let mut lab = Lab::new();
    lab.more = "    metrics: false\n";
    let (handle, _) = super::daemon::daemon(&lab).await;
    let mut begin = ask();
    begin.terms.source = Some(CanarySource::Traffic);
    let begin = request(RolloutVerb::Begin(Box::new(begin)));
    let text = handle.rollout(begin).await.unwrap_err().to_string();
    assert_eq!(
        text,
        "source: traffic cannot tell how shop does: `services.shop.metrics: false` says that its requests are not counted (`true` \
         counts them); push samples (source: pushed), or name a Prometheus"
    );
}

#[tokio::test]
async fn a_source_says_before_a_rollout_begins_whether_waiting_helps() {
    for passes in [Passes::Later, Passes::Never] {
        let mut lab = Lab::new();
        lab.more = "    canary: { source: { prometheus: { url: \"http://127.0.0.1:9\", queries: { requests: 'r{c=\"{{color}}\"}', errors: 'e{c=\"{{color}}\"}' } } } }\n";
        let feed = Feed::new(move |_| async move {
            Err(Silence {
                why: "it tells nothing".to_owned(),
                passes,
            })
        });
        let (handle, _) = spawn(lab.controller().fed_by(feed)).await.unwrap();
        let begin = request(RolloutVerb::Begin(Box::new(ask())));
        let error = handle.rollout(begin).await.unwrap_err();
        assert!(
            matches!(&error, RolloutError::NoFigures { why, passes: said, .. } if why == "it tells nothing" && *said == passes),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn pushed_samples_are_refused_where_the_figures_come_from_elsewhere() {
    let lab = Lab::new();
    let (handle, _, id) = fed(&lab, 60).await;
    let sample = Sample {
        at: jiff::Timestamp::UNIX_EPOCH,
        requests: 100_000,
        errors: 0,
        latency_p95_ms: None,
        availability: None,
        cpu_utilization: None,
    };
    let push = request(RolloutVerb::Push(id.clone(), sample));
    let text = handle.rollout(push).await.unwrap_err().to_string();
    assert_eq!(
        text,
        format!(
            "the rollout {id} is judged by source: traffic, and takes no pushed samples: begin it with source: pushed to be judged \
             by those"
        )
    );
}
