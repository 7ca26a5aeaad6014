//! What the embedded proxy does with traffic besides routing it, through the real daemon: hold, maintenance, limits, failing
//! servers, the access log; and in `proof` the loads and the bad behaviour that it must bear.

mod kinds;
mod lines;
mod losses;
mod prometheus;
mod proof;
mod server;
mod slow;
mod switches;
mod whole;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use turnout::domain::Color;

use crate::support::{Answer, Connection, Daemon, Ports, Turnout, get, shared, wait_for};
use server::App;

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// A service `shop` on the embedded proxy with a daemon.
struct Shop {
    daemon: Option<Daemon>,
    turnout: Turnout,
    front: SocketAddr,
    folder: TempDir,
}

impl Shop {
    /// `extra`: keys of the service, each a line without indentation.
    fn start(blue: &[&App], green: &[&App], extra: &[&str]) -> Self {
        let folder = TempDir::with_prefix("turnout-test-").unwrap();
        let (front, control) = (Ports::address(), Ports::address());
        let servers = |apps: &[&App]| {
            let urls: Vec<_> = apps
                .iter()
                .map(|app| format!("\"http://{}\"", app.address))
                .collect();
            urls.join(", ")
        };
        let mut text = format!(
            "version: 1\nstate: {{ dir: {}/state }}\nbalancer: {{ kind: embedded }}\ncontrol: {{ listen: \"{control}\" }}\nservices:\n  shop:\n    listen: {front}\n    blue: {{ servers: [{}] }}\n    green: {{ servers: [{}] }}\n    health: {{ interval: 60s }}\n",
            folder.path().display(),
            servers(blue),
            servers(green),
        );
        for line in extra {
            text.extend(["    ", line, "\n"]);
        }
        let config = folder.path().join("turnout.yaml");
        std::fs::write(&config, text).unwrap();
        let turnout = Turnout::new(&config, control);
        Self {
            daemon: Some(turnout.serve()),
            turnout,
            front,
            folder,
        }
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    fn restart(&mut self) {
        self.daemon.take().unwrap().stop();
        self.daemon = Some(self.turnout.serve());
    }

    #[track_caller]
    fn ask(&self, path: &str) -> Answer {
        get(self.front, path, &[])
            .unwrap_or_else(|failure| panic!("GET {path} on {}: {failure:?}", self.front))
    }

    /// The service in `GET /v1/status`, which counts now.
    fn status(&self) -> Value {
        self.daemon().api().get("/v1/status").json()["services"][0].clone()
    }

    #[track_caller]
    fn traffic(&self, body: &Value) -> Answer {
        let answer = self.daemon().api().post("/v1/services/shop/traffic", body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }
}

#[test]
fn held_requests_wait_and_go_on_to_where_the_traffic_is_then_after_a_restart_too() {
    let _turn = shared();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let mut shop = Shop::start(&[&blue], &[&green], &[]);
    shop.turnout
        .ok(&["traffic", "hold", "shop", "-m", "schema change"]);
    shop.restart();
    assert_eq!(shop.status()["traffic"], "hold");
    let front = shop.front;
    let asking: Vec<_> = (0..20)
        .map(|_| std::thread::spawn(move || get(front, "/", &[]).unwrap()))
        .collect();
    wait_for("20 to wait", SOON, || {
        (shop.status()["live"]["held"] == 20).then_some(())
    });
    // one that goes away takes its place with it
    let mut gone = Connection::open(front, Duration::from_millis(200)).unwrap();
    gone.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap_err();
    drop(gone);
    wait_for("the one that went away to be forgotten", SOON, || {
        (shop.status()["live"]["held"] == 20).then_some(())
    });
    assert_eq!(blue.requests() + green.requests(), 0);
    // a switch while the traffic is held lets nobody through
    shop.daemon().api().activate(Color::Green);
    assert_eq!(blue.requests() + green.requests(), 0);
    let verified = shop.turnout.ok(&["verify", "-o", "json"]).json();
    assert_eq!(verified["services"][0]["traffic"], "hold");
    shop.turnout.ok(&["traffic", "open"]);
    for asking in asking {
        let answer = asking.join().unwrap();
        assert_eq!((answer.status, answer.backend()), (200, Some(Color::Green)));
    }
    let live = shop.status()["live"].clone();
    assert_eq!(live["held"], 0);
    // with the one by which the opening was proved
    assert_eq!(live["requests"]["green"], 21);
}

#[test]
fn a_held_request_gives_up_after_limits_hold() {
    let _turn = shared();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let shop = Shop::start(&[&blue], &[&green], &["limits: { hold: 2s }"]);
    shop.traffic(&json!({ "mode": "hold" }));
    let begin = Instant::now();
    let late = shop.ask("/");
    assert_eq!(late.status, 503);
    assert_eq!(late.header("x-turnout-error"), Some("The traffic is held"));
    assert_eq!(late.header("retry-after"), Some("5"));
    assert!(
        begin.elapsed() >= Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    // a look at the door would wait as long again, and be counted
    let begin = Instant::now();
    for _ in 0..5 {
        assert_eq!(shop.status()["live"]["held_too_long"], 1);
    }
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn maintenance_answers_with_a_page_and_survives_a_restart() {
    let _turn = shared();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let mut shop = Shop::start(&[&blue], &[&green], &[]);
    shop.turnout.ok(&["traffic", "maintenance"]);
    let page = shop.ask("/");
    assert_eq!((page.status, page.header("retry-after")), (503, Some("30")));
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(page.text().contains("Back in a moment"), "{}", page.text());
    let own = shop.folder.path().join("down.html");
    std::fs::write(&own, "<p>until noon</p>").unwrap();
    let own = own.display().to_string();
    shop.turnout.ok(&[
        "traffic",
        "maintenance",
        "--page",
        &own,
        "--retry-after",
        "10m",
    ]);
    std::fs::remove_file(&own).unwrap();
    shop.restart();
    let page = shop.ask("/");
    assert_eq!(
        (page.status, page.header("retry-after")),
        (503, Some("600"))
    );
    assert_eq!(page.text(), "<p>until noon</p>");
    let shown = shop.turnout.ok(&["status", "shop"]).stdout;
    assert!(shown.contains("in maintenance"), "{shown}");
    shop.turnout.ok(&["traffic", "open", "shop"]);
    assert_eq!(shop.ask("/").status, 200);
    assert_eq!(blue.requests(), 1);
    let history = shop.turnout.ok(&["history", "-o", "json"]).stdout;
    assert!(
        history.contains("\"maintenance\"") && history.contains("\"open\""),
        "{history}"
    );
    for (body, status) in [
        (json!({ "mode": "closed" }), 422),
        (json!({ "mode": "hold", "page": "x" }), 422),
        (
            json!({ "mode": "maintenance", "page": "x".repeat(33_000) }),
            422,
        ),
        (json!({}), 422),
    ] {
        let answer = shop.daemon().api().post("/v1/services/shop/traffic", &body);
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(shop.ask("/").status, 200);
}

#[test]
fn a_client_over_its_rate_gets_429_on_the_limited_path_alone() {
    let _turn = shared();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let shop = Shop::start(
        &[&blue],
        &[&green],
        &["limits: { rate: [{ requests: 6, per: 1m, burst: 3, paths: [/login] }] }"],
    );
    let statuses: Vec<_> = (0..5).map(|_| shop.ask("/login/step").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let limited = shop.ask("/%6cogin");
    assert_eq!(limited.header("x-turnout-error"), Some("Too many requests"));
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    assert_eq!(shop.ask("/").status, 200);
    assert_eq!(shop.status()["live"]["rate_limited"], 3);
    assert_eq!(blue.requests(), 4);
}

#[test]
fn a_server_that_refuses_is_passed_over_and_comes_back() {
    let _turn = shared();
    let (mut first, second) = (App::start(Color::Blue), App::start(Color::Blue));
    let green = App::start(Color::Green);
    let shop = Shop::start(&[&first, &second], &[&green], &[]);
    first.refuse();
    for _ in 0..50 {
        assert_eq!(shop.ask("/").status, 200);
    }
    let live = shop.status()["live"].clone();
    assert_eq!(live["troubled"][0]["trouble"], "passed_over");
    assert_eq!(live["failed"]["blue"], 0);
    // each thread may find it once, and one request a second tries it
    let retried = live["retried"]["blue"].as_u64().unwrap();
    assert!(
        (1..10).contains(&retried),
        "{retried} of 50 requests met it"
    );
    first.listen();
    let before = first.requests();
    wait_for("it to serve again", SOON, || {
        shop.ask("/");
        (first.requests() > before).then_some(())
    });
    assert_eq!(shop.status()["live"]["troubled"], json!([]));
}

#[test]
fn a_server_that_hangs_gets_nothing_until_a_trial_passes() {
    let _turn = shared();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let shop = Shop::start(&[&blue], &[&green], &["timeouts: { response: 100ms }"]);
    for _ in 0..5 {
        assert_eq!(shop.ask("/never").status, 504);
    }
    let begin = Instant::now();
    let refused = shop.ask("/");
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.header("x-turnout-error"),
        Some("No active backend available")
    );
    assert_eq!(blue.requests(), 5);
    assert_eq!(
        shop.status()["live"]["troubled"][0]["trouble"],
        "circuit_open"
    );
    wait_for("the trial", SOON, || {
        (shop.ask("/").status == 200).then_some(())
    });
    assert!(
        begin.elapsed() > Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(shop.ask("/").status, 200);
    assert_eq!(shop.status()["live"]["troubled"], json!([]));
}

#[test]
fn the_access_log_has_a_line_for_each_request_with_its_end() {
    let _turn = shared();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let shop = Shop::start(
        &[&blue],
        &[&green],
        &["access_log: access.json", "timeouts: { response: 300ms }"],
    );
    let front = shop.front;
    get(
        front,
        "/a?b=c",
        &["User-Agent: test/1", "X-Request-ID: 4711"],
    )
    .unwrap();
    shop.ask("/never");
    get(front, "/half", &[]).unwrap_err();
    shop.traffic(&json!({ "mode": "maintenance" }));
    shop.ask("/closed");
    let file = shop.folder.path().join("access.json");
    let lines = wait_for("four lines", SOON, || {
        let text = std::fs::read_to_string(&file).ok()?;
        let lines: Vec<Value> = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .ok()?;
        let of = |path: &str| lines.iter().find(|line| line["path"] == path).cloned();
        Some([of("/a?b=c")?, of("/never")?, of("/half")?, of("/closed")?])
    });
    let [whole, timeout, half, closed] = &lines;
    assert_eq!(
        [
            &whole["service"],
            &whole["color"],
            &whole["method"],
            &whole["user_agent"]
        ],
        ["shop", "blue", "GET", "test/1"]
    );
    assert_eq!(
        [&whole["request_id"], &whole["ended"], &whole["client"]],
        ["4711", "complete", "127.0.0.1"]
    );
    assert_eq!(whole["server"], format!("http://{}", blue.address));
    assert_eq!(
        (&whole["status"], &whole["bytes"]),
        (&json!(200), &json!(4))
    );
    assert!(whole["upstream_ms"].as_f64().unwrap() <= whole["duration_ms"].as_f64().unwrap());
    assert_eq!(
        (&timeout["status"], &timeout["ended"]),
        (&json!(504), &json!("timeout"))
    );
    assert!(
        timeout["duration_ms"].as_f64().unwrap() >= 300.0,
        "{timeout}"
    );
    assert_eq!(
        (&half["ended"], &half["bytes"]),
        (&json!("broken"), &json!(10))
    );
    assert_eq!(
        (&closed["status"], &closed["color"]),
        (&json!(503), &Value::Null)
    );
}

#[test]
fn the_status_counts_what_was_refused_by_reason() {
    let _turn = shared();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let shop = Shop::start(&[&blue], &[&green], &[]);
    let mut client = Connection::open(shop.front, SOON).unwrap();
    let twofold =
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(client.send(twofold).unwrap().status, 400);
    let status = shop.daemon().api().get("/v1/status").json();
    assert_eq!(status["refused"]["ambiguous"], 1);
    assert_eq!(status["refused"]["idle"], 0);
}

#[test]
fn nginx_refuses_what_it_cannot_do() {
    let _turn = shared();
    let site = crate::support::Site::nginx_on_blue();
    let refused = site.turnout().run(&["traffic", "hold"]).exits(1);
    assert!(
        refused.stderr.contains("nginx cannot hold the traffic"),
        "{}",
        refused.stderr
    );
    site.turnout().ok(&["traffic", "open"]);
}
