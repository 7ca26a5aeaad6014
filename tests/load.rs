//! Switches under load: what clients lose, on which kind of connection, and whether an answered switch is true.
//!
//! nginx closes idle connections on every reload, so there the measure is nginx itself: each switch is followed by a bare
//! `kill -HUP` in the same run, under the same load, and turnout may lose no more than that. The embedded proxy closes
//! nothing and may lose nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use turnout::domain::Color;

use crate::support::{Class, Event, Load, Report, Sample, Site, alone};

/// As many as the promise names.
pub(crate) const SWITCHES: usize = 50;
/// The promise's load, in requests a second.
const RATE: f64 = 2_000.0;
/// Between the end of one event and the next. Each event ends when no old worker accepts any more, that is, when idle
/// connections are closed; the longest think time passes twice until every client has noticed and is back on a kept-alive
/// connection.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// What follows each switch, to hold it against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    /// A bare reload, which changes nothing.
    Reload,
    Nothing,
}

/// Makes [`SWITCHES`] switches with `switch`, each followed by `between`, under load.
pub(crate) fn drive(
    site: &Site,
    mut switch: impl FnMut(Color) -> (Instant, Instant),
    between: Between,
) -> (Report, Vec<Event>) {
    let load = Load::start(site.front);
    std::thread::sleep(Duration::from_secs(1));
    let mut events = Vec::new();
    let mut color = site.served();
    for _ in 0..SWITCHES {
        color = !color;
        let (asked, answered) = switch(color);
        events.push(Event {
            to: Some(color),
            asked,
            answered,
        });
        std::thread::sleep(PAUSE);
        if between == Between::Nothing {
            continue;
        }
        let asked = Instant::now();
        site.balancer().reload();
        events.push(Event {
            to: None,
            asked,
            answered: Instant::now(),
        });
        std::thread::sleep(PAUSE);
    }
    (load.finish(), events)
}

/// What holds on every balancer.
pub(crate) fn assert_common(report: &Report) {
    assert!(
        report.rate() >= RATE,
        "the load was {:.0} requests a second, and {RATE} are needed for the figures to mean something",
        report.rate()
    );
    assert_none("answers other than 2xx", &report.not_2xx());
    assert_none("failures on new connections", &report.fresh_failures());
    assert_none(
        "answers whose X-Routed-To is not who answered",
        &report.mislabelled(),
    );
}

#[track_caller]
pub(crate) fn assert_none(what: &str, samples: &[&Sample]) {
    assert!(
        samples.is_empty(),
        "{} {what}, such as {:#?}",
        samples.len(),
        &samples[..samples.len().min(3)]
    );
}

/// Old answers after a switch was answered; `since` says what must have begun after it.
pub(crate) fn stale<'a>(
    report: &'a Report,
    events: &[Event],
    since: impl Fn(&Sample) -> Instant,
) -> Vec<&'a Sample> {
    let switches: Vec<_> = events.iter().filter(|event| event.to.is_some()).collect();
    let mut stale = Vec::new();
    for (place, event) in switches.iter().enumerate() {
        let until = switches
            .get(place + 1)
            .map_or_else(Instant::now, |next| next.asked);
        if let Some(color) = event.to {
            stale.extend(report.stale(color, event.answered, until, &since));
        }
    }
    stale
}

/// Failures on reused connections by class: after switches, and after bare reloads.
fn losses(report: &Report, events: &[Event]) -> (BTreeMap<Class, u32>, BTreeMap<Class, u32>) {
    let (mut switched, mut bare) = (BTreeMap::new(), BTreeMap::new());
    for (place, event) in events.iter().enumerate() {
        let until = events
            .get(place + 1)
            .map_or_else(Instant::now, |next| next.asked);
        let sum = if event.to.is_some() {
            &mut switched
        } else {
            &mut bare
        };
        for (class, count) in report.lost(event.asked, until) {
            *sum.entry(class).or_insert(0) += count;
        }
    }
    (switched, bare)
}

/// The median and the largest, in milliseconds.
pub(crate) fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let milliseconds = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!(
        "p50 {:.1} ms, max {:.1} ms",
        milliseconds(times.get(times.len() / 2)),
        milliseconds(times.last())
    )
}

pub(crate) fn print(name: &str, report: &Report, events: &[Event]) {
    let switches: Vec<_> = events.iter().filter(|event| event.to.is_some()).collect();
    println!(
        "{name}: {} requests, {:.0} a second, {} of them on new connections; {} switches",
        report.requests(),
        report.rate(),
        report.fresh(),
        switches.len()
    );
    println!(
        "  failed on new connections: {}; answers other than 2xx: {}",
        report.fresh_failures().len(),
        report.not_2xx().len()
    );
    println!(
        "  from command to answer: {}",
        spread(
            switches
                .iter()
                .map(|event| event.answered - event.asked)
                .collect()
        )
    );
    let last_old = switches.iter().enumerate().map(|(place, event)| {
        let until = switches
            .get(place + 1)
            .map_or_else(Instant::now, |next| next.asked);
        report.last_old(event, until)
    });
    let first_new = switches.iter().filter_map(|event| report.first_new(event));
    println!(
        "  from command to the first new answer: {}",
        spread(first_new.collect())
    );
    println!(
        "  from command to the last old answer: {}",
        spread(last_old.collect())
    );
    let (switched, bare) = losses(report, events);
    println!("  lost on reused connections after switches:     {switched:?}");
    println!("  lost on reused connections after bare reloads: {bare:?}");
}

