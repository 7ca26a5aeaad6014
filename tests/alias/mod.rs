//! Services behind an alias: what its name resolves to changes under load, fails, and comes back.

mod dns;
mod lab;
mod load;
mod seen;
mod service;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use dns::Says;
use lab::{Kind, Lab};
use load::{answered, failures};

use crate::routing::alias::lag;
use crate::support::{SOON, is_root, shared, wait_for};

/// Long enough for several lookups.
const A_WHILE: Duration = Duration::from_secs(3);
/// What is promised.
const SECOND: Duration = Duration::from_secs(1);

const PURPOSE: &str =
    "name servers of a private mount namespace, and port 53 of a loopback address";

/// Loopback addresses of both families; of the second there is only one.
const FOUR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 77, 1)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 77, 2)),
];
const FOUR_AND_SIX: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 77, 1)),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// The answer changes under load, back and forth: no request fails, and the last one that the old address got is no later after
/// the change than the table of routing cases has it.
fn change_under_load(kind: Kind, addresses: [IpAddr; 2]) {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    let mut lab = Lab::new(kind, Says::Empty, "    health: { interval: 1s }\n");
    let servers = addresses.map(|address| lab.server_at(address));
    lab.dns.say(Says::of(&[servers[0].address]));
    lab.serve();
    lab.wait_at(servers[0].address);
    let load = lab.load();
    let mut lates = Vec::new();
    for (old, new) in [(0, 1), (1, 0), (0, 1), (1, 0)] {
        // as an alias that moves: both serve meanwhile
        let changed = Instant::now();
        lab.dns.say(Says::of(&[servers[new].address]));
        wait_for("the new address to be asked", SOON, || {
            servers[new].last().filter(|last| *last > changed)
        });
        // what is not seen in this while is not seen at all
        std::thread::sleep(A_WHILE);
        let late = servers[old].last().map_or(Duration::ZERO, |last| {
            last.saturating_duration_since(changed)
        });
        lates.push(late);
    }
    let asked = load.finish();
    println!(
        "{kind:?}, {addresses:?}: {} requests, the last ones at an old address {lates:.0?} after the change, {} questions",
        asked.len(),
        lab.dns.asked()
    );
    assert_eq!(failures(&asked), [].into(), "of {} requests", asked.len());
    assert!(asked.len() > 1_000, "{} requests", asked.len());
    let (within, why) = lag(kind);
    let latest = lates.into_iter().max().unwrap_or_default();
    assert!(
        latest <= within,
        "{kind:?}: {latest:?} after the change ({why:?})"
    );
}

#[test]
fn embedded_follows_an_alias_within_a_second_and_loses_no_request() {
    change_under_load(Kind::Embedded, FOUR);
}

#[test]
fn nginx_follows_an_alias_by_its_own_rules_and_loses_no_request() {
    change_under_load(Kind::Nginx, FOUR);
}

#[test]
fn haproxy_follows_an_alias_within_a_second_and_loses_no_request() {
    change_under_load(Kind::Haproxy, FOUR);
}

#[test]
fn embedded_follows_an_alias_from_ipv4_to_ipv6_and_back() {
    change_under_load(Kind::Embedded, FOUR_AND_SIX);
}

#[test]
fn nginx_follows_an_alias_from_ipv4_to_ipv6_and_back() {
    change_under_load(Kind::Nginx, FOUR_AND_SIX);
}

#[test]
fn haproxy_follows_an_alias_from_ipv4_to_ipv6_and_back() {
    change_under_load(Kind::Haproxy, FOUR_AND_SIX);
}

#[test]
fn an_old_address_that_is_gone_at_once_costs_no_request() {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    let mut lab = Lab::new(Kind::Embedded, Says::Empty, "");
    let (mut old, new) = (lab.server(1), lab.server(2));
    lab.dns.say(Says::of(&[old.address]));
    lab.serve();
    lab.wait_at(old.address);
    let load = lab.load();
    std::thread::sleep(Duration::from_millis(300));
    // nobody waits for the next lookup: the first refused connection looks by itself
    lab.dns.say(Says::of(&[new.address]));
    old.refuse();
    lab.wait_at(new.address);
    std::thread::sleep(Duration::from_millis(500));
    let asked = load.finish();
    let failed = failures(&asked);
    // kept-alive connections to the old address serve on until they are dropped, which this server allows
    assert_eq!(failed, [].into(), "of {} requests", asked.len());
    assert!(new.count() > 0);
}

#[test]
fn several_addresses_take_turns_and_one_that_is_new_joins_them() {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    let mut lab = Lab::new(Kind::Embedded, Says::Empty, "");
    let servers = [lab.server(1), lab.server(2), lab.server(3)];
    let addresses = servers.each_ref().map(|server| server.address);
    lab.dns.say(Says::of(&addresses[..2]));
    lab.serve();
    for _ in 0..40 {
        assert_eq!(lab.ask("blog.com").status, 200);
    }
    let counts = servers.each_ref().map(lab::Server::count);
    assert!(counts[0] >= 15 && counts[1] >= 15, "{counts:?}");
    assert_eq!(counts[2], 0);
    lab.dns.say(Says::of(&addresses[1..]));
    lab.wait_at(addresses[2]);
    let changed = Instant::now();
    let load = lab.load();
    std::thread::sleep(SECOND);
    let asked = load.finish();
    assert_eq!(failures(&asked), [].into());
    let both: Vec<_> = addresses[1..].iter().map(ToString::to_string).collect();
    let seen: Vec<_> = answered(&asked, changed).into_iter().collect();
    assert_eq!(seen, both, "no request goes to an address that is gone");
}

