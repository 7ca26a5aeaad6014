//! What still comes to a daemon that was replaced, on the connections that it had: it goes where the new one says, and counts there.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use turnout::domain::Color;

use crate::handover::{ask as take, successor};
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

/// A request that takes so many seconds, once blue has been asked it as number `number`; its status and color, and when it began.
fn slowly(site: &Site, seconds: u64, number: u64) -> (JoinHandle<(u16, Option<Color>)>, Instant) {
    let mut client = Connection::open(site.front, SOON).unwrap();
    let begun = Instant::now();
    let asking = std::thread::spawn(move || {
        let path = format!("/slow/{}", seconds * 1_000);
        let answer = client.send(ask(&path).as_bytes()).unwrap();
        (answer.status, answer.backend())
    });
    wait_for("the slow one to be asked", SOON, || {
        (site.blue.requests() == number).then_some(())
    });
    (asking, begun)
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
    let takes = Duration::from_secs(6);
    let (slow, begun) = slowly(&site, 6, 9);
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
    assert_eq!(slow.join().unwrap(), (200, Some(Color::Blue)));
    end(old, new);
}

#[test]
fn a_second_handover_within_a_drain_has_the_first_daemon_follow_the_third() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut first = site.serve();
    let open = || Connection::open(site.front, SOON).unwrap();
    let mut idle: Vec<Connection> = (0..4).map(|_| open()).collect();
    for client in &mut idle {
        let answer = client.send(ask("/page").as_bytes()).unwrap();
        assert_eq!(answer.backend(), Some(Color::Blue));
    }
    let (slow, begun) = slowly(&site, 15, 5);
    let mut second = replaced(&site, &first);
    let third = successor(&site, "third.log");
    wait_for("the third to serve", SOON, || {
        let printed = second.printed();
        printed.contains("the successor serves").then_some(())
    });
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
    }
    let drained = switch.join().unwrap() - begun;
    let takes = Duration::from_secs(15);
    assert!(drained >= takes, "blue was free after {drained:?}");
    assert_eq!(slow.join().unwrap(), (200, Some(Color::Blue)));
    assert_eq!(first.process().wait(SOON).code(), Some(0));
    // the way from the third to the first
    assert_eq!(second.wait(SOON).code(), Some(0));
    let printed = second.printed();
    assert!(printed.contains("handed over and stopped"), "{printed}");
    assert!(!printed.contains("panicked"), "{printed}");
    end(first, third);
}

#[test]
fn a_successor_that_speaks_in_words_that_are_not_known_here_is_not_taken_for_gone() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut old = site.serve();
    let (slow, _) = slowly(&site, 3, 1);
    let (mut stream, descriptors) = take(&site);
    stream
        .write_all(b"what is that\n{\"number\":3,\"strategy\":\"rainbow\"}\n")
        .unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    let answer = answers.next().unwrap().unwrap();
    // so that it need not wait for more
    assert_eq!(
        answer,
        r#"{"number":3,"in_flight":{"shop":{"blue":1,"green":0}}}"#
    );
    stream.write_all(b"R").unwrap();
    assert_eq!(slow.join().unwrap(), (200, Some(Color::Blue)));
    assert_eq!(old.process().wait(SOON).code(), Some(0));
    assert_eq!(old.log().matches("is not understood").count(), 2);
    drop(descriptors);
}

#[test]
fn a_daemon_whose_lock_is_held_by_a_successor_that_is_not_heard_any_more_ends_in_order() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut old = site.serve();
    // longer than a dead one's lock is waited for
    let (slow, _) = slowly(&site, 8, 1);
    let (stream, descriptors) = take(&site);
    let lock = File::open(site.state_dir().join("serve.lock")).unwrap();
    lock.lock().unwrap();
    drop(stream);
    assert_eq!(slow.join().unwrap(), (200, Some(Color::Blue)));
    assert_eq!(old.process().wait(SOON).code(), Some(0));
    let log = old.log();
    assert!(log.contains("handed over and stopped"), "{log}");
    drop((descriptors, lock));
}

/// Builds before there were words ended at the first one.
#[test]
fn a_daemon_before_that_does_not_say_that_it_understands_words_gets_none() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    std::fs::create_dir_all(site.state_dir()).unwrap();
    let door = UnixListener::bind(site.state_dir().join("handover.sock")).unwrap();
    let mut new = successor(&site, "new.log");
    let (mut stream, _) = door.accept().unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"L").unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"R");
    assert_eq!(site.served(), Color::Blue);
    new.signal(Signal::SIGTERM);
    assert_eq!(new.wait(SOON + SOON).code(), Some(0));
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
