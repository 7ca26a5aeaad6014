//! Rollouts from the outside: the API as seed 001 has it, weights that are really in force, and what is left of it all after
//! kill -9.

mod balancers;
mod cli;
mod first;
mod hosts;
mod kills;
mod prometheus;
mod real;
mod refusals;
mod traffic;
mod users;
mod walk;
mod way_back;

use std::time::Duration;

use serde_json::{Value, json};
use turnout::domain::Color;

use crate::support::{Answer, Api, Daemon, Site, wait_for};

/// For what takes some intervals of a second.
const SOON: Duration = Duration::from_mins(1);

/// A policy that one good sample of ten requests keeps, at intervals of a second.
fn quick() -> Value {
    json!({
        "service_name": "shop", "new_version": "v2", "baseline_version": "v1",
        "strategy": { "initial_weight": 10, "step_weight": 40, "interval_sec": 1, "max_steps": 10 },
        "policy": {
            "max_error_rate": 0.01, "max_latency_p95_ms": 350, "min_availability": 0.995, "max_cpu_utilization": 0.8,
            "min_requests": 10, "min_samples": 1, "sample_window_sec": 60, "max_consecutive_failures": 0,
        },
    })
}

/// The same with a walk of its own.
fn with_strategy(strategy: &Value) -> Value {
    let mut body = quick();
    for (key, value) in strategy.as_object().unwrap() {
        body["strategy"][key] = value.clone();
    }
    body
}

fn good() -> Value {
    json!({ "requests": 100, "errors": 0, "latency_p95_ms": 120, "availability": 1, "cpu_utilization": 0.4 })
}

fn bad() -> Value {
    json!({ "requests": 100, "errors": 20, "latency_p95_ms": 120, "availability": 0.8, "cpu_utilization": 0.4 })
}

/// Begins a rollout, which must succeed; its id.
#[track_caller]
fn begin(api: &Api, body: &Value) -> String {
    let answer = api.post("/deployments", body);
    assert_eq!(answer.status, 201, "{body}: {}", answer.text());
    let rollout = answer.json();
    let id = rollout["id"].as_str().unwrap().to_owned();
    assert_eq!(
        answer.header("location"),
        Some(format!("/deployments/{id}").as_str())
    );
    id
}

#[track_caller]
fn push(api: &Api, id: &str, metrics: &Value) {
    let answer = api.post(
        "/metrics",
        &json!({ "deployment_id": id, "metrics": metrics }),
    );
    assert_eq!(answer.status, 202, "{}", answer.text());
}

#[track_caller]
fn look(api: &Api, id: &str) -> Value {
    let answer = api.get(&format!("/deployments/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Pushes the same sample again and again until the rollout is like this.
#[track_caller]
fn push_until(api: &Api, id: &str, metrics: &Value, mut is: impl FnMut(&Value) -> bool) -> Value {
    wait_for("the rollout to go on", SOON, || {
        let now = look(api, id);
        if is(&now) {
            return Some(now);
        }
        // it may be over between the two
        let body = json!({ "deployment_id": id, "metrics": metrics });
        let answer = api.post("/metrics", &body);
        assert!(matches!(answer.status, 202 | 409), "{}", answer.text());
        std::thread::sleep(Duration::from_millis(100));
        None
    })
}

#[track_caller]
fn until(api: &Api, id: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
    wait_for("the rollout to go on", SOON, || {
        let now = look(api, id);
        is(&now).then_some(now)
    })
}

#[track_caller]
fn steer(api: &Api, id: &str, verb: &str) -> Answer {
    api.post(&format!("/deployments/{id}/{verb}"), &json!({}))
}

/// Everything through the front door goes there, by twenty requests and by the state.
#[track_caller]
fn all_on(site: &Site, color: Color) {
    for _ in 0..20 {
        assert_eq!(site.served(), color);
    }
    assert_eq!(site.recorded(), color);
    assert_eq!(site.state()["services"]["shop"]["rollout"], Value::Null);
}

/// Percent of green among many users.
fn share_of_green(site: &Site) -> f64 {
    let keys: Vec<_> = (0..400).map(|number| format!("user-{number}")).collect();
    let colors = site.colors_of(&keys);
    let green = colors
        .iter()
        .filter(|color| **color == Color::Green)
        .count();
    100.0 * f64::from(u32::try_from(green).unwrap()) / 400.0
}

/// A daemon that knows both colors as healthy.
#[track_caller]
fn healthy(site: &Site) -> Daemon {
    let daemon = site.serve();
    hosts::wait_for_health(&daemon);
    daemon
}

/// Nothing happens to it any more.
fn is_over(rollout: &Value) -> bool {
    matches!(
        rollout["status"].as_str(),
        Some("promoted" | "cancelled" | "rolled_back")
    )
}

/// A moment in an answer.
fn time(place: &Value) -> jiff::Timestamp {
    place.as_str().unwrap().parse().unwrap()
}
