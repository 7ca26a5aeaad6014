//! The whole way on the embedded proxy: promoted, rolled back, paused, cancelled, held, superseded.

use serde_json::json;

use super::*;
use crate::support::shared;

#[test]
fn a_candidate_that_pleases_gets_more_at_each_step_and_becomes_active() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let api = daemon.api();
    let id = begin(api, &quick());
    let begun = look(api, &id);
    assert_eq!(
        (
            &begun["status"],
            &begun["weight"],
            &begun["step"],
            &begun["candidate"]
        ),
        (
            &json!("progressing"),
            &json!(10),
            &json!(0),
            &json!("green")
        )
    );
    let share = share_of_green(&site);
    assert!((5.0..16.0).contains(&share), "{share} % at a weight of 10");
    let status = api.get("/orchestration/status").json();
    assert_eq!(
        (&status["strategy"], &status["active"]),
        (&json!("canary"), &json!("blue"))
    );
    assert_eq!(status["weights"], json!({ "blue": 90, "green": 10 }));
    assert_eq!(status["rollout"]["id"], json!(id));
    let second = push_until(api, &id, &good(), |now| now["step"] == 1);
    assert_eq!(second["weight"], 50);
    let share = share_of_green(&site);
    assert!((40.0..60.0).contains(&share), "{share} % at a weight of 50");
    let over = push_until(api, &id, &good(), |now| now["status"] == "promoted");
    assert_eq!(
        (&over["weight"], &over["phase"]),
        (&json!(100), &json!("over"))
    );
    all_on(&site, Color::Green);
    let status = api.get("/orchestration/status").json();
    assert_eq!(
        (&status["strategy"], &status["previous"]),
        (&json!("blue_green"), &json!("blue"))
    );
    // every verdict is kept, with the figure that it rests on
    let verdicts = over["verdicts"].as_array().unwrap();
    assert!(
        verdicts
            .iter()
            .any(|verdict| verdict["decision"] == "advance")
    );
    assert!(
        verdicts
            .iter()
            .all(|verdict| !verdict["reason"].as_str().unwrap().is_empty())
    );
    let all = api.get("/deployments").json();
    assert_eq!(all.as_array().unwrap().len(), 1);
    // what is over takes nothing more
    assert_eq!(steer(api, &id, "cancel").status, 409);
    let late = api.post(
        "/metrics",
        &json!({ "deployment_id": id, "metrics": good() }),
    );
    assert_eq!(late.status, 409, "{}", late.text());
    // and the way back is the usual one
    assert_eq!(api.post("/orchestration/rollback", &json!({})).status, 200);
    all_on(&site, Color::Blue);
}

#[test]
fn a_candidate_that_fails_is_taken_back_and_stays_away() {
    let _turn = shared();
    let site = Site::embedded("canary");
    let daemon = healthy(&site);
    let api = daemon.api();
    let id = begin(api, &quick());
    let over = push_until(api, &id, &bad(), |now| now["status"] == "rolled_back");
    assert_eq!(
        (&over["weight"], &over["phase"]),
        (&json!(0), &json!("over"))
    );
    all_on(&site, Color::Blue);
    let status = api.get("/orchestration/status").json();
    assert_eq!(status["strategy"], "canary");
    let last = over["verdicts"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["decision"], "roll_back");
    assert_eq!(over["reason"], last["reason"]);
    let history = site.turnout().ok(&["history", "-o", "json"]).json();
    let actions: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].clone())
        .collect();
    assert!(
        actions.contains(&json!("rollout")) && actions.contains(&json!("rollback")),
        "{actions:?}"
    );
}

#[test]
fn a_paused_one_stays_until_it_is_resumed_and_a_promoted_one_waits_for_nothing() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let api = daemon.api();
    let id = begin(api, &quick());
    let answer = api.post(
        &format!("/deployments/{id}/pause"),
        &json!({ "message": "lunch" }),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["status"], "paused");
    assert!(answer.json()["reason"].as_str().unwrap().contains("lunch"));
    // it is judged, and does not move
    let seen = push_until(api, &id, &good(), |now| {
        now["verdicts"].as_array().unwrap().len() >= 3
    });
    assert_eq!(
        (&seen["status"], &seen["weight"]),
        (&json!("paused"), &json!(10))
    );
    assert_eq!(steer(api, &id, "resume").status, 200);
    push_until(api, &id, &good(), |now| now["step"] == 1);
    let promoted = steer(api, &id, "promote");
    assert_eq!(promoted.status, 200, "{}", promoted.text());
    assert_eq!(promoted.json()["status"], "promoted");
    all_on(&site, Color::Green);
}

