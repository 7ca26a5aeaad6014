//! The configuration through the library: what loads, what it becomes, and every message a person may meet.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "test files need not survive a crash, and texts here are short"
)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use turnout::config::{
    BalancerKind, Config, ConfigError, ControlListen, Env, Mode, NginxReload, Permission, Source,
    TokenSource, schema,
};
use turnout::domain::{Color, Position, Split, Strategy};

fn vars(list: &[(&str, &str)]) -> HashMap<String, String> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn load_with(folder: &Path, list: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let vars = vars(list);
    let env = Env::new(folder.to_owned(), |name| vars.get(name).cloned());
    Config::load(&Source::find(None, &env)?, &env)
}

fn load(text: impl AsRef<[u8]>) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("turnout.yaml"), text).unwrap();
    load_with(folder.path(), &[])
}

/// Just the `error:` lines with their `-->` lines.
fn messages(result: Result<Config, ConfigError>) -> Vec<String> {
    let text = match result {
        Ok(config) => return vec![format!("valid: {:?}", config.services.keys())],
        Err(error) => error.to_string(),
    };
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(message) = line.strip_prefix("error: ") {
            lines.push(message.to_owned());
        } else if let Some((_, place)) = line.split_once("--> ") {
            let last = lines.last_mut().unwrap();
            *last = format!("{place}: {last}");
        }
    }
    lines
}

const CONTRACT: &str = r#"version: 1
state: { dir: /var/lib/turnout }
balancer:
  kind: auto
  nginx:
    config: /etc/nginx/conf.d/turnout.conf     # the one file turnout owns, included by main
    main: /etc/nginx/nginx.conf
    binary: nginx
    pid: /run/nginx.pid
    template: null
    prove: 127.0.0.1:9181
    switching: reload
    snippets: /etc/nginx/turnout
    reload: signal
    resolver: null
  haproxy:
    config: /etc/haproxy/turnout.cfg
    files: [/etc/haproxy/haproxy.cfg, /etc/haproxy/turnout.cfg]
    maps: /etc/haproxy/turnout
    binary: haproxy
    socket: /run/haproxy/admin.sock
    master_socket: null
    pid: /run/haproxy.pid
    template: null
  fallback: false
control:
  listen: 127.0.0.1:9180
  hosts: []
  tokens: []
trusted_proxies: []
services:
  shop:
    hosts: [shop.example.com]
    listen: 0.0.0.0:8080
    public: null
    tls: null
    proxy_protocol: false
    blue:  { servers: ["http://10.0.1.10:8080", "http://10.0.1.11:8080"] }
    green: { servers: ["http://10.0.1.20:8080", "http://10.0.1.21:8080"] }
    strategy: blue_green
    active: blue
    weights: { blue: 100, green: 0 }
    sticky: { header: X-Session-Key, cookie: session_id, set_cookie: false }
    preview: { header: X-Turnout-Color }
    on_unhealthy: failover
    health:
      path: /health
      interval: 5s
      timeout: 2s
      unhealthy_after: 3
      healthy_after: 1
      expect: { status: 200-299, json: { status: healthy, database_connected: true } }
    timeouts: { connect: 5s, response: 30s, drain: 30s, head: 10s, idle: 75s }
    limits: { head: 32KiB, headers: 100, body: none, connections: 10000, hold: 30s, rate: none }
    access_log: off
    metrics: true
    router_endpoints: true
    workload:
      command: [/srv/shop/bin/shop, --port, "{port}"]
      dir: /srv/shop/{color}
      env: { DATABASE_URL: "postgres://…" }
      ports: { blue: 5001, green: 5002 }
      stop_grace: 20s
    smoke:
      - { name: home, get: /, expect: { status: 200, text: Hello }, timeout: 10s }
      - { name: order, post: /orders, body: '{"sku":1}', headers: { Content-Type: application/json }, expect: { status: 201, json: { state: new } } }
    hooks: { before_switch: [/usr/local/bin/warm], after_switch: [], failed: [] }
    notify: [{ url: "https://hooks.example.com/x", events: [switched, rolled_back, failed] }]
    keep_old: 1h
    bake: 5m
    canary:
      source: traffic
      judge: thresholds
      strategy: { initial_weight: 5, step_weight: 10, interval_sec: 60, max_steps: 5 }
      policy: { max_error_rate: 0.01, max_latency_p95_ms: 300, min_availability: 0.995, max_cpu_utilization: 0.8,
                min_requests: 100, min_samples: 3, sample_window_sec: 300, max_consecutive_failures: 2 }
    migrations: { dir: migrations, database: "sqlite:shop.db" }
  blog:
    hosts: [blog.com]
    listen: 0.0.0.0:8080
    project: myproject
    target: blog:3000
    health: { path: /up, interval: 30s }
