//! The daemon: a second one, signals, many callers at once, callers that go away.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use turnout::domain::Color;

use crate::support::{Connection, Mode, Site, shared, wait_for};

#[test]
fn a_second_daemon_on_one_state_names_the_first() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut first = site.serve();
    site.turnout()
        .run(&["serve"])
        .exits(75)
        .says(&first.process().pid().to_string());
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn sigterm_lets_requests_finish_and_exits_with_0() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut daemon = site.serve();
    let front = site.front;
    let slow = std::thread::spawn(move || crate::support::get(front, "/slow/1500", &[]));
    wait_for(
        "the request to be under way",
        Duration::from_mins(1),
        || (site.blue.requests() > 0).then_some(()),
    );
    daemon.process().signal(Signal::SIGTERM);
    wait_for("the listener to close", Duration::from_mins(1), || {
        TcpStream::connect(front).is_err().then_some(())
    });
    let answer = slow.join().unwrap().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "blue"));
    let status = daemon.process().wait(Duration::from_mins(1));
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
}

#[test]
fn an_idle_connection_does_not_hold_up_the_end() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let mut idle = Connection::open(site.front, Duration::from_mins(1)).unwrap();
    let answer = idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(answer.status, 200);
    let begin = Instant::now();
    assert_eq!(daemon.stop().code(), Some(0));
    // the drain would be 30 s
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut daemon = site.serve();
    let front = site.front;
    let slow = std::thread::spawn(move || crate::support::get(front, "/slow/20000", &[]));
    wait_for(
        "the request to be under way",
        Duration::from_mins(1),
        || (site.blue.requests() > 0).then_some(()),
    );
    daemon.process().signal(Signal::SIGTERM);
    wait_for("the listener to close", Duration::from_mins(1), || {
        TcpStream::connect(front).is_err().then_some(())
    });
    daemon.process().signal(Signal::SIGTERM);
    daemon.process().wait(Duration::from_mins(1));
    assert!(slow.join().unwrap().is_err());
}

#[test]
fn a_busy_port_is_named_at_the_start() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    for (address, says) in [
        (site.front, "Address already in use"),
        (site.control, "another process does"),
    ] {
        let busy = TcpListener::bind(address).unwrap();
        let ran = site
            .turnout()
            .run(&["serve"])
            .says(&address.to_string())
            .says(says);
        assert_ne!(ran.code(), Some(0), "{ran}");
        drop(busy);
    }
    site.serve();
}

#[test]
fn a_daemon_that_cannot_start_leaves_no_workload_behind() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    // a length of sleep that is nobody else's
    let seconds = 100_000 + u32::from(site.front.port());
    let text = std::fs::read_to_string(site.config()).unwrap();
    let workload = format!("    workload: {{ command: [sleep, \"{seconds}\"] }}\n");
    std::fs::write(site.config(), text + &workload).unwrap();
    let _busy = TcpListener::bind(site.front).unwrap();
    site.turnout()
        .run(&["serve"])
        .exits(3)
        .says("workload runs")
        .says("Address already in use");
    let left: Vec<_> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.unwrap().path().join("cmdline")).ok())
        .filter(|line| *line == format!("sleep\0{seconds}\0").into_bytes())
        .collect();
    assert_eq!(left.len(), 0, "workloads run on");
}

#[test]
fn forty_switches_at_once_are_made_one_after_another() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..40)
            .map(|number| {
                let api = daemon.api();
                scope.spawn(move || {
                    let color = if number % 2 == 0 { "green" } else { "blue" };
                    api.post(
                        "/orchestration/bluegreen/activate",
                        &json!({ "active": color }),
                    )
                    .status
                })
            })
            .collect();
        asking
            .into_iter()
            .map(|asking| asking.join().unwrap())
            .collect()
    });
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 423)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&200));
    let status = daemon.api().get("/orchestration/status").json();
    assert_eq!(status["active"], site.served().to_string());
    assert_eq!(site.recorded(), site.served());
    site.turnout().ok(&["verify"]);
}

