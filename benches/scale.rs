//! How long `turnout apply --dry-run` takes at 20, 200 and 2,000 services: configuration read, table built, template
//! rendered, plan made. `cargo bench --bench scale` prints the times and how they grow.
//!
//! nginx is not needed: without a running one the rendered configuration is not checked, and that part of the time is
//! nginx's own. The median of five runs is shown, since the machines this runs on are rarely quiet.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement that cannot go on says so by a panic, and its result by printing; it starts turnout from outside"
)]

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [20, 200, 2_000];
const ROUNDS: usize = 5;

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    println!(
        "{:>9}  {:>10}  {:>14}",
        "services", "median ms", "us a service"
    );
    let mut medians = Vec::new();
    for size in SIZES {
        let config = dir.path().join(format!("{size}.yaml"));
        std::fs::write(&config, configuration(size)).expect("the configuration is written");
        let mut times: Vec<Duration> = (0..ROUNDS).map(|_| dry_run(&config)).collect();
        times.sort();
        let median = times[ROUNDS / 2];
        let each = median.as_secs_f64() * 1e6 / f64::from(u32::try_from(size).expect("small"));
        println!(
            "{size:>9}  {:>10.1}  {each:>14.1}",
            median.as_secs_f64() * 1e3
        );
        medians.push(median);
    }
    let growth = medians[2].as_secs_f64() / medians[1].as_secs_f64();
    println!("from 200 to 2,000 services the time grows {growth:.1} times (10 is linear)");
}

fn dry_run(config: &std::path::Path) -> Duration {
    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_turnout"))
        .args(["--config"])
        .arg(config)
        .args(["apply", "--dry-run", "-o", "json"])
        .output()
        .expect("turnout starts");
    let taken = start.elapsed();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    taken
}

fn configuration(services: usize) -> String {
    let mut text = String::from(
        "version: 1\nstate: { dir: state }\nbalancer:\n  kind: nginx\n  nginx: { config: nginx/turnout.conf, main: nginx/nginx.conf, pid: nginx/nginx.pid, prove: 127.0.0.1:19181, snippets: nginx/snippets }\nservices:\n",
    );
    for number in 0..services {
        let (a, b) = (number / 200, number % 200 + 1);
        writeln!(
            text,
            "  service-{number}:\n    hosts: [service-{number}.example.com]\n    listen: 127.0.0.1:18080\n    blue: {{ servers: [\"http://10.1.{a}.{b}:8080\", \"http://10.2.{a}.{b}:8080\"] }}\n    green: {{ servers: [\"http://10.3.{a}.{b}:8080\", \"http://10.4.{a}.{b}:8080\"] }}"
        )
        .expect("a string takes it");
    }
    text
}
