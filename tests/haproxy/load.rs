//! Fifty switches under load: HAProxy closes nothing for one, so nothing may be lost.

use std::time::Instant;

use turnout::domain::Color;

use super::lab::{Lab, Layout};
use crate::load::{PAUSE, SWITCHES, assert_common, assert_none, print, stale};
use crate::support::{Event, Load, Report, alone};

fn drive(lab: &Lab, mut switch: impl FnMut(Color) -> (Instant, Instant)) -> (Report, Vec<Event>) {
    let load = Load::start(lab.front);
    std::thread::sleep(std::time::Duration::from_secs(1));
    let mut events = Vec::new();
    let mut color = lab.served();
    for _ in 0..SWITCHES {
        color = !color;
        let (asked, answered) = switch(color);
        events.push(Event {
            to: Some(color),
            asked,
            answered,
        });
        std::thread::sleep(PAUSE);
    }
    (load.finish(), events)
}

fn assert_lossless(name: &str, lab: &Lab, report: &Report, events: &[Event]) {
    print(name, report, events);
    assert_common(report);
    assert_none("failures", &report.failures());
    assert_none(
        "old answers to requests that began after the switch was answered",
        &stale(report, events, |sample| sample.start),
    );
    assert_eq!(lab.recorded(), lab.served());
}

#[test]
fn fifty_commands_on_haproxy_lose_nothing() {
    let _turn = alone();
    let lab = Lab::on_blue(Layout::Whole);
    let turnout = lab.turnout();
    let (report, events) = drive(&lab, |color| {
        let ran = turnout.ok(&["switch", &color.to_string()]);
        (ran.began, ran.ended)
    });
    assert_lossless("haproxy, one-shot commands", &lab, &report, &events);
}

#[test]
fn fifty_switches_by_the_daemon_on_haproxy_lose_nothing() {
    let _turn = alone();
    let lab = Lab::on_blue(Layout::Whole);
    let daemon = lab.serve();
    let (report, events) = drive(&lab, |color| {
        let asked = Instant::now();
        daemon.api().activate(color);
        (asked, Instant::now())
    });
    assert_lossless("haproxy, daemon", &lab, &report, &events);
}
