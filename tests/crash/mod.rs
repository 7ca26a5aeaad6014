//! Killed or failed at every step of a switch, and of the first apply of all: afterwards there is one color, and state, file and served configuration
//! agree on it.
//!
//! strace makes the steps: it kills the command, or fails one of its system calls, at the n-th call on a file. The calls
//! come from a recording of a whole switch, so that a new file or another order is found by itself. A fault that strikes in
//! each call of a kind from the n-th on (`n+`) stands for a disk that stays full or broken.

mod strace;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use turnout::domain::Color;

use strace::{Fault, Point, record, strike};

use crate::support::{Ran, Site, shared};

/// Those that can fail for a disk's sake.
const DISK_CALLS: &[&str] = &[
    "write",
    "pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "symlink",
    "symlinkat",
];

/// Steps between the files: the signal to the master, then what proves it.
const STEPS: &[(&str, u32)] = &[("pidfd_send_signal", 2), ("connect", 10), ("execve", 4)];

/// What is struck.
const SWITCH: &[&str] = &["switch", "green"];

/// The error that such a call has on a bad disk, or on a full one.
fn error_of(call: &str) -> &'static str {
    if call.ends_with("sync") {
        "EIO"
    } else {
        "ENOSPC"
    }
}

/// State, file and served color agree, whoever is asked; and this is the color.
#[track_caller]
fn agreed(site: &Site, context: &str) -> Color {
    let served = site.served();
    assert_eq!(site.recorded(), served, "state and served color, {context}");
    site.turnout().ok(&["verify"]);
    // what stands on disk, by nginx's own reading of it
    site.balancer().reload();
    assert_eq!(
        site.served(),
        served,
        "the color that the file gives, {context}"
    );
    served
}

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

#[derive(Debug, Default)]
struct Tally {
    points: u32,
    killed: u32,
    codes: BTreeMap<i32, u32>,
    /// Blue, green.
    colors: [u32; 2],
}

impl Tally {
    fn count(&mut self, ran: &Ran) {
        self.points += 1;
        match ran.code() {
            Some(code) => *self.codes.entry(code).or_default() += 1,
            None => self.killed += 1,
        }
    }
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

/// What the recovery of a dead switch ended on is the last good for the next change, not what stood there before that switch.
#[test]
fn a_change_that_fails_after_a_recovery_restores_what_was_recovered() {
    let _turn = shared();
    // nginx is told by a command that fails all the same, and is not told at all
    for is_told in [true, false] {
        let mut site = Site::nginx_on_blue();
        let told = format!("kill -HUP $(cat {})", site.balancer().pid_file().display());
        site.use_reload(&format!("{told}; sleep 0.5; kill -9 $PPID"));
        let ran = site.turnout().run(SWITCH);
        assert_eq!(ran.code(), None, "{ran}");
        assert_eq!(site.served(), Color::Green, "{ran}");
        let bytes = std::fs::read(site.balancer().config()).unwrap();

        site.use_reload(&if is_told {
            format!("{told}; sleep 0.5; exit 1")
        } else {
            "exit 1".to_owned()
        });
        let ran = site.turnout().run(&["switch", "blue"]).exits(3);
        assert_eq!(site.served(), Color::Green, "{ran}");
        assert_eq!(site.recorded(), Color::Green, "{ran}");
        assert_eq!(site.state()["generation"], 2, "{ran}");
        assert_eq!(
            std::fs::read(site.balancer().config()).unwrap(),
            bytes,
            "the file of the recovered generation, byte for byte\n{ran}"
        );
        site.use_reload(&told);
        assert_eq!(agreed(&site, &format!("told: {is_told}")), Color::Green);
        site.turnout().ok(&["switch", "blue"]);
    }
}

/// A host on which nothing was ever applied.
fn start_over(site: &Site) {
    std::fs::remove_dir_all(site.state_dir()).ok();
    std::fs::remove_file(site.balancer().config()).ok();
    site.balancer().reload();
}

#[test]
fn a_first_apply_killed_or_failed_at_any_step_is_made_by_the_next() {
    let _turn = shared();
    let site = Site::nginx();
    let begin = Instant::now();
    let points = record(&site, &["apply"]);
    let mut tally = Tally::default();
    for point in &points {
        let mut faults = vec![Fault::Kill];
        if DISK_CALLS.contains(&point.call.as_str()) {
            faults.push(Fault::Once(error_of(&point.call)));
        }
        for fault in faults {
            start_over(&site);
            let Some(ran) = strike(&site, &["apply"], point, fault) else {
                continue;
            };
            tally.count(&ran);
            let context = format!("{fault:?} at {point:?}\n{ran}");
            let front = crate::support::get(site.front, "/", &[]);
            match ran.code() {
                Some(0) => assert_eq!(site.recorded(), Color::Blue, "{context}"),
                None | Some(4) => {}
                Some(_) => {
                    assert!(
                        front.is_err(),
                        "it said that nothing was changed, {context}"
                    );
                    assert!(!site.balancer().config().exists(), "{context}");
                    assert!(!site.state_dir().join("state.json").exists(), "{context}");
                }
            }
            let recovering = site.turnout().run(&["apply"]);
            assert_eq!(recovering.code(), Some(0), "{context}\n{recovering}");
            assert_eq!(agreed(&site, &context), Color::Blue, "{context}");
            tally.colors[0] += 1;
        }
    }
    println!(
        "first apply struck at {} of {} points in {:?}: {tally:?}",
        tally.points,
        points.len(),
        begin.elapsed()
    );
    assert!(tally.points >= 30, "too few points were reached: {tally:?}");
}

/// Between the crash and the recovery somebody edits the file that the dead switch left.
#[test]
fn what_was_edited_after_a_crash_is_replaced_only_by_force() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let point = Point {
        call: "pidfd_send_signal".to_owned(),
        paths: Vec::new(),
        nth: 1,
    };
    strike(&site, SWITCH, &point, Fault::Kill).expect("a switch signals the master");
    let config = site.balancer().config();
    let edited = std::fs::read_to_string(&config).unwrap() + "# by hand\n";
    std::fs::write(&config, &edited).unwrap();
    site.turnout().run(&["apply"]).exits(1).says("by hand");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), edited);
    site.turnout().ok(&["apply", "--force"]);
    let color = agreed(&site, "after the force");
    let kept = std::fs::read_dir(site.state_dir().join("replaced")).unwrap();
    assert!(
        kept.into_iter()
            .any(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap() == edited),
        "no copy was kept"
    );
    site.turnout().ok(&["history"]).says("interrupted");
    println!("{color}");
}