#[test]
fn a_switch_goes_on_when_its_caller_hangs_up() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let daemon = site.serve();
    let body = r#"{"active":"green"}"#;
    let mut caller = TcpStream::connect(site.control).unwrap();
    write!(
        caller,
        "POST /orchestration/bluegreen/activate HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        site.control,
        body.len()
    )
    .unwrap();
    // it has been read when the journal has it
    let journal = site.state_dir().join("journal.jsonl");
    let before = std::fs::metadata(&journal).unwrap().len();
    wait_for("the switch to begin", Duration::from_mins(1), || {
        (std::fs::metadata(&journal).unwrap().len() > before).then_some(())
    });
    drop(caller);
    wait_for("the switch to end", Duration::from_mins(1), || {
        (daemon.api().get("/orchestration/status").json()["active"] == "green").then_some(())
    });
    assert_eq!(site.served(), Color::Green);
    assert_eq!(site.recorded(), Color::Green);
}

#[test]
fn the_same_switch_again_is_a_no_op() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let daemon = site.serve();
    daemon.api().activate(Color::Green);
    let workers = site.balancer().workers();
    let before = daemon.api().get("/orchestration/status").json();
    daemon.api().activate(Color::Green);
    let after = daemon.api().get("/orchestration/status").json();
    assert_eq!(before["generation"], after["generation"]);
    assert_eq!(site.balancer().workers(), workers, "nginx was reloaded");
}

#[test]
fn an_unhealthy_color_is_refused_unless_forced() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    site.green.set(Mode::Status(500));
    let path = "/orchestration/bluegreen/activate";
    wait_for("green to be seen unhealthy", Duration::from_mins(1), || {
        let health = daemon.api().get("/health").json();
        (health["upstreams"]["green"]["healthy"] == false).then_some(())
    });
    let refused = daemon.api().post(path, &json!({ "active": "green" }));
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(site.served(), Color::Blue);
    let forced = daemon
        .api()
        .post(path, &json!({ "active": "green", "force": true }));
    assert_eq!(forced.status, 200, "{}", forced.text());
    assert_eq!(site.recorded(), Color::Green);
}

#[test]
fn when_the_active_color_dies_the_other_one_serves_and_the_record_stays() {
    let _turn = shared();
    let mut site = Site::embedded("blue_green");
    let daemon = site.serve();
    site.blue.refuse();
    wait_for("failover", Duration::from_mins(1), || {
        (site.ask("/").backend() == Some(Color::Green)).then_some(())
    });
    let status = daemon.api().get("/orchestration/status").json();
    assert_eq!(status["active"], "blue");
    site.blue.listen();
    wait_for("the end of the failover", Duration::from_mins(1), || {
        (site.ask("/").backend() == Some(Color::Blue)).then_some(())
    });
}

#[test]
fn a_bad_configuration_keeps_the_last_good_one_and_says_so() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve().allow("configuration");
    let good = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), good.replace("listen:", "lisen:")).unwrap();
    wait_for("the problem to be told", Duration::from_mins(1), || {
        let status = site
            .turnout()
            .command(&["status", "-o", "json", "--server"])
            .arg(format!("http://{}", site.control))
            .run();
        status.stdout.contains("lisen").then_some(())
    });
    assert_eq!(site.served(), Color::Blue);
    std::fs::write(site.config(), good).unwrap();
    wait_for("the problem to be gone", Duration::from_mins(1), || {
        let status = site.turnout().run(&["status", "-o", "json"]);
        (!status.stdout.contains("lisen")).then_some(())
    });
    daemon.api().activate(Color::Green);
    assert_eq!(site.served(), Color::Green);
}

