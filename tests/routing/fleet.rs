//! The same services behind each balancer, every one with a daemon of its own.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use turnout::domain::{Color, Hashing};

use super::echo::Echo;
use crate::support::{
    Answer, Background, Connection, Daemon, Nginx, NginxSetup, Ports, Run, SOON, Turnout, wait_for,
};

/// Which balancer carries the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `switching: reload`.
    Nginx,
    /// `switching: instant`.
    Instant,
    Haproxy,
    Embedded,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Nginx, Self::Instant, Self::Haproxy, Self::Embedded];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Instant => "nginx, instant",
            Self::Haproxy => "haproxy",
            Self::Embedded => "embedded",
        }
    }

    pub(super) const fn hashing(self) -> Hashing {
        match self {
            Self::Nginx | Self::Instant | Self::Embedded => Hashing::SplitClients,
            Self::Haproxy => Hashing::Xxh32,
        }
    }
}

/// The servers behind all balancers.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) blue: Echo,
    pub(super) green: Echo,
    /// Blue of the services that are to lose it, and green of the one that loses both.
    pub(super) weak_blue: Echo,
    pub(super) weak_green: Echo,
}

impl Servers {
    pub(super) fn start() -> Self {
        Self {
            blue: Echo::start(Color::Blue),
            green: Echo::start(Color::Green),
            weak_blue: Echo::start(Color::Blue),
            weak_green: Echo::start(Color::Green),
        }
    }
}

/// One balancer with its daemon. Stopped when dropped: the daemon first.
#[derive(Debug)]
pub(super) struct Front {
    daemon: Daemon,
    _nginx: Option<Nginx>,
    haproxy: Option<Background>,
    pub(super) kind: Kind,
    /// Where most services listen, the one without hosts among them.
    pub(super) main: SocketAddr,
    /// Where one service with a host listens alone.
    pub(super) narrow: SocketAddr,
    pub(super) turnout: Turnout,
    _folder: TempDir,
}

impl Front {
    /// `extra`: lines at the top of turnout.yaml.
    pub(super) fn start(kind: Kind, servers: &Servers, extra: &str) -> Self {
        let folder = TempDir::with_prefix("turnout-routing-").unwrap();
        // nginx's workers are www-data where the tests are root
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let path = |name: &str| folder.path().join(name);
        let (main, narrow, control) = (Ports::address(), Ports::address(), Ports::address());
        let nginx = matches!(kind, Kind::Nginx | Kind::Instant)
            .then(|| Nginx::start(&path("nginx"), NginxSetup::default()));
        let balancer = match (&nginx, kind) {
            (Some(nginx), _) => format!(
                "{{ kind: nginx, nginx: {{ config: {}, main: {}, pid: {}, prove: \"{}\", snippets: {}, switching: {} }} }}",
                nginx.config().display(),
                nginx.main().display(),
                nginx.pid_file().display(),
                Ports::address(),
                path("snippets").display(),
                if kind == Kind::Instant {
                    "instant"
                } else {
                    "reload"
                }
            ),
            (None, Kind::Haproxy) => format!(
                "{{ kind: haproxy, haproxy: {{ config: {}, maps: {}, socket: {}, pid: {}, master_socket: {} }} }}",
                path("turnout.cfg").display(),
                path("maps").display(),
                path("admin.sock").display(),
                path("haproxy.pid").display(),
                path("master.sock").display()
            ),
            (None, _) => "{ kind: embedded }".to_owned(),
        };
        let yaml = format!(
            "version: 1\nstate: {{ dir: {} }}\nbalancer: {balancer}\ncontrol: {{ listen: \"{control}\" }}\n{extra}services:\n{}",
            path("state").display(),
            services(main, narrow, servers)
        );
        std::fs::write(path("turnout.yaml"), yaml).unwrap();
        let turnout = Turnout::new(&path("turnout.yaml"), control);
        let haproxy = (kind == Kind::Haproxy).then(|| haproxy(&turnout, &path));
        Self {
            daemon: turnout.serve(),
            _nginx: nginx,
            haproxy,
            kind,
            main,
            narrow,
            turnout,
            _folder: folder,
        }
    }

    /// One request on a connection of its own, byte for byte.
    #[track_caller]
    pub(super) fn send(&self, to: SocketAddr, request: &str) -> Answer {
        Connection::open(to, Duration::from_secs(30))
            .and_then(|mut connection| connection.send(request.as_bytes()))
            .unwrap_or_else(|failure| panic!("{}: {failure:?} after {request:?}", self.kind.name()))
    }

    /// Whether the daemon holds a service's color for unhealthy.
    pub(super) fn is_down(&self, service: &str, color: Color) -> bool {
        let status = self.daemon.api().get("/v1/status").json();
        let services = status["services"].as_array().unwrap();
        let service = services.iter().find(|known| known["service"] == service);
        service.unwrap()["servers"][color.as_str()][0]["health"] == "unhealthy"
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(mut master) = self.haproxy.take() {
            master.signal(nix::sys::signal::Signal::SIGTERM);
            master.wait(SOON);
        }
    }
}

fn haproxy(turnout: &Turnout, path: &impl Fn(&str) -> PathBuf) -> Background {
    let config = path("turnout.cfg");
    turnout.ok(&["render", "--to", &config.display().to_string()]);
    let mut master = Run::new("haproxy")
        .args(["-W", "-S"])
        .arg(path("master.sock"))
        .arg("-p")
        .arg(path("haproxy.pid"))
        .arg("-f")
        .arg(config)
        .background(&path("haproxy.log"));
    wait_for("HAProxy to start", SOON, || {
        assert!(master.ended().is_none(), "{}", master.printed());
        let pid = std::fs::read_to_string(path("haproxy.pid")).ok()?;
        let runs = pid.trim() == master.pid().to_string();
        (runs && UnixStream::connect(path("admin.sock")).is_ok()).then_some(())
    });
    master
}

fn services(main: SocketAddr, narrow: SocketAddr, servers: &Servers) -> String {
    let Servers {
        blue,
        green,
        weak_blue,
        weak_green,
    } = servers;
    [
        ("shop", main, "shop.test", (blue, green), "strategy: canary, preview: { header: X-Turnout-Color }"),
        ("exact", main, "exact.wild.test", (blue, green), "active: blue"),
        ("wild", main, "*.wild.test", (blue, green), "active: green"),
        ("deep", main, "*.deep.wild.test", (blue, green), "active: blue"),
        ("rest", main, "", (blue, green), "active: green"),
        ("tender", main, "tender.test", (weak_blue, green), "on_unhealthy: failover"),
        ("strict", main, "strict.test", (weak_blue, green), "on_unhealthy: reject"),
        ("gone", main, "gone.test", (weak_blue, weak_green), "on_unhealthy: failover"),
        ("only", narrow, "only.test", (blue, green), "active: blue"),
    ]
    .map(|(name, listen, host, (blue, green), more)| {
        let hosts = if host.is_empty() {
            String::new()
        } else {
            format!("hosts: [\"{host}\"], ")
        };
        format!(
            "  {name}: {{ {hosts}listen: \"{listen}\", blue: {{ servers: [\"{}\"] }}, green: {{ servers: [\"{}\"] }}, {more}, health: {{ path: /health, interval: 200ms, timeout: 2s, unhealthy_after: 2, healthy_after: 1 }} }}\n",
            blue.url(),
            green.url()
        )
    })
    .concat()
}
