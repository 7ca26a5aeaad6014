//! What nginx and HAProxy tell of their requests: counted by color as the clients counted, hardly ever lost, and never a burden on
//! who serves, whatever becomes of turnout.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use turnout::domain::Color;

use crate::haproxy::{Lab, Layout};
use crate::support::{
    BINARY, Background, Daemon, Load, Mode, Report, Run, Site, alone, get, shared, wait_for,
};

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// The counters of `/metrics` that begin with this, by the rest of their name.
pub(super) fn counters(daemon: &Daemon, begin: &str) -> BTreeMap<String, f64> {
    let answer = daemon.api().get("/metrics");
    let text = answer.text();
    let found = text.lines().filter_map(|line| {
        let (name, value) = line.strip_prefix(begin)?.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().unwrap()))
    });
    found.collect()
}

/// Requests of a color, by the lines.
fn requests(daemon: &Daemon, color: Color) -> u64 {
    let begin = format!("turnout_http_requests_total{{service=\"shop\",color=\"{color}\",");
    whole(counters(daemon, &begin).values().sum())
}

pub(super) fn all(daemon: &Daemon) -> u64 {
    requests(daemon, Color::Blue) + requests(daemon, Color::Green)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a counter"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

/// The requests of a load that were answered, which is all of them.
fn answered(report: &Report) -> u64 {
    assert_eq!(report.failures().len(), 0, "{:?}", report.failures());
    u64::try_from(report.requests()).unwrap()
}

/// What one load adds to the counts, held against what the clients saw; prints rate and loss.
fn hold_against(name: &str, daemon: &Daemon, front: std::net::SocketAddr, time: Duration) {
    let before = all(daemon);
    let load = Load::start(front);
    std::thread::sleep(time);
    let report = load.finish();
    let seen = answered(&report);
    let told = wait_for("the last lines", SOON, || {
        let told = all(daemon) - before;
        let lost = seen.saturating_sub(told);
        (lost * 1_000 <= seen).then_some(told)
    });
    assert!(told <= seen, "{told} lines of {seen} requests");
    println!(
        "{name}: {seen} requests, {:.0} a second; {} not told of",
        report.rate(),
        seen - told
    );
}

#[test]
fn nginx_s_counts_by_color_and_status_are_the_clients() {
    let _turn = shared();
    // once with a log of the user's at http level, and once where logs are off
    for own_log in [false, true] {
        let site = Site::nginx();
        if own_log {
            let main = site.balancer().main();
            let text = std::fs::read_to_string(&main).unwrap();
            let log = site.folder().join("own.log");
            let text = text.replace("access_log off;", &format!("access_log {};", log.display()));
            std::fs::write(&main, text).unwrap();
        }
        let daemon = site.serve();
        count_by_color(&site, &daemon);
        if own_log {
            // the user's own log goes on
            let own = std::fs::read_to_string(site.folder().join("own.log")).unwrap();
            assert!(own.lines().count() >= 40, "{own}");
        }
    }
}

fn count_by_color(site: &Site, daemon: &Daemon) {
    wait_for("a first line", SOON, || {
        assert_eq!(get(site.front, "/", &[]).unwrap().status, 200);
        (all(daemon) > 0).then_some(())
    });
    let begin = settled(daemon);
    for _ in 0..20 {
        assert_eq!(
            get(
                site.front,
                "/x?turnout:=shop%20green",
                &["User-Agent: <1> turnout: shop green 500 0.1 1"]
            )
            .unwrap()
            .status,
            200
        );
    }
    wait_for("twenty of blue", SOON, || {
        (requests(daemon, Color::Blue) == begin.0 + 20).then_some(())
    });
    daemon.api().activate(Color::Green);
    let begin = settled(daemon);
    site.green.set(Mode::Status(503));
    for _ in 0..20 {
        get(site.front, "/", &[]).unwrap();
    }
    site.green.set(Mode::Healthy);
    wait_for("twenty of green", SOON, || {
        (requests(daemon, Color::Green) == begin.1 + 20).then_some(())
    });
    assert_eq!(requests(daemon, Color::Blue), begin.0);
    let failed = counters(
        daemon,
        "turnout_http_requests_failed_total{service=\"shop\",color=\"green\"}",
    );
    assert_eq!(whole(failed.values().sum()), 20);
    let refused = counters(daemon, "turnout_traffic_lines_refused_total");
    assert_eq!(whole(refused.values().sum()), 0);
}

/// Blue's and green's requests once nothing more comes.
pub(super) fn settled(daemon: &Daemon) -> (u64, u64) {
    let mut last = None;
    wait_for("the lines of the proof", SOON, || {
        let now = (
            requests(daemon, Color::Blue),
            requests(daemon, Color::Green),
        );
        std::thread::sleep(Duration::from_millis(100));
        let same = last.replace(now) == Some(now);
        same.then_some(now)
    })
}

#[test]
fn haproxy_s_counts_by_color_and_status_are_the_clients() {
    let _turn = shared();
    for layout in [Layout::Whole, Layout::Beside, Layout::OwnFrontend] {
        let lab = Lab::on_blue(layout);
        let daemon = lab.serve();
        let begin = settled(&daemon);
        for _ in 0..20 {
            assert_eq!(lab.ask("/turnout_shop_green/s1", &[]).status, 200);
        }
        wait_for("twenty of blue", SOON, || {
            (requests(&daemon, Color::Blue) == begin.0 + 20).then_some(())
        });
        daemon.api().activate(Color::Green);
        let begin = settled(&daemon);
        for _ in 0..20 {
            assert_eq!(lab.ask("/", &[]).status, 200);
        }
        wait_for("twenty of green", SOON, || {
            (requests(&daemon, Color::Green) == begin.1 + 20).then_some(())
        });
        assert_eq!(requests(&daemon, Color::Blue), begin.0, "{layout:?}");
        let failed = counters(
            &daemon,
            "turnout_http_requests_failed_total{service=\"shop\",color=\"green\"}",
        );
        assert_eq!(whole(failed.values().sum()), 0, "{layout:?}");
    }
}

/// The middle request's time in microseconds, and the slowest in a hundred's.
fn times(report: &Report) -> (u128, u128) {
    let samples = report.samples().iter();
    let mut times: Vec<u128> = samples
        .map(|sample| (sample.end - sample.start).as_micros())
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[test]
fn nginx_serves_as_well_with_turnout_killed_and_writes_no_alert_for_each_request() {
    let _turn = alone();
    let site = Site::nginx();
    let daemon = site.serve();
    wait_for("a first line", SOON, || {
        get(site.front, "/", &[]).unwrap();
        (all(&daemon) > 0).then_some(())
    });
    let load = Load::start(site.front);
    std::thread::sleep(Duration::from_secs(3));
    let with = load.finish();
    let load = Load::start(site.front);
    std::thread::sleep(Duration::from_secs(1));
    daemon.kill();
    std::thread::sleep(Duration::from_secs(3));
    let without = load.finish();
    answered(&with);
    answered(&without);
    println!(
        "with turnout {:?} us, killed {:?} us (p50, p99)",
        times(&with),
        times(&without)
    );
    let alerts = site.balancer().errors().matches("failed (111").count();
    // a request that had looked for the reader just before it died
    assert!(
        alerts <= 20,
        "{alerts} alerts for {} requests",
        without.requests()
    );
    // and counting goes on with a socket that the workers do not know yet
    let daemon = site.serve();
    settled(&daemon);
    hold_against(
        "nginx, after kill -9",
        &daemon,
        site.front,
        Duration::from_secs(3),
    );
    site.balancer().reload();
    hold_against(
        "nginx, after a reload",
        &daemon,
        site.front,
        Duration::from_secs(3),
    );
}

#[test]
fn haproxy_serves_as_well_with_turnout_killed() {
    let _turn = alone();
    let lab = Lab::on_blue(Layout::Whole);
    let daemon = lab.serve();
    let load = Load::start(lab.front);
    std::thread::sleep(Duration::from_secs(1));
    daemon.kill();
    std::thread::sleep(Duration::from_secs(2));
    let report = load.finish();
    answered(&report);
    println!("killed {:?} us (p50, p99)", times(&report));
    let daemon = lab.serve();
    settled(&daemon);
    hold_against(
        "haproxy, after kill -9",
        &daemon,
        lab.front,
        Duration::from_secs(3),
    );
    lab.reload_by_hand();
    hold_against(
        "haproxy, after a reload",
        &daemon,
        lab.front,
        Duration::from_secs(3),
    );
}

/// A daemon that gets its datagram socket as systemd gives it.
fn given(config: &Path, socket: &UnixDatagram, log: &Path) -> Background {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
    let line = format!(
        "exec 50<&{}; export LISTEN_FDS=1 LISTEN_FDS_FIRST_FD=50 LISTEN_PID=$$; exec {BINARY} --config {} serve",
        socket.as_raw_fd(),
        config.display()
    );
    Run::new("bash").args(["-c", &line]).background(log)
}

#[test]
fn a_socket_that_somebody_holds_outlives_turnout_and_what_waits_in_it_is_counted() {
    let _turn = shared();
    let site = Site::nginx();
    let folder = site.state_dir().join("traffic");
    std::fs::create_dir_all(&folder).unwrap();
    for open in [site.state_dir(), folder.clone()] {
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path: PathBuf = folder.join("socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let inode = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(path).unwrap().ino()
    };
    let first = inode(&path);
    let mut daemon = given(&site.config(), &socket, &site.folder().join("one.log"));
    let ready = |daemon: &mut Background| {
        let begun = Instant::now();
        while !get(site.control, "/readyz", &[]).is_ok_and(|answer| answer.status == 200) {
            assert!(begun.elapsed() < SOON, "{}", daemon.printed());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    ready(&mut daemon);
    let lines = |name: &str| {
        let text = get(site.control, "/metrics", &["Accept: text/plain"]).unwrap();
        let text = text.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse::<f64>().unwrap())
    };
    wait_for("a line", SOON, || {
        get(site.front, "/", &[]).unwrap();
        lines("turnout_traffic_lines_total").filter(|count| *count > 0.0)
    });
    daemon.kill();
    for _ in 0..50 {
        assert_eq!(get(site.front, "/", &[]).unwrap().status, 200);
    }
    let errors = site.balancer().errors();
    assert_eq!(errors.matches("failed (111").count(), 0, "{errors}");
    let mut daemon = given(&site.config(), &socket, &site.folder().join("two.log"));
    ready(&mut daemon);
    assert_eq!(inode(&path), first);
    wait_for("a line", SOON, || {
        get(site.front, "/", &[]).unwrap();
        lines("turnout_traffic_lines_total").filter(|count| *count > 0.0)
    });
    assert!(
        !daemon
            .printed()
            .contains("nothing in the configuration listens"),
        "{}",
        daemon.printed()
    );
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait(SOON);
}