include: [services.d/*.yaml]
"#;

#[test]
fn the_whole_documented_configuration_loads_with_its_values() {
    let config = load(CONTRACT).unwrap();
    assert_eq!(config.state_dir, Path::new("/var/lib/turnout"));
    assert_eq!(config.balancer.kind, BalancerKind::Auto);
    assert_eq!(config.balancer.nginx.reload, NginxReload::Signal);
    assert_eq!(config.balancer.haproxy.files.len(), 2);
    assert_eq!((config.services.len(), config.aliases.len()), (1, 1));
    let blog = config.aliases.values().next().unwrap();
    assert_eq!(blog.target.authority(), "blog:3000");
    assert_eq!(blog.shape.health.path, "/up");
    assert_eq!(blog.shape.project.as_deref(), Some("myproject"));
    let shop = config.services.values().next().unwrap();
    assert_eq!(
        shop.shape.servers(Color::Green)[1].to_string(),
        "http://10.0.1.21:8080"
    );
    assert_eq!(shop.shape.health.expect.json["database_connected"], true);
    assert_eq!(shop.shape.limits.head, 32 << 10);
    assert_eq!(shop.shape.preview.as_deref(), Some("X-Turnout-Color"));
    let workload = shop.workload.as_ref().unwrap();
    assert_eq!(workload.dir.as_deref(), Some("/srv/shop/{color}"));
    assert_eq!((workload.ports.blue, workload.ports.green), (5001, 5002));
    let keys: Vec<&str> = config
        .not_in_force
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "services.shop.smoke",
            "services.shop.hooks",
            "services.shop.notify",
            "services.shop.keep_old",
            "services.shop.bake",
            "services.shop.migrations",
            // with `source: traffic`, which has no word of the CPU
            "services.shop.canary.policy.max_cpu_utilization",
        ]
    );
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let short = load(
        r#"
services:
  shop:
    hosts: [shop.example.com]
    listen: 0.0.0.0:8080
    preview: { header: X-Turnout-Color }
    blue:  { servers: ["http://10.0.1.10:8080", "http://10.0.1.11:8080"] }
    green: { servers: ["http://10.0.1.20:8080", "http://10.0.1.21:8080"] }
    health: { expect: { json: { status: healthy, database_connected: true } } }
"#,
    )
    .unwrap();
    let long = load(CONTRACT).unwrap();
    assert_eq!(short.state_dir, long.state_dir);
    assert_eq!(short.control, long.control);
    assert_eq!(short.balancer.nginx, long.balancer.nginx);
    let (short, long) = (
        short.services.values().next().unwrap(),
        long.services.values().next().unwrap(),
    );
    assert_eq!(short.shape, long.shape);
    assert_eq!(short.initial, long.initial);
}

#[test]
fn all_problems_of_a_file_come_at_once_with_their_lines() {
    let error = load(
        r#"services:
  shop:
    lisetn: 0.0.0.0:8080
    blue:
        severs: ["http://10.0.1.10:8080"]
    green: { servers: ["http://10.0.1.20:70000"] }
    health: { intervall: 5s }
"#,
    )
    .unwrap_err();
    insta::assert_snapshot!(error, @r#"
    error: unknown field `lisetn` in services.shop, did you mean `listen`?
     --> turnout.yaml:3:5
      |
    3 |     lisetn: 0.0.0.0:8080
      |     ^^^^^^ expected `listen`

    error: unknown field `severs` in services.shop.blue, did you mean `servers`?
     --> turnout.yaml:5:9
      |
    5 |         severs: ["http://10.0.1.10:8080"]
      |         ^^^^^^ expected `servers`

    error: services.shop.green.servers[0]: `http://10.0.1.20:70000` is not a server: the port is from 1 to 65535
     --> turnout.yaml:6:24
      |
    6 |     green: { servers: ["http://10.0.1.20:70000"] }
      |                        ^^^^^^^^^^^^^^^^^^^^^^^^

    error: unknown field `intervall` in services.shop.health, did you mean `interval`?
     --> turnout.yaml:7:15
      |
    7 |     health: { intervall: 5s }
      |               ^^^^^^^^^ expected `interval`

    the configuration has 4 problems; nothing was changed
    "#);
}

/// A file with one good service and what is under test put into it.
fn shop(extra: &str) -> String {
    format!(
        "services:\n  shop:\n    listen: 127.0.0.1:8080\n    blue: {{ servers: [\"http://127.0.0.1:1\"] }}\n    green: {{ servers: [\"http://127.0.0.1:2\"] }}\n{extra}"
    )
}

#[test]
fn every_bad_value_has_its_own_message() {
    let mut wrong = Vec::new();
    for (extra, wanted) in [
        (
            "    hosts: shop.example.com\n",
            "turnout.yaml:6:12: services.shop.hosts is a list, not `shop.example.com`",
        ),
        (
            "    hosts: [\"a;b\"]\n",
            "turnout.yaml:6:13: services.shop.hosts[0]: `a;b` is not a host: it is a DNS name such as shop.example.com or *.example.com, without scheme, port or path",
        ),
        (
            "    metrics: yes\n",
            "turnout.yaml:6:14: services.shop.metrics is true or false, not `yes`",
        ),
        (
            "    strategy: canarry\n",
            "turnout.yaml:6:15: services.shop.strategy: unknown value `canarry`, did you mean `canary`?",
        ),
        (
            "    strategy: random\n",
            "turnout.yaml:6:15: services.shop.strategy is one of `blue_green`, `canary`, not `random`",
        ),
        (
            "    weights: { blue: 80, green: 30 }\n",
            "turnout.yaml:6:5: services.shop.weights: blue 80 and green 30 add up to 110, not 100",
        ),
        (
            "    weights: { blue: 110, green: -10 }\n",
            "turnout.yaml:6:5: services.shop.weights: a weight is a number from 0 to 100, not 110",
        ),
        (
            "    weights: { blue: .nan, green: 0 }\n",
            "turnout.yaml:6:22: services.shop.weights.blue is a number, not `.nan`",
        ),
        (
            "    weights: { blue: 100 }\n",
            "turnout.yaml:6:5: services.shop.weights needs a `green`",
        ),
        (
            "    sticky: no\n",
            "turnout.yaml:6:13: services.shop.sticky is true or false, or a map, not `no`",
        ),
        (
            "    sticky: { haeder: X }\n",
            "turnout.yaml:6:15: unknown field `haeder` in services.shop.sticky, did you mean `header`?",
        ),
        (
            "    sticky: { header: \"X Y\" }\n",
            "turnout.yaml:6:23: services.shop.sticky.header: `X Y` is not a header name: it has letters, digits, `-` and `_` only",
        ),
        (
            "    health: { path: health }\n",
            "turnout.yaml:6:21: services.shop.health.path: `health` is not a path: it starts with `/`",
        ),
        (
            "    health: { path: \"/a;}\" }\n",
            "turnout.yaml:6:21: services.shop.health.path: `/a;}` has a character that a path may not have here, at its byte 3: write it as %XX",
        ),
        (
            "    health: { interval: 0s }\n",
            "turnout.yaml:6:25: services.shop.health.interval: `0s` is zero, which makes no sense here",
        ),
        (
            "    health: { timeout: -1s }\n",
            "turnout.yaml:6:24: services.shop.health.timeout: `-1s` is negative",
        ),
        (
            "    health: { interval: 5 }\n",
            "turnout.yaml:6:25: services.shop.health.interval: `5` has no unit: write 5s or 5ms",
        ),
        (
            "    health: { unhealthy_after: 0 }\n",
            "turnout.yaml:6:32: services.shop.health.unhealthy_after: `0` is out of range, it is from 1 to 1000",
        ),
        (
            "    health: { expect: { status: 2xx } }\n",
            "turnout.yaml:6:33: services.shop.health.expect.status: `2xx` is not a status or a range of them: write 200 or 200-299",
        ),
        (
            "    limits: { head: 32XB }\n",
            "turnout.yaml:6:21: services.shop.limits.head: `32XB` is not a size: write 512, 32KiB or 10MB",
        ),
        (
            "    public: shop.example.com\n",
            "turnout.yaml:6:13: services.shop.public: `shop.example.com` is not a URL such as https://shop.example.com/",
        ),
        (
            "    target: blog:3000\n",
            "turnout.yaml:4:5: services.shop has a `target` and a `blue`: it is one or the other",
        ),
        (
            "    workload: { command: [] }\n",
            "turnout.yaml:6:17: services.shop.workload.command is a command: a list that begins with a program",
        ),
        (
            "    workload: { command: [x, \"{colour}\"] }\n",
            "turnout.yaml:6:30: services.shop.workload.command[1]: unknown placeholder `{colour}`, did you mean `{color}`?",
        ),
        (
            "    workload: { command: [x], systemd: y }\n",
            "turnout.yaml:6:5: services.shop.workload takes exactly one of `command`, `systemd` and `exec`, and has several of them",
        ),
        (
            "    workload: { command: [x], ports: { blue: 0, green: 70000 } }\n",
            "turnout.yaml:6:46: services.shop.workload.ports.blue: `0` is out of range, it is from 1 to 65535",
        ),
        (
            "    smoke: [{ name: x }]\n",
            "turnout.yaml:6:13: services.shop.smoke[0] takes exactly one method with its path, such as `get: /`, and has 0",
        ),
        (
            "    migrations: { dir: m, database: \"mysql://root:secret@h/d\" }\n",
            "turnout.yaml:6:37: services.shop.migrations.database: a database is sqlite:PATH or postgres://USER@HOST/NAME",
        ),
        (
            "    project: \"a\\nb\"\n",
            "turnout.yaml:6:14: services.shop.project: `a\\nb` is not a label: up to 63 letters, digits, spaces and `._-/`",
        ),
        (
            "  blue:\n    listen: 127.0.0.1:81\n",
            "turnout.yaml:6:3: services: `blue` is not a service name: blue, green and all mean something else on the command line",
        ),
        (
            "  other: { listen: 127.0.0.1:81, blue: { servers: [] } }\n",
            "turnout.yaml:6:34: services.other.blue has no servers: list at least one, as http://HOST:PORT",
        ),
        (
            "  empty:\n",
            "turnout.yaml:6:3: services.empty needs `blue` and `green` (or a `target`), and has no `blue`",
        ),
        ("  shop: {}\n", "turnout.yaml:6:3: duplicate key `shop`"),
        (
            "state: [x]\n",
            "turnout.yaml:6:1: state is a map, not a list",
        ),
        (
            "state: { dir: \"/var/${NOPE}\" }\n",
            "turnout.yaml:6:15: the variable `NOPE` is not set: set it, or write `${NOPE:-default}`",
        ),
        (
            "state: { follow: { file: x.json, field: a, service: shpo } }\n",
            "turnout.yaml:6:53: state.follow.service: there is no service `shpo` with a blue and a green, did you mean `shop`?",
        ),
        (
            "version: 2\n",
            "turnout.yaml:6:10: version: `2` is out of range, it is from 1 to 1",
        ),
        (
            "balancer: { kind: ngnix }\n",
            "turnout.yaml:6:19: balancer.kind: unknown value `ngnix`, did you mean `nginx`?",
        ),
        (
            "balancer: { kind: haproxy, haproxy: { config: /etc/haproxy/t.cfg, files: [/etc/haproxy/haproxy.cfg] } }\n",
            "turnout.yaml:6:67: HAProxy would not read turnout's own file: /etc/haproxy/t.cfg is not among the files",
        ),
        (
            "balancer: { kind: exec }\n",
            "turnout.yaml:6:1: balancer.kind is exec, so balancer.exec must give the commands `set` and `get`",
        ),
        (
            "balancer: { nginx: { reload: hup } }\n",
            "turnout.yaml:6:30: balancer.nginx.reload is `signal`, or a list, not `hup`",
        ),
        (
            "balancer: { nginx: { reload: [] } }\n",
            "turnout.yaml:6:22: balancer.nginx.reload is a command: a list that begins with a program",
        ),
        (
            "balancer: { nginx: { config: \"a;b\" } }\n",
            "turnout.yaml:6:30: balancer.nginx.config: `a;b` holds ';', which a path may not have here",
        ),
        (
            "control: { listen: /run/x.sock }\n",
            "turnout.yaml:6:20: control.listen: `/run/x.sock` looks like a socket: write unix:/run/x.sock",
        ),
        (
            "control: { listen: 127.0.0.1:8080 }\n",
            "turnout.yaml:3:13: services.shop.listen: 127.0.0.1:8080 is the address of the control API already",
        ),
        (
            "control: { tokens: [{ name: ci, may: [read] }] }\n",
            "turnout.yaml:6:21: control.tokens[0] has no secret: give `file`, `env`, `credential` or `sha256`",
        ),
        (
            "control: { tokens: [{ name: ci, file: t, may: [admin] }] }\n",
            "turnout.yaml:6:48: control.tokens[0].may[0] is one of `read`, `write`, not `admin`",
        ),
        (
            "control: { tokens: [{ name: env, file: t, may: [read] }] }\n",
            "turnout.yaml:6:29: control.tokens[0].name: `env` is the name of the token that ORCH_TOKEN makes",
        ),
        (
            "control: { tokens: [{ name: a, sha256: abc, may: [read] }] }\n",
            "turnout.yaml:6:40: control.tokens[0].sha256: a SHA-256 is 64 hexadecimal digits (printf %s SECRET | sha256sum)",
        ),
        (
            "trusted_proxies: [10.0.0.0/99]\n",
            "turnout.yaml:6:19: trusted_proxies[0]: `10.0.0.0/99` is not a network such as 10.0.0.0/8 or fd00::/8",
        ),
        (
            "include: [gone.yaml]\n",
            "turnout.yaml:6:11: include[0]: there is no file FOLDER/gone.yaml",
        ),
        (
            "nonsense: 1\n",
            "turnout.yaml:6:1: unknown field `nonsense` at the top",
        ),
        (
            "state: !x 1\n",
            "turnout.yaml:6:11: YAML tags (`!…`) mean nothing here",
        ),
        ("state: {\n", "turnout.yaml:6:8: YAML: unclosed bracket '{'"),
        (
            "---\nstate: {}\n",
            "turnout.yaml:7:1: a configuration is one YAML document, and here a second one begins",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("turnout.yaml"), shop(extra)).unwrap();
        let here = folder.path().display().to_string();
        let found: Vec<String> = messages(load_with(folder.path(), &[]))
            .into_iter()
            .map(|message| message.replace(&here, "FOLDER"))
            .collect();
        if !found.iter().any(|message| message == wanted) {
            wrong.push(format!("{extra}\nwanted {wanted}\nfound  {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_between_services_name_both_sides() {
    let two = |first: &str, second: &str| {
        format!(
            "services:\n  one:\n    {first}\n    blue: {{ servers: [\"http://127.0.0.1:1\"] }}\n    green: {{ servers: [\"http://127.0.0.1:2\"] }}\n  two:\n    {second}\n    blue: {{ servers: [\"http://127.0.0.1:3\"] }}\n    green: {{ servers: [\"http://127.0.0.1:4\"] }}\n"
        )
    };
    let one_listener = "listen: 0.0.0.0:80";
    for (text, wanted) in [
        (
            two(one_listener, one_listener),
            vec![
                "turnout.yaml:6:3: `one` and `two` both take any host on 0.0.0.0:80: give one of them `hosts`",
            ],
        ),
        (
            two("{ listen: 0.0.0.0:80, hosts: [A.com] }", "")
                .replace("    {", "    <<: {")
                .replace("    \n", "    listen: 0.0.0.0:80\n    hosts: [a.com]\n"),
            vec![
                "turnout.yaml:8:13: the host a.com is claimed by `one` and by `two` on 0.0.0.0:80",
            ],
        ),
        (
            two("listen: 0.0.0.0:80", "listen: 0.0.0.0:81")
                .replace("two:", "o-ne:")
                .replace("one:", "o_ne:"),
            vec!["turnout.yaml:2:3: the services `o-ne` and `o_ne` differ only in `-` and `_`"],
        ),
        (
            two("public: http://shop.test/", "public: http://shop.test/"),
            vec![
                "turnout.yaml:7:13: `one` has the same `public`, and a proof could not tell who answers: give each a URL of its own, or an address as `public` and different `hosts`",
            ],
        ),
        (
            // asked at one address, each by its host
            two("{ public: http://127.0.0.1/, hosts: [a.test] }", "")
                .replace("    {", "    <<: {")
                .replace(
                    "    \n",
                    "    public: http://127.0.0.1/\n    hosts: [b.test]\n",
                ),
            vec![],
        ),
        (
            two("listen: 0.0.0.0:80", "listen: 0.0.0.0:3"),
            vec![
                "turnout.yaml:8:23: services.two: http://127.0.0.1:3 is the listener of `two`, so requests would go round in a circle",
            ],
        ),
        (
            two("listen: 0.0.0.0:80", "listen: 0.0.0.0:81").replace(":4", ":3"),
            vec!["turnout.yaml:9:24: services.two: http://127.0.0.1:3 is a server of both colors"],
        ),
        (
            two("listen: 0.0.0.0:80", "listen: 0.0.0.0:81").replace("127.0.0.1:4", "127.0.0.1:80"),
            vec![
                "turnout.yaml:9:24: services.two: http://127.0.0.1:80 is the listener of `one`, so requests would go round in a circle",
            ],
        ),
        (
            two("listen: 127.0.0.1:9181", "listen: 0.0.0.0:9180"),
            vec![
                "turnout.yaml:3:13: services.one.listen: 127.0.0.1:9181 is balancer.nginx.prove already",
                "turnout.yaml:7:13: services.two.listen: 0.0.0.0:9180 is the address of the control API already",
            ],
        ),
        (
            format!(
                "{}state: {{ follow: {{ file: a, field: b }} }}\n",
                two("listen: 0.0.0.0:80", "listen: 0.0.0.0:81")
            ),
            vec!["turnout.yaml:10:10: state.follow must name its `service`, as there are several"],
        ),
        (
            "balancer: { kind: embedded }\n".to_owned() + &two("project: x", "listen: 0.0.0.0:81"),
            vec![
                "turnout.yaml:3:3: services.one needs a `listen` such as 0.0.0.0:8080, as the balancer is the embedded proxy",
            ],
        ),
        (
            two(
                "listen: 0.0.0.0:80\n    hosts: [a.com]\n    tls: { cert: a, key: b }",
                "listen: 0.0.0.0:80\n    hosts: [b.com]\n    proxy_protocol: true",
            ),
            vec![
                "turnout.yaml:8:3: services.two: `tls` must be the same for all services on 0.0.0.0:80: this one has none, `one` differs",
                "turnout.yaml:11:21: services.two: `proxy_protocol` must be the same for all services on 0.0.0.0:80: this one has it, `one` differs",
            ],
        ),
        (
            "version: 1\n".to_owned(),
            vec![
                "turnout.yaml:1:1: there is no service: add one under `services`, or a file with one to `include`",
            ],
        ),
        (
            "just text\n".to_owned(),
            vec!["turnout.yaml:1:1: a configuration is a map of keys, and this is none"],
        ),
    ] {
        let found = messages(load(&text));
        let found: Vec<&str> = found
            .iter()
            .map(String::as_str)
            .take(wanted.len())
            .collect();
        assert_eq!(found, wanted, "{text}");
    }
}

#[test]
fn services_may_share_a_listener_and_variables_make_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let text = "\u{feff}".to_owned()
        + &shop("    hosts: [a.com]\n    workload: { command: [x], ports: { blue: \"${BLUE}\", green: \"${NO:-7}\" } }\n  blog:\n    hosts: [b.com]\n    listen: 127.0.0.1:8080\n    blue: { servers: [\"http://h:1\"] }\n    green: { servers: [\"http://h:2\"] }\n")
            .replace('\n', "\r\n");
    fs::write(folder.path().join("turnout.yaml"), text).unwrap();
    let config = load_with(folder.path(), &[("BLUE", "6")]).unwrap();
    assert_eq!(config.services.len(), 2);
    let ports = config
        .services
        .values()
        .find_map(|service| Some(service.workload.as_ref()?.ports))
        .unwrap();
    assert_eq!((ports.blue, ports.green), (6, 7));
}

#[test]
fn a_value_of_a_variable_never_becomes_yaml() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("turnout.yaml"),
        shop("    project: ${EVIL}\n"),
    )
    .unwrap();
    let found = messages(load_with(
        folder.path(),
        &[("EVIL", "x\n    preview: { header: X-Evil }")],
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("is not a label"), "{found:?}");
}

#[test]
fn keys_with_two_forms_take_both() {
    let config = load(
        shop("    sticky: false\n    access_log: /var/log/shop.json\n    health: { expect: { status: 204 } }\n    limits: { body: 10MiB, rate: 5 }\n    workload: { systemd: \"shop@{color}.service\" }\n    canary: { source: { prometheus: { url: \"http://p:9090\", queries: { requests: \"a{{color}}\", errors: \"b{{color}}\" } } } }\n")
            + "balancer:\n  kind: nginx\n  nginx: { reload: [docker, kill, -s, HUP, web], switching: instant }\n  fallback: { start: [systemctl, start, nginx] }\ncontrol:\n  tokens: [{ name: ci, file: ci.token, may: [read] }]\n",
    )
    .unwrap();
    let shop = &config.services.values().next().unwrap().shape;
    assert_eq!(shop.sticky, None);
    assert_eq!(
        (
            shop.health.expect.status.low,
            shop.health.expect.status.high
        ),
        (204, 204)
    );
    assert_eq!(
        (shop.limits.body, shop.limits.rate[0].requests),
        (Some(10 << 20), 5)
    );
    assert_eq!(
        config.balancer.nginx.reload,
        NginxReload::Command(
            ["docker", "kill", "-s", "HUP", "web"]
                .map(str::to_owned)
                .into()
        )
    );
    assert_eq!(
        config.balancer.fallback,
        Some(["systemctl", "start", "nginx"].map(str::to_owned).into())
    );
    assert_eq!(config.control.tokens[0].may, [Permission::Read].into());
    let keys: Vec<&str> = config
        .not_in_force
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "services.shop.limits.rate",
            "services.shop.access_log",
            "services.shop.workload.systemd",
        ]
    );
}

#[test]
fn anchors_and_merge_keys_work() {
    let config = load(
        "services:\n  a: &defaults\n    listen: 127.0.0.1:81\n    health: { interval: 9s }\n    blue: { servers: [\"http://h:1\"] }\n    green: { servers: [\"http://h:2\"] }\n  b:\n    <<: *defaults\n    listen: 127.0.0.1:82\n",
    )
    .unwrap();
    for (service, port) in config.services.values().zip([81, 82]) {
        assert_eq!(service.shape.health.interval, Duration::from_secs(9));
        assert_eq!(service.shape.listen.unwrap().port(), port);
    }
}

#[test]
fn huge_deep_and_exploding_files_are_refused_within_a_second() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let inner = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![inner; 10].join(", "));
    }
    for (bytes, wanted) in [
        (vec![b'#'; 10 << 20], "a configuration has at most 4194304"),
        (vec![b'['; 100_000], "YAML: "),
        (
            (0..200)
                .map(|depth| format!("{}a:\n", " ".repeat(depth)))
                .collect::<String>()
                .into_bytes(),
            "YAML: ",
        ),
        (bomb.into_bytes(), "more than 400000 values"),
        (
            b"services: { sh\xffop: {} }\n".to_vec(),
            "is not UTF-8 from here on",
        ),
        (
            b"a: &a [*a]\n".to_vec(),
            "this alias stands inside what it names",
        ),
        (b"state: { dir: \"a\0b\" }\n".to_vec(), ""),
        (b"? [a]\n: b\n".to_vec(), "a key is a plain word"),
    ] {
        let start = Instant::now();
        let error = load(&bytes).unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(start.elapsed() < Duration::from_secs(20), "{wanted}");
    }
}

#[test]
fn fragments_add_services_and_a_service_has_one_home() {
    let folder = tempfile::tempdir().unwrap();
    let fragments = folder.path().join("services.d");
    fs::create_dir(&fragments).unwrap();
    fs::write(
        folder.path().join("turnout.yaml"),
        shop("include: [services.d/*.yaml, none.d/*.yaml]\n"),
    )
    .unwrap();
    let blog = "services:\n  blog:\n    listen: 127.0.0.1:8081\n    blue: { servers: [\"http://h:1\"] }\n    green: { servers: [\"http://h:2\"] }\n    workload: { command: [x], dir: run }\n";
    fs::write(fragments.join("blog.yaml"), blog).unwrap();
    let config = load_with(folder.path(), &[]).unwrap();
    assert_eq!(
        config.files,
        [
            folder.path().join("turnout.yaml"),
            fragments.join("blog.yaml")
        ]
    );
    assert_eq!(
        config.include,
        [
            fragments.join("*.yaml"),
            folder.path().join("none.d/*.yaml")
        ]
    );
    let blog_config = config.services.values().next().unwrap();
    assert_eq!(
        blog_config.workload.as_ref().unwrap().dir.as_deref(),
        Some(fragments.join("run").to_str().unwrap())
    );

    fs::write(fragments.join("x.yaml"), shop("balancer: {}\n")).unwrap();
    assert_eq!(
        messages(load_with(folder.path(), &[])),
        [
            "services.d/x.yaml:2:3: the service `shop` is defined twice, first in turnout.yaml:2",
            "services.d/x.yaml:6:1: unknown field `balancer` at the top",
        ]
    );
    fs::write(fragments.join("x.yaml"), [0xff]).unwrap();
    assert_eq!(
        messages(load_with(folder.path(), &[])),
        ["services.d/x.yaml:1:1: services.d/x.yaml is not UTF-8 from here on"]
    );
}

#[test]
fn the_search_goes_in_order_and_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let find = |explicit: Option<&str>, list: &[(&str, &str)]| {
        let vars = vars(list);
        let env = Env::new(folder.path().to_owned(), |name| vars.get(name).cloned());
        Source::find(explicit.map(Path::new), &env)
    };
    let file = |name: &str| Source::File {
        path: folder.path().join(name),
        shown: name.into(),
    };
    assert_eq!(
        find(None, &[]).unwrap_err().to_string(),
        "no configuration: looked for turnout.yaml, /etc/turnout/turnout.yaml, and neither BLUE_URL nor GREEN_URL is set. Name one with --config, or let `turnout init` write a first one"
    );
    assert_eq!(
        find(None, &[("GREEN_URL", "http://h:1")]).unwrap(),
        Source::environment(None, None)
    );
    fs::write(folder.path().join("turnout.yaml"), "").unwrap();
    assert_eq!(
        find(None, &[("BLUE_URL", "x")]).unwrap(),
        file("turnout.yaml")
    );
    assert_eq!(
        find(None, &[("TURNOUT_CONFIG", "a.yaml")]).unwrap(),
        file("a.yaml")
    );
    assert_eq!(
        find(Some("b.yaml"), &[("TURNOUT_CONFIG", "a.yaml")]).unwrap(),
        file("b.yaml")
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let env = Env::new(folder.path().to_owned(), |_| None);
    for (name, wanted) in [
        ("gone.yaml", "failed to read the configuration gone.yaml"),
        (".", "failed to read the configuration ."),
    ] {
        let error = Config::load(&Source::file(Path::new(name), &env), &env).unwrap_err();
        assert_eq!(error.to_string(), wanted);
        assert!(std::error::Error::source(&error).is_some());
    }
}

fn environment(list: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let vars = vars(list);
    let env = Env::new("/srv".into(), |name| vars.get(name).cloned());
    Config::load(&Source::environment(None, None), &env)
}

#[test]
fn the_environment_alone_makes_one_service_with_the_documented_defaults() {
    let config = environment(&[]).unwrap();
    assert_eq!(config.mode, Mode::Environment);
    assert_eq!(config.state_dir, Path::new("/srv/.turnout"));
    assert_eq!(config.balancer.kind, BalancerKind::Embedded);
    assert_eq!(config.control.listen, ControlListen::Router);
    assert!(config.control.tokens.is_empty() && config.not_in_force.is_empty());
    let (name, app) = config.services.first_key_value().unwrap();
    assert_eq!(name.as_str(), "app");
    assert_eq!(app.shape.listen, Some("0.0.0.0:8080".parse().unwrap()));
    assert_eq!(
        app.shape.servers(Color::Blue)[0].to_string(),
        "http://127.0.0.1:5001"
    );
    assert_eq!(
        app.shape.servers(Color::Green)[0].to_string(),
        "http://127.0.0.1:5002"
    );
    assert_eq!(app.shape.health.path, "/health");
    assert_eq!(app.shape.timeouts.response, Duration::from_secs(10));
    assert_eq!(app.shape.sticky.as_ref().unwrap().cookie, "session_id");
    assert_eq!(app.initial, Position::all(Strategy::BlueGreen, Color::Blue));
}

#[test]
fn each_variable_has_its_effect() {
    let config = environment(&[
        ("BLUE_URL", "http://10.0.0.1:80"),
        ("GREEN_URL", "http://10.0.0.2:80"),
        ("ROUTER_HOST", "127.0.0.1"),
        ("ROUTER_PORT", "9999"),
        ("DEFAULT_STRATEGY", "canary"),
        ("DEFAULT_ACTIVE", "blue"),
        ("DEFAULT_BLUE_WEIGHT", "75"),
        ("DEFAULT_GREEN_WEIGHT", "25"),
        ("ORCH_TOKEN", "s3cret"),
        ("STICKY_SESSIONS", "False"),
        ("UPSTREAM_HEALTH_PATH", "/up"),
        ("PROXY_TIMEOUT", "2.5"),
        ("TURNOUT_STATE_DIR", "/tmp/state"),
        ("TURNOUT_CONTROL", "unix:/run/t.sock"),
    ])
    .unwrap();
    let app = config.services.values().next().unwrap();
    assert_eq!(app.shape.listen, Some("127.0.0.1:9999".parse().unwrap()));
    assert_eq!(
        app.initial,
        Position::canary(Color::Blue, Split::from_percents(75.0, 25.0).unwrap())
    );
    assert_eq!(app.shape.sticky, None);
    assert_eq!(app.shape.health.path, "/up");
    assert_eq!(app.shape.timeouts.response, Duration::from_millis(2500));
    assert_eq!(config.state_dir, Path::new("/tmp/state"));
    assert_eq!(
        config.control.listen,
        ControlListen::Unix("/run/t.sock".into())
    );
    let token = &config.control.tokens[0];
    assert_eq!(token.name, "env");
    assert_eq!(token.may, [Permission::Read, Permission::Write].into());
    let TokenSource::Sha256(digest) = token.source else {
        panic!("{token:?}")
    };
    assert_eq!(digest[..4], [0x1e, 0xc1, 0xc2, 0x6b]);
}

#[test]
fn bad_variables_are_all_named() {
    assert_eq!(
        messages(environment(&[
            ("BLUE_URL", "https://a"),
            ("ROUTER_HOST", "example.com"),
            ("ROUTER_PORT", "0"),
            ("DEFAULT_STRATEGY", "blue-green"),
            ("DEFAULT_ACTIVE", "red"),
            ("DEFAULT_BLUE_WEIGHT", "NaN"),
            ("ORCH_TOKEN", ""),
            ("STICKY_SESSIONS", "maybe"),
            ("UPSTREAM_HEALTH_PATH", "health"),
            ("PROXY_TIMEOUT", "-1"),
            ("TURNOUT_CONTROL", "9180"),
        ])),
        [
            "BLUE_URL: `https://a` is not a server: turnout speaks HTTP/1.1 in clear text to servers; write http://HOST:PORT",
            "ROUTER_HOST: `example.com` is not an IP address such as 0.0.0.0 or 127.0.0.1",
            "ROUTER_PORT: `0` is not a port from 1 to 65535",
            "STICKY_SESSIONS: `maybe` is neither true nor false",
            "UPSTREAM_HEALTH_PATH: `health` is not a path: it starts with `/`",
            "PROXY_TIMEOUT: `-1` is not a number of seconds, more than 0 and up to 86400",
            "DEFAULT_STRATEGY: `blue-green` is not a strategy: it is blue_green or canary",
            "DEFAULT_ACTIVE: unknown color `red`: it is blue or green",
            "DEFAULT_BLUE_WEIGHT: `NaN` is not a number from 0 to 100",
            "TURNOUT_CONTROL: `9180` has no address: write 0.0.0.0:9180 for every one, or 127.0.0.1:9180 for this host alone",
            "ORCH_TOKEN is set but empty: give it a secret, or unset it",
        ]
    );
    for (list, wanted) in [
        (
            &[("BLUE_URL", "http://h:1"), ("GREEN_URL", "http://h:1")][..],
            "BLUE_URL and GREEN_URL name the same server: the two colors are two servers",
        ),
        (
            &[("DEFAULT_BLUE_WEIGHT", "80")],
            "DEFAULT_BLUE_WEIGHT and DEFAULT_GREEN_WEIGHT: blue 80 and green 0 add up to 80, not 100",
        ),
        (
            &[("ROUTER_PORT", "5001")],
            "BLUE_URL: this is the router itself (0.0.0.0:5001), so requests would go round in a circle",
        ),
    ] {
        assert_eq!(messages(environment(list)), [wanted]);
    }
}

#[test]
fn the_command_lines_urls_come_before_the_environments() {
    let vars = vars(&[("BLUE_URL", "http://h:1"), ("GREEN_URL", "http://h:2")]);
    let env = Env::new("/srv".into(), |name| vars.get(name).cloned());
    let source = Source::environment(None, Some("http://other:3".into()));
    let config = Config::load(&source, &env).unwrap();
    let shape = &config.services.values().next().unwrap().shape;
    assert_eq!(shape.servers(Color::Blue)[0].to_string(), "http://h:1");
    assert_eq!(shape.servers(Color::Green)[0].to_string(), "http://other:3");
}

fn as_json(yaml: &str) -> Json {
    serde_json::to_value(serde_yaml::from_str::<serde_yaml::Value>(yaml).unwrap()).unwrap()
}

#[test]
fn every_example_loads_and_fits_the_schema() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "yaml") {
            continue;
        }
        let json = as_json(&fs::read_to_string(&path).unwrap());
        let errors: Vec<String> = validator
            .iter_errors(&json)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        let env = Env::new(folder.clone(), |_| None);
        let config = Config::load(&Source::file(&path, &env), &env).unwrap();
        assert_eq!(config.not_in_force, [], "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
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
            "vm-daemon.yaml"
        ]
    );
}

#[test]
fn the_schema_takes_the_documented_file_and_refuses_what_is_unknown() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    assert!(validator.is_valid(&as_json(CONTRACT)));
    for (text, fits) in [
        ("services: { shop: { sticky: false } }", true),
        ("services: { shop: { sticky: \"${STICKY}\" } }", true),
        (
            "services: { shop: { workload: { ports: { blue: \"${P}\", green: 2 } } } }",
            true,
        ),
        (
            "services: { shop: { workload: { ports: { blue: 70000, green: 2 } } } }",
            false,
        ),
        ("services: { shop: { stikcy: false } }", false),
        ("services: { shop: { strategy: random } }", false),
        ("version: 2", false),
    ] {
        assert_eq!(validator.is_valid(&as_json(text)), fits, "{text}");
    }
}

#[test]
fn two_thousand_services_load_in_seconds_even_unoptimized() {
    let mut text = String::from("services:\n");
    for number in 0..2_000 {
        text += &format!(
            "  service-{number}:\n    hosts: [s{number}.example.com]\n    listen: 0.0.0.0:8080\n    blue: {{ servers: [\"http://10.0.0.1:{p}\"] }}\n    green: {{ servers: [\"http://10.0.0.2:{p}\"] }}\n    health: {{ path: /health, interval: 5s }}\n    timeouts: {{ connect: 5s, response: 30s }}\n",
            p = 10_000 + number
        );
    }
    let start = Instant::now();
    assert_eq!(load(text).unwrap().services.len(), 2_000);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
}
