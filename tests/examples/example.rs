//! An example on a host of its own: its balancer and its servers, started as it says.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use turnout::domain::Color;

use super::addresses::{defaults, replace_paths, replace_ports};
use crate::support::{
    Answer, Backend, Background, Daemon, Nginx, NginxSetup, Ports, Run, Turnout, own_tls_server,
    wait_for,
};

/// An example on a host of its own.
pub(super) struct Example {
    pub(super) nginx: Option<Nginx>,
    haproxy: Option<Background>,
    pub(super) servers: Vec<Backend>,
    pub(super) turnout: Turnout,
    pub(super) service: serde_yaml::Value,
    pub(super) control: SocketAddr,
    pub(super) folder: TempDir,
}

impl Example {
    pub(super) fn new(name: &str) -> Self {
        let folder = TempDir::with_prefix("turnout-example-").unwrap();
        std::fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let original = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(name);
        let text = std::fs::read_to_string(&original)
            .unwrap_or_else(|error| panic!("failed to read {}: {error}", original.display()));
        let text = replace_ports(&replace_paths(&defaults(&text), folder.path()));
        let config = folder.path().join("turnout.yaml");
        std::fs::write(&config, &text).unwrap();

        let yaml: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let service = yaml["services"]
            .as_mapping()
            .and_then(|services| services.values().next())
            .unwrap_or_else(|| panic!("{name} has no service:\n{text}"))
            .clone();
        let control = yaml["control"]["listen"]
            .as_str()
            .and_then(|listen| listen.parse().ok())
            .unwrap_or_else(Ports::address);
        let servers = if service.get("workload").is_some() {
            Vec::new()
        } else {
            start_servers(&service)
        };
        let mut example = Self {
            nginx: None,
            haproxy: None,
            servers,
            turnout: Turnout::new(&config, control),
            service,
            control,
            folder,
        };
        match yaml["balancer"]["kind"].as_str() {
            Some("embedded" | "exec") => {}
            Some("haproxy") => example.start_haproxy(),
            _ => example.start_nginx(),
        }
        example
    }

    /// nginx, with a server block of the user's own where the example has no `listen`.
    fn start_nginx(&mut self) {
        let folder = self.folder.path();
        let mut setup = NginxSetup::default();
        if let Some(public) = self.service["public"].as_str() {
            let address = public.trim_start_matches("https://");
            let port = address
                .split(['/', ':'])
                .find_map(|part| part.parse::<u16>().ok())
                .unwrap_or_else(|| panic!("{public} must name a port to be tried"));
            let listen = SocketAddr::from(([127, 0, 0, 1], port));
            setup.http = own_tls_server(listen, folder, "return 200 mine;");
        }
        self.nginx = Some(Nginx::start(&folder.join("nginx"), setup));
    }

    /// HAProxy with a file of the user's own, set up as the example says.
    fn start_haproxy(&mut self) {
        let folder = self.folder.path().join("haproxy");
        std::fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let text = format!(
            "global\n    stats socket {} mode 660 level admin\ndefaults\n    mode http\n    timeout connect 5000\n    timeout client 50000\n    timeout server 50000\n",
            path("admin.sock")
        );
        std::fs::write(path("haproxy.cfg"), text).unwrap();
        self.turnout
            .ok(&["render", "--to", path("turnout.cfg").as_str()]);
        let master = Run::new("haproxy")
            .args(["-W", "-p", path("haproxy.pid").as_str()])
            .args(["-f", path("haproxy.cfg").as_str()])
            .args(["-f", path("turnout.cfg").as_str()])
            .background(&folder.join("log"));
        wait_for("HAProxy to start", Duration::from_secs(10), || {
            let pid = std::fs::read_to_string(path("haproxy.pid")).ok()?;
            (pid.trim() == master.pid().to_string()
                && std::os::unix::net::UnixStream::connect(path("admin.sock")).is_ok())
            .then_some(())
        });
        self.haproxy = Some(master);
    }

    pub(super) fn listen(&self) -> SocketAddr {
        let listen = self.service["listen"].as_str().unwrap();
        listen.replace("0.0.0.0", "127.0.0.1").parse().unwrap()
    }

    pub(super) fn ask(&self) -> Answer {
        let host = self.service["hosts"][0].as_str().unwrap_or("localhost");
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        crate::support::Connection::open(self.listen(), std::time::Duration::from_mins(1))
            .unwrap()
            .send(request.as_bytes())
            .unwrap()
    }

    pub(super) fn routed(&self) -> Option<Color> {
        self.ask().color("x-routed-to")
    }

    pub(super) fn serve(&self) -> Daemon {
        self.turnout.serve()
    }

    /// The body and headers that curl gets from `public`.
    pub(super) fn curl(&self) -> String {
        Run::new("curl")
            .args(["--silent", "--show-error", "--insecure", "--include"])
            .arg(self.service["public"].as_str().unwrap())
            .run()
            .exits(0)
            .stdout
            .to_ascii_lowercase()
    }
}

fn start_servers(service: &serde_yaml::Value) -> Vec<Backend> {
    [Color::Blue, Color::Green]
        .into_iter()
        .flat_map(|color| {
            let servers = service[color.as_str()]["servers"].as_sequence().cloned();
            servers
                .unwrap_or_default()
                .into_iter()
                .map(move |url| (color, url))
        })
        .map(|(color, url)| {
            let url = url.as_str().unwrap().to_owned();
            let port = url.rsplit(':').next().unwrap().trim_end_matches('/');
            Backend::start_on(color, port.parse().unwrap())
        })
        .collect()
}