#[test]
fn a_name_that_is_not_answered_for_keeps_its_last_address_and_says_so() {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    let mut lab = Lab::new(
        Kind::Embedded,
        Says::Empty,
        "    health: { interval: 1s }\n",
    );
    let (old, new) = (lab.server(1), lab.server(2));
    lab.dns.say(Says::of(&[old.address]));
    lab.serve();
    lab.wait_at(old.address);
    for says in [Says::NxDomain, Says::Empty, Says::ServFail, Says::Silent] {
        let load = lab.load();
        lab.dns.say(says.clone());
        let problem = wait_for("the problem to be told", SOON, || {
            let status = lab.status();
            status["problem"].as_str().map(ToOwned::to_owned)
        });
        println!("{says:?}: {problem}");
        std::thread::sleep(A_WHILE);
        let status = lab.status();
        assert_eq!(
            status["addresses"],
            serde_json::json!([old.address.to_string()]),
            "{status}"
        );
        assert_eq!(status["health"], "healthy", "{says:?}: {status}");
        // and back, without waiting for a lookup that hangs
        let back = Instant::now();
        lab.dns.say(Says::of(&[new.address]));
        lab.wait_at(new.address);
        let took = back.elapsed();
        assert!(took < Duration::from_millis(1_500), "{says:?}: {took:?}");
        lab.dns.say(Says::of(&[old.address]));
        lab.wait_at(old.address);
        let asked = load.finish();
        assert_eq!(failures(&asked), [].into(), "{says:?}");
        wait_for("the problem to be over", SOON, || {
            lab.status()["problem"].is_null().then_some(())
        });
    }
    let told = lab.log().matches("the alias cannot be looked up").count();
    assert!((1..=8).contains(&told), "said {told} times");
}

#[test]
fn an_unhealthy_alias_is_blocked_and_comes_back_by_itself_on_every_balancer() {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    for kind in [Kind::Embedded, Kind::Nginx, Kind::Instant, Kind::Haproxy] {
        let health = "    health: { interval: 200ms, unhealthy_after: 2 }\n";
        let mut lab = Lab::new(kind, Says::Empty, health);
        let (old, new) = (lab.server(1), lab.server(2));
        lab.dns.say(Says::of(&[old.address]));
        lab.serve();
        lab.wait_at(old.address);
        let answer = lab.ask("blog.com");
        assert_eq!(answer.header("x-routed-to"), None, "{kind:?}");
        let url = format!("http://blog.test:{}", lab.port);
        assert_eq!(
            answer.header("x-upstream-url"),
            Some(url.as_str()),
            "{kind:?}"
        );
        old.sick(true);
        let blocked = wait_for("the alias to be blocked", SOON, || {
            let answer = lab.ask("blog.com");
            (answer.status == 503).then_some(answer)
        });
        assert_eq!(
            blocked.text().trim(),
            "No active backend available",
            "{kind:?}"
        );
        assert_eq!(
            blocked.header("x-turnout-error"),
            Some("No active backend available"),
            "{kind:?}"
        );
        old.sick(false);
        lab.wait_at(old.address);
        // a new address is not judged by what the old one did
        old.sick(true);
        wait_for("the alias to be blocked", SOON, || {
            (lab.ask("blog.com").status == 503).then_some(())
        });
        lab.dns.say(Says::of(&[new.address]));
        lab.wait_at(new.address);
    }
}

#[test]
fn names_of_the_hosts_file_and_ipv6_are_followed() {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    let mut lab = Lab::new(Kind::Embedded, Says::NxDomain, "");
    let first = lab.server(1);
    let six = lab::Server::start(SocketAddr::from((Ipv6Addr::LOCALHOST, lab.port)));
    let hosts = lab.path("hosts");
    std::fs::write(&hosts, "127.0.77.1 blog.test\n").unwrap();
    lab.serve();
    lab.wait_at(first.address);
    std::fs::write(&hosts, "::1 blog.test\n").unwrap();
    lab.wait_at(six.address);
}

#[test]
fn nothing_of_an_alias_is_switched_and_status_shows_what_it_is() {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    let mut lab = Lab::new(Kind::Embedded, Says::Empty, "    project: myproject\n");
    let server = lab.server(1);
    lab.dns.say(Says::of(&[server.address]));
    lab.serve();
    lab.wait_at(server.address);
    for args in [
        &["switch", "blog", "green"][..],
        &["switch"],
        &["rollback", "blog"],
        &["weights", "blog", "blue=50", "green=50"],
    ] {
        lab.turnout
            .run(args)
            .exits(1)
            .says("its colors change place behind the alias");
    }
    let status = wait_for("the first probe", SOON, || {
        let status = lab.status();
        (status["health"] == "healthy").then_some(status)
    });
    assert_eq!(status["service"], "blog");
    assert_eq!(status["project"], "myproject");
    assert_eq!(status["target"], format!("blog.test:{}", lab.port));
    assert_eq!(
        status["addresses"],
        serde_json::json!([server.address.to_string()])
    );
    assert!(status.get("active").is_none(), "{status}");
    lab.turnout.ok(&["status"]).says("myproject");
    lab.turnout.ok(&["verify"]);
    assert_eq!(lab.ask("other.com").status, 404);
}
