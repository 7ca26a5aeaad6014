//! The four ways to carry traffic behind one face, so that a test says once what holds on each of them.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;
use turnout::domain::Color;

use super::SOON;
use crate::haproxy::{Lab, Layout};
use crate::support::{Backend, Daemon, Site, Turnout, get, wait_for};

/// What carries the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Embedded,
    /// By reloads.
    Nginx,
    /// By markers.
    NginxInstant,
    Haproxy,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [
        Self::Embedded,
        Self::Nginx,
        Self::NginxInstant,
        Self::Haproxy,
    ];
}

/// One host with a balancer, a service called `shop`, and everything on blue.
pub(super) enum Host {
    Site(Box<Site>),
    Lab(Box<Lab>),
}

impl Host {
    pub(super) fn start(kind: Kind) -> Self {
        match kind {
            Kind::Embedded => Self::Site(Box::new(Site::embedded("blue_green"))),
            Kind::Nginx => Self::Site(Box::new(Site::nginx_on_blue())),
            Kind::NginxInstant => Self::Site(Box::new(Site::nginx_instant_on_blue("blue_green"))),
            Kind::Haproxy => Self::Lab(Box::new(Lab::on_blue(Layout::Beside))),
        }
    }

    pub(super) fn turnout(&self) -> Turnout {
        match self {
            Self::Site(site) => site.turnout(),
            Self::Lab(lab) => lab.turnout(),
        }
    }

    /// Where clients come in.
    pub(super) fn front(&self) -> SocketAddr {
        match self {
            Self::Site(site) => site.front,
            Self::Lab(lab) => lab.front,
        }
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        match self {
            Self::Site(site) => site.state_dir(),
            Self::Lab(lab) => lab.path("state"),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Site(site) => site.folder().join(name),
            Self::Lab(lab) => lab.path(name),
        }
    }

    fn server(&self, color: Color) -> &Backend {
        match (self, color) {
            (Self::Site(site), Color::Blue) => &site.blue,
            (Self::Site(site), Color::Green) => &site.green,
            (Self::Lab(lab), Color::Blue) => &lab.blue,
            (Self::Lab(lab), Color::Green) => &lab.green,
        }
    }

    /// Puts a server in the place of the one that a color has. In force with the next daemon.
    pub(super) fn serve_from(&self, color: Color, server: SocketAddr) {
        self.edit(&self.server(color).url(), &format!("http://{server}"));
    }

    /// Another text in turnout.yaml, which must have `old` once.
    pub(super) fn edit(&self, old: &str, new: &str) {
        let path = self.path("turnout.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(old).count(), 1, "{old:?} in {text}");
        std::fs::write(&path, text.replace(old, new)).unwrap();
    }

    /// A daemon that knows both colors as healthy.
    #[track_caller]
    pub(super) fn healthy(&self) -> Daemon {
        let daemon = self.turnout().serve();
        wait_for_health(&daemon);
        daemon
    }

    /// What `state.json` and `active/shop` say.
    #[track_caller]
    pub(super) fn recorded(&self) -> Color {
        match self {
            Self::Site(site) => site.recorded(),
            Self::Lab(lab) => lab.recorded(),
        }
    }

    /// Everything through the front door goes there, by twenty requests; state, disk and balancer say the same, and no rollout is left.
    #[track_caller]
    pub(super) fn all_on(&self, color: Color) {
        for _ in 0..20 {
            let answer = get(self.front(), "/", &[]).unwrap();
            assert_eq!(answer.color("x-routed-to"), Some(color), "{answer:?}");
        }
        assert_eq!(self.recorded(), color);
        let text = std::fs::read_to_string(self.state_dir().join("state.json")).unwrap();
        let state: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(state["services"]["shop"]["rollout"], Value::Null);
        self.turnout().ok(&["verify"]);
    }

    /// Percent of green among 400 users.
    pub(super) fn share_of_green(&self) -> f64 {
        let keys: Vec<_> = (0..400).map(|number| format!("user-{number}")).collect();
        let colors = match self {
            Self::Site(site) => site.colors_of(&keys),
            Self::Lab(lab) => lab.colors_of(&keys, "shop.example.com"),
        };
        let green = colors.iter().filter(|color| **color == Color::Green);
        100.0 * f64::from(u32::try_from(green.count()).unwrap()) / 400.0
    }

    /// kill -9 for the balancer and all of its processes at once.
    pub(super) fn crash(&mut self) {
        match self {
            Self::Site(site) => site.balancer_mut().crash(),
            Self::Lab(lab) => lab.crash(),
        }
    }

    /// The balancer started from its files, as systemd does it.
    pub(super) fn restart(&mut self) {
        match self {
            Self::Site(site) => site.balancer_mut().restart(),
            Self::Lab(lab) => lab.start(),
        }
    }
}

/// Until both colors are known as healthy.
#[track_caller]
pub(super) fn wait_for_health(daemon: &Daemon) {
    wait_for("both colors healthy", SOON, || {
        let health = daemon.api().get("/health").json();
        let up = |color: &str| health["upstreams"][color]["healthy"] == true;
        (up("blue") && up("green")).then_some(())
    });
}
