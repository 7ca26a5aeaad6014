//! What is not taken: bodies that do not fit, ids of nothing, a candidate that is down, traffic that is not at rest.

use serde_json::json;

use super::*;
use crate::support::{Mode, shared};

#[test]
fn bodies_that_do_not_fit_are_refused_and_nothing_begins() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let api = daemon.api();
    let with = |path: &[&str], value: Value| {
        let mut body = quick();
        match path {
            [one] => body[one] = value,
            [one, two] => body[one][two] = value,
            other => panic!("{other:?}"),
        }
        body
    };
    for (body, status, word) in [
        (json!({}), 422, "new_version"),
        (json!([]), 422, "object"),
        (with(&["service_name"], json!("nobody")), 404, "nobody"),
        (with(&["new_version"], json!(7)), 422, "new_version"),
        (with(&["colour"], json!("green")), 422, "colour"),
        (
            with(&["strategy", "initial_weight"], json!(100)),
            422,
            "initial_weight",
        ),
        (
            with(&["strategy", "initial_weight"], json!(-1)),
            422,
            "initial_weight",
        ),
        (
            with(&["strategy", "step_weight"], json!(0)),
            422,
            "step_weight",
        ),
        (
            with(&["strategy", "interval_sec"], json!(0)),
            422,
            "interval_sec",
        ),
        (
            with(&["strategy", "interval_sec"], json!(1e99)),
            422,
            "interval_sec",
        ),
        (with(&["strategy", "max_steps"], json!(0)), 422, "max_steps"),
        (
            with(&["policy", "max_error_rate"], json!(2)),
            422,
            "max_error_rate",
        ),
        (
            with(&["policy", "max_error_rate"], json!("1%")),
            422,
            "max_error_rate",
        ),
        (
            with(&["policy", "min_samples"], json!(-3)),
            422,
            "min_samples",
        ),
        (with(&["policy", "max_errors"], json!(1)), 422, "max_errors"),
        (with(&["judge"], json!("sequential")), 422, "sequential"),
        (with(&["source"], json!("prometheus")), 422, "prometheus"),
    ] {
        let answer = api.post("/deployments", &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().contains(word), "{body}: {}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    assert_eq!(api.get("/deployments").json(), json!([]));
    all_on(&site, Color::Blue);
}

#[test]
fn ids_of_nothing_are_404_and_samples_that_cannot_be_true_are_422() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site);
    let api = daemon.api();
    let nobody = "3f2b8c1e-9d40-4a7e-8f55-6c1d2e3f4a5b";
    for id in [nobody, "nothing", "..%2f..%2fstate.json"] {
        assert_eq!(api.get(&format!("/deployments/{id}")).status, 404, "{id}");
        for verb in ["cancel", "pause", "resume", "promote"] {
            assert_eq!(steer(api, id, verb).status, 404, "{id} {verb}");
        }
        let body = json!({ "deployment_id": id, "metrics": good() });
        assert_eq!(api.post("/metrics", &body).status, 404, "{id}");
    }
    let id = begin(api, &quick());
    for metrics in [
        json!({}),
        json!({ "requests": 1, "errors": 2 }),
        json!({ "requests": -1, "errors": 0 }),
        json!({ "requests": 1.5, "errors": 0 }),
        json!({ "requests": 1, "errors": 0, "availability": 99.9 }),
        json!({ "requests": 1, "errors": 0, "latency_p95_ms": -1 }),
        json!({ "requests": 1, "errors": 0, "latency": 1 }),
        json!({ "requests": 1, "errors": 0, "cpu_utilization": "high" }),
    ] {
        let body = json!({ "deployment_id": id, "metrics": metrics });
        let answer = api.post("/metrics", &body);
        assert_eq!(answer.status, 422, "{metrics}: {}", answer.text());
    }
    // the page of metrics is at the same path
    assert!(api.get("/metrics").text().contains("turnout_weight_ratio"));
}

#[test]
fn a_candidate_that_is_down_gets_nothing_and_no_rollout_is_left_of_it() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = healthy(&site).allow("server is unhealthy");
    let api = daemon.api();
    site.green.set(Mode::Status(500));
    let refused = api.post("/deployments", &quick());
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("unhealthy"), "{}", refused.text());
    assert_eq!(api.get("/deployments").json(), json!([]));
    all_on(&site, Color::Blue);
}

#[test]
fn traffic_that_is_divided_by_hand_is_no_place_to_begin() {
    let _turn = shared();
    let site = Site::embedded("canary");
    let daemon = healthy(&site);
    let api = daemon.api();
    let weights = api.post(
        "/orchestration/canary/weights",
        &json!({ "blue": 80, "green": 20 }),
    );
    assert_eq!(weights.status, 200, "{}", weights.text());
    let refused = api.post("/deployments", &quick());
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("divided"), "{}", refused.text());
}
