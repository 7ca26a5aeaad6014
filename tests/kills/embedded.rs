//! The embedded proxy, which lives in the daemon: whoever kills that kills both.

use std::net::SocketAddr;
use std::path::PathBuf;

use turnout::domain::Color;

use super::{Host, Trial, Victim};
use crate::support::{Site, Turnout, shared};

#[test]
fn two_hundred_switches_of_the_embedded_proxy_survive_every_kill() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    // writes the state
    assert_eq!(site.serve().stop().code(), Some(0));
    Trial::run(site);
}

impl Host for Site {
    const NAME: &'static str = "embedded";
    const VICTIMS: &'static [Victim] = &[Victim::Turnout];
    const NEEDS_DAEMON: bool = true;

    fn turnout(&self) -> Turnout {
        Self::turnout(self)
    }

    fn front(&self) -> SocketAddr {
        self.front
    }

    fn state_dir(&self) -> PathBuf {
        Self::state_dir(self)
    }

    fn recorded(&self) -> Color {
        Self::recorded(self)
    }

    fn on_disk(&self) -> Option<Color> {
        None
    }

    fn strike(&mut self, victim: Victim) {
        unreachable!("{victim:?} is no process of its own");
    }

    fn restart(&mut self) {
        unreachable!("it is turnout itself");
    }
}
