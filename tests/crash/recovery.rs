//! What the next command makes of what a dead one left: a change, a first apply, a file that somebody edited since.

use std::time::Instant;

use turnout::domain::Color;

use super::strace::{Fault, Point, record, strike};
use super::{DISK_CALLS, SWITCH, Tally, agreed, error_of};
use crate::support::{Site, shared};

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
