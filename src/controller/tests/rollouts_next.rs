//! A new version in the middle of a rollout: what it supersedes is ended only where nothing known keeps the new one from beginning.

use std::sync::atomic::{AtomicBool, Ordering};

use super::rollouts::{ask, begin, probed_daemon, request, until_it};
use super::*;

fn next(lock_wait: Duration) -> RolloutRequest {
    let what = RolloutVerb::Begin(Box::new(BeginRollout {
        new_version: "v3".to_owned(),
        other: OtherRollout::Superseded,
        ..ask()
    }));
    RolloutRequest {
        lock_wait,
        ..request(what)
    }
}

/// A server that is well until it is told otherwise.
fn server() -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let is_well = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_well);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let status = if told.load(Ordering::SeqCst) {
                200
            } else {
                500
            };
            if stream.read(&mut head).is_ok() {
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
                );
                // a client that has gone away is no matter
                drop(stream.write_all(answer.as_bytes()));
            }
        }
    });
    (address, is_well)
}

#[tokio::test]
async fn one_that_cannot_begin_leaves_the_one_that_runs_alone() {
    let (green, is_well) = server();
    let lab = Lab::with(healthy_server(), green);
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    is_well.store(false, Ordering::SeqCst);
    let error = handle.rollout(next(Duration::ZERO)).await.unwrap_err();
    assert!(
        matches!(
            error,
            RolloutError::Change(ChangeError::Unhealthy {
                color: Color::Green,
                ..
            })
        ),
        "{error:?}"
    );
    is_well.store(true, Ordering::SeqCst);
    // nor does one that cannot be written down
    let folder = lab.store().dir().join("rollouts");
    let aside = lab.store().dir().join("aside");
    std::fs::rename(&folder, &aside).unwrap();
    std::fs::write(&folder, "").unwrap();
    let error = handle.rollout(next(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(error, RolloutError::Store(_)), "{error:?}");
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&aside, &folder).unwrap();
    let runs = handle.rollout_of(&id).unwrap();
    assert!(!runs.status.is_over(), "{}", runs.reason);
    assert_eq!(runs.weight.to_string(), "10");
    let kept = lab.store().load_rollouts().unwrap();
    assert_eq!(kept.records.len(), 1);
    let begun = handle.rollout(next(Duration::ZERO)).await.unwrap();
    assert_eq!(begun.new_version, "v3");
}

#[tokio::test]
async fn one_whose_predecessor_is_not_back_in_time_says_so_and_is_none() {
    let lab = Lab::new();
    let handle = probed_daemon(&lab).await;
    let id = begin(&handle).await;
    lab.fake.then([Ending::Unreachable]);
    let text = handle
        .rollout(next(Duration::from_millis(100)))
        .await
        .unwrap_err()
        .to_string();
    let begins = format!(
        "v3 was not begun: the rollout {id} before it is on its way back and not there yet ("
    );
    assert!(text.starts_with(&begins), "{text}");
    let over = until_it(&handle, &id, |now| now.status.is_over()).await;
    assert_eq!(over.status, RolloutStanding::Cancelled);
    assert_eq!(lab.store().load_rollouts().unwrap().records.len(), 1);
}
