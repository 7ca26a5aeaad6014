//! `source: traffic` on the embedded proxy: judged by what clients really got, with nothing set up.

use serde_json::json;

use super::*;
use crate::support::{Mode, shared};

fn by_traffic() -> Value {
    let mut body = quick();
    body["source"] = json!("traffic");
    body["judge"] = json!("thresholds");
    body["strategy"] =
        json!({ "initial_weight": 50, "step_weight": 40, "interval_sec": 2, "max_steps": 10 });
    body["policy"] = json!({
        "max_error_rate": 0.2, "min_requests": 20, "min_samples": 1, "max_consecutive_failures": 0,
    });
    body
}

/// Asks until the rollout is like this.
fn ask_until(site: &Site, api: &Api, id: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_for("the rollout to go on", SOON, || {
        for _ in 0..20 {
            site.ask("/");
        }
        let now = look(api, id);
        is(&now).then_some(now)
    })
}

#[test]
fn what_clients_get_promotes_a_good_candidate_and_takes_back_a_bad_one() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site).allow("server is unhealthy");
    let api = daemon.api();
    let id = begin(api, &by_traffic());
    ask_until(&site, api, &id, |now| now["status"] == "promoted");
    all_on(&site, Color::Green);
    // blue is the candidate now, and fails its users while its health is fine
    let id = begin(api, &by_traffic());
    assert_eq!(look(api, &id)["candidate"], "blue");
    site.blue.set(Mode::Status(500));
    let over = ask_until(&site, api, &id, |now| now["status"] == "rolled_back");
    println!("{}", over["reason"]);
    all_on(&site, Color::Green);
}

#[test]
fn without_a_single_request_nothing_is_decided() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let api = daemon.api();
    let id = begin(api, &by_traffic());
    let held = until(api, &id, |now| {
        now["verdicts"].as_array().unwrap().len() >= 2
    });
    assert_eq!(
        (&held["status"], &held["weight"]),
        (&json!("holding"), &json!(50))
    );
    assert_eq!(steer(api, &id, "cancel").status, 200);
    all_on(&site, Color::Blue);
}