/// "No more than nginx's own", but for the noise of counting. Both counts come from one run with as many switches as
/// reloads; of two Poisson counts of mean `n`, the first is larger by `3·√(2n)` once in a thousand runs.
fn allowed(bare: u32) -> u32 {
    bare + (bare * 18).isqrt() + 5
}

fn assert_nginx(name: &str, site: &Site, report: &Report, events: &[Event]) {
    print(name, report, events);
    assert_common(report);
    assert_none(
        "old answers on connections opened after the switch was answered",
        &stale(report, events, |sample| sample.opened),
    );
    let (switched, bare) = losses(report, events);
    let (switched, bare): (u32, u32) = (switched.values().sum(), bare.values().sum());
    assert!(
        switched <= allowed(bare),
        "{switched} requests lost after switches, and {bare} after as many bare reloads"
    );
    let log = site.balancer().errors();
    let bad: Vec<_> = log
        .lines()
        .filter(|line| {
            ["[alert]", "[emerg]", "[crit]"]
                .iter()
                .any(|level| line.contains(level))
        })
        .collect();
    assert!(bad.is_empty(), "nginx complained: {bad:#?}");
}

#[test]
fn fifty_commands_on_nginx_lose_no_more_than_its_own_reload() {
    let _turn = alone();
    let site = Site::nginx_on_blue();
    let turnout = site.turnout();
    let (report, events) = drive(
        &site,
        |color| {
            let ran = turnout.ok(&["switch", &color.to_string()]);
            (ran.began, ran.ended)
        },
        Between::Reload,
    );
    assert_nginx("nginx, one-shot commands", &site, &report, &events);
    assert_eq!(site.recorded(), site.served());
}

#[test]
fn fifty_switches_by_the_daemon_on_nginx_lose_no_more_than_its_own_reload() {
    let _turn = alone();
    let site = Site::nginx();
    let daemon = site.serve();
    let (report, events) = drive(
        &site,
        |color| {
            let asked = Instant::now();
            daemon.api().activate(color);
            (asked, Instant::now())
        },
        Between::Reload,
    );
    assert_nginx("nginx, daemon", &site, &report, &events);
    assert_eq!(site.recorded(), site.served());
}

#[test]
fn fifty_switches_on_the_embedded_proxy_lose_nothing() {
    let _turn = alone();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let (report, events) = drive(
        &site,
        |color| {
            let asked = Instant::now();
            daemon.api().activate(color);
            (asked, Instant::now())
        },
        Between::Nothing,
    );
    print("embedded", &report, &events);
    assert_common(&report);
    assert_none("failures", &report.failures());
    assert_none(
        "old answers to requests that began after the switch was answered",
        &stale(&report, &events, |sample| sample.start),
    );
    assert_eq!(site.recorded(), site.served());
}

/// The measure measured: nginx with a file written by hand. If this fails, so may the others, and not for turnout's sake.
#[test]
fn a_bare_reload_loses_nothing_on_new_connections() {
    let _turn = alone();
    let site = Site::nginx();
    let write = |color: Color| {
        let server = match color {
            Color::Blue => site.blue.address(),
            Color::Green => site.green.address(),
        };
        let text = format!(
            "upstream shop {{ server {server}; keepalive 16; }}
server {{
    listen {};
    location / {{
        proxy_pass http://shop;
        proxy_http_version 1.1;
        proxy_set_header Connection \"\";
        add_header X-Routed-To {color} always;
    }}
}}
",
            site.front
        );
        std::fs::write(site.balancer().config(), text).unwrap();
    };
    write(Color::Blue);
    site.balancer().reload();
    let load = Load::start(site.front);
    std::thread::sleep(Duration::from_millis(500));
    let mut events = Vec::new();
    for color in [Color::Green, Color::Blue, Color::Green, Color::Blue] {
        write(color);
        let asked = Instant::now();
        site.balancer().reload();
        events.push(Event {
            to: Some(color),
            asked,
            answered: Instant::now(),
        });
        std::thread::sleep(PAUSE);
    }
    let report = load.finish();
    print("nginx, by hand", &report, &events);
    assert_common(&report);
    assert_none(
        "old answers on connections opened after the old workers were gone",
        &stale(&report, &events, |sample| sample.opened),
    );
}
