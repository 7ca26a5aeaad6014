//! What is not let in, and what is not understood: each with its status, none with an effect.

use std::io::{Read, Write};
use std::net::TcpStream;

use turnout::domain::Color;

use super::{Environment, PATIENCE, ask, assert_problem};
use crate::support::{shared, wait_for};

const ACTIVATE: &str = "/orchestration/bluegreen/activate";
const WEIGHTS: &str = "/orchestration/canary/weights";
const TOKEN: &str = "correct-horse-battery-staple";

#[test]
fn bodies_that_do_not_fit_change_nothing_and_are_never_a_500() {
    let _turn = shared();
    let app = Environment::start();
    app.done("/orchestration/strategy", r#"{"strategy":"canary"}"#);
    let before = app.status();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_field = format!(r#"{{"active":{deep}}}"#);
    for (path, body, status) in [
        (ACTIVATE, "", 400),
        (ACTIVATE, "{", 400),
        (ACTIVATE, "green", 400),
        (ACTIVATE, "{}", 422),
        (ACTIVATE, "[]", 422),
        (ACTIVATE, "null", 422),
        (ACTIVATE, r#"["green"]"#, 422),
        (ACTIVATE, r#"{"active":"red"}"#, 422),
        (ACTIVATE, r#"{"active":"GREEN"}"#, 422),
        (ACTIVATE, r#"{"active":1}"#, 422),
        (ACTIVATE, r#"{"active":null}"#, 422),
        (ACTIVATE, r#"{"active":"green","active":"green"}"#, 422),
        (ACTIVATE, r#"{"active":"green","extra":1}"#, 422),
        (ACTIVATE, r#"{"active":"green"} trailing"#, 400),
        (ACTIVATE, &deep, 422),
        (ACTIVATE, &deep_field, 422),
        (WEIGHTS, r#"{"blue":NaN,"green":1}"#, 400),
        (WEIGHTS, r#"{"blue":1e999,"green":1}"#, 422),
        (WEIGHTS, r#"{"blue":-1,"green":101}"#, 422),
        (WEIGHTS, r#"{"blue":"80","green":20}"#, 422),
        (WEIGHTS, r#"{"blue":80}"#, 422),
        (WEIGHTS, r#"{"blue":80,"green":20,"normalize":"yes"}"#, 422),
        (
            "/orchestration/canary/shift",
            r#"{"delta":"10","towards":"green"}"#,
            422,
        ),
        (
            "/orchestration/canary/shift",
            r#"{"delta":10,"towards":"up"}"#,
            422,
        ),
        ("/orchestration/strategy", r#"{"strategy":"rolling"}"#, 422),
        ("/orchestration/rollback", r#"{"to":"blue"}"#, 422),
        ("/v1/changes", r#"{"change":{"verb":"explode"}}"#, 422),
        (
            "/v1/changes",
            r#"{"change":{"verb":"apply"},"actor":"root"}"#,
            422,
        ),
    ] {
        let answer = app.post(path, body);
        let shown: String = body.chars().take(60).collect();
        assert_eq!(answer.status, status, "{path} {shown}: {}", answer.text());
        assert_problem(&answer, status, "");
    }
    let named = app.post(WEIGHTS, r#"{"blue":"80","green":20}"#);
    assert_problem(&named, 422, "blue");
    assert_eq!(app.status(), before);
}

#[test]
fn large_slow_and_lying_bodies_cost_nothing_but_themselves() {
    let _turn = shared();
    let app = Environment::start();
    let large = format!(r#"{{"active":"green","message":"{}"}}"#, "x".repeat(70_000));
    assert_problem(&app.post(ACTIVATE, &large), 413, "65536");
    let mut slow = TcpStream::connect(app.router).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        slow,
        "POST {ACTIVATE} HTTP/1.1\r\nHost: {}\r\nContent-Length: 18\r\n\r\n{{\"active\"",
        app.router
    )
    .unwrap();
    assert_eq!(
        app.get("/health").status,
        200,
        "others are served meanwhile"
    );
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(app.served(), Color::Blue);
}

#[test]
fn other_methods_paths_and_types_have_their_own_answers() {
    let _turn = shared();
    let app = Environment::start();
    for (method, path, allow) in [
        ("GET", ACTIVATE, "POST"),
        ("HEAD", ACTIVATE, "POST"),
        ("OPTIONS", ACTIVATE, "POST"),
        ("DELETE", "/orchestration/status", "GET,HEAD"),
        ("POST", "/health", "GET,HEAD"),
    ] {
        let headers = ["Connection: close"];
        let answer = if method == "HEAD" {
            // no body comes, whatever Content-Length says
            raw_head(&app, path)
        } else {
            let answer = ask(app.router, method, path, &headers, None);
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
            answer.status
        };
        assert_eq!(answer, 405, "{method} {path}");
    }
    assert_problem(
        &app.get("/orchestration/nowhere"),
        404,
        "/orchestration/nowhere",
    );
    assert_problem(&app.get("/v1/services/nobody"), 404, "nobody");
    assert_problem(&app.get("/v1/services/No%20Name"), 404, "");
    assert_problem(
        &app.get("/orchestration/status?service=nobody"),
        404,
        "there is app",
    );
    assert_problem(&app.get("/orchestration/status?sevice=app"), 400, "sevice");
    let form = ask(
        app.router,
        "POST",
        ACTIVATE,
        &["Content-Type: text/plain", "Origin: http://page.example"],
        Some(r#"{"active":"green"}"#),
    );
    // what keeps a foreign page's form out is where it comes from, not what it calls itself
    assert_problem(&form, 403, "page.example");
    assert_eq!(app.served(), Color::Blue);
}

fn raw_head(app: &Environment, path: &str) -> u16 {
    let mut stream = TcpStream::connect(app.router).unwrap();
    write!(
        stream,
        "HEAD {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        app.router
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].parse().unwrap()
}

#[test]
fn with_a_token_nobody_writes_or_reads_without_it() {
    let _turn = shared();
    let app = Environment::with_token(TOKEN);
    let fitting = format!("Authorization: Bearer {TOKEN}");
    let lower = format!("authorization: bearer {TOKEN}");
    let wrong = ["Authorization: Bearer wrong"];
    let basic = [format!("Authorization: Basic {TOKEN}")];
    let huge = [format!("Authorization: Bearer {}", "x".repeat(8_000))];
    let twice = [fitting.as_str(), fitting.as_str()];
    let attempts: [&[&str]; 7] = [
        &[],
        &wrong,
        &["Authorization: Bearer"],
        &["Authorization:"],
        &[&basic[0]],
        &[&huge[0]],
        &twice,
    ];
    for headers in attempts {
        for (method, path, body) in [
            ("GET", "/orchestration/status", None),
            ("GET", "/v1/status", None),
            ("POST", ACTIVATE, Some(r#"{"active":"green"}"#)),
            (
                "POST",
                "/v1/changes",
                Some(r#"{"change":{"verb":"apply"}}"#),
            ),
        ] {
            let answer = ask(app.router, method, path, headers, body);
            assert_problem(&answer, 401, "");
            let challenge = answer.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer"), "{challenge}");
        }
    }
    let query = format!("/orchestration/status?token={TOKEN}");
    assert_eq!(ask(app.router, "GET", &query, &[], None).status, 401);
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(
            ask(app.router, "GET", path, &[], None).status,
            200,
            "{path}"
        );
    }
    assert_eq!(app.served(), Color::Blue);
    for header in [&fitting, &lower] {
        let status = ask(app.router, "GET", "/orchestration/status", &[header], None);
        assert_eq!(status.status, 200);
    }
    let done = ask(
        app.router,
        "POST",
        ACTIVATE,
        &[&fitting],
        Some(r#"{"active":"green"}"#),
    );
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(app.served(), Color::Green);
    let log = app.daemon.printed();
    assert!(!log.contains(TOKEN), "the token is in the log:\n{log}");
    let audit = std::fs::read_to_string(app.folder.path().join("state/deployments.jsonl")).unwrap();
    assert!(
        audit.contains(r#""actor":"env""#),
        "the token's name is the actor: {audit}"
    );
    assert!(!audit.contains(TOKEN), "{audit}");
}

#[test]
fn without_a_token_a_proxied_request_may_not_write() {
    let _turn = shared();
    let app = Environment::start();
    for header in [
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1",
    ] {
        let written = ask(
            app.router,
            "POST",
            ACTIVATE,
            &[header],
            Some(r#"{"active":"green"}"#),
        );
        assert_problem(&written, 403, "loopback");
        let health = ask(app.router, "GET", "/health", &[header], None);
        assert_eq!(health.json(), serde_json::json!({ "status": "healthy" }));
    }
    assert_eq!(app.served(), Color::Blue);
}

#[test]
fn a_page_of_somebody_else_may_not_write() {
    let _turn = shared();
    let app = Environment::start();
    let rebound_host = format!("Host: evil.example:{}", app.router.port());
    let rebound_origin = format!("Origin: http://evil.example:{}", app.router.port());
    let attempts: [&[&str]; 3] = [
        &["Origin: https://evil.example"],
        &["Origin: null"],
        &[&rebound_host, &rebound_origin],
    ];
    for headers in attempts {
        let written = ask(
            app.router,
            "POST",
            ACTIVATE,
            headers,
            Some(r#"{"active":"green"}"#),
        );
        assert_problem(&written, 403, "may not call this API");
    }
    // a page reads from what it takes for its own server without an Origin
    for path in ["/orchestration/status", "/v1/status", "/v1/identity"] {
        let read = ask(app.router, "GET", path, &[&rebound_host], None);
        assert_problem(&read, 403, "ORCH_TOKEN");
    }
    let health = ask(app.router, "GET", "/health", &[&rebound_host], None);
    assert_eq!(health.json(), serde_json::json!({ "status": "healthy" }));
    let localhost = format!("Host: localhost:{}", app.router.port());
    let read = ask(app.router, "GET", "/v1/status", &[&localhost], None);
    assert_eq!(read.status, 200, "{}", read.text());
    assert_eq!(app.served(), Color::Blue);
    let own = format!("Origin: http://{}", app.router);
    let written = ask(
        app.router,
        "POST",
        ACTIVATE,
        &[&own],
        Some(r#"{"active":"green"}"#),
    );
    assert_eq!(written.status, 200, "{}", written.text());
}

#[test]
fn a_client_that_hangs_up_does_not_stop_its_change() {
    let _turn = shared();
    let app = Environment::start();
    let lock = std::fs::File::options()
        .write(true)
        .open(app.folder.path().join("state/change.lock"))
        .unwrap();
    lock.lock().unwrap();
    let body = r#"{"active":"green"}"#;
    let mut stream = TcpStream::connect(app.router).unwrap();
    write!(
        stream,
        "POST {ACTIVATE} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        app.router,
        body.len()
    )
    .unwrap();
    // who comes later and has less time is told that the lock is held: the first one has been taken on
    let later = app.post(
        "/v1/changes",
        r#"{"change":{"verb":"switch","service":null,"to":"green"},"lock_wait":200}"#,
    );
    assert_eq!(later.status, 423, "{}", later.text());
    drop(stream);
    lock.unlock().unwrap();
    wait_for("green to be recorded", PATIENCE, || {
        (app.status()["active"] == "green").then_some(())
    });
    assert_eq!(app.served(), Color::Green);
}

#[test]
fn trace_and_connect_are_refused() {
    let _turn = shared();
    let app = Environment::start();
    let traced = ask(app.router, "TRACE", "/orchestration/status", &[], None);
    assert_eq!(traced.status, 405, "{}", traced.text());
    let tunnel = ask(app.router, "CONNECT", "example.com:443", &[], None);
    assert!((400..500).contains(&tunnel.status), "{}", tunnel.text());
}
