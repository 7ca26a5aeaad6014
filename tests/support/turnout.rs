//! The program under test: its commands with their exit codes, its daemon, and its API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Answer, Background, Connection, Ran, Run, get};

/// The binary that cargo has built for these tests.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_turnout");

/// `turnout --config FILE`, to which verbs are added.
#[derive(Debug, Clone)]
pub(crate) struct Turnout {
    config: PathBuf,
    control: SocketAddr,
}

impl Turnout {
    pub(crate) fn new(config: &Path, control: SocketAddr) -> Self {
        Self {
            config: config.to_owned(),
            control,
        }
    }

    /// A command, not yet run.
    pub(crate) fn command(&self, args: &[&str]) -> Run {
        Run::new(BINARY)
            .arg("--config")
            .arg(&self.config)
            .args(args)
            .env("NO_COLOR", "1")
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.command(args).run().sane()
    }

    /// Runs a command and fails unless it exits with 0.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> Ran {
        self.run(args).exits(0)
    }

    /// Starts the daemon and waits until it says that it is ready.
    #[track_caller]
    pub(crate) fn serve(&self) -> Daemon {
        let daemon = self.serve_unready();
        daemon.wait_ready();
        daemon
    }

    /// Starts the daemon and waits for nothing.
    pub(crate) fn serve_unready(&self) -> Daemon {
        let log = self.config.with_extension("log");
        let begins_at = std::fs::metadata(&log).map_or(0, |meta| meta.len());
        Daemon {
            process: self.command(&["serve"]).background(&log),
            api: Api::new(self.control),
            begins_at: usize::try_from(begins_at).unwrap(),
            allowed: Vec::new(),
        }
    }
}

/// A running daemon. When it is dropped it is stopped, and its log must be clean.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Background,
    api: Api,
    begins_at: usize,
    allowed: Vec<String>,
}

impl Daemon {
    /// The control API.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// The process.
    pub(crate) fn process(&mut self) -> &mut Background {
        &mut self.process
    }

    /// What it has logged since it was started.
    pub(crate) fn log(&self) -> String {
        let all = self.process.printed();
        all.get(self.begins_at..).unwrap_or_default().to_owned()
    }

    /// Lines with this text may be errors.
    pub(crate) fn allow(mut self, text: &str) -> Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// Waits for `/readyz`.
    #[track_caller]
    pub(crate) fn wait_ready(&self) {
        let address = self.api.address;
        let ready = || {
            get(address, "/readyz", &[])
                .is_ok_and(|answer| answer.status == 200)
                .then_some(())
        };
        let begin = std::time::Instant::now();
        while ready().is_none() {
            assert!(
                begin.elapsed() < super::SOON,
                "the daemon is not ready; it said:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, and its exit status.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        self.process.wait(Duration::from_mins(1))
    }

    /// SIGKILL. Nothing of its log is judged but a panic.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the daemon's log\n{}---", self.log());
            return;
        }
        let log = self.log();
        let bad: Vec<_> = log
            .lines()
            .filter(|line| line.contains("panicked at") || line.contains("ERROR"))
            .filter(|line| !self.allowed.iter().any(|text| line.contains(text)))
            .collect();
        assert!(bad.is_empty(), "the daemon logged errors: {bad:#?}\n{log}");
    }
}

/// A control API.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    address: SocketAddr,
}

impl Api {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        get(self.address, path, &[])
            .unwrap_or_else(|failure| panic!("GET {path} on {}: {failure:?}", self.address))
    }

    /// GET; the connection's failure is an error.
    pub(crate) fn try_get(&self, path: &str) -> Result<Answer, super::Failure> {
        get(self.address, path, &[])
    }

    /// POST with a JSON body; the connection's failure is an error.
    pub(crate) fn try_post(&self, path: &str, body: &Value) -> Result<Answer, super::Failure> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        Connection::open(self.address, Duration::from_mins(1))?.send(request.as_bytes())
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body)
            .unwrap_or_else(|failure| panic!("POST {path} on {}: {failure:?}", self.address))
    }

    /// `POST /orchestration/bluegreen/activate`, which must succeed.
    #[track_caller]
    pub(crate) fn activate(&self, color: turnout::domain::Color) -> Value {
        let answer = self.post(
            "/orchestration/bluegreen/activate",
            &serde_json::json!({ "active": color.to_string() }),
        );
        assert_eq!(answer.status, 200, "activate {color}: {}", answer.text());
        answer.json()
    }
}
