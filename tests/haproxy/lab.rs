//! A real HAProxy, master and worker, with a folder, ports, sockets and a pid file of its own, and turnout beside it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use turnout::domain::Color;

use crate::support::{
    Answer, Backend, Background, Connection, Daemon, Ports, Run, Turnout, get, wait_for,
};

/// How turnout's file stands to HAProxy's other ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// It is the whole configuration.
    Whole,
    /// Beside the user's `global` and `defaults`.
    Beside,
    /// The service stands in a frontend of the user's own.
    OwnFrontend,
}

/// One host with HAProxy, a service `shop`, and its servers.
#[derive(Debug)]
pub(crate) struct Lab {
    master: Option<Background>,
    pub(crate) blue: Backend,
    pub(crate) green: Backend,
    pub(crate) front: SocketAddr,
    control: SocketAddr,
    pub(crate) layout: Layout,
    /// More lines of the service, and more services.
    pub(crate) shop: String,
    pub(crate) services: String,
    /// More lines of turnout.yaml, and of `balancer.haproxy`.
    pub(crate) top: String,
    pub(crate) settings: String,
    /// The level of the user's stats socket.
    pub(crate) level: &'static str,
    pub(crate) kind: &'static str,
    /// A line of `balancer`.
    pub(crate) fallback: &'static str,
    folder: TempDir,
}

impl Lab {
    /// Files and ports; nothing runs but the servers.
    pub(crate) fn new(layout: Layout) -> Self {
        let folder = TempDir::with_prefix("turnout-haproxy-").unwrap();
        let lab = Self {
            master: None,
            blue: Backend::start(Color::Blue),
            green: Backend::start(Color::Green),
            front: Ports::address(),
            control: Ports::address(),
            layout,
            shop: String::new(),
            services: String::new(),
            top: String::new(),
            settings: String::new(),
            level: "admin",
            kind: "haproxy",
            fallback: "",
            folder,
        };
        lab.write();
        lab
    }

    /// HAProxy runs, and everything is on blue and proved.
    pub(crate) fn on_blue(layout: Layout) -> Self {
        let mut lab = Self::new(layout);
        lab.begin();
        lab.turnout().ok(&["apply"]);
        assert_eq!(lab.served(), Color::Blue);
        lab
    }

    /// Writes turnout.yaml and the user's files anew, and starts HAProxy as the README says.
    pub(crate) fn begin(&mut self) {
        self.write();
        let to = self.config().display().to_string();
        if self.layout == Layout::Beside {
            // `-f` of a file that is not there ends HAProxy
            std::fs::write(self.config(), "").unwrap();
        } else {
            self.turnout().ok(&["render", "--to", &to]);
            self.write_user();
        }
        self.start();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("turnout.cfg")
    }

    pub(crate) fn map(&self) -> PathBuf {
        self.path("maps/position.map")
    }

    pub(crate) fn turnout(&self) -> Turnout {
        Turnout::new(&self.path("turnout.yaml"), self.control)
    }

    pub(crate) fn serve(&self) -> Daemon {
        self.turnout().serve()
    }

