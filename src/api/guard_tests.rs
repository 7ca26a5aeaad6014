//! The guard over request heads, one table for each question.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::*;
use crate::config::{Token, TokenSource};

fn tokens() -> Tokens {
    let token = |name: &str, secret: &str, may: &[Permission]| Token {
        name: name.to_owned(),
        source: TokenSource::Sha256(Sha256::digest(secret).into()),
        may: may.iter().copied().collect::<BTreeSet<_>>(),
    };
    Tokens::load(&[
        token("ci", "write-secret", &[Permission::Read, Permission::Write]),
        token("eye", "read-secret", &[Permission::Read]),
        token("hand", "hand-secret", &[Permission::Write]),
    ])
    .unwrap()
}

fn open_guard(place: Place) -> Guard {
    Guard::new(
        place,
        Tokens::load(&[]).unwrap(),
        &["turnout.example.com".to_owned()],
    )
}

fn closed_guard(place: Place) -> Guard {
    Guard::new(place, tokens(), &["turnout.example.com".to_owned()])
}

fn peer(ip: &str) -> Peer {
    Peer::Tcp {
        remote: SocketAddr::new(ip.parse().unwrap(), 50_000),
        local: Some("10.0.0.5:9180".parse().unwrap()),
    }
}

fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
    let mut builder = http::Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        builder = builder.header("host", "127.0.0.1:9180");
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn status(answer: &Result<Caller, Problem>) -> u16 {
    answer.as_ref().map_or_else(Problem::status, |_| 200)
}

fn known(name: &str) -> Caller {
    Caller::Known(name.to_owned())
}

#[test]
fn a_token_is_asked_for_and_its_name_is_the_actor() {
    let guard = closed_guard(Place::Control);
    let ask = |method: &str, headers: &[(&str, &str)]| {
        guard.admit(&head(method, "/v1/status", headers), &peer("127.0.0.1"))
    };
    for value in [
        "Bearer write-secret",
        "bearer write-secret",
        "BEARER   write-secret",
    ] {
        assert_eq!(ask("POST", &[("authorization", value)]), Ok(known("ci")));
    }
    assert_eq!(
        ask("GET", &[("authorization", "Bearer read-secret")]),
        Ok(known("eye"))
    );
    let refused = ask("POST", &[("authorization", "Bearer read-secret")]);
    assert_eq!(status(&refused), 403);
    for value in [
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic write-secret",
        "write-secret",
        "",
        "Bearer write-secret x",
    ] {
        assert_eq!(
            status(&ask("GET", &[("authorization", value)])),
            401,
            "{value:?}"
        );
    }
    assert_eq!(status(&ask("GET", &[])), 401);
    let twice = ask(
        "GET",
        &[
            ("authorization", "Bearer write-secret"),
            ("authorization", "Bearer write-secret"),
        ],
    );
    assert_eq!(status(&twice), 401);
    let query = head("GET", "/v1/status?token=write-secret", &[]);
    assert_eq!(status(&guard.admit(&query, &peer("127.0.0.1"))), 401);
}

#[test]
fn the_open_paths_need_no_token_and_samples_do() {
    let guard = closed_guard(Place::Control);
    for path in OPEN {
        let asked = guard.admit(&head("GET", path, &[]), &peer("10.9.9.9"));
        assert_eq!(asked, Ok(Caller::Stranger), "{path}");
    }
    let traced = guard.admit(&head("TRACE", "/livez", &[]), &peer("10.9.9.9"));
    assert_eq!(traced, Ok(Caller::Stranger), "the router refuses it");
    let samples = guard.admit(&head("POST", "/metrics", &[]), &peer("10.9.9.9"));
    assert_eq!(status(&samples), 401);
    let near = guard.admit(&head("GET", "/healthz", &[]), &peer("10.9.9.9"));
    assert_eq!(status(&near), 401);
}

#[test]
fn without_a_token_loopback_alone_writes_and_not_through_a_proxy() {
    let guard = open_guard(Place::Control);
    let write = |from: &Peer, headers: &[(&str, &str)]| {
        guard.admit(&head("POST", "/orchestration/rollback", headers), from)
    };
    for ip in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(write(&peer(ip), &[]), Ok(known("loopback")), "{ip}");
    }
    assert_eq!(status(&write(&peer("10.0.0.7"), &[])), 403);
    for name in FORWARDED {
        let through = write(&peer("127.0.0.1"), &[(name, "127.0.0.1")]);
        assert_eq!(status(&through), 403, "{name}");
    }
    let anna = Peer::Unix {
        user: "anna".to_owned(),
    };
    assert_eq!(write(&anna, &[("host", "anything")]), Ok(known("anna")));
    assert_eq!(
        status(&write(&anna, &[("x-forwarded-for", "1.2.3.4")])),
        403
    );
}

#[test]
fn a_stranger_reads_the_control_port_but_not_the_router() {
    let read = |guard: &Guard| guard.admit(&head("GET", "/v1/status", &[]), &peer("10.0.0.7"));
    assert_eq!(read(&open_guard(Place::Control)), Ok(Caller::Stranger));
    assert_eq!(status(&read(&open_guard(Place::Router))), 403);
    let health = head("GET", "/health", &[]);
    assert_eq!(
        open_guard(Place::Router).admit(&health, &peer("10.0.0.7")),
        Ok(Caller::Stranger)
    );
    assert_eq!(
        open_guard(Place::Router).admit(&health, &peer("127.0.0.1")),
        Ok(known("loopback"))
    );
}

