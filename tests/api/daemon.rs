//! The daemon around the API: readiness, files that change under it, signals, and its end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use turnout::domain::Color;

use super::{Environment, PATIENCE, ask, get, said};
use crate::support::{Mode, Site, shared, wait_for};

#[test]
fn it_says_what_is_served_where_and_what_to_try() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    said(&daemon, "serves generation 1 on embedded");
    said(
        &daemon,
        &format!("http://{}  blue_green blue 100%", site.front),
    );
    said(&daemon, &format!("http://{}", site.control));
    said(
        &daemon,
        &format!("/turnout --config {} switch green", site.config().display()),
    );
    let identity = daemon.api().get("/v1/identity").json();
    assert_eq!(
        identity["state_dir"],
        site.state_dir().display().to_string()
    );
    assert_eq!(identity["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn it_is_not_ready_before_anything_is_proved() {
    let _turn = shared();
    let mut site = Site::nginx();
    site.balancer_mut().stop();
    let daemon = site.turnout().serve_unready().allow("put into force");
    let readiness = wait_for("the API", PATIENCE, || {
        get(site.control, "/readyz", &[]).ok()
    });
    assert_eq!(readiness.status, 503, "{}", readiness.text());
    assert_eq!(daemon.api().get("/livez").status, 200);
    site.balancer_mut().restart();
    daemon.wait_ready();
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn a_taken_control_address_is_named() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let _taken = TcpListener::bind(site.control).unwrap();
    site.turnout()
        .run(&["serve"])
        .exits(69)
        .says(&format!("cannot listen on {}", site.control));
}

#[test]
fn a_second_daemon_names_the_first() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut daemon = site.serve();
    let pid = daemon.process().pid();
    site.turnout()
        .run(&["serve"])
        .exits(75)
        .says(&format!("pid {pid}"));
}

#[test]
fn a_changed_configuration_is_taken_and_moves_no_traffic() {
    let _turn = shared();
    let mut site = Site::embedded("blue_green");
    let daemon = site.serve();
    wait_for("green to be healthy", PATIENCE, || {
        let body = serde_json::json!({ "active": "green" });
        (daemon
            .api()
            .post("/orchestration/bluegreen/activate", &body)
            .status
            == 200)
            .then_some(())
    });
    let listen = crate::support::Ports::address();
    let _servers = site.add_service("blog", listen);
    wait_for("blog to be served", PATIENCE, || {
        get(listen, "/", &[])
            .is_ok_and(|answer| answer.backend() == Some(Color::Blue))
            .then_some(())
    });
    assert_eq!(
        site.served(),
        Color::Green,
        "the file owns shape, not position"
    );
}

#[test]
fn a_bad_configuration_is_told_and_the_last_good_one_stays() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let good = std::fs::read_to_string(site.config()).unwrap();
    let daemon = site.serve().allow("configuration was not taken");
    let problems = || daemon.api().get("/v1/status").json()["problems"].to_string();
    std::fs::write(site.config(), good.replace("servers:", "severs:")).unwrap();
    wait_for("the problem in the status", PATIENCE, || {
        problems().contains("severs").then_some(())
    });
    assert_eq!(site.served(), Color::Blue);
    std::fs::write(site.config(), &good).unwrap();
    wait_for("the problem to go", PATIENCE, || {
        (problems() == "[]").then_some(())
    });
}

#[test]
fn sighup_with_a_bad_file_keeps_the_last_good_one_too() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut daemon = site.serve().allow("configuration was not taken");
    std::fs::write(site.config(), "version: 1\nservices: {").unwrap();
    daemon.process().signal(Signal::SIGHUP);
    said(&daemon, "configuration was not taken");
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn a_followed_file_switches_and_nobody_else_does() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let file = site.folder().join(".local_context/bg_state.json");
    let text = std::fs::read_to_string(site.config()).unwrap();
    let own = format!("dir: {} }}", site.state_dir().display());
    let followed = format!(
        "dir: {}, follow: {{ file: {}, field: active_version }} }}",
        site.state_dir().display(),
        file.display()
    );
    std::fs::write(site.config(), text.replace(&own, &followed)).unwrap();
    let daemon = site.serve().allow("followed file");
    assert_eq!(site.served(), Color::Blue, "an absent file changes nothing");
    wait_for("both colors healthy", PATIENCE, || {
        let health = daemon.api().get("/health").json();
        (health["upstreams"]["green"]["healthy"] == true).then_some(())
    });
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let put = |color: &str| {
        let beside = file.with_extension("tmp");
        std::fs::write(&beside, format!(r#"{{"active_version":"{color}"}}"#)).unwrap();
        std::fs::rename(beside, &file).unwrap();
    };
    put("green");
    wait_for("green by the file", PATIENCE, || {
        (site.served() == Color::Green).then_some(())
    });
    let by_hand = daemon.api().post(
        "/orchestration/bluegreen/activate",
        &serde_json::json!({ "active": "blue" }),
    );
    super::assert_problem(&by_hand, 409, "bg_state.json");
    put("purple");
    wait_for("the problem in the status", PATIENCE, || {
        let status = daemon.api().get("/v1/status").json();
        status["problems"]
            .to_string()
            .contains("purple")
            .then_some(())
    });
    assert_eq!(site.served(), Color::Green);
    put("blue");
    wait_for("blue by the file", PATIENCE, || {
        (site.served() == Color::Blue).then_some(())
    });
}

#[test]
fn sigterm_lets_requests_finish_and_ends_with_0() {
    let _turn = shared();
    let mut app = Environment::start();
    let mut slow = TcpStream::connect(app.router).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        slow,
        "GET /slow/800 HTTP/1.1\r\nHost: {}\r\n\r\n",
        app.router
    )
    .unwrap();
    wait_for("the request at the backend", PATIENCE, || {
        (app.blue.requests() >= 1).then_some(())
    });
    app.daemon.signal(Signal::SIGTERM);
    wait_for("no new connection", PATIENCE, || {
        TcpStream::connect(app.router).is_err().then_some(())
    });
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(app.daemon.wait(PATIENCE).code(), Some(0));
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let _turn = shared();
    let mut app = Environment::start();
    app.blue.set(Mode::Hang);
    let mut hanging = TcpStream::connect(app.router).unwrap();
    write!(hanging, "GET / HTTP/1.1\r\nHost: {}\r\n\r\n", app.router).unwrap();
    wait_for("the request at the backend", PATIENCE, || {
        (app.blue.requests() >= 1).then_some(())
    });
    app.daemon.signal(Signal::SIGTERM);
    wait_for("the drain to begin", PATIENCE, || {
        app.daemon
            .printed()
            .contains("finishing what is in flight")
            .then_some(())
    });
    assert!(app.daemon.ended().is_none(), "it waits for the request");
    app.daemon.signal(Signal::SIGTERM);
    // the drain would be 30 s
    app.daemon.wait(Duration::from_secs(20));
}

#[test]
fn a_restart_serves_what_was_answered_last() {
    let _turn = shared();
    let mut app = Environment::start();
    app.done("/orchestration/bluegreen/activate", r#"{"active":"green"}"#);
    app.daemon.kill();
    let again = app.again();
    assert_eq!(again.served(), Color::Green);
    assert_eq!(
        ask(again.router, "GET", "/orchestration/status", &[], None).json()["active"],
        "green"
    );
}
