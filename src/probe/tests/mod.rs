//! Probes against real servers on loopback that misbehave in every way of the fault list.

mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::domain::{
    AccessLog, Color, Colors, Expectation, HealthPolicy, Limits, OnUnhealthy, ProbeFailure,
    ProbeOutcome, Server, Service, ServiceName, StatusRange, Timeouts, Upstream,
};

const TIMEOUT: Duration = Duration::from_millis(400);

/// A server that does `behave` with each connection after it has read the head of the request.
async fn server<F, B>(behave: B) -> Server
where
    F: Future<Output = ()> + Send,
    B: Fn(TcpStream) -> F + Send + Sync + Clone + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let behave = behave.clone();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _read = stream.read(&mut head).await;
                behave(stream).await;
            });
        }
    });
    format!("http://{address}").parse().unwrap()
}

async fn says(text: &'static str) -> Server {
    server(move |mut stream| async move {
        let _written = stream.write_all(text.as_bytes()).await;
    })
    .await
}

fn answering(status: &str, body: &str) -> &'static str {
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Box::leak(text.into_boxed_str())
}

fn policy(expect: &[(&str, Value)]) -> HealthPolicy {
    HealthPolicy {
        path: "/health".to_owned(),
        interval: Duration::from_secs(5),
        timeout: TIMEOUT,
        unhealthy_after: 3,
        healthy_after: 1,
        expect: Expectation {
            status: StatusRange {
                low: 200,
                high: 299,
            },
            json: expect
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        },
    }
}

/// A service that is probed as `health` says; the rest does not matter here.
fn service(health: HealthPolicy, blue: &Server, green: &Server) -> Service {
    Service {
        name: "shop".parse().unwrap(),
        project: None,
        hosts: Vec::new(),
        listen: None,
        public: None,
        tls: None,
        proxy_protocol: false,
        upstream: Upstream::Colors(Colors {
            blue: vec![blue.clone()],
            green: vec![green.clone()],
        }),
        sticky: None,
        preview: None,
        on_unhealthy: OnUnhealthy::Reject,
        health,
        timeouts: Timeouts {
            connect: TIMEOUT,
            response: TIMEOUT,
            drain: TIMEOUT,
            head: TIMEOUT,
            idle: TIMEOUT,
        },
        limits: Limits {
            head: 1,
            headers: 1,
            body: None,
            connections: 1,
            hold: TIMEOUT,
            rate: Vec::new(),
        },
        access_log: AccessLog::Off,
        metrics: false,
        router_endpoints: false,
    }
}

async fn failure(server: &Server, policy: &HealthPolicy) -> ProbeFailure {
    let begun = std::time::Instant::now();
    let outcome = probe(server, Color::Blue, policy).await;
    assert!(begun.elapsed() < TIMEOUT * 3, "{:?}", begun.elapsed());
    match outcome {
        ProbeOutcome::Fail(failure) => failure,
        ProbeOutcome::Pass { version } => panic!("passed with {version:?}"),
    }
}

fn timeout() -> ProbeFailure {
    ProbeFailure::Timeout { after_ms: 400 }
}

#[tokio::test]
async fn a_good_answer_passes_with_its_version() {
    let body =
        r#"{"status":"healthy","environment":"blue","version":"v1.2.0","database_connected":true}"#;
    let server = says(answering("200 OK", body)).await;
    let policy = policy(&[
        ("status", "healthy".into()),
        ("database_connected", true.into()),
    ]);
    assert_eq!(
        probe(&server, Color::Blue, &policy).await,
        ProbeOutcome::Pass {
            version: Some("v1.2.0".to_owned())
        }
    );
}

#[tokio::test]
async fn a_plain_page_passes_by_its_status_alone() {
    let server = says("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(
        probe(&server, Color::Blue, &policy(&[])).await,
        ProbeOutcome::Pass { version: None }
    );
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    drop(listener);
    assert_eq!(failure(&server, &policy(&[])).await, ProbeFailure::Refused);
}

