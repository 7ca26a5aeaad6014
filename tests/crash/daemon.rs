//! The daemon, killed at any moment and started again: it serves what it answered last.

use std::time::Duration;

use turnout::domain::Color;

use super::agreed;
use crate::support::{Site, shared};

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
