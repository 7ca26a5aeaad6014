//! A daemon that is replaced by another: by handover under load, by one that dies on the way, and with connections that wait
//! while nobody accepts. No request may be lost, and there is one writer.

use std::fmt::Write as _;
use std::io::{IoSliceMut, Read, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use turnout::domain::Color;

use crate::support::{BINARY, Background, Load, Run, Site, alone, get, shared, wait_for};

const SOON: Duration = Duration::from_mins(1);

pub(crate) fn successor(site: &Site, name: &str) -> Background {
    site.turnout()
        .command(&["serve", "--takeover"])
        .background(&site.folder().join(name))
}

/// Who holds the serve lock.
fn holder(site: &Site) -> Option<i64> {
    let status = site.turnout().run(&["lock", "status", "-o", "json"]);
    status.json()["serve"]["pid"].as_i64()
}

#[test]
fn three_restarts_by_handover_under_load_lose_nothing() {
    let _turn = alone();
    let site = Site::embedded("blue_green");
    let mut daemons = vec![
        site.turnout()
            .command(&["serve"])
            .background(&site.folder().join("daemon-0.log")),
    ];
    wait_for("the first to serve", SOON, || {
        let status = get(site.control, "/readyz", &[]).ok()?;
        (status.status == 200).then_some(())
    });
    let load = Load::start(site.front);
    for number in 1..=3 {
        std::thread::sleep(Duration::from_millis(700));
        daemons.push(successor(&site, &format!("daemon-{number}.log")));
        let (old, new) = daemons.split_at_mut(number);
        let old = &mut old[number - 1];
        wait_for("the old one to end", SOON + SOON, || old.ended());
        assert!(
            old.printed().contains("handed over and stopped"),
            "{}",
            old.printed()
        );
        assert!(!old.printed().contains("panicked"), "{}", old.printed());
        assert_eq!(holder(&site), Some(i64::from(new[0].pid())));
        let color = if number % 2 == 1 { "green" } else { "blue" };
        site.turnout().ok(&["switch", color]);
    }
    let report = load.finish();
    println!("{} requests over three handovers", report.requests());
    // not even clients that never look whether their connection was closed: it was answered with `Connection: close` first
    let failures = report.failures();
    assert!(failures.is_empty(), "{failures:?}");
    assert!(report.not_2xx().is_empty(), "{:?}", report.not_2xx());
    assert!(report.requests() > 1_000, "{}", report.requests());
    assert_eq!(site.served(), Color::Green);
    let last = daemons.last_mut().unwrap();
    last.signal(Signal::SIGTERM);
    assert_eq!(last.wait(SOON + SOON).code(), Some(0));
}

/// What a successor does first: asks, and gets the sockets, until it is told that these were the last.
pub(crate) fn ask(site: &Site) -> (UnixStream, Vec<OwnedFd>) {
    // it is opened once the daemon is ready
    let door = site.state_dir().join("handover.sock");
    let stream = wait_for("the door", SOON, || UnixStream::connect(&door).ok());
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut descriptors = Vec::new();
    let mut mark = [0];
    while mark != *b"L" {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut mark)];
        let got = recvmsg(&stream, parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        assert_eq!(got.bytes, 1);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                descriptors.extend(given);
            }
        }
    }
    (stream, descriptors)
}

#[test]
fn a_successor_that_dies_before_it_serves_changes_nothing() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut daemon = site.serve();
    let pid = i64::from(daemon.process().pid());
    let load = Load::start(site.front);
    for _ in 0..3 {
        let (stream, descriptors) = ask(&site);
        assert_eq!(descriptors.len(), 2, "the router's and the control API's");
        assert_eq!(holder(&site), None, "two writers");
        assert_eq!(site.served(), Color::Blue);
        drop((stream, descriptors));
        wait_for("the daemon to take everything back", SOON, || {
            (holder(&site)? == pid).then_some(())
        });
        daemon.wait_ready();
    }
    daemon.api().activate(Color::Green);
    let report = load.finish();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    assert_eq!(
        (site.served(), site.recorded()),
        (Color::Green, Color::Green)
    );
    assert!(daemon.log().contains("taking everything back"));
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn what_waits_in_the_queue_while_nobody_accepts_is_served_by_the_next_one() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut daemon = site.serve();
    let (mut stream, descriptors) = ask(&site);
    stream.write_all(b"R").unwrap();
    assert_eq!(daemon.process().wait(SOON).code(), Some(0));
    let mut waiting: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(site.front).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream
                .write_all(
                    b"GET /page HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n",
                )
                .unwrap();
            stream
        })
        .collect();
    // as systemd gives them, but for the number of the first
    let mut moves = String::new();
    for (place, descriptor) in descriptors.iter().enumerate() {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty()).unwrap();
        write!(moves, "{}<&{} ", 50 + place, descriptor.as_raw_fd()).unwrap();
    }
    let line = format!(
        "exec {moves}; export LISTEN_FDS={} LISTEN_FDS_FIRST_FD=50 LISTEN_PID=$$; exec {} --config {} serve",
        descriptors.len(),
        BINARY,
        site.config().display()
    );
    let mut next = Run::new("bash")
        .args(["-c", &line])
        .background(&site.folder().join("next.log"));
    for stream in &mut waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 "),
            "{answer}\n{}",
            next.printed()
        );
        assert!(answer.contains("x-routed-to: blue"), "{answer}");
    }
    assert!(
        !next
            .printed()
            .contains("nothing in the configuration listens"),
        "{}",
        next.printed()
    );
    next.signal(Signal::SIGTERM);
    assert_eq!(next.wait(SOON + SOON).code(), Some(0));
}

