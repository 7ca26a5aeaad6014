//! Each mistake within one value or key, with its line and its message, and all of a file at once.

use std::fs;

use super::{load, load_with, messages, shop};

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
