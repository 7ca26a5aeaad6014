//! A host of its own for an alias: a DNS server, servers on one port of several loopback addresses, a balancer, turnout, and
//! clients that never stop. Name servers and hosts file are those of a private mount namespace, so that the machine's stay.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::dns::{Dns, Says};
use super::load::Load;
pub(super) use crate::routing::Kind;
use crate::support::{
    Answer, Background, Connection, Failure, Nginx, NginxSetup, Ports, Run, SOON, Turnout, get,
    wait_for,
};

/// One server, which says its own address.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    sick: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Instant>>>,
    listener: Option<TcpListener>,
    ends: Arc<AtomicBool>,
}

impl Server {
    pub(super) fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let server = Self {
            address,
            sick: Arc::default(),
            requests: Arc::default(),
            listener: Some(listener.try_clone().unwrap()),
            ends: Arc::default(),
        };
        let (sick, requests) = (Arc::clone(&server.sick), Arc::clone(&server.requests));
        let ends = Arc::clone(&server.ends);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (sick, requests) = (Arc::clone(&sick), Arc::clone(&requests));
                std::thread::spawn(move || serve(stream, address, &sick, &requests));
            }
        });
        server
    }

    /// Whether its `/up` fails from now on.
    pub(super) fn sick(&self, sick: bool) {
        self.sick.store(sick, Ordering::Relaxed);
    }

    /// The last request that was not a probe, if one came.
    pub(super) fn last(&self) -> Option<Instant> {
        self.requests.lock().unwrap().last().copied()
    }

    pub(super) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// Takes no connection any more.
    pub(super) fn refuse(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        // wakes who accepts, and the last handle closes the socket
        drop(TcpStream::connect(self.address));
        self.listener = None;
        wait_for("the server to refuse", SOON, || {
            TcpStream::connect(self.address).is_err().then_some(())
        });
    }
}

fn serve(
    stream: TcpStream,
    address: SocketAddr,
    sick: &AtomicBool,
    requests: &Mutex<Vec<Instant>>,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let is_probe = head.starts_with("GET /up ");
        if !is_probe {
            requests.lock().unwrap().push(Instant::now());
        }
        let status = if is_probe && sick.load(Ordering::Relaxed) {
            "500 Sick"
        } else {
            "200 OK"
        };
        let body = address.to_string();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nX-Routed-To: blue\r\n\r\n{body}",
            body.len()
        );
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

pub(super) struct Lab {
    pub(super) dns: Dns,
    pub(super) front: SocketAddr,
    pub(super) port: u16,
    pub(super) turnout: Turnout,
    pub(super) control: SocketAddr,
    kind: Kind,
    nginx: Option<Nginx>,
    haproxy: Option<Background>,
    daemon: Option<Background>,
    pub(super) folder: TempDir,
}

