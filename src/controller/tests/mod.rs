//! The controller over a fake balancer that fails on request, a real state directory and real servers for the gate.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's file need not survive a crash"
)]

mod daemon;
mod failover;
mod follow;
mod record;
mod recover;
mod relief;
mod removed;
mod rollouts;
mod rollouts_next;
mod rollouts_told;
mod rollouts_waiting;
mod rollouts_watching;
mod staged;
mod tend;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::balancer::fake::{Ending, Fake};
use crate::balancer::{ApplyError, Disk, FrontDoor, Progress, Served, Step};
use crate::config::{Config, Env, Source};
use crate::domain::{Color, Generation, ProbeFailure, ProbeOutcome, Split};
use crate::store::Store;

/// A server that answers every request with 200, for as long as the test runs.
fn healthy_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            if stream.read(&mut head).is_ok() {
                // a client that has gone away is no matter
                drop(stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
                ));
            }
        }
    });
    address
}

/// An address where nobody listens.
fn dead_server() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

struct Lab {
    dir: tempfile::TempDir,
    fake: Fake,
    blue: SocketAddr,
    green: SocketAddr,
    /// YAML that follows.
    more: &'static str,
    /// Services besides `shop`.
    others: usize,
    /// Whether the active color is another tool's to say.
    follow: bool,
}

impl Lab {
    fn new() -> Self {
        Self::with(healthy_server(), healthy_server())
    }

    fn with(blue: SocketAddr, green: SocketAddr) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            fake: Fake::new(),
            blue,
            green,
            more: "",
            others: 0,
            follow: false,
        }
    }

    fn config(&self) -> Arc<Config> {
        let path = self.dir.path().join("turnout.yaml");
        let follow = if self.follow {
            ", follow: { file: bg_state.json, field: active, service: shop }"
        } else {
            ""
        };
        let mut text = format!(
            "version: 1\nstate: {{ dir: state{follow} }}\nbalancer: {{ kind: nginx }}\nservices:\n  shop:\n    listen: 127.0.0.1:8080\n    blue: {{ servers: [\"http://{}\"] }}\n    green: {{ servers: [\"http://{}\"] }}\n    health: {{ unhealthy_after: 2 }}\n{}",
            self.blue, self.green, self.more
        );
        for number in 0..self.others {
            text.extend([format!(
                "  other-{number}:\n    hosts: [other-{number}.example.com]\n    listen: 127.0.0.1:8080\n    blue: {{ servers: [\"http://{}\"] }}\n    green: {{ servers: [\"http://{}\"] }}\n",
                self.blue, self.green
            )]);
        }
        std::fs::write(&path, text).unwrap();
        let env = Env::new(self.dir.path().to_owned(), |_| None);
        Arc::new(Config::load(&Source::file(&path, &env), &env).unwrap())
    }

    fn store(&self) -> Store {
        Store::new(self.dir.path().join("state"))
    }

    /// A controller as a new process would make it.
    fn controller(&self) -> Controller<Fake> {
        Controller::new(self.config(), self.store(), self.fake.clone(), "test")
    }

    fn active(&self) -> Color {
        let state = self.store().load().unwrap().state;
        state.services[&"shop".parse().unwrap()].position.active()
    }

    fn served(&self) -> Option<Color> {
        let observed = futures_now(crate::balancer::Balancer::observe(&self.fake));
        observed.served.whole(&"shop".parse().unwrap())
    }
}

/// The fake never waits.
fn futures_now<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the fake does not wait"),
    }
}

fn switch(to: Color) -> Request {
    Request::new(
        Verb::Switch {
            service: None,
            to: Some(to),
        },
        "tester",
    )
}

async fn ask(controller: &mut Controller<Fake>, request: &Request) -> Result<Outcome, ChangeError> {
    controller.change(request, Progress::silent()).await
}

/// A switch to green whose process dies while it waits for the balancer.
async fn killed(controller: &mut Controller<Fake>) {
    let request = switch(Color::Green);
    let dies = tokio::time::timeout(Duration::from_millis(300), ask(controller, &request));
    assert!(dies.await.is_err(), "the fake was told to hang");
}

async fn applied(lab: &Lab) -> Controller<Fake> {
    let mut controller = lab.controller();
    let outcome = ask(&mut controller, &Request::new(Verb::Apply, "tester"))
        .await
        .unwrap();
    assert_eq!((outcome.changed, outcome.generation), (true, Generation(1)));
    controller
}

#[tokio::test]
async fn a_switch_is_proved_recorded_and_audited() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    let mut request = switch(Color::Green);
    request.message = Some("build 7".to_owned());
    let outcome = ask(&mut controller, &request).await.unwrap();
    assert_eq!((outcome.changed, outcome.generation), (true, Generation(2)));
    assert_eq!(outcome.service.unwrap().active, Color::Green);
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Green, Some(Color::Green))
    );
    let active = std::fs::read(lab.store().dir().join("active/shop")).unwrap();
    assert_eq!(active, b"green");
    let history = lab.store().history(None, 10).unwrap();
    assert_eq!(
        history
            .iter()
            .map(|entry| entry.action.as_str())
            .collect::<Vec<_>>(),
        ["switch", "apply"]
    );
    assert_eq!(
        (
            history[0].message.as_str(),
            history[0].actor.as_str(),
            history[0].success
        ),
        ("build 7", "tester", true)
    );
}

