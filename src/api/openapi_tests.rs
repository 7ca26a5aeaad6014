//! What is added to the handlers' own words.

use sha2::{Digest, Sha256};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::guard::Place;
use super::super::token::Tokens;
use super::super::{events, metrics};
use super::*;
use crate::config::{Token, TokenSource};

fn guard(has_token: bool) -> Guard {
    let token = Token {
        name: "ci".to_owned(),
        source: TokenSource::Sha256(Sha256::digest("s3cret").into()),
        may: [Permission::Read].into(),
    };
    let tokens: &[Token] = if has_token { &[token] } else { &[] };
    Guard::new(Place::Control, Tokens::load(tokens).unwrap(), &[])
}

fn operation(has_token: bool, path: &str) -> serde_json::Value {
    let routes = OpenApiRouter::with_openapi(blank())
        .routes(routes!(events::events))
        .routes(routes!(metrics::metrics));
    let document = completed(routes.into_openapi(), &guard(has_token));
    let text = document.to_json().unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    document["paths"][path]["get"].clone()
}

fn statuses(operation: &serde_json::Value) -> Vec<&str> {
    let answers = operation["responses"].as_object().unwrap();
    answers.keys().map(String::as_str).collect()
}

#[test]
fn what_needs_a_token_says_which_permission() {
    let events = operation(true, "/events");
    assert_eq!(
        events["security"],
        serde_json::json!([{ "bearer": ["read"] }])
    );
    assert_eq!(
        statuses(&events),
        ["200", "400", "401", "403", "429", "500", "503"]
    );
    let wait = &events["responses"]["429"]["headers"]["Retry-After"];
    assert_eq!(wait["schema"]["type"], "integer");
}

#[test]
fn an_open_path_says_that_it_is_open() {
    let metrics = operation(true, "/metrics");
    assert_eq!(metrics["security"], serde_json::json!([]));
    assert_eq!(statuses(&metrics), ["200", "400", "403"]);
}

#[test]
fn without_any_token_the_header_is_left_to_the_caller() {
    let events = operation(false, "/events");
    let either = serde_json::json!([{}, { "bearer": ["read"] }]);
    assert_eq!(events["security"], either);
}