    /// turnout.yaml, as the fields say now.
    pub(crate) fn write(&self) {
        let path = |name: &str| self.path(name).display().to_string();
        let files = match self.layout {
            Layout::Whole => String::new(),
            Layout::Beside | Layout::OwnFrontend => {
                format!(
                    "    files: [{}, {}]\n",
                    path("user.cfg"),
                    path("turnout.cfg")
                )
            }
        };
        let door = match self.layout {
            Layout::Whole | Layout::Beside => format!("listen: {}", self.front),
            Layout::OwnFrontend => format!("public: http://{}/", self.front),
        };
        let text = format!(
            "version: 1
state: {{ dir: {} }}
balancer:
  kind: {}
{}  haproxy:
    config: {}
    maps: {}
    socket: {}
    pid: {}
{files}{}control: {{ listen: \"{}\" }}
{}services:
  shop:
    {door}
    blue: {{ servers: [\"{}\"] }}
    green: {{ servers: [\"{}\"] }}
    health: {{ path: /health, interval: 200ms, timeout: 1s, unhealthy_after: 2, healthy_after: 1 }}
{}{}",
            path("state"),
            self.kind,
            self.fallback,
            path("turnout.cfg"),
            path("maps"),
            path("admin.sock"),
            path("haproxy.pid"),
            self.settings,
            self.control,
            self.top,
            self.blue.url(),
            self.green.url(),
            self.shop,
            self.services
        );
        std::fs::write(self.path("turnout.yaml"), text).unwrap();
        self.write_user();
    }

    fn write_user(&self) {
        let frontend = match self.layout {
            Layout::Whole => return,
            Layout::Beside => String::new(),
            Layout::OwnFrontend => {
                let doctor = self.turnout().run(&["doctor", "-o", "json"]);
                let findings = doctor.json();
                let lines = findings
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(|finding| finding["found"].as_str())
                    .find_map(|found| found.split_once("without `listen`:\n"))
                    .map_or_else(String::new, |(_, lines)| lines.to_owned());
                format!("frontend own\n    bind {}\n{lines}\n", self.front)
            }
        };
        // what Debian ships, and what collides with turnout's own
        let text = format!(
            "global
    stats socket {} mode 660 level {} expose-fd listeners
defaults
    mode http
    option forwardfor
    option httplog
    option dontlognull
    timeout connect 5000
    timeout client 50000
    timeout server 50000
    errorfile 503 /etc/haproxy/errors/503.http
{frontend}",
            self.path("admin.sock").display(),
            self.level
        );
        std::fs::write(self.path("user.cfg"), text).unwrap();
    }

    /// Starts HAProxy with what is on disk.
    pub(crate) fn start(&mut self) {
        self.stop();
        let mut run = Run::new("haproxy")
            .args(["-W", "-S"])
            .arg(self.path("master.sock"))
            .arg("-p")
            .arg(self.path("haproxy.pid"));
        if self.layout != Layout::Whole {
            run = run.arg("-f").arg(self.path("user.cfg"));
        }
        let mut master = run
            .arg("-f")
            .arg(self.config())
            .background(&self.path("haproxy.log"));
        wait_for("HAProxy to start", Duration::from_secs(10), || {
            assert!(
                master.ended().is_none(),
                "HAProxy did not start: {}",
                master.printed()
            );
            let pid = std::fs::read_to_string(self.path("haproxy.pid")).ok()?;
            (pid.trim() == master.pid().to_string()
                && UnixStream::connect(self.path("admin.sock")).is_ok())
            .then_some(())
        });
        self.master = Some(master);
        wait_for("HAProxy's worker", Duration::from_secs(10), || {
            (self.workers().len() == 1).then_some(())
        });
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut master) = self.master.take() {
            if master.ended().is_none() {
                master.signal(Signal::SIGTERM);
            }
            master.wait(Duration::from_secs(10));
        }
    }

    /// SIGKILL for master and workers at once: nothing of it is left.
    pub(crate) fn crash(&mut self) {
        let mut master = self.master.take().expect("HAProxy is stopped");
        master.kill_all();
        master.wait(Duration::from_secs(10));
    }

    pub(crate) fn master(&mut self) -> &mut Background {
        self.master.as_mut().expect("HAProxy is stopped")
    }

    pub(crate) fn master_pid(&self) -> i32 {
        self.master.as_ref().expect("HAProxy is stopped").pid()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("haproxy.log")).unwrap_or_default()
    }

    /// The workers, old ones included.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let master = self.master_pid();
        let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        children
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }

    /// A reload by somebody else, finished.
    pub(crate) fn reload_by_hand(&self) {
        let before = self.workers();
        self.master.as_ref().unwrap().signal(Signal::SIGUSR2);
        wait_for("the end of a reload", Duration::from_secs(10), || {
            let now = self.workers();
            (now.len() == 1 && !before.contains(&now[0])).then_some(())
        });
    }

    /// A line to the runtime socket, and its answer.
    pub(crate) fn socket(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.path("admin.sock")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Blue's share by the running worker, in basis points.
    pub(crate) fn blue_share(&self) -> u16 {
        let answer = self.socket(&format!("get map {} shop", self.map().display()));
        let value = answer
            .split("val=\"")
            .nth(1)
            .or(answer.split("value=\"").nth(1));
        value
            .and_then(|value| value.split('"').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no share in {answer}"))
    }

    #[track_caller]
    pub(crate) fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let lines: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        get(self.front, path, &lines).unwrap_or_else(|failure| {
            panic!("GET {path} on {}: {failure:?}\n{}", self.front, self.log())
        })
    }

    /// The color that answers.
    #[track_caller]
    pub(crate) fn served(&self) -> Color {
        let answer = self.ask("/", &[]);
        assert_eq!(answer.backend(), answer.color("x-routed-to"), "{answer:?}");
        answer
            .backend()
            .unwrap_or_else(|| panic!("no backend answered: {}", answer.text()))
    }

    /// The active color that `state.json` says, which `active/shop` must say too.
    #[track_caller]
    pub(crate) fn recorded(&self) -> Color {
        let text = std::fs::read_to_string(self.path("state/state.json")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        let shop = &state["services"]["shop"];
        let active = [&shop["active"], &shop["position"]["active"]]
            .into_iter()
            .find_map(serde_json::Value::as_str)
            .unwrap_or_else(|| panic!("no active color in {state}"));
        let file = std::fs::read_to_string(self.path("state/active/shop")).unwrap();
        assert_eq!(file, active);
        active.parse().unwrap()
    }

    /// State, disk and served agree, and HAProxy started from its files alone serves the same.
    #[track_caller]
    pub(crate) fn agreed(&mut self, context: &str) -> Color {
        let served = self.served();
        assert_eq!(self.recorded(), served, "state and served color, {context}");
        self.turnout().ok(&["verify"]);
        let map = std::fs::read_to_string(self.map()).unwrap();
        let share = if served == Color::Blue { 10_000 } else { 0 };
        assert!(
            map.contains(&format!("\nshop {share}\n")),
            "{context}: {map}"
        );
        served
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The colors of keys, over one connection.
    pub(crate) fn colors_of(&self, keys: &[String], host: &str) -> Vec<Color> {
        let mut connection = Connection::open(self.front, Duration::from_secs(10)).unwrap();
        keys.iter()
            .map(|key| {
                let request =
                    format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Session-Key: {key}\r\n\r\n");
                let answer = connection.send(request.as_bytes()).unwrap();
                if !answer.keeps {
                    connection = Connection::open(self.front, Duration::from_secs(10)).unwrap();
                }
                assert_eq!(answer.backend(), answer.color("x-routed-to"));
                answer.backend().unwrap()
            })
            .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.master = None;
    }
}

/// A server that answers with the head of the request that it got, and has a way to say another status.
pub(crate) fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if stream.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
                    if path == "/hang" {
                        std::thread::sleep(Duration::from_secs(20));
                    }
                    let status = if path == "/own503" { 503 } else { 200 };
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\nX-Backend: blue\r\nX-Routed-To: forged\r\nContent-Length: {}\r\n\r\n{head}",
                        head.len()
                    );
                    if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
