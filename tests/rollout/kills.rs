//! kill -9 at any point: what was begun is gone on with by absolute deadlines, and ends on one color.

use std::time::{Duration, Instant};

use serde_json::json;

use super::hosts::{Host, Kind};
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

/// A daemon killed so many milliseconds after it was asked for a rollout, each time: one color in the end.
fn killed_after(kind: Kind, moments: &[u64]) {
    let host = Host::start(kind);
    for milliseconds in moments {
        let daemon = host.healthy();
        let api = daemon.api().clone();
        let was = host.recorded();
        let asking = std::thread::spawn({
            let api = api.clone();
            move || {
                // the daemon dies in the middle of it, or after it
                drop(api.try_post(
                    "/deployments",
                    &with_strategy(&json!({ "interval_sec": 1 })),
                ));
                for _ in 0..60 {
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
        std::thread::sleep(Duration::from_millis(*milliseconds));
        daemon.kill();
        asking.join().unwrap();
        let daemon = host.healthy();
        let api = daemon.api();
        if let Some(id) = newest(api) {
            let before = look(api, &id);
            let context = format!("{kind:?}, after {milliseconds} ms: {before}");
            let candidate: Color = before["candidate"].as_str().unwrap().parse().unwrap();
            // the weight that it says is in force is in force, unless it goes a step further meanwhile
            let (share, status) = (
                host.share_of_green(),
                api.get("/orchestration/status").json(),
            );
            let after = look(api, &id);
            let is_same = ["phase", "weight"]
                .iter()
                .all(|key| after[key] == before[key]);
            if before["phase"] == "observing" && is_same {
                let weight = &before["weight"];
                assert_eq!(status["weights"][candidate.as_str()], *weight, "{context}");
                assert_share(share, candidate, weight.as_f64().unwrap(), &context);
            }
            println!(
                "{kind:?}: killed after {milliseconds} ms, then {} at {} %",
                before["phase"], before["weight"]
            );
            let over = push_until(api, &id, &good(), is_over);
            let on = if over["status"] == "promoted" {
                candidate
            } else {
                was
            };
            host.all_on(on);
        } else {
            println!("{kind:?}: killed after {milliseconds} ms, and nothing was begun");
            host.all_on(was);
        }
        daemon.stop();
        // its files tell nothing of it to the next round
        drop(std::fs::remove_dir_all(host.state_dir().join("rollouts")));
    }
}

/// What 400 users got, by the share of green among them.
#[track_caller]
fn assert_share(green: f64, candidate: Color, weight: f64, context: &str) {
    let share = match candidate {
        Color::Green => green,
        Color::Blue => 100.0 - green,
    };
    // of 400 users 7.5 points are three times the deviation at 50 %
    assert!((share - weight).abs() < 7.5, "{share} %, {context}");
}

fn newest(api: &Api) -> Option<String> {
    let answer = api.try_get("/deployments").ok()?;
    Some(answer.json().get(0)?["id"].as_str()?.to_owned())
}

#[test]
fn killed_at_any_moment_it_ends_on_one_color_with_state_and_traffic_in_agreement() {
    let _turn = shared();
    // from nothing to some steps of 100 ms
    let moments = [0, 3, 7, 15, 40, 90, 200, 450, 900, 1_400, 2_100];
    killed_after(Kind::Embedded, &moments);
}

/// Amid the first move, amid the first interval, and about at the second and the third move.
const MOMENTS: [u64; 5] = [40, 150, 600, 1_250, 2_400];

#[test]
fn killed_while_nginx_reloads_it_ends_on_one_color() {
    let _turn = shared();
    killed_after(Kind::Nginx, &MOMENTS);
}

#[test]
fn killed_beside_an_nginx_without_reloads_it_ends_on_one_color() {
    let _turn = shared();
    killed_after(Kind::NginxInstant, &MOMENTS);
}

#[test]
fn killed_beside_haproxy_it_ends_on_one_color() {
    let _turn = shared();
    killed_after(Kind::Haproxy, &MOMENTS);
}

/// kill -9 for the balancer, amid a rollout that goes well and amid one that does not: nothing is promoted without it, the reason is
/// said, and the way back is made once it is there again.
fn without_its_balancer(kind: Kind) {
    let mut host = Host::start(kind);
    let daemon = host.healthy().allow("could not be put into force");
    let api = daemon.api();
    let id = begin(api, &quick());
    host.crash();
    let held = push_until(api, &id, &good(), |now| {
        let wanted = now["verdicts"].as_array().unwrap();
        now["status"] == "holding" && wanted.iter().any(|said| said["decision"] == "advance")
    });
    println!("{kind:?} is gone: {}", held["reason"].as_str().unwrap());
    assert_eq!((&held["weight"], &held["step"]), (&json!(10), &json!(0)));
    assert!(!held["reason"].as_str().unwrap().is_empty());
    // and so it stays, whatever is tried
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        push(api, &id, &good());
        let now = look(api, &id);
        assert!(!is_over(&now) && now["weight"] == json!(10), "{now}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(host.recorded(), Color::Blue);
    host.restart();
    push_until(api, &id, &good(), |now| now["status"] == "promoted");
    host.all_on(Color::Green);

    let id = begin(api, &quick());
    host.crash();
    let returning = push_until(api, &id, &bad(), |now| now["phase"] == "returning");
    assert_eq!(returning["weight"], json!(10), "{returning}");
    host.restart();
    until(api, &id, |now| now["status"] == "rolled_back");
    host.all_on(Color::Green);
}

#[test]
fn an_nginx_that_is_gone_holds_the_rollout() {
    let _turn = shared();
    without_its_balancer(Kind::Nginx);
}

#[test]
fn an_nginx_without_reloads_that_is_gone_holds_the_rollout() {
    let _turn = shared();
    without_its_balancer(Kind::NginxInstant);
}

#[test]
fn an_haproxy_that_is_gone_holds_the_rollout() {
    let _turn = shared();
    without_its_balancer(Kind::Haproxy);
}
