//! The control API as clients see it: every endpoint of the orchestration contract, who is let in, what is refused, and the
//! daemon around it.

mod busy;
mod conflicts;
mod daemon;
mod doors;
mod framing;
mod orchestration;
mod refusals;
mod tokens;
mod unread;

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use turnout::domain::Color;

use crate::support::{Answer, Backend, Background, Connection, Daemon, Ports, Run, get, wait_for};

const BINARY: &str = env!("CARGO_BIN_EXE_turnout");

/// Far longer than any change takes here.
const PATIENCE: Duration = Duration::from_mins(1);

/// A request with these header lines; `body: None` sends none.
#[track_caller]
fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: Option<&str>,
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|line| line.starts_with("Host:")) {
        write!(request, "Host: {address}\r\n").unwrap();
    }
    for line in headers {
        request.push_str(line);
        request.push_str("\r\n");
    }
    if let Some(body) = body {
        write!(request, "Content-Length: {}\r\n", body.len()).unwrap();
        if !headers.iter().any(|line| line.starts_with("Content-Type:")) {
            request.push_str("Content-Type: application/json\r\n");
        }
    }
    request.push_str("\r\n");
    request.push_str(body.unwrap_or_default());
    Connection::open(address, PATIENCE)
        .and_then(|mut connection| connection.send(request.as_bytes()))
        .unwrap_or_else(|failure| panic!("{method} {path} on {address}: {failure:?}"))
}

/// An answer that says no, as a problem document, with this status.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, says: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{problem}");
    assert!(problem["title"].is_string(), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(says), "{detail:?} does not say {says:?}");
}

/// Waits until the daemon has said this.
#[track_caller]
fn said(daemon: &Daemon, text: &str) {
    wait_for(&format!("{text:?} in the daemon's log"), PATIENCE, || {
        daemon.log().contains(text).then_some(())
    });
}

/// True if both colors are healthy by this answer of `/health`.
fn is_healthy(health: &Answer) -> bool {
    let upstreams = &health.json()["upstreams"];
    upstreams["blue"]["healthy"] == true && upstreams["green"]["healthy"] == true
}

/// `turnout serve` with nothing but the environment, a blue and a green server behind it.
struct Environment {
    daemon: Background,
    run: Run,
    router: SocketAddr,
    blue: Backend,
    green: Backend,
    folder: TempDir,
}

impl Environment {
    fn start() -> Self {
        Self::with(&[])
    }

    /// With more variables.
    fn with(variables: &[(&str, &str)]) -> Self {
        let environment = Self::unready(variables);
        environment.wait_ready();
        environment.wait_healthy();
        environment
    }

    /// With a token, so that most of the API is closed.
    fn with_token(token: &str) -> Self {
        let environment = Self::unready(&[("ORCH_TOKEN", token)]);
        environment.wait_ready();
        let fitting = format!("Authorization: Bearer {token}");
        wait_for("both colors healthy", PATIENCE, || {
            let health = ask(environment.router, "GET", "/health", &[&fitting], None);
            is_healthy(&health).then_some(())
        });
        environment
    }

    /// With more variables, and waited for by the test.
    fn unready(variables: &[(&str, &str)]) -> Self {
        let folder = TempDir::with_prefix("turnout-test-").unwrap();
        let (blue, green) = (Backend::start(Color::Blue), Backend::start(Color::Green));
        let router = Ports::address();
        let mut run = Run::new(BINARY)
            .arg("serve")
            .env("BLUE_URL", blue.url())
            .env("GREEN_URL", green.url())
            .env("ROUTER_HOST", "127.0.0.1")
            .env("ROUTER_PORT", router.port().to_string())
            .env("TURNOUT_STATE_DIR", folder.path().join("state"));
        for (name, value) in variables {
            run = run.env(name, value);
        }
        let daemon = run.background(&folder.path().join("log"));
        Self {
            daemon,
            run,
            router,
            blue,
            green,
            folder,
        }
    }

    /// The same once more, after its end.
    fn again(self) -> Self {
        let daemon = self.run.background(&self.folder.path().join("log"));
        let environment = Self { daemon, ..self };
        environment.wait_ready();
        environment
    }

    fn wait_healthy(&self) {
        wait_for("both colors healthy", PATIENCE, || {
            is_healthy(&self.get("/health")).then_some(())
        });
    }

    fn wait_ready(&self) {
        let begin = std::time::Instant::now();
        // an answer of the application, to which the path leads until the API is there, says who gave it
        while !get(self.router, "/readyz", &[])
            .is_ok_and(|answer| answer.status == 200 && answer.header("x-routed-to").is_none())
        {
            assert!(
                begin.elapsed() < PATIENCE,
                "not ready; it said:\n{}",
                self.daemon.printed()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn get(&self, path: &str) -> Answer {
        ask(self.router, "GET", path, &[], None)
    }

    #[track_caller]
    fn post(&self, path: &str, body: &str) -> Answer {
        ask(self.router, "POST", path, &[], Some(body))
    }

    /// A write that must succeed; its answer.
    #[track_caller]
    fn done(&self, path: &str, body: &str) -> Value {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 200, "POST {path} {body}: {}", answer.text());
        answer.json()
    }

    /// Who answers the next request, on a connection of its own.
    #[track_caller]
    fn served(&self) -> Color {
        self.get("/").backend().expect("a backend answers")
    }

    fn status(&self) -> Value {
        self.get("/orchestration/status").json()
    }
}
