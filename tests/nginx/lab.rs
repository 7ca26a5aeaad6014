//! One nginx in a folder of its own, two backends, and a client that shows everything. Ends what it started.

#![expect(
    clippy::unwrap_used,
    reason = "a laboratory that cannot be set up has nothing to say"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use turnout::balancer::Nginx;
use turnout::config::{NginxReload, NginxSettings, Switching};
use turnout::domain::{
    AccessLog, Color, Colors, Expectation, Generation, HealthPolicy, Limits, OnUnhealthy, Position,
    Route, RoutingTable, Server, Service, Split, StatusRange, Sticky, Strategy, Timeouts, Upstream,
};
use turnout::exec::{Program, command};

use crate::support::Ports;

const NOBODY: u32 = 65_534;

pub(super) fn whole(color: Color) -> Position {
    Position::all(Strategy::BlueGreen, color)
}

pub(super) fn canary(blue: f64) -> Position {
    Position::canary(
        Color::Blue,
        Split::from_percents(blue, 100.0 - blue).unwrap(),
    )
}

pub(super) struct Lab {
    dir: tempfile::TempDir,
    front: SocketAddr,
    own: SocketAddr,
    servers: Colors<Server>,
    pub(super) settings: NginxSettings,
    pub(super) trusted: Vec<ipnet::IpNet>,
}

impl Lab {
    pub(super) async fn start() -> Self {
        Self::begin("include conf.d/*.conf;", None).await
    }

    pub(super) async fn start_without_include() -> Self {
        Self::begin("", None).await
    }

    pub(super) async fn start_as_nobody() -> Self {
        Self::begin("include conf.d/*.conf;", Some(NOBODY)).await
    }

    /// With a TLS server block of the user's that includes a snippet which is not there yet: nginx starts before it is added.
    pub(super) async fn start_with_own_server() -> Self {
        let lab = Self::start().await;
        let (key, cert) = (lab.path("key.pem"), lab.path("cert.pem"));
        Program::new([
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=shop.example.com",
            "-keyout",
            &key.display().to_string(),
            "-out",
            &cert.display().to_string(),
        ])
        .run()
        .await
        .unwrap()
        .success()
        .unwrap();
        fs::create_dir(lab.path("snippets")).unwrap();
        lab.put(
            "conf.d/z-own.conf",
            &format!(
                "server {{ listen {} ssl; server_name shop.example.com; ssl_certificate {}; ssl_certificate_key {};\n\
                 location / {{ include {}; }} }}\n",
                lab.own,
                cert.display(),
                key.display(),
                lab.snippet().display()
            ),
        );
        lab
    }