/// A process that is stopped accepts nothing, so all of them wait in the kernel's queue when it is told to end.
#[test]
fn what_waits_in_the_queue_when_the_daemon_ends_is_served_before_the_socket_closes() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut daemon = site.serve();
    assert_eq!(site.served(), Color::Blue);
    daemon.process().signal(Signal::SIGSTOP);
    let mut waiting: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(site.front).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream
                .write_all(b"GET /page HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
                .unwrap();
            stream
        })
        .collect();
    daemon.process().signal(Signal::SIGTERM);
    daemon.process().signal(Signal::SIGCONT);
    for stream in &mut waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(daemon.process().wait(SOON + SOON).code(), Some(0));
}

#[test]
fn a_second_user_signal_starts_the_successor() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut daemon = site.serve();
    let first = i64::from(daemon.process().pid());
    daemon.process().signal(Signal::SIGUSR2);
    assert_eq!(daemon.process().wait(SOON + SOON).code(), Some(0));
    let second = wait_for("the successor to have the lock", SOON, || {
        holder(&site).filter(|pid| *pid != first)
    });
    assert_eq!(site.served(), Color::Blue);
    site.turnout().ok(&["switch", "green"]);
    assert_eq!(
        (site.served(), site.recorded()),
        (Color::Green, Color::Green)
    );
    let second = nix::unistd::Pid::from_raw(i32::try_from(second).unwrap());
    nix::sys::signal::kill(second, Signal::SIGTERM).unwrap();
    wait_for("it to end", SOON + SOON, || {
        holder(&site).is_none().then_some(())
    });
}

/// A site whose colors have processes beside their servers; each start is a line in its color's file.
fn with_workloads() -> Site {
    let site = Site::embedded("blue_green");
    let workload = format!(
        "    workload: {{ command: [sh, -c, \"echo $$ >> {}/{{color}}; exec sleep 100000\"] }}\n",
        site.folder().display()
    );
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text + &workload).unwrap();
    site
}

/// The processes that were started for both colors, in their order.
fn starts(site: &Site) -> Vec<i32> {
    ["blue", "green"]
        .iter()
        .flat_map(|color| {
            let file = site.folder().join(color);
            let text = std::fs::read_to_string(file).unwrap_or_default();
            text.lines()
                .map(|line| line.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn workloads_run_through_a_takeover_whatever_the_new_configuration_says_of_them() {
    let _turn = shared();
    let site = with_workloads();
    let mut daemon = site.serve();
    let before = wait_for("both processes", SOON, || {
        Some(starts(&site)).filter(|pids| pids.len() == 2)
    });
    // another command: at its next start, and not under the clients of now
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text.replace("100000", "200000")).unwrap();
    let mut next = successor(&site, "next.log");
    assert_eq!(daemon.process().wait(SOON + SOON).code(), Some(0));
    assert_eq!(starts(&site), before);
    assert!(before.iter().all(|pid| lives(*pid)), "{before:?}");
    assert_eq!(site.served(), Color::Blue);
    let printed = next.printed();
    assert!(printed.contains("runs with another command"), "{printed}");
    next.signal(Signal::SIGTERM);
    assert_eq!(next.wait(SOON + SOON).code(), Some(0));
    assert!(!before.iter().any(|pid| lives(*pid)), "{before:?}");
}

#[test]
fn a_daemon_told_to_end_goes_on_if_its_successor_fails_and_ends_if_that_was_told_too() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut daemon = site.serve();
    let pid = i64::from(daemon.process().pid());
    let (stream, descriptors) = ask(&site);
    daemon.process().signal(Signal::SIGTERM);
    wait_for("the order to be heard", SOON, || {
        daemon.log().contains("told to stop").then_some(())
    });
    assert_eq!(site.served(), Color::Blue);
    drop((stream, descriptors));
    wait_for("the daemon to take everything back", SOON, || {
        (holder(&site)? == pid).then_some(())
    });
    daemon.wait_ready();
    daemon.api().activate(Color::Green);

    let (mut stream, descriptors) = ask(&site);
    daemon.process().signal(Signal::SIGTERM);
    wait_for("the order to be heard again", SOON, || {
        (daemon.log().matches("told to stop").count() == 2).then_some(())
    });
    assert_eq!(site.served(), Color::Green);
    stream.write_all(b"T").unwrap();
    assert_eq!(daemon.process().wait(SOON + SOON).code(), Some(0));
    drop(descriptors);
}

#[test]
fn a_successor_told_to_end_before_it_serves_leaves_everything_to_the_daemon_before() {
    let _turn = shared();
    let site = with_workloads();
    let mut daemon = site.serve();
    let pid = i64::from(daemon.process().pid());
    let before = wait_for("both processes", SOON, || {
        Some(starts(&site)).filter(|pids| pids.len() == 2)
    });
    let load = Load::start(site.front);
    // without this lock there is no first proof
    let lock = std::fs::File::open(site.state_dir().join("change.lock")).unwrap();
    lock.lock().unwrap();
    let mut next = successor(&site, "next.log");
    wait_for("the successor to be at work", SOON, || {
        (holder(&site)? == i64::from(next.pid())).then_some(())
    });
    next.signal(Signal::SIGTERM);
    assert_eq!(next.wait(SOON + SOON).code(), Some(0));
    wait_for("the daemon to take everything back", SOON, || {
        (holder(&site)? == pid).then_some(())
    });
    drop(lock);
    daemon.wait_ready();
    daemon.api().activate(Color::Green);
    let report = load.finish();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    assert_eq!(starts(&site), before);
    assert!(before.iter().all(|pid| lives(*pid)), "{before:?}");
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(!before.iter().any(|pid| lives(*pid)), "{before:?}");
}