#[test]
fn the_control_port_answers_to_its_own_names_alone() {
    let guard = open_guard(Place::Control);
    let ask = |host: &str| {
        guard.admit(
            &head("GET", "/v1/status", &[("host", host)]),
            &peer("127.0.0.1"),
        )
    };
    for own in [
        "localhost",
        "LOCALHOST:9180",
        "127.0.0.1:1",
        "[::1]:9180",
        "10.0.0.5:9180",
        "turnout.example.com",
        "Turnout.Example.com:443",
    ] {
        assert_eq!(status(&ask(own)), 200, "{own}");
    }
    for foreign in [
        "evil.example",
        "evil.example:9180",
        "10.0.0.6:9180",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "x.turnout.example.com",
        "0.0.0.0:9180",
    ] {
        assert_eq!(status(&ask(foreign)), 403, "{foreign}");
    }
    assert_eq!(status(&ask("not a host")), 400);
    let twice = head(
        "GET",
        "/v1/status",
        &[("host", "localhost"), ("host", "localhost")],
    );
    assert_eq!(status(&guard.admit(&twice, &peer("127.0.0.1"))), 400);
    let absolute = head("GET", "http://evil.example/v1/status", &[]);
    assert_eq!(status(&guard.admit(&absolute, &peer("127.0.0.1"))), 403);
}

#[test]
fn a_foreign_page_is_refused() {
    let ask = |guard: &Guard, host: &str, origin: &str| {
        let headers = [("host", host), ("origin", origin)];
        let request = head("POST", "/orchestration/rollback", &headers);
        status(&guard.admit(&request, &peer("127.0.0.1")))
    };
    let control = open_guard(Place::Control);
    for (host, origin, expected) in [
        ("localhost:9180", "http://localhost:9180", 200),
        ("localhost:9180", "https://turnout.example.com", 200),
        ("turnout.example.com", "https://turnout.example.com", 200),
        ("localhost:9180", "http://localhost:3000", 403),
        ("localhost:9180", "https://evil.example", 403),
        ("localhost:9180", "null", 403),
        ("evil.example:9180", "http://evil.example:9180", 403),
    ] {
        assert_eq!(ask(&control, host, origin), expected, "{host} {origin}");
    }
    let router = open_guard(Place::Router);
    assert_eq!(ask(&router, "127.0.0.1:8080", "http://127.0.0.1:8080"), 200);
    assert_eq!(
        ask(&router, "shop.example.com", "https://evil.example"),
        403
    );
    assert_eq!(
        ask(&router, "evil.example:8080", "http://evil.example:8080"),
        403
    );
}

#[test]
fn the_router_trusts_loopback_only_under_names_that_cannot_be_rebound() {
    let ask = |guard: &Guard, method: &str, path: &str, host: &str| {
        guard.admit(&head(method, path, &[("host", host)]), &peer("127.0.0.1"))
    };
    let open = open_guard(Place::Router);
    for own in [
        "localhost:8080",
        "127.0.0.1:8080",
        "[::1]:8080",
        "192.168.1.5:8080",
        "0.0.0.0:8080",
        "turnout.example.com",
    ] {
        let written = ask(&open, "POST", "/orchestration/rollback", own);
        assert_eq!(written, Ok(known("loopback")), "{own}");
    }
    for foreign in [
        "shop.example.com",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
    ] {
        for (method, path) in [
            ("POST", "/orchestration/rollback"),
            ("GET", "/orchestration/status"),
            ("GET", "/v1/identity"),
        ] {
            let refused = ask(&open, method, path, foreign).unwrap_err();
            assert_eq!(refused.status(), 403, "{method} {path} {foreign}");
            assert!(refused.detail().contains("ORCH_TOKEN"));
        }
        let health = ask(&open, "GET", "/health", foreign);
        assert_eq!(health, Ok(Caller::Stranger), "{foreign}");
    }
    let absolute = head("GET", "http://evil.example/orchestration/status", &[]);
    assert_eq!(status(&open.admit(&absolute, &peer("127.0.0.1"))), 403);
    // a token says who calls, by whatever name
    let authorized = head(
        "POST",
        "/orchestration/rollback",
        &[
            ("host", "shop.example.com"),
            ("authorization", "Bearer write-secret"),
        ],
    );
    assert_eq!(
        closed_guard(Place::Router).admit(&authorized, &peer("10.0.0.7")),
        Ok(known("ci"))
    );
}

#[test]
fn a_token_that_may_only_write_can_still_ask_which_daemon_it_is() {
    let guard = closed_guard(Place::Control);
    let ask = |method: &str, path: &str| {
        let headers = [("authorization", "Bearer hand-secret")];
        status(&guard.admit(&head(method, path, &headers), &peer("10.0.0.7")))
    };
    assert_eq!(ask("GET", "/v1/identity"), 200);
    assert_eq!(ask("POST", "/v1/changes"), 200);
    assert_eq!(ask("GET", "/v1/status"), 403);
    assert_eq!(ask("GET", "/v1/identity/x"), 403);
}
