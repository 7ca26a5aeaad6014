//! `GET /events`: what is told, going on where one was, and readers that do not read.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use turnout::domain::Color;

use super::PATIENCE;
use crate::support::{Daemon, Mode, Site, alone, shared, wait_for};

/// A reader that reads.
struct Listening(BufReader<TcpStream>);

#[derive(Debug)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

impl Listening {
    fn to(site: &Site, headers: &str) -> Self {
        let mut stream = TcpStream::connect(site.control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET /events HTTP/1.1\r\nHost: {}\r\n{headers}\r\n",
            site.control
        )
        .unwrap();
        let mut reader = Self(BufReader::new(stream));
        let head = reader.lines_until_empty();
        assert!(head[0].contains(" 200 "), "{head:?}");
        let kind = "content-type: text/event-stream".to_owned();
        assert!(head.contains(&kind), "{head:?}");
        reader
    }

    fn lines_until_empty(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                self.0.read_line(&mut line).unwrap(),
                0,
                "the stream ended: {lines:?}"
            );
            let line = line.trim_end();
            if line.is_empty() {
                return lines;
            }
            lines.push(line.to_owned());
        }
    }

    /// The next event of this name.
    fn next(&mut self, name: &str) -> Event {
        let mut event = Event {
            id: String::new(),
            name: String::new(),
            data: Value::Null,
        };
        loop {
            let mut line = String::new();
            assert_ne!(
                self.0.read_line(&mut line).unwrap(),
                0,
                "no {name} before the end"
            );
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => id.clone_into(&mut event.id),
                Some(("event", name)) => name.clone_into(&mut event.name),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                // the sizes of chunks, comments and ends of events
                Some(_) | None => {
                    if event.name == name && !event.data.is_null() {
                        return event;
                    }
                }
            }
        }
    }
}

fn healthy(daemon: &Daemon) {
    wait_for("both colors healthy", PATIENCE, || {
        let health = daemon.api().get("/health").json();
        let upstreams = &health["upstreams"];
        (upstreams["blue"]["healthy"] == true && upstreams["green"]["healthy"] == true)
            .then_some(())
    });
}

#[test]
fn a_switch_is_told_from_its_intent_to_its_audit_line() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    healthy(&daemon);
    let mut reader = Listening::to(&site, "");
    let after = daemon.api().activate(Color::Green);
    let intent = reader.next("intent");
    assert_eq!(intent.data["action"], "switch");
    assert_eq!(intent.data["changes"][0]["service"], "shop");
    assert_eq!(intent.data["changes"][0]["active"], "green");
    let done = reader.next("done");
    assert_eq!(done.data["generation"], after["generation"]);
    let audit = reader.next("audit");
    assert_eq!(
        (
            &audit.data["service"],
            &audit.data["environment"],
            &audit.data["success"]
        ),
        (&"shop".into(), &"green".into(), &true.into())
    );
    let position = reader.next("position");
    for field in [
        "service",
        "strategy",
        "active",
        "weights",
        "generation",
        "previous",
        "since",
    ] {
        assert_eq!(position.data[field], after[field], "{field}");
    }
    // from the intent on once more, by its id
    let mut again = Listening::to(&site, &format!("Last-Event-ID: {}\r\n", intent.id));
    assert_eq!(again.next("done").id, done.id);
    assert_eq!(again.next("position").id, position.id);
    let mut foreign = Listening::to(&site, "Last-Event-ID: 1-1\r\n");
    assert_eq!(foreign.next("missed").data, serde_json::json!({}));
}

