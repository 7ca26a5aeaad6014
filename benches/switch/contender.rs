//! Everything that moves traffic from one color to the other, behind one question: move it now.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use turnout::domain::Color;

use crate::lab::{Lab, Layout};
use crate::support::{Backend, Background, Daemon, Ports, Run, Site, wait_for};

/// Within which a balancer is up or a reload over.
const SOON: Duration = Duration::from_secs(30);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// turnout's daemon, `switching: reload`.
    NginxReload,
    /// turnout's daemon, `switching: instant`.
    NginxInstant,
    /// turnout's daemon, by the runtime socket.
    Haproxy,
    /// turnout's daemon is the proxy.
    Embedded,
    /// `sed` and `nginx -s reload`, which answers at once.
    BareNginx,
    /// `sed` and SIGUSR2 to HAProxy's master.
    BareHaproxy,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::NginxReload,
        Self::NginxInstant,
        Self::Haproxy,
        Self::Embedded,
        Self::BareNginx,
        Self::BareHaproxy,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NginxReload => "nginx, reload",
            Self::NginxInstant => "nginx, instant",
            Self::Haproxy => "HAProxy",
            Self::Embedded => "embedded",
            Self::BareNginx => "bare nginx -s reload",
            Self::BareHaproxy => "bare HAProxy reload",
        }
    }
}

/// One of them, running, with everything on blue.
#[derive(Debug)]
pub(crate) enum Contender {
    Site(Daemon, Box<Site>),
    Haproxy(Daemon, Box<Lab>),
    BareNginx(Box<Site>),
    BareHaproxy(Bare),
}

impl Contender {
    pub(crate) fn start(kind: Kind) -> Self {
        match kind {
            Kind::NginxReload => Self::served(Site::nginx_on_blue()),
            Kind::NginxInstant => Self::served(Site::nginx_instant_on_blue("blue_green")),
            Kind::Embedded => Self::served(Site::embedded("blue_green")),
            Kind::Haproxy => {
                let lab = Lab::on_blue(Layout::Whole);
                Self::Haproxy(lab.serve(), Box::new(lab))
            }
            Kind::BareNginx => {
                let site = Site::nginx();
                nginx_by_hand(&site, Color::Blue);
                site.balancer().reload();
                Self::BareNginx(Box::new(site))
            }
            Kind::BareHaproxy => Self::BareHaproxy(Bare::start()),
        }
    }

    fn served(site: Site) -> Self {
        Self::Site(site.serve(), Box::new(site))
    }

    pub(crate) fn front(&self) -> SocketAddr {
        match self {
            Self::Site(_, site) | Self::BareNginx(site) => site.front,
            Self::Haproxy(_, lab) => lab.front,
            Self::BareHaproxy(bare) => bare.front,
        }
    }

    /// Moves everything, and returns when it says that it is done.
    pub(crate) fn switch(&self, to: Color) {
        match self {
            Self::Site(daemon, _) | Self::Haproxy(daemon, _) => {
                daemon.api().activate(to);
            }
            Self::BareNginx(site) => {
                nginx_by_hand(site, to);
                Run::new("nginx")
                    .arg("-c")
                    .arg(site.balancer().main())
                    .args(["-s", "reload"])
                    .run()
                    .exits(0);
            }
            Self::BareHaproxy(bare) => bare.switch(to),
        }
    }
}

fn nginx_by_hand(site: &Site, to: Color) {
    let server = match to {
        Color::Blue => site.blue.address(),
        Color::Green => site.green.address(),
    };
    let text = format!(
        "upstream shop {{ server {server}; keepalive 16; }}
server {{
    listen {};
    location / {{
        proxy_pass http://shop;
        proxy_http_version 1.1;
        proxy_set_header Connection \"\";
        add_header X-Routed-To {to} always;
    }}
}}
",
        site.front
    );
    write(&site.balancer().config(), &text);
}

/// HAProxy as people run it without turnout: a file with one server in it.
#[derive(Debug)]
pub(crate) struct Bare {
    master: Background,
    blue: Backend,
    green: Backend,
    front: SocketAddr,
    folder: TempDir,
}

impl Bare {
    fn start() -> Self {
        let folder = TempDir::with_prefix("turnout-bench-").expect("a folder");
        let (blue, green) = (Backend::start(Color::Blue), Backend::start(Color::Green));
        let front = Ports::address();
        let config = folder.path().join("haproxy.cfg");
        write(&config, &text(folder.path(), front, &blue, Color::Blue));
        let master = Run::new("haproxy")
            .arg("-W")
            .arg("-p")
            .arg(folder.path().join("haproxy.pid"))
            .arg("-f")
            .arg(&config)
            .background(&folder.path().join("haproxy.log"));
        wait_for("HAProxy to start", SOON, || {
            std::net::TcpStream::connect(front).ok().map(drop)
        });
        Self {
            master,
            blue,
            green,
            front,
            folder,
        }
    }

    fn switch(&self, to: Color) {
        let server = match to {
            Color::Blue => &self.blue,
            Color::Green => &self.green,
        };
        let folder = self.folder.path();
        let config: PathBuf = folder.join("haproxy.cfg");
        write(&config, &text(folder, self.front, server, to));
        self.master.signal(Signal::SIGUSR2);
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.master.signal(Signal::SIGTERM);
        self.master.wait(SOON);
    }
}

fn text(folder: &Path, front: SocketAddr, server: &Backend, to: Color) -> String {
    format!(
        "global
    stats socket {}/admin.sock mode 660 level admin expose-fd listeners
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
frontend shop
    bind {front}
    http-response set-header X-Routed-To {to}
    default_backend shop
backend shop
    server one {}
",
        folder.display(),
        server.address()
    )
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a configuration is written");
}
