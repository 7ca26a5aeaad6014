//! The first example that anybody runs: it starts its servers itself, and ends with them.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use turnout::domain::Color;

use super::example::Example;
use crate::support::{get, shared, wait_for};

#[test]
fn quickstart_serves_switches_within_a_second_and_ends_with_ctrl_c() {
    let _turn = shared();
    let example = Example::new("quickstart.yaml");
    let mut daemon = example.serve();
    assert_eq!(example.routed(), Some(Color::Blue));
    assert!(
        example.ask().text().contains("1.0.0") || health(&example).contains("1.0.0"),
        "blue is not v1.0.0"
    );

    let begin = Instant::now();
    example.turnout.ok(&["switch", "green"]);
    assert_eq!(example.routed(), Some(Color::Green));
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "the switch took {:?}",
        begin.elapsed()
    );
    assert!(health(&example).contains("1.1.0"), "green is not v1.1.0");

    let workloads = children(daemon.process().pid());
    assert_eq!(workloads.len(), 2, "{workloads:?}");
    // ctrl-C reaches the whole foreground group; the daemon alone must do
    daemon.process().signal(Signal::SIGINT);
    let status = daemon.process().wait(Duration::from_mins(1));
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    for pid in workloads {
        wait_for("the end of the workloads", Duration::from_mins(1), || {
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
    }
}

fn health(example: &Example) -> String {
    get(example.listen(), "/health", &[]).unwrap().text()
}

fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|children| {
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}
