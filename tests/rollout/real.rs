//! Real processes, real connections, the judge that ships with everything at its default: a green that fails 2 % of its requests
//! beside a blue that fails 0.2 % is rolled back at a weight of 10 %, and one that fails as blue does is promoted.
//!
//! All four ways to carry traffic at the same time, each with a load of its own, since what takes a minute is the evidence: the
//! judge takes what failed within 10 s as one event, and needs some of those.

use std::time::Duration;

use serde_json::json;
use turnout::domain::Colors;

use super::hosts::{Host, Kind};
use super::users::{App, Got, Habit, Users};
use super::*;
use crate::support::shared;

/// Of a rollout that is judged in five stretches, more on a machine that is busy.
const LONGEST: Duration = Duration::from_mins(3);

/// One host with its load and its rollout.
struct Shop {
    kind: Kind,
    users: Users,
    id: String,
    /// Stopped before its balancer and its servers: fields are dropped in their order.
    daemon: Daemon,
    host: Host,
    _apps: Colors<App>,
}

impl Shop {
    /// The rollout has begun, and its users are there.
    fn open(kind: Kind, green_fails: f64) -> Self {
        let host = Host::start(kind);
        let log = host.path("apps.log");
        let apps = Colors {
            blue: App::start(Color::Blue, 0.002, &log),
            green: App::start(Color::Green, green_fails, &log),
        };
        for color in Color::BOTH {
            host.serve_from(color, apps[color].address);
        }
        if kind != Kind::Embedded {
            host.turnout().ok(&["apply"]);
        }
        let daemon = host.healthy();
        // some 250 requests a second, fewer on a busy machine
        let users = Users::start(
            host.front(),
            16,
            Duration::from_millis(60),
            Duration::from_secs(20),
            Habit::Keeps,
        );
        // all that is said of how it is judged
        let body = json!({
            "service_name": "shop", "new_version": "v2", "source": "traffic",
            "strategy": { "initial_weight": 10, "step_weight": 90, "interval_sec": 5 },
        });
        let id = begin(daemon.api(), &body);
        assert_eq!(look(daemon.api(), &id)["judge"], "sequential");
        Self {
            kind,
            host,
            daemon,
            users,
            id,
            _apps: apps,
        }
    }

    /// Its end, and what the users got until a moment after it.
    fn end(self, status: &str, on: Color) -> Outcome {
        let api = self.daemon.api();
        let over = wait_for("the end of the rollout", LONGEST, || {
            let now = look(api, &self.id);
            std::thread::sleep(Duration::from_millis(200));
            is_over(&now).then_some(now)
        });
        let seen_over = jiff::Timestamp::now();
        assert_eq!(
            over["status"], status,
            "{:?}: {}",
            self.kind, over["reason"]
        );
        std::thread::sleep(Duration::from_millis(500));
        let got = self.users.finish();
        let late = got.iter().filter(|got| got.at > seen_over);
        for got in late {
            assert!(got.is_of(on), "{:?}: {got:?} after its end", self.kind);
        }
        self.host.all_on(on);
        let outcome = Outcome {
            kind: self.kind,
            over,
            got,
        };
        outcome.tell();
        outcome
    }
}

struct Outcome {
    kind: Kind,
    over: Value,
    got: Vec<Got>,
}

/// Requests and bad answers of one color, by what the users saw while the rollout ran.
struct Sum {
    requests: usize,
    bad: usize,
}

impl Outcome {
    fn of(&self, color: Color) -> Sum {
        let (from, to) = (
            time(&self.over["created_at"]),
            time(&self.over["updated_at"]),
        );
        let amid = self.got.iter().filter(|got| got.at >= from && got.at <= to);
        let its: Vec<_> = amid.filter(|got| got.is_of(color)).collect();
        Sum {
            requests: its.len(),
            bad: its.iter().filter(|got| got.is_bad()).count(),
        }
    }

    fn took(&self) -> jiff::SignedDuration {
        time(&self.over["updated_at"]).duration_since(time(&self.over["created_at"]))
    }

    fn tell(&self) {
        let (blue, green) = (self.of(Color::Blue), self.of(Color::Green));
        println!(
            "{:?}: {} after {:.0} s at {} requests a second; users saw {} bad answers of green's {}, and {} of blue's {}\n    {}",
            self.kind,
            self.over["status"].as_str().unwrap(),
            self.took().as_secs_f64(),
            (blue.requests + green.requests) as u64 / self.took().as_secs().unsigned_abs().max(1),
            green.bad,
            green.requests,
            blue.bad,
            blue.requests,
            self.over["reason"].as_str().unwrap(),
        );
    }

    /// No request was without an answer, and none was neither color's.
    fn assert_all_answered(&self) {
        let odd: Vec<_> = self
            .got
            .iter()
            .filter(|got| !got.is_of(Color::Blue) && !got.is_of(Color::Green))
            .collect();
        // nginx closes connections at a reload, and who has just looked may be told late
        assert!(odd.len() <= 4, "{:?}: {odd:?}", self.kind);
    }
}

/// Percent of one in another.
fn percent(part: usize, whole: usize) -> f64 {
    100.0 * f64::from(u32::try_from(part).unwrap()) / f64::from(u32::try_from(whole).unwrap())
}

#[test]
fn ten_times_the_errors_are_rolled_back_at_ten_percent_on_each_balancer() {
    let _turn = shared();
    let shops = Kind::ALL.map(|kind| Shop::open(kind, 0.02));
    for shop in shops {
        let outcome = shop.end("rolled_back", Color::Blue);
        let kind = outcome.kind;
        let over = &outcome.over;
        assert_eq!(over["step"], 0, "{kind:?}: more than 10 % of the users");
        let reason = over["reason"].as_str().unwrap();
        assert!(reason.contains("of the candidate's"), "{kind:?}: {reason}");
        outcome.assert_all_answered();
        let (blue, green) = (outcome.of(Color::Blue), outcome.of(Color::Green));
        let all = blue.requests + green.requests;
        let share = percent(green.requests, all);
        assert!((7.0..13.0).contains(&share), "{kind:?}: {share} % to green");
        // 0.2 % of all requests at 2 % of 10 %
        let seen = percent(green.bad, all);
        assert!(
            seen < 0.5,
            "{kind:?}: {seen} % of all were green's bad ones"
        );
    }
}

#[test]
fn a_green_as_good_as_blue_is_promoted_on_each_balancer() {
    let _turn = shared();
    let shops = Kind::ALL.map(|kind| Shop::open(kind, 0.002));
    for shop in shops {
        let outcome = shop.end("promoted", Color::Green);
        let reason = outcome.over["reason"].as_str().unwrap();
        assert!(reason.contains("ruled out"), "{:?}: {reason}", outcome.kind);
        outcome.assert_all_answered();
    }
}
