//! What may be written in more than one way: variables, keys with two forms, anchors and merge keys.

use std::fs;
use std::time::Duration;

use turnout::config::{NginxReload, Permission};

use super::{load, load_with, messages, shop};

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
