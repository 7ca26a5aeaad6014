//! One host as a test sees it: a folder, a blue and a green server, a balancer, and a turnout.yaml that ties them together.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use turnout::domain::{Color, Colors};

use super::turnout::Turnout;
use super::{Answer, Backend, Connection, Daemon, Nginx, NginxSetup, Ports, get};

/// A service called `shop` with one server of each color, behind nginx or the embedded proxy.
#[derive(Debug)]
pub(crate) struct Site {
    /// Stopped before the folder goes away: fields are dropped in their order.
    nginx: Option<Nginx>,
    pub(crate) blue: Backend,
    pub(crate) green: Backend,
    /// Where clients come in.
    pub(crate) front: SocketAddr,
    /// The control API.
    pub(crate) control: SocketAddr,
    /// nginx's private listener.
    pub(crate) prove: SocketAddr,
    settings: Settings,
    folder: TempDir,
}

/// What a test may change in turnout.yaml; each is YAML, indented as its place needs it.
#[derive(Debug, Clone)]
struct Settings {
    strategy: &'static str,
    binary: Option<PathBuf>,
    template: Option<PathBuf>,
    reload: Option<PathBuf>,
    switching: Option<&'static str>,
    services: String,
    kind: &'static str,
    /// `balancer.fallback`.
    fallback: Option<String>,
}

impl Site {
    fn new(strategy: &'static str) -> Self {
        let folder = TempDir::with_prefix("turnout-test-").unwrap();
        // nginx's workers are www-data where the tests are root
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        Self {
            nginx: None,
            blue: Backend::start(Color::Blue),
            green: Backend::start(Color::Green),
            front: Ports::address(),
            control: Ports::address(),
            prove: Ports::address(),
            settings: Settings {
                strategy,
                binary: None,
                template: None,
                reload: None,
                switching: None,
                services: String::new(),
                kind: "nginx",
                fallback: None,
            },
            folder,
        }
    }

    /// Behind a running nginx that has nothing of turnout's yet.
    pub(crate) fn nginx() -> Self {
        Self::nginx_with("blue_green", NginxSetup::default())
    }

    /// The same with a strategy and an nginx of the test's own.
    pub(crate) fn nginx_with(strategy: &'static str, setup: NginxSetup) -> Self {
        let mut site = Self::new(strategy);
        site.nginx = Some(Nginx::start(&site.folder.path().join("nginx"), setup));
        site.write();
        site
    }

    /// Behind nginx, with everything on blue and proved.
    pub(crate) fn nginx_on_blue() -> Self {
        let site = Self::nginx();
        site.turnout().ok(&["apply"]);
        assert_eq!(site.served(), Color::Blue);
        site
    }

    /// Behind nginx without reloads, with everything on blue and proved.
    pub(crate) fn nginx_instant_on_blue(strategy: &'static str) -> Self {
        let mut site = Self::nginx_with(strategy, NginxSetup::default());
        site.use_switching("instant");
        site.turnout().ok(&["apply"]);
        assert_eq!(site.served(), Color::Blue);
        site
    }

    /// Behind the embedded proxy, which runs with [`Self::serve`].
    pub(crate) fn embedded(strategy: &'static str) -> Self {
        let site = Self::new(strategy);
        site.write();
        site
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("turnout.yaml")
    }

    pub(crate) fn balancer(&self) -> &Nginx {
        self.nginx.as_ref().expect("this site has no nginx")
    }

    pub(crate) fn balancer_mut(&mut self) -> &mut Nginx {
        self.nginx.as_mut().expect("this site has no nginx")
    }

    pub(crate) fn turnout(&self) -> Turnout {
        Turnout::new(&self.config(), self.control)
    }

    pub(crate) fn serve(&self) -> Daemon {
        self.turnout().serve()
    }

    /// `balancer.nginx.binary`.
    pub(crate) fn use_binary(&mut self, binary: &Path) {
        self.settings.binary = Some(binary.to_owned());
        self.write();
    }

