//! What of nginx's and HAProxy's requests is not told of, held against their own totals at 5,000 requests a second; what becomes of
//! a rollout when that is more than 1 %; and that they serve as well while turnout reads nothing.
//!
//! The load is wrk's and the servers are an nginx that answers by itself, so that neither is what is measured.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use turnout::domain::Color;

use super::SOON;
use super::lines::{all, counters, settled};
use crate::haproxy::{Lab, Layout};
use crate::support::{Background, Connection, Daemon, Ports, Run, Site, alone, get, wait_for};

/// Each sends a request in 10 ms and what its answer takes: 5,000 a second and a little more.
const CONNECTIONS: usize = 60;

/// The two servers: one nginx, which answers by itself.
struct Servers {
    blue: SocketAddr,
    green: SocketAddr,
    _nginx: Background,
}

impl Servers {
    fn start(folder: &Path) -> Self {
        let folder = folder.join("servers");
        std::fs::create_dir_all(&folder).unwrap();
        let (blue, green) = (Ports::address(), Ports::address());
        let server = |address: SocketAddr| {
            format!(
                "server {{ listen {address}; keepalive_requests 10000000; location / {{ default_type text/plain; return 200 ok; }} }}\n"
            )
        };
        let place = folder.display();
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
            .concat();
        let text = format!(
            "daemon off;\nworker_processes 1;\npid {place}/pid;\nerror_log {place}/error.log;\nevents {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n{temp}{}{}}}\n",
            server(blue),
            server(green)
        );
        let config = folder.join("nginx.conf");
        std::fs::write(&config, text).unwrap();
        let nginx = Run::new("nginx")
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&config)
            .background(&folder.join("start.log"));
        for address in [blue, green] {
            wait_for("the servers", SOON, || get(address, "/", &[]).ok());
        }
        Self {
            blue,
            green,
            _nginx: nginx,
        }
    }
}

/// What wrk saw.
#[derive(Debug, Clone, Copy)]
struct Seen {
    requests: u64,
    /// Answers other than 2xx and 3xx, and connections that broke.
    bad: u64,
    seconds: f64,
    /// Of the answers, in microseconds.
    p50: u64,
    p99: u64,
    slowest: u64,
}

impl Seen {
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// wrk at the rate, once so many seconds.
fn wrk(folder: &Path, front: SocketAddr, seconds: u64) -> Run {
    let script = folder.join("pace.lua");
    std::fs::write(
        &script,
        "function delay() return 10 end\nfunction done(summary, latency)\n  local errors = summary.errors\n  \
         io.write(string.format('seen %d %d %d %d %d %d\\n', summary.requests, errors.connect + errors.read + errors.write + errors.status + errors.timeout,\n    \
         summary.duration, latency:percentile(50), latency:percentile(99), latency.max))\nend\n",
    )
    .unwrap();
    Run::new("wrk")
        .args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d"])
        .arg(format!("{seconds}s"))
        .arg("-s")
        .arg(script)
        .arg(format!("http://{front}/"))
}

fn load(folder: &Path, front: SocketAddr, seconds: u64) -> Seen {
    let ran = wrk(folder, front, seconds).run().exits(0);
    let line = ran
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("seen "));
    let line = line.unwrap_or_else(|| panic!("no figures\n{ran}"));
    let numbers: Vec<u64> = line
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    let [requests, bad, microseconds, p50, p99, slowest] = numbers[..] else {
        panic!("{line}");
    };
    Seen {
        requests,
        bad,
        seconds: Duration::from_micros(microseconds).as_secs_f64(),
        p50,
        p99,
        slowest,
    }
}

/// nginx or HAProxy with a daemon, in front of the servers.
enum Host {
    Nginx(Box<Site>),
    Haproxy(Box<Lab>),
}

