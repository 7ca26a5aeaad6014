//! Taken over and given back under the load of all kinds of clients at once: how long nobody answers them, and that nothing
//! fails before and after.

use std::time::{Duration, Instant};

use super::{LOOKS, SLACK, wait_for_duty, wait_for_none};
use crate::haproxy::{Lab, Layout};
use crate::support::{Load, NginxSetup, Report, Site, Turnout, alone};

/// What clients with new connections met around one event.
struct Gap {
    /// From the last good answer before it to the first one after.
    lasted: Duration,
    /// When that came.
    over: Instant,
}

/// Around `at`, by requests on connections opened for them.
fn gap(report: &Report, at: Instant) -> Gap {
    let fresh = report.samples().iter().filter(|sample| !sample.reused);
    let good = fresh.filter(|sample| sample.outcome.is_ok_and(|seen| seen.status == 200));
    // an answer to a request that began before the event may come after it
    let (mut before, mut after) = (None, None);
    for sample in good {
        if sample.start < at {
            before = before.max(Some(sample.end));
        } else {
            after = Some(after.map_or(sample.end, |first: Instant| first.min(sample.end)));
        }
    }
    let (before, over) = (before.unwrap(), after.expect("an answer afterwards"));
    Gap {
        lasted: over.saturating_duration_since(before),
        over,
    }
}

/// Requests on new connections that failed although they began between these two.
fn failed(report: &Report, from: Instant, until: Instant) -> usize {
    let failures = report.fresh_failures().into_iter().chain(report.not_2xx());
    failures
        .filter(|sample| sample.start > from && sample.end < until)
        .count()
}

fn survive(name: &str, turnout: &Turnout, mut host: impl Host) {
    let load = Load::start(host.front());
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    let killed = Instant::now();
    host.crash();
    wait_for_duty(turnout, "serving");
    std::thread::sleep(Duration::from_secs(1));
    let released = Instant::now();
    turnout.ok(&["fallback", "release"]);
    let free = Instant::now();
    host.start();
    wait_for_none(turnout);
    std::thread::sleep(Duration::from_secs(1));
    let report = load.finish();
    let ended = Instant::now();

    let there = gap(&report, killed);
    // the stand-in answers until its listeners are closed
    let back = gap(&report, free);
    println!(
        "{name}: {} requests, {:.0} a second; killed: nobody answered for {:?}; given back: for {:?} (the release took {:?}); \
         failed on new connections: {}, on kept ones: {}",
        report.requests(),
        report.rate(),
        there.lasted,
        back.lasted,
        free - released,
        report.fresh_failures().len(),
        report.failures().len() - report.fresh_failures().len()
    );
    assert!(there.lasted < LOOKS + SLACK, "{:?}", there.lasted);
    assert!(back.lasted < LOOKS + SLACK, "{:?}", back.lasted);
    assert_eq!(failed(&report, began, killed), 0, "before");
    assert_eq!(
        failed(&report, there.over, released),
        0,
        "while it stands in"
    );
    assert_eq!(failed(&report, back.over, ended), 0, "afterwards");
}

trait Host {
    fn front(&self) -> std::net::SocketAddr;
    fn crash(&mut self);
    fn start(&mut self);
}

impl Host for &mut Site {
    fn front(&self) -> std::net::SocketAddr {
        self.front
    }

    fn crash(&mut self) {
        self.balancer_mut().crash();
    }

    fn start(&mut self) {
        self.balancer_mut().restart();
    }
}

impl Host for &mut Lab {
    fn front(&self) -> std::net::SocketAddr {
        self.front
    }

    fn crash(&mut self) {
        Lab::crash(self);
    }

    fn start(&mut self) {
        Lab::start(self);
    }
}

#[test]
fn a_crowd_is_without_nginx_for_three_looks_and_for_its_start_alone() {
    let _turn = alone();
    let mut site = Site::nginx_with("blue_green", NginxSetup::default());
    site.use_fallback("true");
    let turnout = site.turnout();
    turnout.ok(&["apply"]);
    let daemon = site.serve();
    survive("nginx", &turnout, &mut site);
    turnout.ok(&["verify"]);
    drop(daemon);
}

#[test]
fn a_crowd_is_without_haproxy_for_three_looks_and_for_its_start_alone() {
    let _turn = alone();
    let mut lab = Lab::new(Layout::Whole);
    lab.fallback = "  fallback: true\n";
    lab.begin();
    let turnout = lab.turnout();
    turnout.ok(&["apply"]);
    let daemon = lab.serve();
    survive("HAProxy", &turnout, &mut lab);
    turnout.ok(&["verify"]);
    drop(daemon);
}
