//! What goes wrong on real hosts, and what must come of it: the message, the exit code, and everything as it was before.

mod daemon;
mod files;
mod halfway;
mod programs;
mod reload;
mod state;
mod users;

use turnout::domain::Color;

use crate::support::{Ran, Site};

/// Runs a switch to green that must not come to anything: blue serves, and file and state stay as they are, byte for byte.
#[track_caller]
fn refused(site: &Site, code: i32) -> Ran {
    untouched(site, || site.turnout().run(&["switch", "green"])).exits(code)
}

/// Runs `change`, and fails if it leaves anything else behind than it found.
#[track_caller]
fn untouched(site: &Site, change: impl FnOnce() -> Ran) -> Ran {
    let before = site.picture();
    let ran = change().sane();
    assert!(
        site.picture() == before,
        "it left something behind\n{ran}\nbefore: {before:?}\nafter: {:?}",
        site.picture()
    );
    assert_eq!(leftovers(site), Vec::<String>::new(), "left over\n{ran}");
    assert_eq!(site.served(), Color::Blue, "\n{ran}");
    ran
}

/// Files in nginx's folder of fragments that nobody put there on purpose.
fn leftovers(site: &Site) -> Vec<String> {
    std::fs::read_dir(site.balancer().conf_d())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| {
            !matches!(
                name.as_str(),
                "turnout.conf" | "other.conf" | "filler" | "real"
            )
        })
        .collect()
}

/// And when the fault is gone, the same switch works.
#[track_caller]
fn recovers(site: &Site) {
    site.turnout().ok(&["switch", "green"]);
    assert_eq!(site.served(), Color::Green);
    assert_eq!(site.recorded(), Color::Green);
    site.turnout().ok(&["verify"]);
}