impl Host {
    /// `counts`: of `balancer`, or nothing.
    fn start(is_nginx: bool, counts: &str) -> (Self, Servers) {
        let host = if is_nginx {
            Self::Nginx(Box::new(Site::nginx_on_blue()))
        } else {
            Self::Haproxy(Box::new(Lab::on_blue(Layout::Whole)))
        };
        let servers = Servers::start(&host.folder());
        let (blue, green) = match &host {
            Self::Nginx(site) => (site.blue.url(), site.green.url()),
            Self::Haproxy(lab) => (lab.blue.url(), lab.green.url()),
        };
        let path = host.folder().join("turnout.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text
            .replace(&blue, &format!("http://{}", servers.blue))
            .replace(&green, &format!("http://{}", servers.green))
            .replace("balancer:\n", &format!("balancer:\n{counts}"));
        std::fs::write(&path, text).unwrap();
        match &host {
            Self::Nginx(site) => site.turnout().ok(&["apply"]),
            Self::Haproxy(lab) => lab.turnout().ok(&["apply"]),
        };
        (host, servers)
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Nginx(_) => "nginx",
            Self::Haproxy(_) => "HAProxy",
        }
    }

    fn folder(&self) -> PathBuf {
        match self {
            Self::Nginx(site) => site.folder().to_owned(),
            Self::Haproxy(lab) => lab.folder().to_owned(),
        }
    }

    fn front(&self) -> SocketAddr {
        match self {
            Self::Nginx(site) => site.front,
            Self::Haproxy(lab) => lab.front,
        }
    }

    fn serve(&self) -> Daemon {
        match self {
            Self::Nginx(site) => site.serve(),
            Self::Haproxy(lab) => lab.serve(),
        }
    }

    /// The requests that the balancer itself has counted: nginx all of them, HAProxy those of turnout's two backends.
    fn total(&self) -> u64 {
        match self {
            Self::Nginx(site) => {
                let asked = b"GET /total HTTP/1.1\r\nHost: turnout\r\nConnection: close\r\n\r\n";
                let mut connection = Connection::open(site.prove, SOON).unwrap();
                let text = connection.send(asked).unwrap().text();
                let (_, behind) = text.split_once("handled requests").unwrap();
                behind.split_whitespace().nth(2).unwrap().parse().unwrap()
            }
            Self::Haproxy(lab) => {
                let mut stream = UnixStream::connect(lab.path("admin.sock")).unwrap();
                stream.write_all(b"show stat -1 2 -1\n").unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                let place = text.lines().next().unwrap().split(',');
                let place = place.clone().position(|name| name == "req_tot").unwrap();
                let ours = text
                    .lines()
                    .filter(|line| line.starts_with("turnout_shop_"));
                ours.map(|line| line.split(',').nth(place).unwrap().parse::<u64>().unwrap())
                    .sum()
            }
        }
    }
}

fn at_the_rate(is_nginx: bool) {
    let (host, _servers) = Host::start(is_nginx, "");
    let daemon = host.serve();
    let name = host.name();
    // workers look for the reader once in a while
    wait_for("a first line", SOON, || {
        get(host.front(), "/", &[]).unwrap();
        (all(&daemon) > 0).then_some(())
    });
    settled(&daemon);
    let (total, told) = (host.total(), all(&daemon));
    let seen = load(&host.folder(), host.front(), 10);
    settled(&daemon);
    let (total, told) = (host.total() - total, all(&daemon) - told);
    let lost = total.saturating_sub(told);
    println!(
        "{name}: {:.0} requests a second, {} by wrk, {total} by {name}'s own total, {told} told of: {lost} lost; p50 {} us, p99 {} us",
        seen.rate(),
        seen.requests,
        seen.p50,
        seen.p99
    );
    assert_eq!(seen.bad, 0, "{seen:?}");
    // a machine that does other things too may not reach it; what was reached is printed
    assert!(seen.rate() > 1_000.0, "{seen:?}");
    assert!(total >= seen.requests, "{total} of {}", seen.requests);
    assert!(lost * 1_000 <= total, "{lost} of {total}");
    // and turnout says so itself
    let share = wait_for("a whole bucket", SOON, || {
        counters(&daemon, "turnout_traffic_lost_ratio")
            .values()
            .copied()
            .next()
    });
    assert!(share <= 0.001, "{share}");
}

#[test]
fn at_five_thousand_a_second_nginx_loses_at_most_one_in_a_thousand() {
    let _turn = alone();
    at_the_rate(true);
}

