//! What still comes to a daemon that was replaced, on the connections that it had: it goes where the new one says, and counts there.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use turnout::domain::Color;

use crate::handover::successor;
use crate::support::{Background, Connection, Daemon, Site, shared, wait_for};

const SOON: Duration = Duration::from_mins(1);

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
}

/// Lets another daemon take over.
fn replaced(site: &Site, old: &Daemon) -> Background {
    let new = successor(site, "new.log");
    wait_for("the successor to serve", SOON, || {
        old.log().contains("the successor serves").then_some(())
    });
    new
}

/// Ends both: the old one by itself, once it has nothing left.
fn end(mut old: Daemon, mut new: Background) {
    assert_eq!(old.process().wait(SOON).code(), Some(0));
    new.signal(Signal::SIGTERM);
    assert_eq!(new.wait(SOON + SOON).code(), Some(0));
    assert!(!new.printed().contains("panicked"), "{}", new.printed());
}

#[test]
fn after_a_switch_the_daemon_before_serves_the_new_color_too_and_its_requests_are_waited_for() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let old = site.serve();
    let open = || Connection::open(site.front, SOON).unwrap();
    let mut idle: Vec<Connection> = (0..8).map(|_| open()).collect();
    for client in &mut idle {
        let answer = client.send(ask("/page").as_bytes()).unwrap();
        assert_eq!(answer.backend(), Some(Color::Blue));
    }
    let begun = Instant::now();
    let takes = Duration::from_secs(6);
    let mut client = open();
    let slow = std::thread::spawn(move || client.send(ask("/slow/6000").as_bytes()));
    wait_for("the slow one to be asked", SOON, || {
        (site.blue.requests() == 9).then_some(())
    });
    let new = replaced(&site, &old);
    let turnout = site.turnout();
    let switch = std::thread::spawn(move || {
        turnout.ok(&["switch", "green", "--wait-drained"]);
        Instant::now()
    });
    wait_for("the switch", SOON, || {
        let status = site.turnout().ok(&["status", "-o", "json"]).json();
        (status["services"][0]["active"] == "green").then_some(())
    });
    for client in &mut idle {
        let answer = client.send(ask("/page").as_bytes()).unwrap();
        assert_eq!(answer.backend(), Some(Color::Green));
        assert!(!answer.keeps, "the next request is the new daemon's");
    }
    let drained = switch.join().unwrap() - begun;
    assert!(drained >= takes, "blue was free after {drained:?}");
    let answer = slow.join().unwrap().unwrap();
    assert_eq!(
        (answer.status, answer.backend()),
        (200, Some(Color::Blue)),
        "{}",
        answer.text()
    );
    end(old, new);
}

#[test]
fn a_request_that_is_held_by_the_daemon_before_goes_on_when_the_new_one_opens_the_traffic() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let old = site.serve();
    site.turnout().ok(&["traffic", "hold"]);
    let mut client = Connection::open(site.front, SOON).unwrap();
    let held = std::thread::spawn(move || client.send(ask("/page").as_bytes()));
    wait_for("it to be held", SOON, || {
        let status = site.turnout().ok(&["status", "-o", "json"]);
        (status.json()["services"][0]["live"]["held"] == 1).then_some(())
    });
    let new = replaced(&site, &old);
    assert!(!held.is_finished());
    site.turnout().ok(&["switch", "green"]);
    site.turnout().ok(&["traffic", "open"]);
    let answer = held.join().unwrap().unwrap();
    assert_eq!((answer.status, answer.backend()), (200, Some(Color::Green)));
    end(old, new);
}
