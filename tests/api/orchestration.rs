//! The orchestration endpoints, one by one, on the router's own port.

use serde_json::json;
use turnout::domain::Color;

use super::{Environment, PATIENCE, ask, assert_problem};
use crate::support::{Mode, Ports, shared, wait_for};

const STRATEGY: &str = "/orchestration/strategy";
const ACTIVATE: &str = "/orchestration/bluegreen/activate";
const WEIGHTS: &str = "/orchestration/canary/weights";
const SHIFT: &str = "/orchestration/canary/shift";
const ROLLBACK: &str = "/orchestration/rollback";

#[test]
fn health_has_exactly_the_fields_of_the_contract() {
    let _turn = shared();
    let app = Environment::start();
    let answer = app.get("/health");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "status": "healthy",
            "strategy": "blue_green",
            "active": "blue",
            "weights": { "blue": 100, "green": 0 },
            "upstreams": {
                "blue": { "url": app.blue.url(), "healthy": true },
                "green": { "url": app.green.url(), "healthy": true },
            },
        })
    );
}

#[test]
fn health_is_503_when_no_color_can_serve_and_recovers_by_itself() {
    let _turn = shared();
    let app = Environment::start();
    app.green.set(Mode::Status(500));
    wait_for("green to be unhealthy", PATIENCE, || {
        let health = app.get("/health");
        (health.json()["upstreams"]["green"]["healthy"] == false).then(|| {
            assert_eq!(health.status, 200, "blue still serves");
        })
    });
    app.blue.set(Mode::Status(500));
    wait_for("503", PATIENCE, || {
        let health = app.get("/health");
        (health.status == 503).then(|| assert_eq!(health.json()["status"], "unhealthy"))
    });
    app.blue.set(Mode::Healthy);
    wait_for("200 again", PATIENCE, || {
        (app.get("/health").status == 200).then_some(())
    });
}

#[test]
fn status_names_service_position_and_generation() {
    let _turn = shared();
    let app = Environment::start();
    let status = app.status();
    assert_eq!(status["service"], "app");
    assert_eq!(status["strategy"], "blue_green");
    assert_eq!(status["active"], "blue");
    assert_eq!(status["weights"], json!({ "blue": 100, "green": 0 }));
    assert!(status["generation"].as_u64().unwrap() >= 1, "{status}");
    assert_eq!(
        ask(
            app.router,
            "GET",
            "/orchestration/status?service=app",
            &[],
            None
        )
        .json(),
        status
    );
}