#[test]
fn the_daemon_killed_at_any_moment_serves_the_last_answered_color() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let mut answered = Color::Blue;
    for round in 0..15_u64 {
        let daemon = site.serve();
        assert_eq!(
            site.served(),
            answered,
            "after restart {round}, the last answered color"
        );
        let api = daemon.api().clone();
        // from at once to a few switches later, a little further each time
        let mercy = Duration::from_micros(700 * round * round);
        let stream = std::thread::spawn(move || {
            let (mut last, mut asked) = (answered, answered);
            loop {
                asked = !asked;
                let body = serde_json::json!({ "active": asked.to_string() });
                match api.try_post("/orchestration/bluegreen/activate", &body) {
                    Ok(answer) if answer.status == 200 => last = asked,
                    Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
                    Err(_) => return (last, asked),
                }
            }
        });
        std::thread::sleep(mercy);
        daemon.kill();
        let (last, asked) = stream.join().unwrap();
        // the switch that was under way may have been made or not; ask once, and hold it to that from now on
        let daemon = site.serve();
        let served = site.served();
        assert!(
            served == last || served == asked,
            "{served} is neither the answered {last} nor the asked {asked}"
        );
        if served == asked && asked != last {
            println!("round {round}: the switch under way was finished");
        }
        assert_eq!(site.recorded(), served);
        answered = served;
        daemon.kill();
    }
}

#[test]
fn the_daemon_on_nginx_killed_during_switches_recovers() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let mut answered = Color::Blue;
    for round in 0..8_u64 {
        let daemon = site.serve();
        assert_eq!(agreed(&site, "at the start"), answered);
        let api = daemon.api().clone();
        let to = !answered;
        let switching = std::thread::spawn(move || {
            let body = serde_json::json!({ "active": to.to_string() });
            api.try_post("/orchestration/bluegreen/activate", &body)
                .is_ok_and(|answer| answer.status == 200)
        });
        std::thread::sleep(Duration::from_millis(25 * round));
        daemon.kill();
        let is_answered = switching.join().unwrap();
        let daemon = site.serve();
        answered = agreed(&site, "after the restart");
        if is_answered {
            assert_eq!(answered, to, "an answered switch was lost");
        }
        daemon.kill();
    }
}