impl Lab {
    /// A host whose alias `blog` has these addresses (of the same port), with `more` in its service.
    pub(super) fn new(kind: Kind, says: Says, more: &str) -> Self {
        let folder = TempDir::with_prefix("turnout-alias-").unwrap();
        std::fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let dns = Dns::start(says);
        std::fs::write(
            folder.path().join("resolv.conf"),
            format!("nameserver {}\n", dns.address),
        )
        .unwrap();
        std::fs::write(folder.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
        std::fs::create_dir(folder.path().join("services.d")).unwrap();
        let (front, control, port) = (Ports::address(), Ports::address(), Ports::free());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let balancer = match kind {
            Kind::Embedded => "  kind: embedded\n".to_owned(),
            Kind::Nginx | Kind::Instant => format!(
                "  kind: nginx\n  nginx: {{ config: {0}/conf.d/turnout.conf, main: {0}/nginx.conf, pid: {0}/nginx.pid, prove: \"{1}\", snippets: {0}/snippets, resolver: {2}, switching: {3} }}\n",
                path("nginx"),
                Ports::address(),
                dns.address,
                if kind == Kind::Instant {
                    "instant"
                } else {
                    "reload"
                }
            ),
            Kind::Haproxy => format!(
                "  kind: haproxy\n  haproxy: {{ config: {0}/turnout.cfg, files: [{0}/haproxy.cfg, {0}/turnout.cfg], maps: {0}/maps, socket: {0}/admin.sock, pid: {0}/haproxy.pid }}\n",
                path("haproxy")
            ),
        };
        let config = folder.path().join("turnout.yaml");
        let text = format!(
            "version: 1\nstate: {{ dir: {} }}\nbalancer:\n{balancer}control: {{ listen: \"{control}\" }}\ninclude: [services.d/*.yaml]\nservices:\n  blog:\n    hosts: [blog.com]\n    listen: {front}\n    target: blog.test:{port}\n{more}",
            path("state"),
        );
        std::fs::write(&config, text).unwrap();
        Self {
            turnout: Turnout::new(&config, control),
            dns,
            front,
            port,
            control,
            kind,
            nginx: None,
            haproxy: None,
            daemon: None,
            folder,
        }
    }

    /// A server on the port of the alias.
    pub(super) fn server(&self, last: u8) -> Server {
        self.server_at(Ipv4Addr::new(127, 0, 77, last).into())
    }

    /// A server on the port of the alias, of either family.
    pub(super) fn server_at(&self, address: IpAddr) -> Server {
        Server::start(SocketAddr::new(address, self.port))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `run` where this host's name servers and hosts are the lab's.
    pub(super) fn inside(&self, run: Run) -> Run {
        let script = format!(
            "mount --bind {} /etc/resolv.conf; mount --bind {} /etc/hosts; exec \"$@\"",
            self.path("resolv.conf").display(),
            self.path("hosts").display()
        );
        run.under([
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-ec",
            &script,
            "sh",
        ])
    }

    /// Starts the balancer and the daemon, and waits until it is ready.
    pub(super) fn serve(&mut self) {
        match self.kind {
            Kind::Embedded => {}
            Kind::Nginx | Kind::Instant => {
                let nginx = Nginx::start(&self.path("nginx"), NginxSetup::default());
                self.nginx = Some(nginx);
            }
            Kind::Haproxy => self.start_haproxy(),
        }
        self.start_daemon();
    }

    pub(super) fn start_daemon(&mut self) {
        let log = self.path("daemon.log");
        let daemon = self
            .inside(self.turnout.command(&["serve"]))
            .background(&log);
        self.daemon = Some(daemon);
        let control = self.control;
        let begun = Instant::now();
        while !get(control, "/readyz", &[]).is_ok_and(|answer| answer.status == 200) {
            assert!(begun.elapsed() < SOON, "not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn start_haproxy(&mut self) {
        let folder = self.path("haproxy");
        std::fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "global\n    stats socket {} mode 660 level admin\ndefaults\n    mode http\n    timeout connect 5000\n    timeout client 50000\n    timeout server 50000\n",
            path("admin.sock")
        );
        std::fs::write(path("haproxy.cfg"), text).unwrap();
        let to = path("turnout.cfg");
        self.inside(self.turnout.command(&["render", "--to", &to]))
            .run()
            .exits(0);
        let run = Run::new("haproxy")
            .args(["-W", "-p", path("haproxy.pid").as_str()])
            .args(["-f", path("haproxy.cfg").as_str()])
            .args(["-f", path("turnout.cfg").as_str()]);
        let master = self.inside(run).background(&folder.join("log"));
        wait_for("HAProxy to start", SOON, || {
            std::os::unix::net::UnixStream::connect(path("admin.sock"))
                .is_ok()
                .then_some(())
        });
        self.haproxy = Some(master);
    }

    /// What the daemon has said.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// The alias in `status`.
    pub(super) fn status(&self) -> serde_json::Value {
        let ran = self.turnout.ok(&["status", "blog", "-o", "json"]);
        ran.json()
    }

    pub(super) fn ask(&self, host: &str) -> Answer {
        fetch(self.front, host).unwrap()
    }

    /// One of the router's own pages.
    pub(super) fn ask_path(&self, host: &str, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let mut connection = Connection::open(self.front, Duration::from_secs(20)).unwrap();
        connection.send(request.as_bytes()).unwrap()
    }

    /// Waits until an answer comes from there.
    pub(super) fn wait_at(&self, address: SocketAddr) {
        wait_for("an answer from there", SOON, || {
            let answer = fetch(self.front, "blog.com").ok()?;
            (answer.text() == address.to_string()).then_some(())
        });
    }

    /// Clients that ask until they are told to stop.
    pub(super) fn load(&self) -> Load {
        Load::start(self.front)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the daemon's log\n{}---", self.log());
        }
        for mut process in self.daemon.take().into_iter().chain(self.haproxy.take()) {
            process.signal(Signal::SIGTERM);
            process.wait(SOON);
        }
    }
}

/// One request for a host, on a connection of its own.
fn fetch(front: SocketAddr, host: &str) -> Result<Answer, Failure> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    Connection::open(front, Duration::from_secs(20))?.send(request.as_bytes())
}
