//! What is shipped for Prometheus and Grafana, by promtool and against what a living daemon has; and a scrape of 2,000 services.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use crate::support::{Ports, Run, SOON, Site, alone, get, shared, wait_for};

fn shipped(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy");
    folder.join(name)
}

#[test]
fn promtool_finds_nothing_wrong_with_the_rules_and_they_fire_when_they_should() {
    let _turn = shared();
    let rules = Run::new("promtool")
        .args(["check", "rules"])
        .arg(shipped("alerts.yaml"));
    rules.run().exits(0).says("11 rules found");
    let tests = Run::new("promtool")
        .args(["test", "rules"])
        .arg(shipped("alerts.test.yaml"));
    tests.run().exits(0).says("SUCCESS");
}

#[test]
fn promtool_finds_nothing_wrong_with_a_scrape() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let _daemon = site.serve();
    assert_eq!(site.ask("/").status, 200);
    let url = format!("http://{}/metrics", site.control);
    let check = Run::new("sh")
        .arg("-c")
        .arg("curl -sf -H 'Accept: text/plain' \"$0\" | promtool check metrics --lint=all")
        .arg(url);
    let ran = check.run();
    let fine = if ran.stderr.contains("unknown long flag") {
        // Debian 12's has all its lints on, and no flag for them
        Run::new("sh")
            .arg("-c")
            .arg("curl -sf -H 'Accept: text/plain' \"$0\" | promtool check metrics")
            .arg(format!("http://{}/metrics", site.control))
            .run()
    } else {
        ran
    };
    let fine = fine.exits(0);
    assert_eq!((fine.stdout.as_str(), fine.stderr.as_str()), ("", ""));
}

/// Words of a query that begin like a metric of turnout's.
fn named_in(text: &str) -> BTreeSet<String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("turnout_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_that_dashboard_and_rules_name_is_in_a_scrape() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    assert_eq!(site.ask("/").status, 200);
    super::traffic(daemon.api(), "maintenance");
    assert_eq!(site.ask("/").status, 503);
    super::traffic(daemon.api(), "open");
    let nginx = Site::nginx_on_blue();
    let _beside = nginx.serve();
    let mut known = BTreeSet::new();
    wait_for("what probes bring", SOON, || {
        known = super::names(&super::scrape(site.control));
        known.extend(super::names(&super::scrape(nginx.control)));
        let probed = [
            "turnout_server_up",
            "turnout_version_info",
            "turnout_health_checks_total",
        ];
        probed
            .iter()
            .all(|name| known.contains(*name))
            .then_some(())
    });
    for file in ["grafana.json", "alerts.yaml", "alerts.test.yaml"] {
        let text = std::fs::read_to_string(shipped(file)).unwrap();
        let named = named_in(&text);
        assert!(
            named.len() >= 10 || file == "alerts.test.yaml",
            "{file}: {named:?}"
        );
        let missing: Vec<_> = named.difference(&known).collect();
        assert!(
            missing.is_empty(),
            "{file} names {missing:?}; there is {known:?}"
        );
    }
    let dashboard = std::fs::read_to_string(shipped("grafana.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut expressions = String::new();
    for (number, target) in panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .enumerate()
    {
        let expression = target["expr"].as_str().unwrap();
        let expression = expression
            .replace("$__rate_interval", "1m")
            .replace('$', "");
        // PromQL is checked where promtool checks it: in a rule
        writeln!(
            expressions,
            "  - record: 'panel:{number}'\n    expr: |\n      {expression}"
        )
        .unwrap();
    }
    let rules = site.folder().join("panels.yaml");
    std::fs::write(
        &rules,
        format!("groups:\n- name: panels\n  rules:\n{expressions}"),
    )
    .unwrap();
    let checked = Run::new("promtool")
        .args(["check", "rules"])
        .arg(&rules)
        .run();
    checked.exits(0).says("rules found");
}

const SERVICES: usize = 2_000;

#[test]
fn a_scrape_of_2_000_services_is_served_and_not_in_anybodys_way() {
    let _turn = alone();
    let site = Site::embedded("blue_green");
    let mut text = std::fs::read_to_string(site.config()).unwrap();
    let front = Ports::address();
    let (blue, green) = (site.blue.address(), site.green.address());
    for number in 1..SERVICES {
        writeln!(
            text,
            "  service-{number}:\n    hosts: [service-{number}.example.com]\n    listen: {front}\n    blue: {{ servers: [\"http://{blue}\"] }}\n    green: {{ servers: [\"http://{green}\"] }}"
        )
        .unwrap();
    }
    std::fs::write(site.config(), text).unwrap();
    let daemon = site.turnout().serve_unready();
    wait_for("the first proof", SOON * 2, || {
        let answer = get(site.control, "/readyz", &[]).ok()?;
        (answer.status == 200).then_some(())
    });
    // the proof asked each front door once, so that every service has a histogram
    let begun = Instant::now();
    let answer = get(site.control, "/metrics", &[]).unwrap();
    let took = begun.elapsed();
    let series = answer
        .text()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .count();
    println!(
        "a scrape of {SERVICES} services: {took:?}, {} bytes, {series} series",
        answer.body.len()
    );
    assert_eq!(answer.status, 200);
    assert!(answer.body.len() < 16 << 20);
    assert!(series < 100_000, "{series}");
    // Prometheus waits 10 s; unoptimized, beside other tests' leftovers
    assert!(took.as_secs() < 10, "{took:?}");
    drop(daemon);
}
