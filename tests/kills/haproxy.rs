//! HAProxy, master and worker.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use turnout::domain::Color;

use super::{Host, Trial, Victim};
use crate::haproxy::{Lab, Layout};
use crate::support::{Turnout, shared};

#[test]
fn two_hundred_switches_of_haproxy_survive_every_kill() {
    let _turn = shared();
    Trial::run(Lab::on_blue(Layout::Whole));
}

impl Host for Lab {
    const NAME: &'static str = "HAProxy";
    const VICTIMS: &'static [Victim] = &[
        Victim::Turnout,
        Victim::Worker,
        Victim::Master,
        Victim::Everything,
    ];
    const NEEDS_DAEMON: bool = false;

    fn turnout(&self) -> Turnout {
        Self::turnout(self)
    }

    fn front(&self) -> SocketAddr {
        self.front
    }

    fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    fn recorded(&self) -> Color {
        Self::recorded(self)
    }

    fn on_disk(&self) -> Option<Color> {
        let map = std::fs::read_to_string(self.map()).unwrap();
        let color = Color::BOTH.into_iter().find(|color| {
            let share = if *color == Color::Blue { 10_000 } else { 0 };
            map.contains(&format!("\nshop {share}\n"))
        });
        Some(color.unwrap_or_else(|| panic!("no whole color in {map}")))
    }

    fn strike(&mut self, victim: Victim) {
        if victim == Victim::Worker {
            // the master ends with it, and Debian's unit says Restart=always
            let worker = self.workers()[0];
            kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
            self.master().wait(Duration::from_secs(10));
        }
        self.crash();
        self.start();
    }

    fn restart(&mut self) {
        self.start();
    }
}