#[test]
fn at_five_thousand_a_second_haproxy_loses_at_most_one_in_a_thousand() {
    let _turn = alone();
    at_the_rate(false);
}

/// Stopped so long that the queue is full for most of a bucket, and no health is in doubt.
const STOPPED: Duration = Duration::from_millis(1_200);

fn held_above_one_percent(is_nginx: bool) {
    let (host, _servers) = Host::start(is_nginx, "  counts: { bucket: 2s }\n");
    let mut daemon = host.serve();
    let name = host.name();
    let api = daemon.api().clone();
    wait_for("both colors healthy", SOON, || {
        let health = api.get("/health").json();
        let up = |color: &str| health["upstreams"][color]["healthy"] == true;
        (up("blue") && up("green")).then_some(())
    });
    let _wrk = wrk(&host.folder(), host.front(), 100).background(&host.folder().join("wrk.log"));
    let body = json!({
        "service_name": "shop", "new_version": "v2", "source": "traffic",
        "strategy": { "initial_weight": 10, "step_weight": 90, "interval_sec": 1 },
        "policy": { "min_samples": 5 },
    });
    let begun = api.post("/deployments", &body);
    assert_eq!(begun.status, 201, "{}", begun.text());
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    let look = || api.get(&format!("/deployments/{id}")).json();
    let says = |now: &Value, text: &str| now["reason"].as_str().unwrap().contains(text);
    let wait = |what: &str, is: &dyn Fn(&Value) -> bool| {
        wait_for(what, SOON, || {
            let now = look();
            std::thread::sleep(Duration::from_millis(50));
            is(&now).then_some(now)
        })
    };
    wait("the first figures", &|now| {
        now["counts"]
            .as_array()
            .is_some_and(|counts| !counts.is_empty())
    });
    daemon.process().signal(Signal::SIGSTOP);
    std::thread::sleep(STOPPED);
    daemon.process().signal(Signal::SIGCONT);
    let held = wait("the loss to be seen", &|now| {
        says(now, "were not told of by the balancer")
    });
    println!("{name}: {}", held["reason"].as_str().unwrap());
    assert_eq!(
        (&held["status"], &held["weight"], &held["step"]),
        (&json!("holding"), &json!(10), &json!(0))
    );
    let lost = counters(&daemon, "turnout_traffic_lost_ratio");
    assert!(lost.values().all(|share| *share > 0.01), "{lost:?}");
    // with whole buckets again it goes on, and what was not whole is not counted
    let over = wait("its end", &|now| now["status"] == "promoted");
    println!("{name}: {}", over["reason"].as_str().unwrap());
    let answer = get(host.front(), "/", &[]).unwrap();
    assert_eq!(answer.color("x-routed-to"), Some(Color::Green));
}

#[test]
fn a_loss_above_one_percent_on_nginx_holds_a_rollout_until_it_is_over() {
    let _turn = alone();
    held_above_one_percent(true);
}

#[test]
fn a_loss_above_one_percent_on_haproxy_holds_a_rollout_until_it_is_over() {
    let _turn = alone();
    held_above_one_percent(false);
}

#[test]
fn neither_is_slowed_down_by_a_turnout_that_reads_nothing() {
    let _turn = alone();
    for is_nginx in [true, false] {
        let (host, _servers) = Host::start(is_nginx, "");
        let mut daemon = host.serve();
        wait_for("a first line", SOON, || {
            get(host.front(), "/", &[]).unwrap();
            (all(&daemon) > 0).then_some(())
        });
        let with = load(&host.folder(), host.front(), 3);
        daemon.process().signal(Signal::SIGSTOP);
        let without = load(&host.folder(), host.front(), 4);
        daemon.process().signal(Signal::SIGCONT);
        println!("{}: read {with:?}; stopped {without:?}", host.name());
        assert_eq!((with.bad, without.bad), (0, 0));
        // who waited for turnout would wait for all of the four seconds, sixty at a time; a machine that does other things too
        // stalls for tenths, with turnout and without it
        assert!(without.rate() > 0.3 * with.rate(), "{without:?}");
        assert!(without.slowest < 2_000_000, "{without:?}");
        assert!(without.p50 < with.p50.max(2_500) * 4, "{without:?}");
    }
}
