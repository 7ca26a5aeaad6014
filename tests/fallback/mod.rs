//! The embedded proxy in the place of a real nginx and a real HAProxy that were killed, hang, reload, come back, or do not.

mod beside;
mod crowd;
mod gap;
mod haproxy;
mod nginx;
mod return_of;

use std::time::Duration;

use turnout::domain::Color;

use crate::support::{Turnout, wait_for};

/// Three probe intervals of the tests' services.
const LOOKS: Duration = Duration::from_millis(600);
/// What a machine that does other things may add to that.
const SLACK: Duration = Duration::from_millis(700);

/// The fallback that the daemon tells, whose duty is `duty`.
#[track_caller]
fn wait_for_duty(turnout: &Turnout, duty: &str) -> serde_json::Value {
    wait_for(duty, Duration::from_secs(20), || {
        let told = turnout.ok(&["fallback", "status", "-o", "json"]).json();
        (told["duty"] == duty).then_some(told)
    })
}

#[track_caller]
fn wait_for_none(turnout: &Turnout) {
    wait_for("the end of the fallback", Duration::from_secs(20), || {
        let told = turnout.ok(&["fallback", "status", "-o", "json"]).json();
        told.is_null().then_some(())
    });
}

fn keys() -> Vec<String> {
    (0..400).map(|number| format!("user-{number}")).collect()
}

fn count(colors: &[Color], color: Color) -> usize {
    colors.iter().filter(|seen| **seen == color).count()
}
