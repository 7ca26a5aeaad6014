//! The configuration through the library: what loads, what it becomes, and every message a person may meet.

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
    assert_eq!(config.services.len(), 1);
    let shop = config.services.values().next().unwrap();
    assert_eq!(
        shop.shape.servers[Color::Green][1].to_string(),
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
            "balancer.kind",
            "services.blog",
            "services.shop.limits",
            "services.shop.router_endpoints",
            "services.shop.smoke",
            "services.shop.hooks",
            "services.shop.notify",
            "services.shop.keep_old",
            "services.shop.bake",
            "services.shop.canary",
            "services.shop.migrations",
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
