//! Every example is run for real. Only its addresses and paths are replaced, by free ports and by a folder of the test's.
//!
//! The servers that an example names are started here, unless it says itself how to start them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use turnout::domain::Color;

use crate::support::{
    Answer, Backend, Background, Connection, Daemon, Nginx, NginxSetup, Ports, Run, Turnout, get,
    own_tls_server, shared, wait_for,
};

/// An example on a host of its own.
struct Example {
    nginx: Option<Nginx>,
    haproxy: Option<Background>,
    servers: Vec<Backend>,
    turnout: Turnout,
    service: serde_yaml::Value,
    control: SocketAddr,
    folder: TempDir,
}

impl Example {
    fn new(name: &str) -> Self {
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

    fn listen(&self) -> SocketAddr {
        let listen = self.service["listen"].as_str().unwrap();
        listen.replace("0.0.0.0", "127.0.0.1").parse().unwrap()
    }

    fn ask(&self) -> Answer {
        let host = self.service["hosts"][0].as_str().unwrap_or("localhost");
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        crate::support::Connection::open(self.listen(), std::time::Duration::from_mins(1))
            .unwrap()
            .send(request.as_bytes())
            .unwrap()
    }

    fn routed(&self) -> Option<Color> {
        self.ask().color("x-routed-to")
    }

    fn serve(&self) -> Daemon {
        self.turnout.serve()
    }

    /// The body and headers that curl gets from `public`.
    fn curl(&self) -> String {
        Run::new("curl")
            .args(["--silent", "--show-error", "--insecure", "--include"])
            .arg(self.service["public"].as_str().unwrap())
            .run()
            .exits(0)
            .stdout
            .to_ascii_lowercase()
    }
}

/// Each `${NAME:-value}` by its value: the example as it is without any variable. A unix socket of the API becomes a port,
/// which is what the support code asks.
fn defaults(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${TURNOUT_EXAMPLE_") {
        let (variable, behind) = after.split_once('}').unwrap();
        out.push_str(before);
        out.push_str(variable.split_once(":-").map_or("", |(_, value)| value));
        rest = behind;
    }
    out.push_str(rest);
    // on one host the servers and the front doors need ports of their own
    for (example, here) in [
        ("https://shop.example.com/", "https://127.0.0.1:8443/"),
        ("10.0.1.10:8080", "10.0.1.10:8091"),
        ("10.0.1.20:8080", "10.0.1.20:8092"),
    ] {
        out = out.replace(example, here);
    }
    out.lines()
        .map(|line| match line.split_once("unix:/") {
            Some((before, _)) if before.trim_start().starts_with("listen:") => {
                format!("{before}127.0.0.1:9180\n")
            }
            _ => format!("{line}\n"),
        })
        .collect()
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

/// The paths of a Debian host, in a folder.
fn replace_paths(text: &str, folder: &Path) -> String {
    let folder = folder.display();
    [
        ("/etc/nginx/conf.d", "nginx/conf.d"),
        ("/etc/nginx/nginx.conf", "nginx/nginx.conf"),
        ("/etc/nginx/turnout", "nginx/snippets"),
        ("/run/nginx.pid", "nginx/nginx.pid"),
        ("/etc/haproxy", "haproxy"),
        ("/run/haproxy/admin.sock", "haproxy/admin.sock"),
        ("/run/haproxy.pid", "haproxy/haproxy.pid"),
        ("/var/lib/turnout", "state"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| {
        text.replace(from, &format!("{folder}/{to}"))
    })
}

/// Every port by a free one, the same by the same, and every private address by 127.0.0.1.
fn replace_ports(text: &str) -> String {
    let mut ports: BTreeMap<u16, u16> = BTreeMap::new();
    let mut out = String::new();
    for line in text.lines() {
        let is_ports = line.contains("ports:");
        let mut rest = line;
        while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
            let length = rest[at..]
                .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
                .unwrap_or(rest.len() - at);
            let (before, number) = (&rest[..at], &rest[at..at + length]);
            let after = rest[at + length..].chars().next();
            let last = before.chars().next_back();
            out.push_str(before);
            let is_port = (matches!(last, Some(':' | '-'))
                || is_ports && matches!(last, Some(' ' | '{')))
                && !after.is_some_and(char::is_alphanumeric);
            let is_private = number.split('.').count() == 4
                && (number.starts_with("10.") || number.starts_with("192.168."))
                && after != Some('/');
            match number.parse::<u16>() {
                Ok(port) if is_port && port > 79 => {
                    let free = ports.entry(port).or_insert_with(Ports::free);
                    out.push_str(&free.to_string());
                }
                _ if is_private => out.push_str("127.0.0.1"),
                _ => out.push_str(number),
            }
            rest = &rest[at + length..];
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}

/// Everything that can be seen of a switch, through the command.
fn switch_moves_traffic(example: &Example) {
    assert_eq!(example.routed(), Some(Color::Blue));
    let ran = example.turnout.ok(&["switch", "green"]);
    assert_eq!(example.routed(), Some(Color::Green));
    example.turnout.ok(&["verify"]);
    example.turnout.ok(&["rollback"]);
    assert_eq!(example.routed(), Some(Color::Blue), "{ran}");
}

#[test]
fn all_examples_are_run_here() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path: &PathBuf| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "alias.yaml",
            "canary.yaml",
            "exec-router.yaml",
            "haproxy-sidecar.yaml",
            "nginx-own-server.yaml",
            "nginx-sidecar.yaml",
            "one-shot.yaml",
            "quickstart.yaml",
            "vm-daemon.yaml",
        ]
    );
}

#[test]
fn a_router_is_driven_by_its_commands() {
    let _turn = shared();
    let example = Example::new("exec-router.yaml");
    let script = example.folder.path().join("exec-router.sh");
    std::fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/exec-router.sh"),
        &script,
    )
    .unwrap();
    let weights = || {
        Run::new(&script)
            .args(["get", "shop"])
            .run()
            .exits(0)
            .stdout
    };
    example.turnout.ok(&["apply"]);
    assert_eq!(weights(), "100 0\n");
    example.turnout.ok(&["weights", "blue=90", "green=10"]);
    assert_eq!(weights(), "90 10\n");
    example.turnout.ok(&["switch", "green"]);
    assert_eq!(weights(), "0 100\n");
    example.turnout.ok(&["verify"]);
}