    async fn begin(include: &str, user: Option<u32>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut temporary = String::new();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            temporary.extend([format!("{kind}_temp_path {};\n", path(kind).display())]);
        }
        let main = format!(
            "{}worker_processes 2;\npid {};\nerror_log {} notice;\nevents {{ worker_connections 512; }}\n\
             http {{\naccess_log off;\n{temporary}{include}\n}}\n",
            if user.is_none() { "user root;\n" } else { "" },
            path("nginx.pid").display(),
            path("error.log").display(),
        );
        File::create(path("nginx.conf"))
            .unwrap()
            .write_all(main.as_bytes())
            .unwrap();
        let settings = NginxSettings {
            config: path("conf.d/turnout.conf"),
            main: path("nginx.conf"),
            binary: "nginx".into(),
            pid: path("nginx.pid"),
            template: None,
            prove: Ports::address(),
            switching: Switching::Reload,
            snippets: path("snippets"),
            reload: NginxReload::Signal,
            resolver: None,
        };
        let mut argv = Vec::new();
        if let Some(user) = user {
            chown(dir.path(), Some(user), Some(user)).unwrap();
            for part in [
                format!("--reuid={user}"),
                format!("--regid={user}"),
                "--clear-groups".into(),
            ] {
                argv.push(part);
            }
            argv.insert(0, "setpriv".into());
        }
        argv.extend([
            "nginx".into(),
            "-p".into(),
            dir.path().display().to_string(),
        ]);
        argv.extend(["-c".into(), settings.main.display().to_string()]);
        Program::new(argv).run().await.unwrap().success().unwrap();
        let lab = Self {
            front: Ports::address(),
            own: Ports::address(),
            servers: Colors {
                blue: backend("blue"),
                green: backend("green"),
            },
            settings,
            trusted: Vec::new(),
            dir,
        };
        if user.is_none() {
            until("nginx calls itself a master", || lab.master().is_some()).await;
        }
        lab
    }

    pub(super) fn nginx(&self) -> Nginx {
        Nginx::new(
            self.settings.clone(),
            self.path("state"),
            self.trusted.clone(),
        )
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.settings.config.clone()
    }

    pub(super) fn main(&self) -> PathBuf {
        self.settings.main.clone()
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.settings.pid.clone()
    }

    pub(super) fn snippet(&self) -> PathBuf {
        self.path("snippets/shop.conf")
    }

    pub(super) fn front(&self) -> SocketAddr {
        self.front
    }

    pub(super) fn public_url(&self) -> String {
        format!("https://{}/health", self.own)
    }

    pub(super) fn server(&self, color: Color) -> &Server {
        &self.servers[color]
    }

    pub(super) fn put(&self, name: &str, text: &str) {
        File::create(self.path(name))
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    pub(super) fn set_template(&mut self, text: &str) {
        self.put("mine.conf.j2", text);
        self.settings.template = Some(self.path("mine.conf.j2"));
    }

    pub(super) fn program(&self, name: &str, script: &str) -> String {
        self.put(name, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        self.path(name).display().to_string()
    }

    pub(super) fn table(&self, generation: u64, position: Position) -> RoutingTable {
        self.table_with(generation, position, |_| ())
    }

    pub(super) fn table_with(
        &self,
        generation: u64,
        position: Position,
        change: impl FnOnce(&mut Service),
    ) -> RoutingTable {
        let mut shape = self.service("shop");
        change(&mut shape);
        RoutingTable {
            generation: Generation(generation),
            routes: BTreeMap::from([(shape.name.clone(), Route::new(Arc::new(shape), position))]),
            aliases: BTreeMap::new(),
        }
    }

    pub(super) fn many(&self, generation: u64, count: usize) -> RoutingTable {
        RoutingTable {
            generation: Generation(generation),
            aliases: BTreeMap::new(),
            routes: (0..count)
                .map(|number| {
                    let shape = self.service(&format!("service-{number}"));
                    (
                        shape.name.clone(),
                        Route::new(Arc::new(shape), canary(90.0)),
                    )
                })
                .collect(),
        }
    }

    fn service(&self, name: &str) -> Service {
        Service {
            name: name.parse().unwrap(),
            project: None,
            hosts: vec![format!("{name}.example.com").parse().unwrap()],
            listen: Some(self.front),
            public: None,
            tls: None,
            proxy_protocol: false,
            upstream: Upstream::Colors(Colors {
                blue: vec![self.servers.blue.clone()],
                green: vec![self.servers.green.clone()],
            }),
            sticky: Some(Sticky {
                header: "X-Session-Key".into(),
                cookie: "session_id".into(),
                set_cookie: false,
            }),
            preview: None,
            on_unhealthy: OnUnhealthy::Failover,
            health: HealthPolicy {
                path: "/health".into(),
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(2),
                unhealthy_after: 3,
                healthy_after: 1,
                expect: Expectation {
                    status: StatusRange {
                        low: 200,
                        high: 299,
                    },
                    json: BTreeMap::new(),
                },
            },
            timeouts: Timeouts {
                connect: Duration::from_secs(1),
                response: Duration::from_secs(5),
                drain: Duration::from_secs(5),
                head: Duration::from_secs(5),
                idle: Duration::from_secs(75),
            },
            limits: Limits {
                head: 32_768,
                headers: 100,
                body: None,
                connections: 10_000,
                hold: Duration::from_secs(30),
                rate: Vec::new(),
            },
            access_log: AccessLog::Off,
            metrics: true,
            router_endpoints: true,
        }
    }

    pub(super) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.get_as("shop.example.com", path, headers).await
    }

    pub(super) async fn get_as(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut connection = self.connection().await;
        connection.get(host, path, headers).await
    }

    pub(super) async fn connection(&self) -> Connection {
        Connection(TcpStream::connect(self.front).await.unwrap())
    }

    fn master(&self) -> Option<Pid> {
        let pid = fs::read_to_string(self.pid_file())
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        title
            .starts_with("nginx: master")
            .then(|| Pid::from_raw(pid))
    }

    pub(super) fn workers(&self) -> Vec<String> {
        let master = self.master().unwrap();
        let children =
            fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap();
        children.split_whitespace().map(str::to_owned).collect()
    }

    pub(super) fn leftovers(&self) -> Vec<String> {
        [self.path(""), self.path("conf.d")]
            .iter()
            .flat_map(|dir| fs::read_dir(dir).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with('.'))
            .collect()
    }

    /// A reload by somebody else, waited for.
    pub(super) async fn reload(&self) {
        let old = self.workers();
        kill(self.master().unwrap(), Signal::SIGHUP).unwrap();
        self.gone(&old).await;
    }

    /// Until all of these workers are.
    pub(super) async fn gone(&self, old: &[String]) {
        until("the old workers are gone", || {
            !self.workers().iter().any(|pid| old.contains(pid))
        })
        .await;
    }

    pub(super) async fn stop(&self) {
        kill(self.master().unwrap(), Signal::SIGTERM).unwrap();
        until("nginx has ended", || !self.pid_file().exists()).await;
    }

    /// Until the master is at a reload: it blocks SIGHUP then.
    pub(super) async fn is_loading(&self) {
        let status = format!("/proc/{}/status", self.master().unwrap());
        until("the master loads", || {
            let status = fs::read_to_string(&status).unwrap();
            let mask = status
                .lines()
                .find_map(|line| line.strip_prefix("SigBlk:"))
                .unwrap();
            u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1
        })
        .await;
    }

    pub(super) fn kill_master(&self) {
        kill(self.master().unwrap(), Signal::SIGKILL).unwrap();
    }

    /// Ends a worker whose master was killed; it may have ended by itself.
    pub(super) fn kill_orphan(worker: &str) {
        kill(Pid::from_raw(worker.parse().unwrap()), Signal::SIGKILL).ok();
    }

    pub(super) fn sleeper() -> Sleeper {
        let mut sleep = command(&["sleep", "600"], &BTreeMap::new(), None);
        Sleeper(sleep.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(master) = self.master() {
            kill(master, Signal::SIGTERM).ok();
        }
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < crate::support::SOON,
            "timed out: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) struct Sleeper(tokio::process::Child);

impl Sleeper {
    pub(super) fn id(&self) -> u32 {
        self.0.id().unwrap()
    }

    pub(super) fn lives(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        !stat.contains(") Z ")
    }

    pub(super) async fn end(mut self) -> u32 {
        let id = self.id();
        self.0.kill().await.unwrap();
        id
    }
}

/// A server that echoes the request's head and says its color. One thread for each connection.
fn backend(color: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        let body = String::from_utf8_lossy(&head).replace('\r', "");
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nX-Backend: {color}\r\nX-Routed-To: forged\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                        head.clear();
                    }
                }
            });
        }
    });
    format!("http://{address}").parse().unwrap()
}

pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    /// The one value of a header, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map_or("", |(_, value)| value);
        assert_eq!(values.next(), None, "{name} comes twice");
        value
    }
}

pub(super) struct Connection(TcpStream);

impl Connection {
    pub(super) async fn routed(&mut self, headers: &[(&str, &str)]) -> Color {
        let answer = self.get("shop.example.com", "/", headers).await;
        answer.header("x-routed-to").parse().unwrap()
    }

    pub(super) async fn get(&mut self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in headers {
            request.extend([format!("{name}: {value}\r\n")]);
        }
        request.push_str("\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            let read = self.0.read(&mut buffer).await.unwrap();
            assert!(
                read > 0,
                "the connection ended in {:?}",
                String::from_utf8_lossy(&bytes)
            );
            bytes.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let mut lines = head.lines();
            let status = lines
                .next()
                .unwrap()
                .split(' ')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap();
            let headers: Vec<(String, String)> = lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers
                .iter()
                .find(|(name, _)| name == "content-length")
                .map_or(0, |(_, value)| value.parse().unwrap());
            if body.len() >= length {
                return Answer {
                    status,
                    headers,
                    body: body.to_owned(),
                };
            }
        }
    }
}

/// The servers of both colors.
pub(super) fn colors(shape: &mut Service) -> &mut Colors<Vec<Server>> {
    match &mut shape.upstream {
        Upstream::Colors(servers) => servers,
        Upstream::Alias(target) => panic!("{target} has no colors"),
    }
}
