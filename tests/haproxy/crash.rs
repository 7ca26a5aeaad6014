//! Killed at any moment, turnout and HAProxy alike: afterwards state, files and what is served agree.

use std::time::Duration;

use turnout::domain::Color;

use super::lab::{Lab, Layout};
use crate::support::shared;

/// Delays that look at every part of a command, the same in each run (a linear congruential generator, Knuth's MMIX).
fn moments(count: u32, longest: Duration) -> impl Iterator<Item = Duration> {
    let mut seed = 0x2026_1121_u64;
    (0..count).map(move |_| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        longest * u32::try_from(seed >> 48).unwrap() / 65_536
    })
}

#[test]
fn turnout_killed_at_any_moment_of_a_switch_leaves_one_color() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let mut color = Color::Blue;
    let mut counted = [0, 0];
    for (round, moment) in moments(40, Duration::from_millis(350)).enumerate() {
        let to = !color;
        let run = lab.turnout().command(&["switch", &to.to_string()]);
        let mut switching = run.background(&lab.path("switch.log"));
        std::thread::sleep(moment);
        let answered = switching
            .ended()
            .is_some_and(|status| status.code() == Some(0));
        switching.kill();
        let context = format!("round {round}, killed after {moment:?}");
        lab.turnout().ok(&["apply"]);
        color = lab.agreed(&context);
        if answered {
            assert_eq!(color, to, "an answered switch was lost, {context}");
        }
        counted[usize::from(color == to)] += 1;
    }
    println!("undone or not begun {}, made {}", counted[0], counted[1]);
}

#[test]
fn haproxy_s_worker_and_master_killed_during_switches_come_back_to_what_was_answered() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    let mut color = Color::Blue;
    for (round, moment) in moments(16, Duration::from_millis(300)).enumerate() {
        let to = !color;
        let run = lab.turnout().command(&["switch", &to.to_string()]);
        let log = lab.path(&format!("switch-{round}.log"));
        let mut switching = run.background(&log);
        std::thread::sleep(moment);
        let victim = if round % 2 == 0 {
            lab.workers()[0]
        } else {
            lab.master_pid()
        };
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(victim),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        let status = switching.wait(Duration::from_secs(30));
        let said = switching.printed();
        assert!(!said.contains("panicked"), "{said}");
        // a master ends with its worker, as systemd expects of it
        lab.stop();
        lab.start();
        let context = format!("round {round}, killed after {moment:?}, {status}: {said}");
        if status.code() == Some(0) {
            assert_eq!(
                lab.served(),
                to,
                "restarted from the files alone, {context}"
            );
        }
        lab.turnout().ok(&["apply"]);
        color = lab.agreed(&context);
        if status.code() == Some(0) {
            assert_eq!(color, to, "{context}");
        }
    }
}

#[test]
fn turnout_killed_during_a_new_shape_leaves_one_that_agrees() {
    let _turn = shared();
    let mut lab = Lab::on_blue(Layout::Whole);
    for (round, moment) in moments(12, Duration::from_millis(600)).enumerate() {
        lab.shop = format!("    timeouts: {{ response: {}s }}\n", 10 + round);
        lab.write();
        let run = lab.turnout().command(&["apply"]);
        let mut applying = run.background(&lab.path("apply.log"));
        std::thread::sleep(moment);
        applying.kill();
        lab.turnout().ok(&["apply"]);
        let context = format!("round {round}, killed after {moment:?}");
        assert_eq!(lab.agreed(&context), Color::Blue);
    }
}
