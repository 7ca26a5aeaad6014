//! kill -9 at any point: what was begun is gone on with by absolute deadlines, and ends on one color.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::support::shared;

#[test]
fn a_rollout_goes_on_where_it_was_and_keeps_its_deadlines() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let id = begin(daemon.api(), &with_strategy(&json!({ "interval_sec": 4 })));
    push(daemon.api(), &id, &good());
    let before = look(daemon.api(), &id);
    daemon.kill();
    let daemon = site.serve();
    let api = daemon.api();
    let after = look(api, &id);
    assert_eq!(
        (&after["weight"], &after["until"]),
        (&before["weight"], &before["until"])
    );
    assert_eq!(after["status"], "progressing");
    let share = share_of_green(&site);
    assert!((5.0..16.0).contains(&share), "{share} % at a weight of 10");
    // the sample that was taken before counts
    let next = until(api, &id, |now| now["step"] == 1);
    assert_eq!(next["weight"], 50);
    // a deadline that went by meanwhile is due at once
    push(api, &id, &good());
    daemon.kill();
    std::thread::sleep(Duration::from_secs(5));
    let daemon = site.serve();
    let begun = Instant::now();
    push_until(daemon.api(), &id, &good(), |now| {
        now["step"] == 2 || now["status"] == "promoted"
    });
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    // and a paused one stays paused
    let paused = steer(daemon.api(), &id, "pause");
    if paused.status == 200 {
        daemon.kill();
        let daemon = site.serve();
        assert_eq!(look(daemon.api(), &id)["status"], "paused");
        assert_eq!(steer(daemon.api(), &id, "cancel").status, 200);
        all_on(&site, Color::Blue);
    }
}

#[test]
fn killed_at_any_moment_it_ends_on_one_color_with_state_and_traffic_in_agreement() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    // from nothing to some steps of 100 ms
    for milliseconds in [0, 3, 7, 15, 40, 90, 200, 450, 900, 1_400, 2_100] {
        let daemon = healthy(&site);
        let api = daemon.api().clone();
        let was = site.recorded();
        let asking = std::thread::spawn({
            let api = api.clone();
            move || {
                // the daemon dies in the middle of it, or after it
                drop(api.try_post(
                    "/deployments",
                    &with_strategy(&json!({ "interval_sec": 1 })),
                ));
                for _ in 0..40 {
                    let Some(id) = newest(&api) else {
                        return;
                    };
                    let body = json!({ "deployment_id": id, "metrics": good() });
                    if api.try_post("/metrics", &body).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        });
        std::thread::sleep(Duration::from_millis(milliseconds));
        daemon.kill();
        asking.join().unwrap();
        let daemon = healthy(&site);
        let api = daemon.api();
        if let Some(id) = newest(api) {
            let before = look(api, &id);
            // the weight that it says is in force is in force
            let status = api.get("/orchestration/status").json();
            let candidate = before["candidate"].as_str().unwrap();
            if before["phase"] == "observing" {
                assert_eq!(
                    status["weights"][candidate], before["weight"],
                    "after {milliseconds} ms: {before}"
                );
            }
            let over = push_until(api, &id, &good(), |now| {
                matches!(
                    now["status"].as_str(),
                    Some("promoted" | "cancelled" | "rolled_back")
                )
            });
            let on = if over["status"] == "promoted" {
                candidate.parse().unwrap()
            } else {
                was
            };
            all_on(&site, on);
        } else {
            all_on(&site, was);
        }
        daemon.stop();
        // its files tell nothing of it to the next round
        drop(std::fs::remove_dir_all(site.state_dir().join("rollouts")));
    }
}

fn newest(api: &Api) -> Option<String> {
    let answer = api.try_get("/deployments").ok()?;
    Some(answer.json().get(0)?["id"].as_str()?.to_owned())
}