#[test]
fn waiting_for_a_drain_keeps_nobody_else_waiting() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let front = site.front;
    let slow = std::thread::spawn(move || crate::support::get(front, "/slow/8000", &[]));
    wait_for(
        "the request to be under way",
        Duration::from_mins(1),
        || (site.blue.requests() > 0).then_some(()),
    );
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let wait = || {
            let turnout = site.turnout();
            scope.spawn(move || turnout.ok(&["switch", "green", "--wait-drained"]))
        };
        let waits = [wait(), wait()];
        wait_for("the switch", Duration::from_mins(1), || {
            (daemon.api().get("/orchestration/status").json()["active"] == "green").then_some(())
        });
        // a failover comes and goes while both wait
        site.green.set(Mode::Status(500));
        wait_for("failover", Duration::from_mins(1), || {
            (daemon.api().get("/orchestration/status").json()["overlay"] == "blue").then_some(())
        });
        site.green.set(Mode::Healthy);
        wait_for("failback", Duration::from_mins(1), || {
            daemon.api().get("/orchestration/status").json()["overlay"]
                .is_null()
                .then_some(())
        });
        assert!(
            begin.elapsed() < Duration::from_secs(8),
            "the request is over"
        );
        assert!(waits.iter().all(|wait| !wait.is_finished()));
        for wait in waits {
            wait.join().unwrap();
        }
    });
    let answer = slow.join().unwrap().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "blue"));
    assert_eq!(site.served(), Color::Green);
}

#[test]
fn a_drain_that_takes_too_long_is_exit_124_and_the_switch_stays() {
    let _turn = shared();
    let site = Site::nginx();
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text + "    timeouts: { drain: 500ms }\n").unwrap();
    let _daemon = site.serve();
    let front = site.front;
    let slow = std::thread::spawn(move || crate::support::get(front, "/slow/8000", &[]));
    wait_for(
        "the request to be under way",
        Duration::from_mins(1),
        || (site.blue.requests() > 0).then_some(()),
    );
    site.turnout()
        .run(&["switch", "green", "--wait-drained"])
        .exits(124)
        .says("proved and recorded")
        .says("old workers of nginx");
    assert_eq!(
        (site.served(), site.recorded()),
        (Color::Green, Color::Green)
    );
    assert_eq!(slow.join().unwrap().unwrap().text(), "blue");
    // the same again, now that it has drained
    site.turnout().ok(&["switch", "green", "--wait-drained"]);
}

#[test]
fn a_color_that_was_forced_stays_after_the_daemon_was_killed() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let daemon = site.serve();
    site.green.set(Mode::Status(500));
    let overlay = |daemon: &crate::support::Daemon| {
        daemon.api().get("/orchestration/status").json()["overlay"].clone()
    };
    let down = |daemon: &crate::support::Daemon| {
        wait_for("green to be seen unhealthy", Duration::from_mins(1), || {
            let health = daemon.api().get("/health").json();
            let upstreams = &health["upstreams"];
            (upstreams["green"]["healthy"] == false && upstreams["blue"]["healthy"] == true)
                .then_some(())
        });
    };
    site.turnout().ok(&["switch", "green", "--force"]);
    daemon.kill();

    let daemon = site.serve();
    down(&daemon);
    // whatever is to be done about it is done by now
    daemon.api().get("/v1/drift");
    assert_eq!(
        (overlay(&daemon), site.served()),
        (json!(null), Color::Green)
    );
    // once it was healthy it is like any other, after one more restart too
    site.green.set(Mode::Healthy);
    wait_for("green to be trusted", Duration::from_mins(1), || {
        site.state()["services"]["shop"]["forced"]
            .is_null()
            .then_some(())
    });
    daemon.kill();
    site.green.set(Mode::Status(500));
    let daemon = site.serve();
    wait_for("failover", Duration::from_mins(1), || {
        (overlay(&daemon) == "blue").then_some(())
    });
    assert_eq!(
        (site.served(), site.recorded()),
        (Color::Blue, Color::Green)
    );
}
