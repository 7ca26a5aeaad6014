//! The OpenAPI document against the API itself: every path both ways, and what a program makes of it that knows nothing else.

mod schemathesis;

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::{Answer, Connection, SOON, Site, shared};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

#[track_caller]
fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{{"
    );
    Connection::open(address, SOON)
        .and_then(|mut connection| connection.send(request.as_bytes()))
        .unwrap_or_else(|failure| panic!("{method} {path}: {failure:?}"))
}

fn described(document: &Value) -> Vec<(&str, Vec<String>)> {
    document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            (
                path.as_str(),
                methods.map(|method| method.to_ascii_uppercase()).collect(),
            )
        })
        .collect()
}

#[test]
fn what_is_described_is_served_and_nothing_else_is() {
    let _turn = shared();
    let site = Site::embedded("canary");
    let daemon = site.serve();
    let answer = daemon.api().get("/openapi.json");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let begun = daemon.api().post(
        "/deployments",
        &serde_json::json!({ "new_version": "v2", "strategy": { "interval_sec": 3600 } }),
    );
    assert_eq!(begun.status, 201, "{}", begun.text());
    let begun = begun.json();
    let id = begun["id"].as_str().unwrap();
    for (path, methods) in described(&document) {
        let named = path.replace("{service}", "shop").replace("{id}", id);
        for method in METHODS {
            let is_described = methods.iter().any(|known| known == method);
            if method == "HEAD" {
                continue;
            }
            if (method, path) == ("GET", "/events") {
                // it has no end to wait for; tests/page reads it
                assert!(is_described);
                continue;
            }
            let answer = ask(site.control, method, &named);
            if is_described {
                assert!(
                    ![404, 405].contains(&answer.status),
                    "{method} {path}: {}",
                    answer.text()
                );
            } else {
                assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
                let mut allow: Vec<_> = answer
                    .header("allow")
                    .unwrap()
                    .split(',')
                    .filter(|method| *method != "HEAD")
                    .collect();
                allow.sort_unstable();
                assert_eq!(allow, methods, "{path}");
            }
        }
    }
}

/// A route is made of a handler's own description, by `routes!`. One that is not has to be in the document all the same.
#[test]
fn no_route_is_left_out_of_the_description() {
    let _turn = shared();
    let site = Site::embedded("canary");
    let daemon = site.serve();
    let document = daemon.api().get("/openapi.json").json();
    let known: Vec<_> = described(&document)
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.to_string_lossy().ends_with("_tests.rs");
        if is_test || path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        for (_, rest) in text
            .match_indices(".route(")
            .map(|(at, _)| text.split_at(at))
        {
            let route = rest.split('"').nth(1).unwrap();
            assert!(
                known.contains(&route),
                "{}: {route} is not in the document; make it with routes!",
                path.display()
            );
        }
    }
    assert!(files > 15, "{files} files in {folder}");
}
