//! Golden views of a status that has one of each.

use super::*;
use crate::controller::{DriftKind, ServerStatus};
use crate::domain::{Colors, Generation, Health, Split, Strategy};

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn server(port: u16, health: Health, reason: Option<&str>) -> ServerStatus {
    ServerStatus {
        url: format!("http://10.0.0.1:{port}"),
        health,
        reason: reason.map(str::to_owned),
        version: Some("1.8.2".to_owned()),
        checked_at: Some("2026-11-21T11:59:58Z".parse().unwrap()),
    }
}

fn service(name: &str, split: Split, active: Color) -> ServiceStatus {
    ServiceStatus {
        service: name.parse().unwrap(),
        strategy: if split.whole().is_some() {
            Strategy::BlueGreen
        } else {
            Strategy::Canary
        },
        active,
        weights: split.weights(),
        generation: Generation(57),
        overlay: None,
        refused: std::collections::BTreeSet::new(),
        previous: None,
        versions: Colors {
            blue: Some("1.8.2".to_owned()),
            green: Some("1.9.0".to_owned()),
        },
        servers: Colors {
            blue: vec![
                server(1, Health::Healthy, None),
                server(2, Health::Healthy, None),
            ],
            green: vec![server(3, Health::Healthy, None)],
        },
        on_unhealthy: crate::domain::OnUnhealthy::Failover,
        since: Some("2026-11-21T11:54:00Z".parse().unwrap()),
        project: None,
        traffic: crate::domain::TrafficMode::Open,
        live: None,
        rollout: None,
    }
}

fn status() -> Status {
    let mut down = service("down", Split::all(Color::Green), Color::Green);
    down.servers.green = vec![server(3, Health::Unhealthy, Some("connection refused"))];
    Status {
        aliases: Vec::new(),
        balancer: "nginx".to_owned(),
        generation: Generation(57),
        daemon: Some(4711),
        state_dir: "/var/lib/turnout".to_owned(),
        services: vec![
            service("admin", Split::all(Color::Blue), Color::Blue),
            service("billing", Split::all(Color::Green), Color::Green),
            down,
            service(
                "shop",
                Split::from_percents(75.0, 25.0).unwrap(),
                Color::Blue,
            ),
        ],
        drift: vec![Drift {
            kind: DriftKind::Served,
            service: Some("billing".parse().unwrap()),
            message: "nginx serves blue (generation 41, expected 42)".to_owned(),
        }],
        problems: vec!["turnout.yaml is broken since 2 minutes".to_owned()],
        refused: std::collections::BTreeMap::new(),
        fallback: None,
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn all_services_have_a_line_each_and_the_needy_are_named() {
    insta::assert_snapshot!(plain(&all(&status(), now())), @r#"
        SERVICE  STATUS     ACTIVE  SPLIT                          VERSION        SINCE
        admin    ✔ Stable   blue    blue 100%                      1.8.2          6m
        billing  ✖ Drift    green   green 100%                     1.9.0          6m     nginx serves blue (generation 41, expected 42)
        down     ✖ Down     green   green 100%                     1.9.0          6m     green http://10.0.0.1:3: connection refused
        shop     ✔ Divided  blue    blue 75% ████████░░ green 25%  1.8.2 → 1.9.0  6m
        ! turnout.yaml is broken since 2 minutes

        2 services need you:  turnout verify  ·  turnout check down
        "#);
}

#[test]
fn one_service_shows_its_servers() {
    let status = status();
    insta::assert_snapshot!(plain(&one(&status, &status.services[3], now())), @r#"
        Name       shop
        Status     ✔ Divided
        Balancer   nginx, generation 57 proved, daemon with pid 4711
        Strategy   canary
        Active     blue
        Split      blue 75% ████████░░ green 25%
        Since      2026-11-21T11:54:00Z (6m ago)

        COLOR  ROLE       VERSION  SERVER      STATUS  WEIGHT  LAST CHECK
        blue   stable     1.8.2    10.0.0.1:1  ✔ Up    37.5    passed, 2s ago
                          1.8.2    10.0.0.1:2  ✔ Up    37.5    passed, 2s ago
        green  candidate  1.8.2    10.0.0.1:3  ✔ Up    25      passed, 2s ago

        ! turnout.yaml is broken since 2 minutes
        "#);
}

#[test]
fn drift_comes_before_all_else_and_makes_a_status_unwell() {
    let mut status = status();
    let standings: Vec<_> = status
        .services
        .iter()
        .map(|service| Standing::of(service, &status.drift))
        .collect();
    assert_eq!(
        standings,
        [
            Standing::Stable,
            Standing::Drift,
            Standing::Down,
            Standing::Divided
        ]
    );
    assert!(!is_well(&status));
    status.drift.clear();
    status.services.remove(2);
    assert!(is_well(&status));
}

#[test]
fn failover_is_shown_with_who_stands_in() {
    let mut status = status();
    let service = &mut status.services[0];
    service.overlay = Some(Color::Green);
    service.servers.blue = vec![server(1, Health::Unhealthy, Some("status 503"))];
    let service = &status.services[0];
    assert_eq!(Standing::of(service, &status.drift), Standing::Failover);
    assert!(plain(&line(service, &status)).ends_with("blue is unhealthy, green stands in"));
    // one that is down as well stands in for nobody
    status.services[0].servers.green = vec![server(2, Health::Unhealthy, Some("refused"))];
    let said = plain(&line(&status.services[0], &status));
    assert!(!said.contains("stands in"), "{said}");
    assert!(said.ends_with("status 503 (and 1 more)"), "{said}");
}

#[test]
fn a_color_that_is_answered_with_503_is_named_and_needs_a_person() {
    let mut status = status();
    let service = &mut status.services[3];
    service.refused = [Color::Green].into();
    service.servers.green = vec![server(3, Health::Unhealthy, Some("connection refused"))];
    let service = &status.services[3];
    assert_eq!(Standing::of(service, &status.drift), Standing::Down);
    assert!(
        plain(&line(service, &status))
            .ends_with("green answered with 503; green http://10.0.0.1:3: connection refused")
    );
    assert!(
        plain(&one(&status, service, now())).contains("\nRefused    green answered with 503\n")
    );
    let json = serde_json::to_value(service).unwrap();
    assert_eq!(json["refused"], serde_json::json!(["green"]));
    // without a share nobody is refused
    let mut idle = service.clone();
    idle.weights = Split::all(Color::Blue).weights();
    assert_eq!(Standing::of(&idle, &status.drift), Standing::Stable);
}

#[test]
fn a_balancer_that_serves_nothing_leaves_no_service_stable() {
    let service = service("shop", Split::all(Color::Blue), Color::Blue);
    let drift = |kind| {
        vec![Drift {
            kind,
            service: None,
            message: "nginx does not answer".to_owned(),
        }]
    };
    assert_eq!(
        Standing::of(&service, &drift(DriftKind::Served)),
        Standing::Drift
    );
    assert_eq!(
        Standing::of(&service, &drift(DriftKind::Config)),
        Standing::Stable
    );
}
