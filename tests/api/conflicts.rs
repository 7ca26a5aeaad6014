//! A hundred clients that want different things at the same moment: one after the other, each told the truth, and all of it in
//! the audit log.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use turnout::domain::Color;

use super::Environment;
use crate::support::{Connection, SOON, Site, alone, shared, wait_for};

const ACTIVATE: &str = "/orchestration/bluegreen/activate";
const CLIENTS: usize = 100;
/// Behind nginx each change that is one is a reload with its proof, and the last client waits for all of them.
const ALL_OF_THEM: Duration = Duration::from_mins(5);

/// One write on a connection of its own.
fn activate(address: SocketAddr, color: Color) -> (u16, Value) {
    let body = format!(r#"{{"active":"{color}"}}"#);
    let request = format!(
        "POST {ACTIVATE} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = Connection::open(address, ALL_OF_THEM)
        .and_then(|mut connection| connection.send(request.as_bytes()))
        .unwrap();
    (answer.status, answer.json())
}

/// All at once, alternating; returns the last one that was done.
fn contend(address: SocketAddr) -> (Value, usize) {
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let color = Color::BOTH[number % 2];
                scope.spawn(move || activate(address, color))
            })
            .collect();
        asking
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(
        answers
            .iter()
            .all(|(status, _)| matches!(status, 200 | 409 | 423)),
        "{answers:?}"
    );
    let refused = answers.iter().filter(|(status, _)| *status != 200).count();
    let done = answers.into_iter().filter(|(status, _)| *status == 200);
    let last = done
        .map(|(_, body)| body)
        .max_by_key(|body| body["generation"].as_u64())
        .expect("one of them at least is done");
    (last, refused)
}

/// What the audit log has of them: who did not get the lock changed nothing, and has no line.
fn assert_audited(state_dir: &Path, switched_before: usize, refused: usize) {
    let audit = std::fs::read_to_string(state_dir.join("deployments.jsonl")).unwrap();
    let switches = audit
        .lines()
        .filter(|line| line.contains(r#""action":"switch""#))
        .count()
        - switched_before;
    assert!(
        (CLIENTS - refused..=CLIENTS).contains(&switches),
        "{switches} lines for {CLIENTS} writes, {refused} of them refused"
    );
}

#[test]
fn a_hundred_conflicting_writes_on_the_embedded_proxy_are_taken_one_by_one() {
    let _turn = shared();
    let app = Environment::start();
    let (last, refused) = contend(app.router);
    let status = app.status();
    assert_eq!(status["generation"], last["generation"]);
    assert_eq!(status["active"], last["active"]);
    assert_eq!(app.served().as_str(), status["active"]);
    assert_audited(&app.folder.path().join("state"), 0, refused);
}

#[test]
fn a_hundred_conflicting_writes_on_nginx_are_taken_one_by_one() {
    let _turn = alone();
    let site = Site::nginx_on_blue();
    let daemon = site.serve();
    wait_for("both colors healthy", SOON, || {
        super::is_healthy(&daemon.api().get("/health")).then_some(())
    });
    let (last, refused) = contend(site.control);
    let status = daemon.api().get("/orchestration/status").json();
    assert_eq!(status["generation"], last["generation"]);
    assert_eq!(status["active"], last["active"]);
    assert_eq!(site.served().as_str(), status["active"]);
    assert_eq!(site.recorded().as_str(), status["active"]);
    assert_audited(&site.state_dir(), 0, refused);
}