#[tokio::test]
async fn a_name_without_an_address_is_unresolved() {
    let server = "http://no-such-host.invalid:80".parse().unwrap();
    let mut policy = policy(&[]);
    policy.timeout = Duration::from_secs(10);
    let outcome = probe(&server, Color::Blue, &policy).await;
    assert!(
        matches!(
            outcome,
            ProbeOutcome::Fail(ProbeFailure::Unresolved { .. } | ProbeFailure::Timeout { .. })
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_times_out() {
    let server = server(|stream| async move {
        tokio::time::sleep(Duration::from_mins(1)).await;
        drop(stream);
    })
    .await;
    assert_eq!(failure(&server, &policy(&[])).await, timeout());
}

#[tokio::test]
async fn a_byte_at_a_time_times_out_in_head_and_body() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        answering("200 OK", "0123456789"),
    ] {
        let quick = text.len().saturating_sub(12);
        let server = server(move |mut stream| async move {
            let _written = stream.write_all(&text.as_bytes()[..quick]).await;
            for byte in &text.as_bytes()[quick..] {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let _written = stream.write_all(&[*byte]).await;
            }
        })
        .await;
        assert_eq!(failure(&server, &policy(&[])).await, timeout());
    }
}

#[tokio::test]
async fn endless_headers_are_broken_after_a_bounded_read() {
    let server = server(|mut stream| async move {
        let _written = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream
            .write_all(b"X-More: and more and more\r\n")
            .await
            .is_ok()
        {}
    })
    .await;
    let failure = failure(&server, &policy(&[])).await;
    assert!(
        matches!(failure, ProbeFailure::Broken { .. }),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_body_of_10_gb_is_broken_after_a_bounded_read() {
    let server = server(|mut stream| async move {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n";
        let _written = stream.write_all(head).await;
        let part = vec![b'x'; 64 * 1024];
        while stream.write_all(&part).await.is_ok() {}
    })
    .await;
    assert_eq!(
        failure(&server, &policy(&[])).await,
        ProbeFailure::Broken {
            message: "the body is longer than 65536 bytes: probe a smaller page".to_owned()
        }
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = says("HTTP/1.1 302 Found\r\nLocation: /health\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(
        failure(&server, &policy(&[])).await,
        ProbeFailure::Status { status: 302 }
    );
}

#[tokio::test]
async fn a_wrong_body_names_the_field() {
    let cases = [
        (
            r#"{"status":"starting"}"#,
            ProbeFailure::Field {
                key: "status".to_owned(),
                expected: "\"healthy\"".to_owned(),
                found: Some("\"starting\"".to_owned()),
            },
        ),
        (
            r#"["status"]"#,
            ProbeFailure::Field {
                key: "status".to_owned(),
                expected: "\"healthy\"".to_owned(),
                found: None,
            },
        ),
    ];
    for (body, expected) in cases {
        let server = says(answering("200 OK", body)).await;
        let policy = policy(&[("status", "healthy".into())]);
        assert_eq!(failure(&server, &policy).await, expected);
    }
    let server = says(answering("200 OK", "<html>")).await;
    let failed = failure(&server, &policy(&[("status", "healthy".into())])).await;
    assert!(matches!(failed, ProbeFailure::NotJson { .. }), "{failed:?}");
}

#[tokio::test]
async fn the_other_colors_document_fails_even_where_no_field_is_expected() {
    let server = says(answering("200 OK", r#"{"environment":"green"}"#)).await;
    assert_eq!(
        failure(&server, &policy(&[])).await,
        ProbeFailure::WrongColor {
            reported: "green".to_owned()
        }
    );
}

#[tokio::test]
async fn an_answer_that_is_not_http_or_ends_early_is_broken() {
    for text in [
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        "",
    ] {
        let server = says(text).await;
        let failed = failure(&server, &policy(&[])).await;
        assert!(matches!(failed, ProbeFailure::Broken { .. }), "{failed:?}");
    }
}
