//! A switch struck at each of its steps: killed, or failed as a full or broken disk fails it.

use std::collections::BTreeSet;
use std::time::Instant;

use turnout::domain::Color;

use super::strace::{Fault, Point, record, strike};
use super::{DISK_CALLS, SWITCH, Tally, agreed, error_of};
use crate::support::{Site, shared};

/// Steps between the files: the signal to the master, then what proves it.
const STEPS: &[(&str, u32)] = &[("pidfd_send_signal", 2), ("connect", 10), ("execve", 4)];

/// One fault, and everything that must hold after it. Returns whether it was reached.
fn survive(site: &Site, point: &Point, fault: Fault, tally: &mut Tally) -> bool {
    let context = format!("{fault:?} at {point:?}");
    let Some(ran) = strike(site, SWITCH, point, fault) else {
        // the whole switch went by
        site.turnout().ok(&["switch", "blue"]);
        return false;
    };
    tally.count(&ran);
    // never torn, before anybody has put anything right
    site.state();
    match ran.code() {
        Some(0) => {
            assert_eq!(site.served(), Color::Green, "exit 0, {context}\n{ran}");
            assert_eq!(
                agreed(site, &context),
                Color::Green,
                "exit 0, {context}\n{ran}"
            );
        }
        // killed, or a person is needed: anything but two colors
        None | Some(4) => {}
        Some(_) => assert_eq!(
            site.served(),
            Color::Blue,
            "it said that nothing was changed, {context}\n{ran}"
        ),
    }
    let recovering = site.turnout().run(&["apply"]);
    assert_eq!(
        recovering.code(),
        Some(0),
        "recovery, {context}\n{ran}\n{recovering}"
    );
    let color = agreed(site, &context);
    match ran.code() {
        Some(0) => assert_eq!(
            color,
            Color::Green,
            "an answered switch was lost, {context}"
        ),
        None | Some(4) => {}
        Some(_) => assert_eq!(color, Color::Blue, "a refused switch was made, {context}"),
    }
    tally.colors[usize::from(color == Color::Green)] += 1;
    site.turnout().ok(&["switch", "blue"]);
    true
}

#[test]
fn a_switch_killed_at_any_step_ends_on_one_color() {
    killed_at_any_step(Site::nginx_on_blue);
}

#[test]
fn a_switch_without_a_reload_killed_at_any_step_ends_on_one_color() {
    killed_at_any_step(|| Site::nginx_instant_on_blue("blue_green"));
}

fn killed_at_any_step(site: impl FnOnce() -> Site) {
    let _turn = shared();
    let site = site();
    let begin = Instant::now();
    let mut points = record(&site, SWITCH);
    assert!(
        points.iter().any(|point| point.call.starts_with("rename")),
        "no rename was recorded: {points:#?}"
    );
    site.turnout().ok(&["switch", "blue"]);
    for (call, most) in STEPS {
        points.extend((1..=*most).map(|nth| Point {
            call: (*call).to_owned(),
            paths: Vec::new(),
            nth,
        }));
    }
    let mut tally = Tally::default();
    for point in &points {
        survive(&site, point, Fault::Kill, &mut tally);
    }
    println!(
        "killed at {} of {} points in {:?}: {tally:?}",
        tally.points,
        points.len(),
        begin.elapsed()
    );
    assert!(
        tally.points >= 15,
        "too few points were reached: {tally:?} of {points:#?}"
    );
}

#[test]
fn a_switch_on_a_failing_disk_never_lies() {
    on_a_failing_disk(Site::nginx_on_blue);
}

#[test]
fn a_switch_without_a_reload_on_a_failing_disk_never_lies() {
    on_a_failing_disk(|| Site::nginx_instant_on_blue("blue_green"));
}

fn on_a_failing_disk(site: impl FnOnce() -> Site) {
    let _turn = shared();
    let site = site();
    let begin = Instant::now();
    let mut points = record(&site, SWITCH);
    site.turnout().ok(&["switch", "blue"]);
    points.retain(|point| DISK_CALLS.contains(&point.call.as_str()));
    let mut tally = Tally::default();
    for point in &points {
        let error = error_of(&point.call);
        survive(&site, point, Fault::Once(error), &mut tally);
        if point.nth == 1 {
            survive(&site, point, Fault::FromThenOn(error), &mut tally);
        }
    }
    println!(
        "failed at {} of {} points in {:?}: {tally:?}",
        tally.points,
        points.len(),
        begin.elapsed()
    );
    assert!(
        tally.points >= 10,
        "too few points were reached: {tally:?} of {points:#?}"
    );
}

/// A disk that is full or broken for every file at once, from each write on.
#[test]
fn a_disk_that_stays_broken_is_survived() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let begin = Instant::now();
    let recorded = record(&site, SWITCH);
    site.turnout().ok(&["switch", "blue"]);
    let written: BTreeSet<_> = recorded
        .iter()
        .filter(|point| point.call.contains("write"))
        .flat_map(|point| point.paths.clone())
        .collect();
    let mut tally = Tally::default();
    for (call, error) in [
        ("fsync", "EIO"),
        ("fdatasync", "EIO"),
        ("rename", "EIO"),
        ("rename", "ENOSPC"),
        ("write", "ENOSPC"),
        ("pwrite64", "EDQUOT"),
    ] {
        let before = tally.points;
        for nth in 1.. {
            let point = Point {
                call: call.to_owned(),
                // a write to a terminal or a socket needs no disk
                paths: match call {
                    "write" | "pwrite64" => written.iter().cloned().collect(),
                    _ => Vec::new(),
                },
                nth,
            };
            if !survive(&site, &point, Fault::FromThenOn(error), &mut tally) {
                break;
            }
        }
        assert!(tally.points > before, "no {call} was reached");
    }
    println!(
        "broken from {} points on in {:?}: {tally:?}",
        tally.points,
        begin.elapsed()
    );
}
