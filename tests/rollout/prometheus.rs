//! `source: prometheus` through the daemon, with a Prometheus that is well, slow, gone, and talks nonsense: a rollout holds and says
//! why, is not rolled back, and goes on by itself when the source is back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::hosts::{Host, Kind};
use super::*;
use crate::support::{Ports, shared};

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// 1,000 requests of each color in each stretch, none of which failed.
    Well,
    /// This number for everything.
    Says(&'static str),
    /// No series for anything.
    Empty,
    /// Nothing for this figure of this color: a label is missing.
    Lacks(&'static str, Color),
    /// Takes longer than is waited for.
    Slow,
}

/// What stands for Prometheus. Nobody listens any more once it is dropped.
struct Fake {
    address: SocketAddr,
    mood: Arc<Mutex<Option<Mood>>>,
}

impl Fake {
    fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let mood = Arc::new(Mutex::new(Some(Mood::Well)));
        let shared = Arc::clone(&mood);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(mood) = *shared.lock().unwrap() else {
                    return;
                };
                std::thread::spawn(move || answer(stream, mood));
            }
        });
        Self { address, mood }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = Some(mood);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        *self.mood.lock().unwrap() = None;
        // wakes the accepting thread, so that it sees that
        TcpStream::connect(self.address).ok();
    }
}

fn answer(stream: TcpStream, mood: Mood) {
    let mut stream = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    while line != "\r\n" {
        line.clear();
        // who only wakes the accepting thread says nothing
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut asked = vec![0; length];
    stream.read_exact(&mut asked).unwrap();
    let asked = String::from_utf8(asked).unwrap();
    let is_of = |word: &str| asked.contains(word);
    let value = match mood {
        Mood::Slow => {
            std::thread::sleep(Duration::from_secs(1));
            return;
        }
        Mood::Says(text) => Some(text),
        Mood::Empty => None,
        Mood::Lacks(figure, color) if is_of(figure) && is_of(color.as_str()) => None,
        Mood::Well | Mood::Lacks(..) => Some(if is_of("failures") { "0" } else { "1000" }),
    };
    let result = value.map_or_else(String::new, |value| {
        format!(r#"{{"metric":{{}},"value":[1.5,"{value}"]}}"#)
    });
    let body =
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // who asked may have given up
    stream.get_mut().write_all((head + &body).as_bytes()).ok();
}

/// Until it has gone a step further than it is.
#[track_caller]
fn goes_on(api: &Api, id: &str, after: &str) {
    let step = look(api, id)["step"].as_u64().unwrap();
    let now = until(api, id, |now| {
        assert!(!is_over(now), "{after}: {now}");
        now["step"].as_u64().unwrap() > step
    });
    println!("after {after}: step {}", now["step"]);
}

/// It holds, says this (something, where that is empty), and stays where it is.
#[track_caller]
fn holds(api: &Api, id: &str, what: &str, reason: &str) {
    let says = |now: &Value| {
        assert!(!is_over(now), "{what}: {now}");
        let said = now["reason"].as_str().unwrap();
        now["status"] == "holding" && !said.is_empty() && said.contains(reason)
    };
    let held = until(api, id, says);
    println!("{what}: {}", held["reason"].as_str().unwrap());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let now = look(api, id);
        assert!(says(&now), "{what}: {now}");
        assert_eq!(now["weight"], held["weight"], "{what}: {now}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn whatever_becomes_of_the_source_holds_with_a_reason_and_goes_on_when_it_is_back() {
    let _turn = shared();
    let host = Host::start(Kind::Embedded);
    let address = Ports::address();
    let query = |name: &str| format!(r#"'{name}{{c="{{{{color}}}}"}}[{{{{window}}}}]'"#);
    host.edit(
        "    strategy: blue_green\n",
        &format!(
            "    strategy: blue_green\n    canary: {{ source: {{ prometheus: {{ url: \"http://{address}\", window: 500ms, lag: 100ms, timeout: 300ms, failures: 2, queries: {{ requests: {}, errors: {} }} }} }} }}\n",
            query("asked"),
            query("failures")
        ),
    );
    let mut fake = Fake::start(address);
    let daemon = host.healthy();
    let api = daemon.api();
    // each step rests on figures of its own, and there are more steps than this takes
    let body = json!({
        "service_name": "shop", "new_version": "v2", "source": "prometheus", "judge": "sequential",
        "strategy": { "initial_weight": 10, "step_weight": 1, "interval_sec": 1, "max_steps": 80 },
        "policy": { "burst_sec": 1, "min_samples": 1 },
    });
    let id = begin(api, &body);
    goes_on(api, &id, "the begin");
    let (blue, green) = (Color::Blue, Color::Green);
    for (mood, reason) in [
        (Mood::Slow, "does not answer"),
        (Mood::Says("NaN"), "the query for requests gives NaN"),
        (Mood::Empty, "the query for requests finds no series"),
        (
            Mood::Lacks("asked", blue),
            "the query for requests finds no series",
        ),
        (
            Mood::Lacks("failures", blue),
            "the query for errors finds no series",
        ),
        (
            Mood::Lacks("failures", green),
            "the query for errors finds no series",
        ),
        // no series yet is what a candidate without a request has
        (Mood::Lacks("asked", green), ""),
    ] {
        fake.set(mood);
        let what = format!("{mood:?}");
        holds(api, &id, &what, reason);
        fake.set(Mood::Well);
        goes_on(api, &id, &what);
    }
    drop(fake);
    holds(api, &id, "killed", "does not answer");
    fake = Fake::start(address);
    goes_on(api, &id, "killed");
    drop(fake);
    assert_eq!(steer(api, &id, "cancel").status, 200);
    host.all_on(Color::Blue);
}
