//! A switch by the command line that is stopped halfway: by Ctrl-C, by its own death, by nginx's.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use turnout::domain::Color;

use super::{leftovers, recovers};
use crate::support::{Background, Site, shared, wait_for};

/// For a machine that does much else besides.
const PATIENCE: Duration = Duration::from_mins(1);

fn begin(site: &Site, args: &[&str], log: &str) -> Background {
    let log = site.folder().join(log);
    site.turnout().command(args).background(&log)
}

/// Waits until it has told this step.
#[track_caller]
fn told(run: &Background, step: &str) {
    wait_for(step, PATIENCE, || {
        run.printed().contains(step).then_some(())
    });
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn an_nginx_that_dies_between_the_signal_and_the_proof_leaves_everything_as_before() {
    let _turn = shared();
    let mut site = Site::nginx_on_blue();
    let before = site.picture();
    let (master, orphans) = (site.balancer().master(), site.balancer().workers());
    // it is told and does nothing, until it is killed
    signal(master, Signal::SIGSTOP);
    let mut switch = begin(&site, &["switch", "green"], "switch.log");
    told(&switch, "reload: SIGHUP");
    assert!(site.picture() != before, "nothing is installed");
    signal(master, Signal::SIGKILL);
    for orphan in orphans {
        signal(orphan, Signal::SIGKILL);
    }
    let status = switch.wait(PATIENCE);
    let said = switch.printed();
    assert_eq!(status.code(), Some(69), "{said}");
    assert!(said.contains("start it"), "{said}");
    assert!(site.picture() == before, "{:?}", site.picture());
    assert_eq!(leftovers(&site), Vec::<String>::new());
    site.balancer_mut().restart();
    assert_eq!((site.served(), site.recorded()), (Color::Blue, Color::Blue));
    recovers(&site);
}

#[test]
fn a_switch_that_was_killed_before_nginx_took_it_is_undone_byte_for_byte_by_the_next_command() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let before = site.picture();
    let master = site.balancer().master();
    signal(master, Signal::SIGSTOP);
    let mut switch = begin(&site, &["switch", "green"], "switch.log");
    told(&switch, "reload: SIGHUP");
    switch.kill();
    assert!(site.picture() != before, "nothing is installed");
    let mut next = begin(&site, &["apply"], "apply.log");
    told(&next, "restore: an interrupted switch");
    wait_for("the files from before", PATIENCE, || {
        (site.picture() == before).then_some(())
    });
    signal(master, Signal::SIGCONT);
    let status = next.wait(PATIENCE);
    assert_eq!(status.code(), Some(0), "{}", next.printed());
    assert!(site.picture() == before, "{:?}", site.picture());
    assert_eq!(leftovers(&site), Vec::<String>::new());
    assert_eq!((site.served(), site.recorded()), (Color::Blue, Color::Blue));
    recovers(&site);
}

#[test]
fn ctrl_c_at_any_moment_leaves_a_switch_made_or_everything_as_before_and_the_exit_says_which() {
    enum Moment {
        After(Duration),
        Told(&'static str),
    }
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let early =
        [0, 2, 5, 10, 20, 40, 80, 160, 320].map(|time| Moment::After(Duration::from_millis(time)));
    let late = ["check: ", "install: ", "reload: "].map(Moment::Told);
    for (number, moment) in early.into_iter().chain(late).enumerate() {
        let before = site.picture();
        let mut switch = begin(&site, &["switch", "green"], &format!("{number}.log"));
        match moment {
            Moment::After(time) => std::thread::sleep(time),
            Moment::Told(step) => told(&switch, step),
        }
        switch.signal(Signal::SIGINT);
        let status = switch.wait(PATIENCE);
        let said = switch.printed();
        if status.code() == Some(0) {
            assert_eq!(
                (site.served(), site.recorded()),
                (Color::Green, Color::Green),
                "{said}"
            );
        } else {
            // 3: cancelled; none: it had not yet begun to listen to signals
            assert!(matches!(status.code(), Some(3) | None), "{status}\n{said}");
            assert!(!matches!(moment, Moment::Told(_)), "{status}\n{said}");
            assert!(site.picture() == before, "{said}\n{:?}", site.picture());
            assert_eq!(
                (site.served(), site.recorded()),
                (Color::Blue, Color::Blue),
                "{said}"
            );
        }
        assert_eq!(leftovers(&site), Vec::<String>::new(), "{said}");
        site.turnout().ok(&["switch", "blue"]);
        site.turnout().ok(&["verify"]);
    }
}