#[test]
fn an_alias_is_served_and_a_service_is_added_beside_it() {
    let _turn = shared();
    let example = Example::new("alias.yaml");
    let target = example.service["target"].as_str().unwrap().to_owned();
    let (_, port) = target.rsplit_once(':').unwrap();
    let _server = Backend::start_on(Color::Blue, port.parse().unwrap());
    let _daemon = example.serve();
    let front = example.service["listen"].as_str().unwrap();
    let (_, front) = front.rsplit_once(':').unwrap();
    let front = SocketAddr::from(([127, 0, 0, 1], front.parse().unwrap()));
    let set = ["service", "set", "news", "--host", "news.com", "--target"];
    let more = [target.as_str(), "--project", "myproject"];
    example.turnout.ok(&[&set[..], &more[..]].concat());
    for host in ["blog.com", "www.blog.com", "news.com"] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let mut connection = Connection::open(front, Duration::from_secs(10)).unwrap();
        let answer = connection.send(request.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{host}");
        assert_eq!(answer.header("x-routed-to"), None, "{host}");
        let url = format!("http://{target}");
        assert_eq!(
            answer.header("x-upstream-url"),
            Some(url.as_str()),
            "{host}"
        );
    }
    let listed = example
        .turnout
        .ok(&["service", "list", "-o", "json"])
        .json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
}

