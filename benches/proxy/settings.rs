//! The same routing in three languages: a 90/10 split over two servers, by sticky header, then cookie, then chance; the headers that
//! turnout promises, both ways; connections to servers kept; logs off; one thread.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::Group;
use crate::backend::Servers;
use crate::peers::Kind;

/// The peers' buffers; turnout has one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buffers {
    /// As the peer comes.
    Default,
    /// 64 KiB, which is what large bodies want on both.
    Large,
}

pub(crate) fn of(
    kind: Kind,
    group: Group,
    listen: SocketAddr,
    servers: &Servers,
    dir: &Path,
) -> String {
    match kind {
        Kind::Nginx => nginx(group, listen, servers),
        Kind::Haproxy => haproxy(group, listen, servers, dir),
        Kind::Turnout => turnout(group, listen, servers),
    }
}

fn nginx(group: Group, listen: SocketAddr, servers: &Servers) -> String {
    let buffers = match group.large {
        Buffers::Default => "",
        Buffers::Large => {
            "proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;"
        }
    };
    let mut text = format!(
        "worker_processes 1; daemon off; pid nginx.pid; error_log stderr crit; worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 75s; server_tokens off;
  server_names_hash_max_size 65536; server_names_hash_bucket_size 128; variables_hash_max_size 65536;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  {buffers}
  map $cookie_session_id $alt {{ default $cookie_session_id; \"\" $request_id; }}
  map $http_x_session_key $key {{ default $http_x_session_key; \"\" $alt; }}
  map $http_x_request_id $id {{ default $http_x_request_id; \"\" $request_id; }}
  proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Request-ID $id;
"
    );
    for number in 0..group.services {
        writeln!(
            text,
            "  split_clients \"service-{number}:$key\" $color_{number} {{ 90% blue; * green; }}
  upstream service_{number}_blue {{ server {blue}; keepalive 256; keepalive_requests 1000000000; keepalive_time 24h; }}
  upstream service_{number}_green {{ server {green}; keepalive 256; keepalive_requests 1000000000; keepalive_time 24h; }}
  server {{ listen {listen}; server_name service-{number}.example.com;
    location / {{ proxy_pass http://service_{number}_$color_{number}; add_header X-Routed-To $color_{number} always; add_header X-Upstream-URL http://$upstream_addr always; }} }}",
            blue = servers.blue,
            green = servers.green,
        )
        .expect("a string takes it");
    }
    text.push_str("}\n");
    text
}

fn haproxy(group: Group, listen: SocketAddr, servers: &Servers, dir: &Path) -> String {
    let buffers = match group.large {
        Buffers::Default => "",
        Buffers::Large => "tune.bufsize 65536",
    };
    let hosts = dir.join("hosts");
    let mut map = String::new();
    for number in 0..group.services {
        writeln!(map, "service-{number}.example.com service_{number}").expect("a string takes it");
    }
    std::fs::write(&hosts, map).expect("the map is written");
    let mut text = format!(
        "global
  nbthread 1
  maxconn 9900
  {buffers}
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 30s
  timeout http-request 10s
  timeout http-keep-alive 75s
  http-reuse aggressive
  option idle-close-on-response
frontend main
  bind {listen}
  http-request set-var(txn.key) req.cook(session_id)
  http-request set-var(txn.key) req.hdr(X-Session-Key) if {{ req.hdr(X-Session-Key) -m found }}
  http-request set-var(txn.bucket) var(txn.key),xxh32,mod(10000) if {{ var(txn.key) -m found }}
  http-request set-var(txn.bucket) rand(10000) unless {{ var(txn.key) -m found }}
  http-request set-var(txn.color) str(blue)
  http-request set-var(txn.color) str(green) if {{ var(txn.bucket) -m int ge 9000 }}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Request-ID %[uuid()] unless {{ req.hdr(X-Request-ID) -m found }}
  http-response set-header X-Routed-To %[var(txn.color)]
  use_backend %[req.hdr(Host),lower,map_str({hosts})]_%[var(txn.color)]
",
        hosts = hosts.display(),
    );
    for number in 0..group.services {
        for (color, server) in [("blue", servers.blue), ("green", servers.green)] {
            writeln!(
                text,
                "backend service_{number}_{color}\n  http-response set-header X-Upstream-URL http://{server}\n  server one {server} pool-max-conn 256"
            )
            .expect("a string takes it");
        }
    }
    text
}

fn turnout(group: Group, listen: SocketAddr, servers: &Servers) -> String {
    // 20,000 servers of 10,000 services are not probed every five seconds by anybody
    let interval = if group.services > 1 { "10m" } else { "5s" };
    let mut text = String::from(
        "version: 1\nstate: { dir: state }\nbalancer: { kind: embedded }\ncontrol: { listen: \"unix:control.sock\" }\nservices:\n",
    );
    for number in 0..group.services {
        writeln!(
            text,
            "  service-{number}:\n    hosts: [service-{number}.example.com]\n    listen: {listen}\n    blue: {{ servers: [\"http://{blue}\"] }}\n    green: {{ servers: [\"http://{green}\"] }}\n    strategy: canary\n    weights: {{ blue: 90, green: 10 }}\n    health: {{ interval: {interval}, path: / }}",
            blue = servers.blue,
            green = servers.green,
        )
        .expect("a string takes it");
    }
    text
}