#[test]
fn an_activation_is_served_once_it_is_answered() {
    let _turn = shared();
    let app = Environment::start();
    let mut generation = app.status()["generation"].as_u64().unwrap();
    for color in [Color::Green, Color::Blue, Color::Green] {
        let status = app.done(ACTIVATE, &format!(r#"{{"active":"{color}"}}"#));
        assert_eq!(app.served(), color, "the very next request");
        assert_eq!(status["active"], color.as_str());
        assert_eq!(status["weights"][color.as_str()], 100);
        assert!(status["generation"].as_u64().unwrap() > generation);
        generation = status["generation"].as_u64().unwrap();
        let record = app.folder.path().join("state/active/app");
        assert_eq!(std::fs::read_to_string(record).unwrap(), color.as_str());
    }
}

#[test]
fn activating_what_is_active_is_a_no_op() {
    let _turn = shared();
    let app = Environment::start();
    let before = app.status();
    let after = app.done(ACTIVATE, r#"{"active":"blue"}"#);
    assert_eq!(after["generation"], before["generation"]);
    assert_eq!(after["active"], "blue");
}

#[test]
fn an_unhealthy_color_is_refused_unless_it_is_forced() {
    let _turn = shared();
    let app = Environment::start();
    app.green.set(Mode::Status(500));
    wait_for("green to be unhealthy", PATIENCE, || {
        (app.get("/health").json()["upstreams"]["green"]["healthy"] == false).then_some(())
    });
    let before = app.status();
    let refused = app.post(ACTIVATE, r#"{"active":"green"}"#);
    assert_problem(&refused, 409, "status 500");
    assert_eq!(refused.json()["exit"], 1);
    assert_eq!(app.status()["generation"], before["generation"]);
    assert_eq!(app.served(), Color::Blue);
    let forced = app.done(ACTIVATE, r#"{"active":"green","force":true}"#);
    assert_eq!(forced["active"], "green");
}

#[test]
fn canary_starts_where_the_traffic_is_and_blue_green_ends_it() {
    let _turn = shared();
    let app = Environment::start();
    app.done(ACTIVATE, r#"{"active":"green"}"#);
    let canary = app.done(STRATEGY, r#"{"strategy":"canary"}"#);
    assert_eq!(canary["strategy"], "canary");
    assert_eq!(canary["active"], "green");
    assert_eq!(canary["weights"], json!({ "blue": 0, "green": 100 }));
    app.done(WEIGHTS, r#"{"blue":60,"green":40}"#);
    let ended = app.done(STRATEGY, r#"{"strategy":"blue_green"}"#);
    assert_eq!(ended["active"], "green", "the stable color");
    assert_eq!(ended["weights"], json!({ "blue": 0, "green": 100 }));
    assert_eq!(app.served(), Color::Green);
}

#[test]
fn weights_are_set_as_given_or_scaled_and_divide_the_traffic() {
    let _turn = shared();
    let app = Environment::start();
    app.done(STRATEGY, r#"{"strategy":"canary"}"#);
    for (body, blue, green) in [
        (r#"{"blue":80,"green":20}"#, json!(80), json!(20)),
        (r#"{"blue":99.5,"green":0.5}"#, json!(99.5), json!(0.5)),
        (
            r#"{"blue":8,"green":2,"normalize":true}"#,
            json!(80),
            json!(20),
        ),
        (
            r#"{"blue":90,"green":10,"normalize":true}"#,
            json!(90),
            json!(10),
        ),
        (
            r#"{"blue":1,"green":3,"normalize":true}"#,
            json!(25),
            json!(75),
        ),
    ] {
        let status = app.done(WEIGHTS, body);
        assert_eq!(
            status["weights"],
            json!({ "blue": blue, "green": green }),
            "{body}"
        );
    }
    // 25 : 75 by now; 400 keyless requests stray by 2.2 % (one sigma), so 15 % is seven of them
    let green = (0..400).filter(|_| app.served() == Color::Green).count();
    assert!((240..=360).contains(&green), "{green} of 400 went to green");
    for body in [
        r#"{"blue":80,"green":30}"#,
        r#"{"blue":0,"green":0,"normalize":true}"#,
    ] {
        assert_problem(&app.post(WEIGHTS, body), 422, "");
    }
    assert_eq!(app.status()["weights"], json!({ "blue": 25, "green": 75 }));
}

#[test]
fn a_color_that_reaches_the_whole_becomes_active() {
    let _turn = shared();
    let app = Environment::start();
    app.done(STRATEGY, r#"{"strategy":"canary"}"#);
    let divided = app.done(WEIGHTS, r#"{"blue":40,"green":60}"#);
    assert_eq!(divided["active"], "blue", "still the stable one");
    let whole = app.done(WEIGHTS, r#"{"blue":0,"green":100}"#);
    assert_eq!(whole["active"], "green");
    assert_eq!(whole["strategy"], "canary");
    let switched = app.done(ACTIVATE, r#"{"active":"blue"}"#);
    assert_eq!(switched["strategy"], "canary", "under either strategy");
    assert_eq!(switched["weights"], json!({ "blue": 100, "green": 0 }));
}

#[test]
fn a_shift_adds_and_is_clamped() {
    let _turn = shared();
    let app = Environment::start();
    app.done(STRATEGY, r#"{"strategy":"canary"}"#);
    for (body, blue, green) in [
        (r#"{"delta":10,"towards":"green"}"#, json!(90), json!(10)),
        (
            r#"{"delta":0.25,"towards":"green"}"#,
            json!(89.75),
            json!(10.25),
        ),
        (r#"{"delta":-5.25,"towards":"green"}"#, json!(95), json!(5)),
        (r#"{"delta":1000,"towards":"blue"}"#, json!(100), json!(0)),
        (r#"{"delta":150,"towards":"green"}"#, json!(0), json!(100)),
    ] {
        let status = app.done(SHIFT, body);
        assert_eq!(
            status["weights"],
            json!({ "blue": blue, "green": green }),
            "{body}"
        );
    }
    assert_eq!(app.status()["active"], "green");
}

#[test]
fn weights_and_shift_are_a_conflict_under_blue_green() {
    let _turn = shared();
    let app = Environment::start();
    let before = app.status();
    assert_problem(
        &app.post(WEIGHTS, r#"{"blue":80,"green":20}"#),
        409,
        "canary",
    );
    assert_problem(
        &app.post(SHIFT, r#"{"delta":10,"towards":"green"}"#),
        409,
        "canary",
    );
    assert_eq!(app.status(), before);
}

#[test]
fn rollback_goes_back_to_the_color_before() {
    let _turn = shared();
    let app = Environment::start();
    assert_problem(&app.post(ROLLBACK, "{}"), 409, "never switched");
    app.done(ACTIVATE, r#"{"active":"green"}"#);
    let back = app.done(ROLLBACK, "{}");
    assert_eq!(back["active"], "blue");
    assert_eq!(app.served(), Color::Blue);
    let without_a_body = ask(app.router, "POST", ROLLBACK, &[], None);
    assert_eq!(without_a_body.status, 200, "{}", without_a_body.text());
    assert_eq!(app.served(), Color::Green);
}

#[test]
fn the_way_back_does_not_depend_on_the_color_that_is_left() {
    let _turn = shared();
    let app = Environment::start();
    app.done(ACTIVATE, r#"{"active":"green"}"#);
    app.green.set(Mode::Hang);
    let back = app.done(ROLLBACK, "{}");
    assert_eq!(back["active"], "blue");
    assert_eq!(app.served(), Color::Blue);
}

#[test]
fn the_environment_says_where_it_starts() {
    let _turn = shared();
    let app = Environment::with(&[
        ("DEFAULT_STRATEGY", "canary"),
        ("DEFAULT_BLUE_WEIGHT", "70"),
        ("DEFAULT_GREEN_WEIGHT", "30"),
    ]);
    let status = app.status();
    assert_eq!(status["strategy"], "canary");
    assert_eq!(status["weights"], json!({ "blue": 70, "green": 30 }));
    let other = Environment::with(&[("DEFAULT_ACTIVE", "green")]);
    assert_eq!(other.served(), Color::Green);
    assert_eq!(other.status()["active"], "green");
}

#[test]
fn another_port_has_the_api_too_where_the_environment_names_one() {
    let _turn = shared();
    let control = Ports::address();
    let app = Environment::unready(&[("TURNOUT_CONTROL", &control.to_string())]);
    wait_for("the control port", PATIENCE, || {
        crate::support::get(control, "/readyz", &[])
            .is_ok_and(|answer| answer.status == 200)
            .then_some(())
    });
    assert_eq!(
        ask(control, "GET", "/orchestration/status", &[], None).status,
        200
    );
    // and the router's own port has them as well, as without
    assert_eq!(app.get("/orchestration/status").status, 200);
}
