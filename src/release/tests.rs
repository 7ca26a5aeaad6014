//! Real processes: `sh` that leaves its traces in files.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::time::Instant;

use super::*;
use crate::config::Workload;
use crate::domain::{Color, Colors, ServiceName};

const SOON: Duration = Duration::from_secs(10);

fn workload(script: &str) -> Workload {
    Workload {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        dir: None,
        env: BTreeMap::new(),
        ports: Colors {
            blue: 5001,
            green: 5002,
        },
        versions: Colors {
            blue: Some("v1".to_owned()),
            green: None,
        },
        stop_grace: Duration::from_secs(5),
    }
}

struct Yard {
    folder: tempfile::TempDir,
    service: ServiceName,
}

impl Yard {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            service: "shop".parse().unwrap(),
        }
    }

    fn workloads(&self) -> Workloads {
        Workloads::new(&self.folder.path().join("state"), self.folder.path().into())
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join(name)).ok()
    }

    /// The lines of a file, once there are `count`.
    async fn lines(&self, name: &str, count: usize) -> Vec<String> {
        let deadline = Instant::now() + SOON;
        loop {
            let text = self.read(name).unwrap_or_default();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            if lines.len() >= count && text.ends_with('\n') {
                return lines;
            }
            assert!(Instant::now() < deadline, "{name}: {lines:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[tokio::test]
async fn a_workload_gets_its_environment_and_prints_into_its_file() {
    let yard = Yard::new();
    let mut workload = workload(
        "echo \"$ENVIRONMENT_COLOR $APPLICATION_PORT $PORT $APP_VERSION $URL {color} {port} {version}\" > env; \
         echo out; echo err >&2; exec sleep 60",
    );
    workload.env = BTreeMap::from([("URL".to_owned(), "http://x:{port}".to_owned())]);
    let mut workloads = yard.workloads();
    let started = workloads
        .start(&yard.service, &workload, Color::Blue, None)
        .await
        .unwrap();
    assert_eq!(started, Started::Now);
    assert_eq!(
        yard.lines("env", 1).await,
        ["blue 5001 5001 v1 http://x:5001 blue 5001 v1"]
    );
    let printed = yard.lines("state/workloads/shop-blue.out", 2).await;
    assert_eq!(printed, ["out", "err"]);
    assert_eq!(workloads.stop_all().await.len(), 0);
}

#[tokio::test]
async fn a_stop_ends_the_whole_group_even_what_ignores_sigterm() {
    let yard = Yard::new();
    let mut workload = workload(
        "sh -c 'trap \"\" TERM; echo $$ >> pids; while :; do sleep 0.05; done' & \
         sleep 60 & echo $! >> pids; echo $$ >> pids; wait",
    );
    workload.stop_grace = Duration::from_millis(300);
    let mut workloads = yard.workloads();
    workloads
        .start(&yard.service, &workload, Color::Blue, None)
        .await
        .unwrap();
    let pids = yard.lines("pids", 3).await;
    assert!(pids.iter().all(|pid| runs(pid)), "{pids:?}");
    workloads.stop(&yard.service, Color::Blue).await.unwrap();
    assert!(!pids.iter().any(|pid| runs(pid)), "{pids:?}");
    assert_eq!(yard.read("state/workloads/shop-blue.json"), None);
}

#[tokio::test]
async fn a_workload_that_ends_is_started_again_after_a_growing_wait() {
    let yard = Yard::new();
    let workload = workload("date +%s%N >> starts; exit 3");
    let mut workloads = yard.workloads();
    workloads
        .start(&yard.service, &workload, Color::Blue, None)
        .await
        .unwrap();
    let starts: Vec<u64> = yard
        .lines("starts", 3)
        .await
        .iter()
        .map(|nanoseconds| nanoseconds.parse::<u64>().unwrap() / 1_000_000)
        .collect();
    let (first, second) = (starts[1] - starts[0], starts[2] - starts[1]);
    assert!((500..900).contains(&first), "{first} ms");
    assert!((1_000..1_600).contains(&second), "{second} ms");
    assert_eq!(workloads.stop_all().await.len(), 0);
}

#[tokio::test]
async fn the_next_turnout_adopts_what_runs_and_restarts_it_when_it_ends() {
    let yard = Yard::new();
    let workload = workload("echo $$ >> pids; exec sleep 60");
    let mut before = yard.workloads();
    before
        .start(&yard.service, &workload, Color::Blue, None)
        .await
        .unwrap();
    let first = yard.lines("pids", 1).await[0].clone();
    let again = before
        .start(&yard.service, &workload, Color::Blue, None)
        .await
        .unwrap();
    assert_eq!(again, Started::Already);
    drop(before);

    let mut after = yard.workloads();
    let adopted = after
        .start(&yard.service, &workload, Color::Blue, None)
        .await
        .unwrap();
    assert_eq!(adopted, Started::Adopted);
    assert_eq!(yard.lines("pids", 1).await[0], first);
    let pid = Pid::from_raw(first.parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let pids = yard.lines("pids", 2).await;
    assert_ne!(pids[1], first);
    after.stop(&yard.service, Color::Blue).await.unwrap();
    assert!(!runs(&pids[1]));
}

#[tokio::test]
async fn the_next_turnout_keeps_what_runs_although_it_would_start_something_else() {
    let yard = Yard::new();
    let old = workload("echo $$ >> old; exec sleep 60");
    let new = workload("echo $$ >> new; exec sleep 60");
    let mut before = yard.workloads();
    before
        .start(&yard.service, &old, Color::Blue, None)
        .await
        .unwrap();
    let pid = yard.lines("old", 1).await[0].clone();
    drop(before);
    let mut after = yard.workloads();
    let kept = after.keep(&yard.service, &new, Color::Blue).await.unwrap();
    assert_eq!(kept, Started::Outdated);
    assert!(runs(&pid));
    assert_eq!(yard.read("new"), None);
    // who asks for the new one gets it
    let started = after
        .start(&yard.service, &new, Color::Blue, None)
        .await
        .unwrap();
    assert_eq!(started, Started::Now);
    assert!(!runs(&pid));
    assert_eq!(yard.lines("new", 1).await.len(), 1);
    assert_eq!(after.stop_all().await.len(), 0);
}

#[tokio::test]
async fn another_version_replaces_what_runs_and_leaves_the_other_color_alone() {
    let yard = Yard::new();
    let workload = workload("echo $$ >> {color}; exec sleep 60");
    let mut workloads = yard.workloads();
    for color in Color::BOTH {
        workloads
            .start(&yard.service, &workload, color, None)
            .await
            .unwrap();
    }
    let blue = yard.lines("blue", 1).await;
    let green = yard.lines("green", 1).await;
    let started = workloads
        .start(&yard.service, &workload, Color::Blue, Some("v2"))
        .await
        .unwrap();
    assert_eq!(started, Started::Now);
    assert_eq!(yard.lines("blue", 2).await.len(), 2);
    assert!(!runs(&blue[0]));
    assert!(runs(&green[0]));
    assert_eq!(workloads.stop_all().await.len(), 0);
    assert!(!runs(&green[0]));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said_at_once() {
    let yard = Yard::new();
    let mut workload = workload("");
    workload.command = vec!["/nonexistent/shop".to_owned()];
    let error = yard
        .workloads()
        .start(&yard.service, &workload, Color::Green, None)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "failed to start the green workload of shop: `/nonexistent/shop` in {}",
            yard.folder.path().display()
        )
    );
}