#[test]
fn health_failover_and_problems_are_told() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve().allow("configuration was not taken");
    healthy(&daemon);
    let mut reader = Listening::to(&site, "");
    site.blue.set(Mode::Status(500));
    let health = reader.next("health");
    let server = &health.data["servers"][0];
    assert_eq!(
        (&server["color"], &server["health"], &server["reason"]),
        (&"blue".into(), &"unhealthy".into(), &"status 500".into())
    );
    assert_eq!(server["url"], site.blue.url());
    let audit = reader.next("audit");
    assert_eq!(
        (&audit.data["action"], &audit.data["actor"]),
        (&"failover".into(), &"turnout".into())
    );
    assert_eq!(reader.next("position").data["overlay"], "green");
    super::edit(&site, "servers:", "severs:");
    let problems = reader.next("problems");
    assert!(
        problems.data["problems"].to_string().contains("severs"),
        "{problems:?}"
    );
}

/// A reader that never reads, with as small a buffer as the kernel gives.
fn stuck(site: &Site) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&site.control.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    write!(
        stream,
        "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n",
        site.control
    )
    .unwrap();
    stream
}

/// Resident memory in KiB.
fn resident(daemon: &mut Daemon) -> u64 {
    let pid = daemon.process().pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.unwrap().split_whitespace().nth(1);
    words.unwrap().parse().unwrap()
}

/// The median time of this many switches.
fn switches(daemon: &Daemon, count: usize) -> Duration {
    let mut times: Vec<_> = [Color::Green, Color::Blue]
        .into_iter()
        .cycle()
        .take(count)
        .map(|color| {
            let begin = Instant::now();
            daemon.api().activate(color);
            begin.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn fifty_stuck_readers_cost_neither_memory_nor_time_and_are_cut_off() {
    let _turn = alone();
    let site = Site::embedded("blue_green");
    let mut daemon = site.serve();
    healthy(&daemon);
    let quiet = switches(&daemon, 40);
    let before = resident(&mut daemon);
    let stuck: Vec<_> = (0..50).map(|_| stuck(&site)).collect();
    let mut reader = Listening::to(&site, "");
    // who reads hears all of it, meanwhile: what comes is more than the kernel keeps for one who does not
    let heard = std::thread::spawn(move || {
        for _ in 0..300 {
            reader.next("position");
        }
    });
    let busy = switches(&daemon, 300);
    let after = resident(&mut daemon);
    println!(
        "a switch: {quiet:?} alone, {busy:?} with 50 stuck readers; {before} KiB before, {after} KiB after"
    );
    assert!(
        busy < quiet * 2 + Duration::from_millis(20),
        "{quiet:?} became {busy:?}"
    );
    // 300 switches are some 400 KiB of events; kept for each of 50 they would be 20 MiB
    assert!(
        after < before + 12 * 1024,
        "{before} KiB became {after} KiB"
    );
    heard.join().unwrap();
    for mut stream in stuck {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // what was on its way, and then the end: clean, or by a reset
        let ended = std::io::copy(&mut stream, &mut std::io::sink());
        let kind = ended.as_ref().err().map(std::io::Error::kind);
        assert!(
            matches!(kind, None | Some(ErrorKind::ConnectionReset)),
            "it is still connected: {ended:?}"
        );
    }
}

#[test]
fn there_are_seats_for_64_and_they_are_given_back() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let mut readers: Vec<_> = (0..64).map(|_| Listening::to(&site, "")).collect();
    let full = daemon.api().get("/events");
    assert_eq!(full.status, 503, "{}", full.text());
    assert_eq!(full.header("retry-after"), Some("10"));
    readers.pop();
    wait_for("a free seat", PATIENCE, || {
        let mut stream = TcpStream::connect(site.control).unwrap();
        write!(
            stream,
            "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n",
            site.control
        )
        .unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        (&begin == b"HTTP/1.1 200").then_some(())
    });
}

#[test]
fn the_end_of_the_daemon_ends_them_at_once() {
    let _turn = alone();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    healthy(&daemon);
    let mut reader = Listening::to(&site, "");
    let _stuck: Vec<_> = (0..10).map(|_| stuck(&site)).collect();
    switches(&daemon, 150);
    let begin = Instant::now();
    assert_eq!(daemon.stop().code(), Some(0));
    let took = begin.elapsed();
    println!("the daemon ended within {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    std::io::copy(&mut reader.0, &mut std::io::sink()).unwrap();
}
