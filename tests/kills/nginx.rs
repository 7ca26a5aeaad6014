//! nginx, by reloads and by markers.

use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use turnout::domain::Color;

use super::{Host, Trial, Victim};
use crate::support::{Site, Turnout, shared};

#[test]
fn two_hundred_switches_by_reloads_of_nginx_survive_every_kill() {
    let _turn = shared();
    Trial::run(Reloaded(Site::nginx_on_blue()));
}

#[test]
fn two_hundred_switches_of_nginx_without_reloads_survive_every_kill() {
    let _turn = shared();
    Trial::run(Instant(Site::nginx_instant_on_blue("blue_green")));
}

const VICTIMS: &[Victim] = &[
    Victim::Turnout,
    Victim::Worker,
    Victim::Master,
    Victim::Everything,
];

struct Reloaded(Site);

struct Instant(Site);

/// The color that nginx's file says at its head.
fn in_the_file(site: &Site) -> Color {
    let text = std::fs::read_to_string(site.balancer().config()).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("# turnout-position: shop "))
        .unwrap_or_else(|| panic!("no position in {text}"));
    assert!(
        line.contains(" blue=100% ") || line.contains(" green=100%"),
        "{line}"
    );
    if line.contains(" blue=100% ") {
        Color::Blue
    } else {
        Color::Green
    }
}

fn strike(site: &mut Site, victim: Victim) {
    if victim == Victim::Worker {
        // the master starts another by itself
        if let Some(worker) = site.balancer().workers().first() {
            // one that ended with a reload meanwhile is gone already
            kill(Pid::from_raw(*worker), Signal::SIGKILL).ok();
        }
    } else {
        site.balancer_mut().crash();
        site.balancer_mut().restart();
    }
}

impl Host for Reloaded {
    const NAME: &'static str = "nginx, reload";
    const VICTIMS: &'static [Victim] = VICTIMS;
    const NEEDS_DAEMON: bool = false;

    fn turnout(&self) -> Turnout {
        self.0.turnout()
    }

    fn front(&self) -> SocketAddr {
        self.0.front
    }

    fn state_dir(&self) -> PathBuf {
        self.0.state_dir()
    }

    fn recorded(&self) -> Color {
        self.0.recorded()
    }

    fn on_disk(&self) -> Option<Color> {
        Some(in_the_file(&self.0))
    }

    fn strike(&mut self, victim: Victim) {
        strike(&mut self.0, victim);
    }

    fn restart(&mut self) {
        self.0.balancer_mut().restart();
    }
}

impl Host for Instant {
    const NAME: &'static str = "nginx, instant";
    const VICTIMS: &'static [Victim] = VICTIMS;
    const NEEDS_DAEMON: bool = false;

    fn turnout(&self) -> Turnout {
        self.0.turnout()
    }

    fn front(&self) -> SocketAddr {
        self.0.front
    }

    fn state_dir(&self) -> PathBuf {
        self.0.state_dir()
    }

    fn recorded(&self) -> Color {
        self.0.recorded()
    }

    fn on_disk(&self) -> Option<Color> {
        let color = in_the_file(&self.0);
        let said = |name: &str| std::fs::read_link(self.0.markers().join(name)).unwrap();
        assert_eq!(said("shop"), PathBuf::from(format!(".{color}")));
        let generation = format!(".{}", self.0.state()["generation"]);
        assert_eq!(said("_generation"), PathBuf::from(generation));
        Some(color)
    }

    fn strike(&mut self, victim: Victim) {
        strike(&mut self.0, victim);
    }

    fn restart(&mut self) {
        self.0.balancer_mut().restart();
    }
}