#[tokio::test]
async fn what_is_so_already_is_not_done_again() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    for request in [switch(Color::Blue), Request::new(Verb::Apply, "tester")] {
        let outcome = ask(&mut controller, &request).await.unwrap();
        assert_eq!(
            (outcome.changed, outcome.generation),
            (false, Generation(1))
        );
    }
    assert_eq!(lab.fake.applies().len(), 1);
    // but a balancer that serves something else is told, although the state says nothing is to be done
    lab.fake.serve(Served::Foreign {
        reason: "restarted with an old file".to_owned(),
    });
    assert!(
        ask(&mut controller, &switch(Color::Blue))
            .await
            .unwrap()
            .changed
    );
    assert_eq!(lab.served(), Some(Color::Blue));
}

#[tokio::test]
async fn what_the_configuration_does_not_have_any_more_is_forgotten_but_for_its_history() {
    let mut lab = Lab::new();
    lab.others = 200;
    drop(applied(&lab).await);
    let folder = lab.store().dir().join("active");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 201);
    lab.others = 0;
    let mut controller = lab.controller();
    let outcome = ask(&mut controller, &switch(Color::Green)).await.unwrap();
    assert_eq!(outcome.generation, Generation(2));
    let state = lab.store().load().unwrap().state;
    let names: Vec<_> = state.services.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["shop"]);
    let left: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["shop"]);
    let journal = std::fs::read_to_string(lab.store().dir().join("journal.jsonl")).unwrap();
    assert!(journal.lines().next().unwrap().contains("other-199"));
    assert_eq!(lab.store().history(None, 10).unwrap().len(), 2);
}

#[tokio::test]
async fn a_dry_run_touches_nothing() {
    let lab = Lab::new();
    let mut controller = lab.controller();
    let mut request = Request::new(Verb::Apply, "tester");
    request.dry_run = true;
    let outcome = ask(&mut controller, &request).await.unwrap();
    assert!(outcome.dry_run && !outcome.changed);
    assert_eq!(outcome.plan.steps.len(), 1);
    assert_eq!(lab.fake.applies().len(), 0);
    assert!(!lab.store().dir().exists());
}

#[tokio::test]
async fn an_unhealthy_target_is_refused_unless_forced_and_then_not_asked() {
    let lab = Lab::with(healthy_server(), dead_server());
    let mut controller = applied(&lab).await;
    let error = ask(&mut controller, &switch(Color::Green))
        .await
        .unwrap_err();
    let ChangeError::Unhealthy {
        color: Color::Green,
        reasons,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        *reasons,
        format!("http://{}: connection refused", lab.green)
    );
    let mut forced = switch(Color::Green);
    forced.force = true;
    ask(&mut controller, &forced).await.unwrap();
    assert_eq!(
        lab.fake.applies().last().unwrap().front_door,
        FrontDoor::Skip
    );
    // the way back needs nothing from the color that is left
    let back = Request::new(Verb::Rollback { service: None }, "tester");
    ask(&mut controller, &back).await.unwrap();
    assert_eq!(
        (lab.active(), lab.served()),
        (Color::Blue, Some(Color::Blue))
    );
}

#[tokio::test]
async fn an_edited_file_stops_a_switch_but_not_the_way_back() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    ask(&mut controller, &switch(Color::Green)).await.unwrap();
    lab.fake.put_on_disk(Disk::Edited {
        generation: Generation(2),
        path: "/etc/nginx/turnout/shop.conf".into(),
    });
    let error = ask(&mut controller, &switch(Color::Blue))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ChangeError::Apply(ApplyError::Edited { path, .. }) if path.ends_with("turnout/shop.conf")),
        "{error:?}"
    );
    assert_eq!(lab.fake.applies().len(), 2, "it was not even tried");
    let back = Request::new(Verb::Rollback { service: None }, "tester");
    ask(&mut controller, &back).await.unwrap();
    assert_eq!(lab.active(), Color::Blue);
}

#[tokio::test]
async fn weights_move_only_under_canary_and_end_in_a_promotion() {
    let lab = Lab::new();
    let mut controller = applied(&lab).await;
    let weights = |blue: f64| {
        let weights = Split::from_percents(blue, 100.0 - blue).unwrap();
        Request::new(
            Verb::Weights {
                service: None,
                weights,
            },
            "tester",
        )
    };
    let error = ask(&mut controller, &weights(90.0)).await.unwrap_err();
    assert!(matches!(error, ChangeError::Position { .. }), "{error:?}");
    let canary = Verb::Strategy {
        service: None,
        strategy: crate::domain::Strategy::Canary,
    };
    ask(&mut controller, &Request::new(canary, "tester"))
        .await
        .unwrap();
    ask(&mut controller, &weights(90.0)).await.unwrap();
    assert_eq!(lab.active(), Color::Blue);
    let shift = Verb::Shift {
        service: None,
        by: 95.0,
        towards: Color::Green,
    };
    let outcome = ask(&mut controller, &Request::new(shift, "tester"))
        .await
        .unwrap();
    let service = outcome.service.unwrap();
    assert_eq!(
        (service.active, service.previous),
        (Color::Green, Some(Color::Blue))
    );
}