#[test]
fn a_cancelled_one_is_over_when_everything_is_back() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let api = daemon.api();
    let id = begin(api, &quick());
    let cancelled = steer(api, &id, "cancel");
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    assert_eq!(
        (&cancelled.json()["status"], &cancelled.json()["weight"]),
        (&json!("cancelled"), &json!(0))
    );
    all_on(&site, Color::Blue);
}

#[test]
fn without_data_it_holds_and_says_so_and_goes_on_when_there_is_some() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let api = daemon.api();
    let id = begin(api, &quick());
    let held = until(api, &id, |now| {
        now["verdicts"].as_array().unwrap().len() >= 3
    });
    assert_eq!(
        (&held["status"], &held["weight"]),
        (&json!("holding"), &json!(10))
    );
    assert!(!held["reason"].as_str().unwrap().is_empty());
    // little of it is not enough
    push(api, &id, &json!({ "requests": 9, "errors": 9 }));
    let more = until(api, &id, |now| {
        now["verdicts"].as_array().unwrap().len() >= 5
    });
    assert_eq!(more["status"], "holding", "{more}");
    push(api, &id, &json!({ "requests": 10_000, "errors": 0 }));
    push_until(api, &id, &good(), |now| now["step"] == 1);
}

#[test]
fn another_version_is_refused_unless_it_supersedes() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let api = daemon.api();
    let first = begin(api, &quick());
    let mut next = quick();
    next["new_version"] = json!("v3");
    let refused = api.post("/deployments", &next);
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains(&first), "{}", refused.text());
    next["supersede"] = json!(true);
    let second = begin(api, &next);
    let over = look(api, &first);
    assert_eq!(over["status"], "cancelled");
    assert!(
        over["reason"].as_str().unwrap().contains("superseded"),
        "{over}"
    );
    let all = api.get("/deployments").json();
    let ids: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].clone())
        .collect();
    assert_eq!(ids, [json!(second), json!(first)]);
}

#[test]
fn other_moves_are_refused_amid_a_rollout_and_the_way_back_ends_it() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let api = daemon.api();
    let id = begin(api, &quick());
    for (path, body) in [
        (
            "/orchestration/bluegreen/activate",
            json!({ "active": "green" }),
        ),
        (
            "/orchestration/canary/weights",
            json!({ "blue": 50, "green": 50 }),
        ),
        (
            "/orchestration/canary/shift",
            json!({ "delta": 5, "towards": "green" }),
        ),
        (
            "/orchestration/strategy",
            json!({ "strategy": "blue_green" }),
        ),
    ] {
        let refused = api.post(path, &body);
        assert_eq!(refused.status, 409, "{path}: {}", refused.text());
        assert!(refused.text().contains(&id), "{path}: {}", refused.text());
    }
    assert_eq!(look(api, &id)["status"], "progressing");
    let back = api.post("/orchestration/rollback", &json!({}));
    assert_eq!(back.status, 200, "{}", back.text());
    assert_eq!(back.json()["strategy"], "blue_green");
    let over = look(api, &id);
    assert_eq!(
        (&over["status"], &over["weight"]),
        (&json!("cancelled"), &json!(0))
    );
    assert!(
        over["reason"].as_str().unwrap().contains("rollback"),
        "{over}"
    );
    all_on(&site, Color::Blue);
    // and so does a switch that is forced
    let id = begin(api, &quick());
    let forced = api.post(
        "/orchestration/bluegreen/activate",
        &json!({ "active": "green", "force": true }),
    );
    assert_eq!(forced.status, 200, "{}", forced.text());
    let over = look(api, &id);
    assert_eq!(
        (&over["status"], &over["weight"]),
        (&json!("cancelled"), &json!(100))
    );
    all_on(&site, Color::Green);
}
