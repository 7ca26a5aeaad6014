//! The master of the lab's nginx, by its pid file: its workers, signals and end, and a process that is none.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use turnout::exec::command;

use super::lab::Lab;

impl Lab {
    pub(super) fn master(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.pid_file())
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        title
            .starts_with("nginx: master")
            .then(|| Pid::from_raw(pid))
    }

    pub(super) fn workers(&self) -> Vec<String> {
        let master = self.master().unwrap();
        let children =
            fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap();
        children.split_whitespace().map(str::to_owned).collect()
    }

    /// A reload by somebody else, waited for.
    pub(super) async fn reload(&self) {
        let old = self.workers();
        kill(self.master().unwrap(), Signal::SIGHUP).unwrap();
        self.gone(&old).await;
    }

    /// Until all of these workers are.
    pub(super) async fn gone(&self, old: &[String]) {
        until("the old workers are gone", || {
            !self.workers().iter().any(|pid| old.contains(pid))
        })
        .await;
    }

    pub(super) async fn stop(&self) {
        kill(self.master().unwrap(), Signal::SIGTERM).unwrap();
        until("nginx has ended", || !self.pid_file().exists()).await;
    }

    /// Until the master is at a reload: it blocks SIGHUP then.
    pub(super) async fn is_loading(&self) {
        let status = format!("/proc/{}/status", self.master().unwrap());
        until("the master loads", || {
            let status = fs::read_to_string(&status).unwrap();
            let mask = status
                .lines()
                .find_map(|line| line.strip_prefix("SigBlk:"))
                .unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1
        })
        .await;
    }

    pub(super) fn kill_master(&self) {
        kill(self.master().unwrap(), Signal::SIGKILL).unwrap();
    }

    /// Ends a worker whose master was killed; it may have ended by itself.
    pub(super) fn kill_orphan(worker: &str) {
        kill(Pid::from_raw(worker.parse().unwrap()), Signal::SIGKILL).ok();
    }

    pub(super) fn sleeper() -> Sleeper {
        let mut sleep = command(&["sleep", "600"], &BTreeMap::new(), None);
        Sleeper(sleep.stdin(Stdio::null()).spawn().unwrap())
    }
}

pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < crate::support::SOON,
            "timed out: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) struct Sleeper(tokio::process::Child);

impl Sleeper {
    pub(super) fn id(&self) -> u32 {
        self.0.id().unwrap()
    }

    pub(super) fn lives(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        !stat.contains(") Z ")
    }

    pub(super) async fn end(mut self) -> u32 {
        let id = self.id();
        self.0.kill().await.unwrap();
        id
    }
}