#[test]
fn quickstart_serves_switches_within_a_second_and_ends_with_ctrl_c() {
    let _turn = shared();
    let example = Example::new("quickstart.yaml");
    let mut daemon = example.serve();
    assert_eq!(example.routed(), Some(Color::Blue));
    assert!(
        example.ask().text().contains("1.0.0") || health(&example).contains("1.0.0"),
        "blue is not v1.0.0"
    );

    let begin = Instant::now();
    example.turnout.ok(&["switch", "green"]);
    assert_eq!(example.routed(), Some(Color::Green));
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "the switch took {:?}",
        begin.elapsed()
    );
    assert!(health(&example).contains("1.1.0"), "green is not v1.1.0");

    let workloads = children(daemon.process().pid());
    assert_eq!(workloads.len(), 2, "{workloads:?}");
    // ctrl-C reaches the whole foreground group; the daemon alone must do
    daemon.process().signal(Signal::SIGINT);
    let status = daemon.process().wait(Duration::from_mins(1));
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    for pid in workloads {
        wait_for("the end of the workloads", Duration::from_mins(1), || {
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
    }
}

fn health(example: &Example) -> String {
    get(example.listen(), "/health", &[]).unwrap().text()
}

fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|children| {
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn nginx_sidecar_serves_and_switches() {
    let _turn = shared();
    let example = Example::new("nginx-sidecar.yaml");
    let _daemon = example.serve();
    switch_moves_traffic(&example);
    assert!(example.ask().backend().is_some(), "no server answered");
}

#[test]
fn haproxy_sidecar_serves_and_switches() {
    let _turn = shared();
    let example = Example::new("haproxy-sidecar.yaml");
    let _daemon = example.serve();
    switch_moves_traffic(&example);
    assert!(example.ask().backend().is_some(), "no server answered");
}

#[test]
fn vm_daemon_serves_and_switches() {
    let _turn = shared();
    let example = Example::new("vm-daemon.yaml");
    let _daemon = example.serve();
    switch_moves_traffic(&example);
}

#[test]
fn canary_promotes_a_version_that_its_users_are_served_well_by() {
    let _turn = shared();
    let example = Example::new("canary.yaml");
    let daemon = example.serve();
    wait_for("both colors healthy", Duration::from_mins(1), || {
        let health = daemon.api().get("/health").json();
        (health["upstreams"]["green"]["healthy"] == true).then_some(())
    });
    example.turnout.ok(&["canary", "start", "v1.1.0"]);
    let over = wait_for("the end of the rollout", Duration::from_mins(2), || {
        for _ in 0..20 {
            example.ask();
        }
        let all = daemon.api().get("/deployments").json();
        let status = all[0]["status"].as_str()?.to_owned();
        let is_over = ["promoted", "rolled_back", "cancelled"].contains(&status.as_str());
        is_over.then_some(status)
    });
    assert_eq!(over, "promoted");
    assert_eq!(example.routed(), Some(Color::Green));
}

#[test]
fn one_shot_renders_reloads_and_switches() {
    let _turn = shared();
    let example = Example::new("one-shot.yaml");
    example.turnout.run(&["reload"]).exits(1).says("staged");
    // what the page promises literally: `turnout render && turnout reload`
    example.turnout.ok(&["render"]);
    example.turnout.ok(&["reload"]);
    switch_moves_traffic(&example);
    assert!(
        get(example.control, "/livez", &[]).is_err(),
        "a one-shot command left a daemon behind"
    );
}

#[test]
fn nginx_own_server_switches_inside_the_users_tls_server() {
    let _turn = shared();
    let example = Example::new("nginx-own-server.yaml");
    assert!(!example.servers.is_empty());
    // as a user does it: nothing can be included before the first apply has written it
    let ran = example.turnout.run(&["apply"]);
    ran.exits(0)
        .says("does not go through turnout yet")
        .says("nginx/snippets/shop.conf;");
    assert!(example.curl().contains("mine"), "{}", example.curl());
    for verb in ["verify", "status"] {
        let ran = example.turnout.run(&[verb]);
        assert!(
            ran.stdout.contains("not routed by turnout yet"),
            "{}",
            ran.stdout
        );
    }
    example
        .turnout
        .run(&["switch", "green"])
        .exits(3)
        .says("without X-Routed-To");

    let nginx = example.nginx.as_ref().unwrap();
    let main = std::fs::read_to_string(nginx.main()).unwrap();
    let snippet = example.folder.path().join("nginx/snippets/shop.conf");
    let include = format!("include {};", snippet.display());
    std::fs::write(nginx.main(), main.replace("return 200 mine;", &include)).unwrap();
    nginx.reload();
    let verified = example.turnout.ok(&["verify"]);
    assert!(verified.stdout.contains("is blue"), "{verified}");
    assert!(
        example.curl().contains("x-backend: blue"),
        "{}",
        example.curl()
    );
    example.turnout.ok(&["switch", "green"]);
    let answer = example.curl();
    assert!(answer.contains("x-backend: green"), "{answer}");
    assert!(answer.contains("x-routed-to: green"), "{answer}");
    example.turnout.ok(&["verify"]);
}

#[test]
fn replacing_addresses_leaves_everything_else_alone() {
    let text = "a: 10.0.1.10:8080 # 5s\nb: \"http://10.0.1.20:8080\"\nc: { trusted: [10.0.0.0/8], n: 10000, x: 1.1.0 }\n";
    let replaced = replace_ports(text);
    let port = replaced
        .lines()
        .next()
        .unwrap()
        .trim_start_matches("a: 127.0.0.1:")
        .trim_end_matches(" # 5s")
        .to_owned();
    assert_ne!(port, "8080");
    let expected = format!(
        "a: 127.0.0.1:{port} # 5s\nb: \"http://127.0.0.1:{port}\"\nc: {{ trusted: [10.0.0.0/8], n: 10000, x: 1.1.0 }}\n"
    );
    assert_eq!(replaced, expected);
}
