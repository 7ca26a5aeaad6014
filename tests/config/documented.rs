//! The whole documented file, what its values become, and the defaults of what is left out.

use std::path::Path;

use turnout::config::{BalancerKind, NginxReload};
use turnout::domain::Color;

use super::load;

pub(super) const CONTRACT: &str = r#"version: 1
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
