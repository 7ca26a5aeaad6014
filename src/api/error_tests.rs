//! Problem documents: every failure of a change with its status and exit code, and that the exit code is the same whether
//! the daemon or the command itself met the failure.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::api::ServerAddress;
use crate::api::client::{Client, ClientError};
use crate::controller::{Request, Verb};
use crate::domain::{Color, Generation, ServiceName, Split};
use crate::exit::Chain;
use crate::store::StoreError;

fn shop() -> ServiceName {
    "shop".parse().unwrap()
}

fn io_error(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

/// All stores' failures, each with its exit code.
fn store_failures() -> Vec<(StoreError, u8)> {
    let path = || "/var/lib/turnout/state.json".into();
    let io = |kind| StoreError::Io {
        action: "write",
        path: path(),
        source: io_error(kind),
    };
    let all = vec![
        (io(io::ErrorKind::PermissionDenied), 77),
        (io(io::ErrorKind::StorageFull), 3),
        (
            StoreError::Corrupt {
                path: path(),
                reason: "end of file".to_owned(),
            },
            4,
        ),
        (
            StoreError::Newer {
                path: path(),
                found: 9,
                known: 1,
            },
            3,
        ),
        (
            StoreError::OutOfOrder {
                path: path(),
                reason: "an intent is open".to_owned(),
            },
            3,
        ),
        (
            StoreError::Unsafe {
                path: path(),
                reason: "it is a symbolic link".to_owned(),
            },
            3,
        ),
    ];
    for (error, _) in &all {
        // a new variant does not compile here until the list above has it
        match error {
            StoreError::Io { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Newer { .. }
            | StoreError::OutOfOrder { .. }
            | StoreError::Unsafe { .. } => {}
        }
    }
    all
}

/// All that a balancer refuses, each with status and exit code.
fn apply_failures() -> Vec<(ApplyError, u16, u8)> {
    let message = || "what failed".to_owned();
    let unchanged = |source| ApplyError::Unchanged {
        message: message(),
        source,
    };
    let all = vec![
        (
            ApplyError::Refused {
                balancer: "nginx",
                message: message(),
            },
            500,
            65,
        ),
        (ApplyError::Unreachable { message: message() }, 503, 69),
        (ApplyError::NotPermitted { message: message() }, 500, 77),
        (
            ApplyError::Edited {
                path: "/etc/nginx/conf.d/turnout.conf".into(),
                what: "was edited by hand since generation 2".to_owned(),
            },
            409,
            1,
        ),
        (unchanged(None), 500, 3),
        (
            unchanged(Some(io_error(io::ErrorKind::StorageFull))),
            500,
            3,
        ),
        (
            unchanged(Some(io_error(io::ErrorKind::PermissionDenied))),
            500,
            77,
        ),
        (
            ApplyError::Restored {
                message: message(),
                serves: Generation(3),
            },
            502,
            3,
        ),
        (
            ApplyError::NotRestored {
                message: message(),
                undo: message(),
                advice: "reload nginx".to_owned(),
            },
            500,
            4,
        ),
    ];
    for (error, ..) in &all {
        match error {
            ApplyError::Refused { .. }
            | ApplyError::Unreachable { .. }
            | ApplyError::NotPermitted { .. }
            | ApplyError::Edited { .. }
            | ApplyError::Unchanged { .. }
            | ApplyError::Restored { .. }
            | ApplyError::NotRestored { .. } => {}
        }
    }
    all
}

/// All that rendering refuses, each with status and exit code.
fn render_failures() -> Vec<(RenderError, u16, u8)> {
    let read = |kind| RenderError::Read {
        path: "/etc/turnout/nginx.conf.j2".into(),
        source: io_error(kind),
    };
    let all = vec![
        (
            RenderError::Template {
                place: "nginx.conf.j2:7".to_owned(),
                message: "undefined value".to_owned(),
            },
            500,
            65,
        ),
        (read(io::ErrorKind::NotFound), 500, 65),
        (read(io::ErrorKind::PermissionDenied), 500, 77),
        (
            RenderError::Value {
                key: "services.shop.tls".to_owned(),
                rule: "is for the embedded proxy",
            },
            500,
            78,
        ),
        (RenderError::NothingToRender, 409, 1),
    ];
    for (error, ..) in &all {
        match error {
            RenderError::Template { .. }
            | RenderError::Read { .. }
            | RenderError::Value { .. }
            | RenderError::NothingToRender => {}
        }
    }
    all
}

/// Every way in which a change is not made, with status and exit code.
fn failures() -> Vec<(ChangeError, u16, u8)> {
    let position = |source| ChangeError::Position {
        service: shop(),
        source,
    };
    let mut all = vec![
        (
            ChangeError::UnknownService {
                name: shop(),
                known: "blog".to_owned(),
            },
            404,
            2,
        ),
        (
            ChangeError::WhichService {
                known: "blog, shop".to_owned(),
            },
            400,
            2,
        ),
        (position(PositionError::NoWeights), 409, 1),
        (
            position(PositionError::Split(
                Split::from_percents(80.0, 30.0).unwrap_err(),
            )),
            422,
            2,
        ),
        (ChangeError::NothingToRollBack { service: shop() }, 409, 1),
        (
            ChangeError::BehindAlias {
                service: shop(),
                target: "shop:3000".to_owned(),
            },
            409,
            1,
        ),
        (
            ChangeError::Unhealthy {
                service: shop(),
                color: Color::Green,
                reasons: "connection refused".to_owned(),
            },
            409,
            1,
        ),
        (
            ChangeError::Followed {
                service: shop(),
                file: "/srv/bg_state.json".into(),
            },
            409,
            1,
        ),
        (
            ChangeError::NotHere {
                what: "hold",
                balancer: "nginx",
            },
            409,
            1,
        ),
        (ChangeError::NoRollout { service: shop() }, 409, 1),
        (ChangeError::NothingStaged, 409, 1),
        (
            ChangeError::StagedOutdated {
                staged: Generation(3),
                why: "generation 4 is in force".to_owned(),
            },
            409,
            1,
        ),
        (
            ChangeError::NotDrained {
                service: shop(),
                color: Color::Blue,
                seconds: 30,
                what: "2 old workers".to_owned(),
            },
            504,
            124,
        ),
        (
            ChangeError::Lock(LockError::Held {
                path: "/var/lib/turnout/change.lock".into(),
                holder: None,
            }),
            423,
            75,
        ),
        (
            ChangeError::NeedsPerson {
                what: "the state cannot be read".to_owned(),
                advice: "Put a good copy in its place".to_owned(),
                source: None,
            },
            500,
            4,
        ),
        (ChangeError::ShuttingDown, 503, 69),
    ];
    for (error, status, exit) in apply_failures() {
        all.push((error.into(), status, exit));
    }
    for (error, status, exit) in render_failures() {
        all.push((error.into(), status, exit));
    }
    for (error, exit) in store_failures() {
        all.push((error.into(), 500, exit));
    }
    for (error, exit) in store_failures() {
        all.push((LockError::Store(error).into(), 500, exit));
    }
    for (error, ..) in &all {
        match error {
            ChangeError::UnknownService { .. }
            | ChangeError::WhichService { .. }
            | ChangeError::Position { .. }
            | ChangeError::NothingToRollBack { .. }
            | ChangeError::Unhealthy { .. }
            | ChangeError::BehindAlias { .. }
            | ChangeError::Followed { .. }
            | ChangeError::NotHere { .. }
            | ChangeError::RolloutRuns { .. }
            | ChangeError::NoRollout { .. }
            | ChangeError::NothingStaged
            | ChangeError::StagedOutdated { .. }
            | ChangeError::NotDrained { .. }
            | ChangeError::Lock(_)
            | ChangeError::Render(_)
            | ChangeError::Apply(_)
            | ChangeError::Store(_)
            | ChangeError::NeedsPerson { .. }
            | ChangeError::ShuttingDown => {}
        }
    }
    all
}

#[test]
fn each_failure_has_the_status_and_the_exit_code_of_the_contract() {
    for (error, status, exit) in failures() {
        let text = describe(&error);
        let problem = Problem::from(error);
        assert_eq!(
            (problem.status.as_u16(), problem.exit.code()),
            (status, exit),
            "{text}"
        );
    }
}

/// A daemon that meets one failure after the other, over a real connection and with the real client.
#[tokio::test]
async fn a_failure_ends_in_the_same_exit_code_with_and_without_a_daemon() {
    let failed: Arc<Vec<_>> = Arc::new(failures());
    let next = Arc::new(AtomicUsize::new(0));
    let daemon = {
        let next = Arc::clone(&next);
        axum::Router::new().fallback(move || {
            let which = next.fetch_add(1, Ordering::SeqCst);
            async move { Problem::from(failures().swap_remove(which).0) }
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = ServerAddress::of_socket(listener.local_addr().unwrap());
    let running = tokio::spawn(async move { axum::serve(listener, daemon).await });
    let client = Client::new(&address, None).unwrap();
    let request = Request::new(Verb::Apply, "");
    for (error, status, _) in failed.iter() {
        let local = ExitCode::from(error);
        let answer = client.change(&request).await.unwrap_err();
        assert_eq!(ExitCode::from(&answer), local, "{}", Chain(error));
        assert!(
            matches!(&answer, ClientError::Refused { status: seen, detail, .. }
                if seen == status && *detail == describe(error)),
            "{answer:?}"
        );
    }
    assert_eq!(next.load(Ordering::SeqCst), failed.len());
    running.abort();
}

#[test]
fn the_detail_has_the_causes() {
    let problem = Problem::from(ChangeError::Position {
        service: shop(),
        source: PositionError::NoWeights,
    });
    assert_eq!(
        problem.detail(),
        "failed to move shop: the strategy is blue_green, which has no weights: use `switch`, or set the strategy to canary first"
    );
}

#[test]
fn a_refused_token_is_challenged() {
    let response = Problem::token_wrong().into_response();
    assert_eq!(
        response.headers()[header::WWW_AUTHENTICATE],
        r#"Bearer realm="turnout", error="invalid_token""#
    );
    assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
}
