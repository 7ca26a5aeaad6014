//! Two thousand services in one file: `apply --dry-run` from the program's start to its end, nginx's own check included; and the
//! daemon with the embedded proxy, from its start to the first proof and through a switch of one of them.
//!
//! The limit of the dry run is the promised one, and holds for the unoptimized program that the tests run. Two thirds of the time are
//! nginx's own. `cargo bench --bench scale` has the times of the optimized program and how they grow.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use turnout::domain::Color;

use crate::support::{Connection, Ports, Site, alone, get, wait_for};

const SERVICES: usize = 2_000;
/// Quiet, unoptimized: under 5 s (`cargo bench --bench scale` has the times). Four times that is a fault on any machine.
const LIMIT: Duration = Duration::from_secs(20);
/// On a machine that does ten other things.
const DEADLINE: Duration = Duration::from_secs(100);

/// Processor time of all programs that this process has started and seen end.
fn of_children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // behind the name, which may hold blanks: cutime and cstime are the 14th and 15th, in hundredths of a second (USER_HZ)
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let ticks: u64 = fields
        .skip(13)
        .take(2)
        .map(|n| n.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_dry_run_over_2_000_services_takes_seconds() {
    let _turn = alone();
    let site = Site::nginx();
    let listen = Ports::address();
    let mut text = std::fs::read_to_string(site.config()).unwrap();
    for number in 1..SERVICES {
        let (a, b) = (number / 200, number % 200 + 1);
        writeln!(
            text,
            "  service-{number}:\n    hosts: [service-{number}.example.com]\n    listen: {listen}\n    blue: {{ servers: [\"http://10.1.{a}.{b}:8080\", \"http://10.2.{a}.{b}:8080\"] }}\n    green: {{ servers: [\"http://10.3.{a}.{b}:8080\", \"http://10.4.{a}.{b}:8080\"] }}"
        )
        .unwrap();
    }
    std::fs::write(site.config(), text).unwrap();

    let command = site
        .turnout()
        .command(&["apply", "--dry-run", "-o", "json"]);
    let (begun, before) = (Instant::now(), of_children());
    let rehearsed = command.deadline(DEADLINE).run().sane().exits(0);
    let (took, worked) = (begun.elapsed(), of_children().saturating_sub(before));

    println!("apply --dry-run over {SERVICES} services: {took:?}, of which {worked:?} at work");
    // where others compute as well, the clock on the wall measures them
    assert!(
        took.min(worked) <= LIMIT,
        "{took:?}, of which {worked:?} at work"
    );
    let outcome = rehearsed.json();
    assert_eq!(outcome["plan"]["steps"].as_array().unwrap().len(), SERVICES);
    assert_eq!(
        (&outcome["dry_run"], &outcome["changed"]),
        (&true.into(), &false.into())
    );
    assert_eq!(
        outcome["warnings"],
        serde_json::json!([]),
        "nginx checked it"
    );
    assert!(!site.balancer().config().exists());
    assert!(!site.state_dir().join("state.json").exists());
}

/// Of the program's own work, all threads together, unoptimized: 7 to 15 s were measured.
const READY: Duration = Duration::from_secs(30);

/// Processor time of a running program.
fn worked(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let ticks = fields.skip(11).take(2).map(|n| n.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

#[test]
fn the_embedded_proxy_is_ready_with_2_000_services_and_switches_one_of_them() {
    let _turn = alone();
    let site = Site::embedded("blue_green");
    let mut text = std::fs::read_to_string(site.config()).unwrap();
    let (blue, green) = (site.blue.address(), site.green.address());
    let front = Ports::address();
    for number in 1..SERVICES {
        writeln!(
            text,
            "  service-{number}:\n    hosts: [service-{number}.example.com]\n    listen: {front}\n    blue: {{ servers: [\"http://{blue}\"] }}\n    green: {{ servers: [\"http://{green}\"] }}"
        )
        .unwrap();
    }
    std::fs::write(site.config(), text).unwrap();
    let begun = Instant::now();
    let mut daemon = site.turnout().serve_unready();
    let pid = daemon.process().pid();
    wait_for("the first proof", DEADLINE, || {
        let answer = get(site.control, "/readyz", &[]).ok()?;
        (answer.status == 200).then_some(())
    });
    let (took, ready) = (begun.elapsed(), worked(pid));
    let begun = Instant::now();
    let path = "/orchestration/bluegreen/activate?service=service-7";
    let answer = daemon
        .api()
        .post(path, &serde_json::json!({ "active": "green" }));
    println!(
        "ready after {took:?}, of which {ready:?} at work; a switch of one: {:?}",
        begun.elapsed()
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (number, color) in [(7, Color::Green), (8, Color::Blue)] {
        let request = format!("GET / HTTP/1.1\r\nHost: service-{number}.example.com\r\n\r\n");
        let mut client = Connection::open(front, DEADLINE).unwrap();
        let answer = client.send(request.as_bytes()).unwrap();
        assert_eq!((answer.status, answer.backend()), (200, Some(color)));
    }
    assert!(ready < READY, "{ready:?} at work until it was ready");
    assert_eq!(daemon.stop().code(), Some(0));
}
