//! Bodies of the API: no answer above 499, and a refused one moves nothing.

use super::{AT_ONCE, fuzz};
use crate::support::{Site, shared};

#[test]
fn a_body_that_does_not_fit_is_the_clients_fault_and_changes_nothing() {
    let _turn = shared();
    let site = Site::embedded("canary");
    let daemon = site.serve();
    let paths = [
        "/orchestration/strategy",
        "/orchestration/canary/weights",
        "/orchestration/canary/shift",
        "/orchestration/rollback",
        "/orchestration/bluegreen/activate",
    ];
    let seeds: Vec<Vec<u8>> = [
        r#"{"strategy":"canary"}"#,
        r#"{"blue":80,"green":20,"normalize":true}"#,
        r#"{"delta":10,"towards":"green"}"#,
        r#"{"active":"green","force":true}"#,
        "{}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    let words = [
        "null",
        "[",
        "]",
        "{",
        "}",
        "\"",
        ":",
        ",",
        "1e999",
        "-0",
        "0.001",
        "true",
        "\\ud800",
        "blue",
        "green",
        "\"blue\":",
        "\"active\":",
    ];
    let position = || daemon.api().get("/orchestration/status").json()["weights"].clone();
    let mut before = position();
    fuzz("API bodies", &seeds, &words, |input| {
        let path = paths[rand::random_range(0..paths.len())];
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            site.control,
            input.len()
        )
        .into_bytes();
        request.extend_from_slice(input);
        let answer = crate::support::Connection::open(site.control, AT_ONCE)
            .and_then(|mut connection| connection.send(&request))
            .unwrap();
        assert!(
            answer.status < 500,
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
        let now = position();
        assert!(
            answer.status < 300 || now == before,
            "{path}: {} moved {before} to {now}",
            answer.status
        );
        before = now;
    });
}
