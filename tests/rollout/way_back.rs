//! The way back never waits for the candidate: whatever becomes of green's process, everything is on blue within a second of the
//! verdict, by the rollout's own times and by what clients get.

use std::time::Duration;

use jiff::SignedDuration;
use nix::sys::signal::Signal;

use super::hosts::{Host, Kind};
use super::users::{App, Got, Habit, Users};
use super::*;
use crate::support::alone;

/// What becomes of green's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Accepts and never answers.
    Hangs,
    /// Gone, with all of its connections.
    Crashes,
    /// Ends what it has begun, and refuses connections.
    Refuses,
}

const WITHIN: SignedDuration = SignedDuration::from_secs(1);
/// Clients that get no answer give up after this, and ask again.
const PATIENCE: Duration = Duration::from_secs(1);

fn all_back(kind: Kind) {
    let host = Host::start(kind);
    let log = host.path("apps.log");
    let mut green = App::start(Color::Green, 0.0, &log);
    host.serve_from(Color::Green, green.address);
    // nobody looks at green's health meanwhile: it is the verdict that takes everything back, and no failover
    host.edit("interval: 200ms", "interval: 10m");
    if kind != Kind::Embedded {
        host.turnout().ok(&["apply"]);
    }
    let daemon = host.healthy();
    let api = daemon.api();
    for trouble in [Trouble::Hangs, Trouble::Crashes, Trouble::Refuses] {
        let id = begin(api, &quick());
        // as many as that some still ask while others wait for green
        let think = Duration::from_millis(15);
        let users = Users::start(host.front(), 24, think, PATIENCE, Habit::Closes);
        std::thread::sleep(Duration::from_millis(200));
        match trouble {
            Trouble::Hangs => green.process.signal(Signal::SIGSTOP),
            Trouble::Crashes => green.process.kill(),
            Trouble::Refuses => green.process.signal(Signal::SIGTERM),
        }
        push(api, &id, &bad());
        let over = until(api, &id, |now| now["status"] == "rolled_back");
        let verdict = over["verdicts"].as_array().unwrap().last().unwrap();
        let said = time(&verdict["at"]);
        let took = time(&over["updated_at"]).duration_since(said);
        // and what comes when the second is over
        std::thread::sleep(Duration::from_millis(1_300));
        let got = users.finish();
        let other = |got: &&Got| !got.is_of(Color::Blue) || got.is_bad();
        let last = got.iter().filter(other).map(|got| got.at).max();
        println!(
            "{kind:?}, green {trouble:?}: everything on blue {} ms after the verdict ({}); the last request that blue did not answer \
             was sent {} ms after it",
            took.as_millis(),
            verdict["reason"].as_str().unwrap(),
            last.map_or(0, |last| last.duration_since(said).as_millis()),
        );
        assert!(took < WITHIN, "{kind:?}, {trouble:?}: {took:#}");
        let late: Vec<_> = got.iter().filter(|got| got.at > said + WITHIN).collect();
        assert!(late.len() > 20, "{kind:?}, {trouble:?}: {late:?}");
        for got in late {
            assert!(
                got.is_of(Color::Blue) && !got.is_bad() && got.took < PATIENCE,
                "{kind:?}, {trouble:?}: {got:?}, and the verdict was at {said}"
            );
        }
        host.all_on(Color::Blue);
        green.again(&log);
    }
}

#[test]
fn of_the_embedded_proxy() {
    let _turn = alone();
    all_back(Kind::Embedded);
}

#[test]
fn of_nginx_by_reloads() {
    let _turn = alone();
    all_back(Kind::Nginx);
}

#[test]
fn of_nginx_without_reloads() {
    let _turn = alone();
    all_back(Kind::NginxInstant);
}

#[test]
fn of_haproxy() {
    let _turn = alone();
    all_back(Kind::Haproxy);
}