    /// `balancer.nginx.reload`: a shell script of these lines.
    pub(crate) fn use_reload(&mut self, lines: &str) {
        let script = self.folder.path().join("reload");
        std::fs::write(&script, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        self.settings.reload = Some(script);
        self.write();
    }

    /// `balancer.nginx.switching`.
    pub(crate) fn use_switching(&mut self, switching: &'static str) {
        self.settings.switching = Some(switching);
        self.write();
    }

    /// The folder of nginx's markers.
    pub(crate) fn markers(&self) -> PathBuf {
        self.folder.path().join("snippets/position")
    }

    /// `balancer.fallback`.
    pub(crate) fn use_fallback(&mut self, value: &str) {
        self.settings.fallback = Some(value.to_owned());
        self.write();
    }

    /// `balancer.kind`.
    pub(crate) fn use_kind(&mut self, kind: &'static str) {
        self.settings.kind = kind;
        self.write();
    }

    /// `balancer.nginx.template`.
    pub(crate) fn use_template(&mut self, template: &Path) {
        self.settings.template = Some(template.to_owned());
        self.write();
    }

    /// Another service beside `shop`, on a listener of its own with the same servers' addresses replaced by new ones.
    pub(crate) fn add_service(&mut self, name: &str, listen: SocketAddr) -> Colors<Backend> {
        let servers = Colors {
            blue: Backend::start(Color::Blue),
            green: Backend::start(Color::Green),
        };
        let text = service(name, listen, "blue_green", &servers.blue, &servers.green);
        self.settings.services.push_str(&text);
        self.write();
        servers
    }

    fn write(&self) {
        let balancer = match &self.nginx {
            None => "  kind: embedded\n".to_owned(),
            Some(nginx) => {
                let line = |key: &str, path: Option<&PathBuf>| {
                    path.map_or_else(String::new, |path| {
                        format!("    {key}: {}\n", path.display())
                    })
                };
                let reload = self
                    .settings
                    .reload
                    .as_ref()
                    .map_or_else(String::new, |path| {
                        format!("    reload: [{}]\n", path.display())
                    });
                let switching = self
                    .settings
                    .switching
                    .map_or_else(String::new, |word| format!("    switching: {word}\n"));
                let fallback = self.settings.fallback.as_ref();
                let fallback =
                    fallback.map_or_else(String::new, |value| format!("  fallback: {value}\n"));
                let kind = self.settings.kind;
                format!(
                    "  kind: {kind}\n{fallback}  nginx:\n    config: {}\n    main: {}\n    pid: {}\n    prove: {}\n    snippets: {}\n{}{}{reload}{switching}",
                    nginx.config().display(),
                    nginx.main().display(),
                    nginx.pid_file().display(),
                    self.prove,
                    self.folder.path().join("snippets").display(),
                    line("binary", self.settings.binary.as_ref()),
                    line("template", self.settings.template.as_ref()),
                )
            }
        };
        let shop = service(
            "shop",
            self.front,
            self.settings.strategy,
            &self.blue,
            &self.green,
        );
        let text = format!(
            "version: 1\nstate: {{ dir: {} }}\nbalancer:\n{balancer}control: {{ listen: \"{}\" }}\nservices:\n{shop}{}",
            self.state_dir().display(),
            self.control,
            self.settings.services
        );
        std::fs::write(self.config(), text).unwrap();
    }

    /// A request through the front door, on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, path: &str) -> Answer {
        get(self.front, path, &[])
            .unwrap_or_else(|failure| panic!("GET {path} on {}: {failure:?}", self.front))
    }

    /// The color that answers through the front door.
    #[track_caller]
    pub(crate) fn served(&self) -> Color {
        let answer = self.ask("/");
        answer
            .backend()
            .unwrap_or_else(|| panic!("no backend answered: {answer:?}"))
    }

    /// `state.json`, as it stands.
    #[track_caller]
    pub(crate) fn state(&self) -> serde_json::Value {
        let path = self.state_dir().join("state.json");
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("failed to read {}: {error}", path.display()));
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{} is not JSON: {error}\n{text}", path.display()))
    }

    /// The active color that `state.json` says, which `active/shop` must say too.
    #[track_caller]
    pub(crate) fn recorded(&self) -> Color {
        let state = self.state();
        let shop = &state["services"]["shop"];
        let active = [&shop["active"], &shop["position"]["active"]]
            .into_iter()
            .find_map(serde_json::Value::as_str)
            .unwrap_or_else(|| panic!("no active color in {state}"));
        let file = std::fs::read_to_string(self.state_dir().join("active/shop")).unwrap();
        assert_eq!(file, active, "active/shop and state.json disagree");
        active.parse().unwrap()
    }

    /// Everything that a refused change must leave alone.
    #[track_caller]
    pub(crate) fn picture(&self) -> Picture {
        let read = |path: PathBuf| std::fs::read(path).ok();
        Picture {
            config: read(self.balancer().config()),
            state: read(self.state_dir().join("state.json")),
            active: read(self.state_dir().join("active/shop")),
        }
    }

    /// The color of each key, asked over a few kept-alive connections.
    pub(crate) fn colors_of(&self, keys: &[String]) -> Vec<Color> {
        let front = self.front;
        std::thread::scope(|scope| {
            let asking: Vec<_> = keys
                .chunks(keys.len().div_ceil(4).max(1))
                .map(|keys| scope.spawn(move || colors_of(front, keys)))
                .collect();
            asking
                .into_iter()
                .flat_map(|asking| asking.join().unwrap())
                .collect()
        })
    }
}

/// See [`Site::picture`].
#[derive(PartialEq, Eq)]
pub(crate) struct Picture {
    config: Option<Vec<u8>>,
    state: Option<Vec<u8>>,
    active: Option<Vec<u8>>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, bytes) in [
            ("configuration", &self.config),
            ("state.json", &self.state),
            ("active/shop", &self.active),
        ] {
            let text = bytes.as_deref().map(String::from_utf8_lossy);
            writeln!(f, "== {name}\n{}", text.as_deref().unwrap_or("(absent)"))?;
        }
        Ok(())
    }
}

fn colors_of(front: SocketAddr, keys: &[String]) -> Vec<Color> {
    let open = || Connection::open(front, std::time::Duration::from_mins(1)).unwrap();
    let mut connection = open();
    keys.iter()
        .map(|key| {
            let request =
                format!("GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Session-Key: {key}\r\n\r\n");
            let answer = connection.send(request.as_bytes()).unwrap();
            if !answer.keeps {
                connection = open();
            }
            assert_eq!(answer.status, 200);
            assert_eq!(
                answer.backend(),
                answer.color("x-routed-to"),
                "X-Routed-To is not who answered"
            );
            answer.backend().unwrap()
        })
        .collect()
}

fn service(
    name: &str,
    listen: SocketAddr,
    strategy: &str,
    blue: &Backend,
    green: &Backend,
) -> String {
    format!(
        "  {name}:
    listen: {listen}
    blue: {{ servers: [\"{}\"] }}
    green: {{ servers: [\"{}\"] }}
    strategy: {strategy}
    active: blue
    health: {{ path: /health, interval: 200ms, timeout: 1s, unhealthy_after: 2, healthy_after: 1 }}
",
        blue.url(),
        green.url()
    )
}
