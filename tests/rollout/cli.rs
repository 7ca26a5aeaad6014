//! `turnout canary` and the verbs that steer, with their exit codes.

use serde_json::json;

use super::*;
use crate::support::shared;

#[test]
fn the_verbs_begin_show_steer_and_end_a_rollout() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let turnout = site.turnout();
    turnout
        .run(&["canary", "start", "v2"])
        .exits(69)
        .says("start it");
    let daemon = healthy(&site);
    turnout.ok(&["canary", "list"]).says("canary start");
    let refused = turnout.run(&["pause"]).exits(1);
    refused.says("no rollout runs: `turnout canary list`");
    turnout.ok(&["canary", "start", "v2", "--dry-run"]);
    assert_eq!(daemon.api().get("/deployments").json(), json!([]));
    let start = [
        "canary",
        "start",
        "v2",
        "--initial-weight",
        "20",
        "--interval",
        "1h",
        "-m",
        "try it",
    ];
    let begun = turnout.ok(&[&start[..], &["-o", "json"]].concat()).json();
    assert_eq!(
        (&begun["weight"], &begun["message"]),
        (&json!(20), &json!("try it"))
    );
    assert!(begun["actor"].as_str().unwrap().contains("(cli"), "{begun}");
    turnout.run(&start).exits(1).says("a rollout runs");
    turnout
        .run(&["switch", "green"])
        .exits(1)
        .says("turnout abort");
    let id = begun["id"].as_str().unwrap();
    turnout.ok(&["canary", "list"]).says(id);
    turnout.ok(&["canary", "show"]).says("20%");
    turnout.ok(&["canary", "show", "shop"]).says(id);
    turnout
        .ok(&["canary", "show", id, "-o", "json"])
        .says("\"policy\"");
    turnout.run(&["canary", "show", "nothing"]).exits(1);
    turnout.ok(&["pause", "-m", "lunch"]).says("Paused");
    turnout.ok(&["resume"]).says("Progressing");
    turnout.ok(&["abort", "--dry-run"]);
    assert_eq!(look(daemon.api(), id)["status"], "progressing");
    turnout.ok(&["abort", "shop"]).says("Cancelled");
    all_on(&site, Color::Blue);
    turnout.run(&["canary", "show", id, "-w"]).exits(1);
    let refused = daemon
        .api()
        .post(&format!("/deployments/{id}/promote"), &json!({}));
    assert_eq!(refused.status, 409);
    let text = refused.text();
    assert!(
        text.contains("`turnout canary start` begins another"),
        "{text}"
    );
    turnout.ok(&["canary", "report", id]).says("cancelled");
    let page = site.folder().join("report.html");
    turnout.ok(&["canary", "report", id, "--html", page.to_str().unwrap()]);
    assert!(
        std::fs::read_to_string(page)
            .unwrap()
            .starts_with("<!doctype html>")
    );
    // one that is to be promoted by hand
    turnout.ok(&["canary", "start", "v3", "--interval", "1h"]);
    turnout.ok(&["promote", "-o", "json"]).says("promoted");
    all_on(&site, Color::Green);
    turnout.ok(&["canary", "show", "-w"]).says("Promoted");
    let actions = turnout.ok(&["history", "-o", "json"]).json();
    let actions: Vec<_> = actions
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].clone())
        .collect();
    for action in ["rollout", "pause", "resume", "rollback", "promote"] {
        assert!(actions.contains(&json!(action)), "{action} in {actions:?}");
    }
}

#[test]
fn whoever_waits_hears_by_the_exit_code_that_it_was_rolled_back() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            site.turnout().run(&[
                "canary",
                "start",
                "v2",
                "--interval",
                "1s",
                "--min-requests",
                "10",
                "--min-samples",
                "1",
                "--max-consecutive-failures",
                "0",
                "--wait",
            ])
        });
        let api = daemon.api();
        let id = wait_for("the rollout", SOON, || {
            api.get("/deployments").json().get(0)?["id"]
                .as_str()
                .map(str::to_owned)
        });
        push_until(api, &id, &bad(), |now| now["status"] == "rolled_back");
        waiting.join().unwrap()
    });
    waiting.exits(3).says("Rolled back");
}

#[test]
fn without_a_daemon_the_way_back_ends_a_rollout_on_nginx() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let daemon = healthy(&site);
    let id = begin(daemon.api(), &quick());
    daemon.kill();
    let turnout = site.turnout();
    turnout
        .run(&["switch", "green"])
        .exits(1)
        .says("a rollout runs");
    turnout.ok(&["canary", "list"]).says(&id);
    turnout.ok(&["abort"]);
    all_on(&site, Color::Blue);
    let daemon = site.serve();
    let over = until(daemon.api(), &id, |now| now["status"] == "cancelled");
    assert_eq!(over["weight"], 0);
}

#[test]
fn without_a_daemon_an_abort_leaves_a_version_that_was_promoted_where_it_is() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let daemon = healthy(&site);
    let id = begin(daemon.api(), &quick());
    assert_eq!(steer(daemon.api(), &id, "promote").status, 200);
    daemon.kill();
    // the cleanup of a pipeline
    for abort in [&["abort"][..], &["abort", "shop"], &["abort", "--dry-run"]] {
        let refused = site.turnout().run(abort);
        refused.exits(1).says("no rollout runs on shop");
    }
    all_on(&site, Color::Green);
}
