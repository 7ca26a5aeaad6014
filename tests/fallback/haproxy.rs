//! An HAProxy that is killed, hangs, and comes back.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use turnout::domain::Color;

use super::gap::Client;
use super::{LOOKS, SLACK, count, keys, wait_for_duty, wait_for_none};
use crate::haproxy::{Lab, Layout};
use crate::support::{alone, shared};

fn lab() -> Lab {
    let mut lab = Lab::new(Layout::Whole);
    "    strategy: canary\n".clone_into(&mut lab.shop);
    lab.fallback = "  fallback: true\n";
    lab.begin();
    lab.turnout().ok(&["apply"]);
    lab.turnout()
        .ok(&["weights", "shop", "blue=70", "green=30"]);
    lab
}

#[test]
fn a_killed_haproxy_is_stood_in_for_by_its_own_hash_and_gets_its_listeners_back() {
    let _turn = alone();
    let mut lab = lab();
    let turnout = lab.turnout();
    let daemon = lab.serve();
    let before = lab.colors_of(&keys(), "x");
    assert!((60..180).contains(&count(&before, Color::Green)));
    let client = Client::start(lab.front);
    std::thread::sleep(Duration::from_millis(200));
    lab.crash();
    wait_for_duty(&turnout, "serving");
    let there = client.finish();
    println!(
        "HAProxy killed: nobody served for {:?}, of {} requests others than refused: {:?}",
        there.longest(),
        there.requests,
        there.others
    );
    assert!(there.longest() < LOOKS + SLACK, "{:?}", there.longest());
    assert_eq!(lab.colors_of(&keys(), "x"), before, "pinned users moved");
    turnout.ok(&["status"]).says("haproxy is gone since");
    turnout.ok(&["verify"]);

    turnout.ok(&["weights", "shop", "blue=20", "green=80"]);
    let moved = lab.colors_of(&keys(), "x");
    assert!((280..360).contains(&count(&moved, Color::Green)));
    let map = std::fs::read_to_string(lab.map()).unwrap();
    assert!(map.contains("\nshop 2000\n"), "{map}");

    let client = Client::start(lab.front);
    std::thread::sleep(Duration::from_millis(200));
    turnout.ok(&["fallback", "release"]);
    lab.start();
    wait_for_none(&turnout);
    std::thread::sleep(Duration::from_millis(100));
    let back = client.finish();
    println!(
        "HAProxy back: nobody served for {:?}, of {} requests others than refused: {:?}",
        back.longest(),
        back.requests,
        back.others
    );
    assert!(back.longest() < LOOKS + SLACK, "{:?}", back.longest());
    assert_eq!(lab.blue_share(), 2_000);
    assert_eq!(lab.colors_of(&keys(), "x"), moved);
    turnout.ok(&["verify"]);
    drop(daemon);
}

#[test]
fn turnout_killed_while_it_stands_in_for_haproxy_loses_no_position() {
    let _turn = shared();
    let mut lab = lab();
    let turnout = lab.turnout();
    let daemon = lab.serve();
    lab.crash();
    wait_for_duty(&turnout, "serving");
    turnout.ok(&["switch", "green"]);
    daemon.kill();
    let daemon = lab.serve();
    assert_eq!(lab.served(), Color::Green);
    turnout.ok(&["fallback", "release"]);
    lab.start();
    wait_for_none(&turnout);
    assert_eq!(lab.agreed("after the return"), Color::Green);
    drop(daemon);
}

#[test]
fn an_haproxy_that_hangs_or_reloads_is_never_taken_over() {
    let _turn = shared();
    let lab = lab();
    let turnout = lab.turnout();
    let daemon = lab.serve();
    let none = || {
        let told = turnout.ok(&["fallback", "status", "-o", "json"]);
        told.json().is_null()
    };
    let mut all = lab.workers();
    all.push(lab.master_pid());
    for pid in &all {
        kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap();
    }
    std::thread::sleep(LOOKS * 3);
    for pid in &all {
        kill(Pid::from_raw(*pid), Signal::SIGCONT).unwrap();
    }
    assert!(none(), "a stopped HAProxy was taken over");
    for _ in 0..8 {
        lab.reload_by_hand();
        assert!(none(), "a reloading HAProxy was taken over");
    }
    lab.served();
    drop(daemon);
}
