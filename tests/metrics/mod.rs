//! What turnout counts and shows of itself: `/metrics`, the router's own paths, and the commands that read them.

mod deploy;
mod router;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use turnout::domain::Color;

use crate::support::{Api, Mode, SOON, Site, get, shared, wait_for};

/// The samples of a scrape, as lines `name{labels} value`.
pub(crate) fn scrape(control: SocketAddr) -> Vec<String> {
    let answer = get(control, "/metrics", &[]).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// The value of a series that is written exactly so.
fn value(lines: &[String], series: &str) -> Option<f64> {
    let line = lines.iter().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

/// The names of the metrics of a scrape.
fn names(lines: &[String]) -> BTreeSet<String> {
    let names = lines
        .iter()
        .filter_map(|line| line.split(['{', ' ']).next());
    names.map(str::to_owned).collect()
}

fn traffic(api: &Api, mode: &str) {
    let body = serde_json::json!({ "mode": mode });
    let answer = api.post("/v1/services/shop/traffic", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_scrape_says_where_the_traffic_is_and_what_became_of_it() {
    let _turn = shared();
    let mut site = Site::embedded("canary");
    let daemon = site.serve();
    wait_for("both colors to be probed", SOON, || {
        let lines = scrape(site.control);
        let up = lines
            .iter()
            .filter(|line| line.starts_with("turnout_server_up"));
        (up.count() == 2).then_some(())
    });
    let none = scrape(site.control);
    assert!(
        !none
            .iter()
            .any(|line| line.starts_with("turnout_http_requests_total{") && line.contains("green")),
        "a color that got nothing has no series"
    );
    for _ in 0..3 {
        assert_eq!(site.ask("/").status, 200);
    }
    site.blue.set(Mode::Status(418));
    assert_eq!(site.ask("/").status, 418);
    site.blue.set(Mode::Status(500));
    assert_eq!(site.ask("/").status, 500);
    site.blue.set(Mode::Healthy);
    site.green.set(Mode::Healthy);
    let weights = serde_json::json!({ "blue": 75, "green": 25 });
    let answer = daemon.api().post("/orchestration/canary/weights", &weights);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let lines = wait_for("the look at what is served", SOON, || {
        let lines = scrape(site.control);
        let seen = value(
            &lines,
            r#"turnout_observed_weight_ratio{service="shop",color="green"}"#,
        );
        (seen == Some(0.25)).then_some(lines)
    });
    let is = |series: &str, expected: f64| {
        let found = value(&lines, series);
        assert_eq!(found, Some(expected), "{series}\n{}", lines.join("\n"));
    };
    is(r#"turnout_weight_ratio{service="shop",color="blue"}"#, 0.75);
    is(r#"turnout_active{service="shop",color="blue"}"#, 1.0);
    is(r#"turnout_active{service="shop",color="green"}"#, 0.0);
    let server = format!(
        r#"turnout_server_up{{service="shop",color="green",server="{}"}}"#,
        site.green.url()
    );
    is(&server, 1.0);
    is(
        r#"turnout_version_info{service="shop",color="blue",version="1.0.0-blue"}"#,
        1.0,
    );
    is(
        r#"turnout_http_requests_total{service="shop",color="blue",code="4xx"}"#,
        1.0,
    );
    is(
        r#"turnout_http_requests_total{service="shop",color="blue",code="500"}"#,
        1.0,
    );
    is(
        r#"turnout_http_requests_failed_total{service="shop",color="blue"}"#,
        1.0,
    );
    is(
        r#"turnout_http_requests_in_flight{service="shop",color="blue"}"#,
        0.0,
    );
    let is_last = |line: &&String| {
        line.starts_with("turnout_http_request_duration_seconds_bucket{")
            && line.contains(r#"color="blue""#)
            && line.contains(r#"le="+Inf""#)
    };
    let last = lines.iter().find(is_last).expect("the bucket of all");
    let count: f64 = last.split(' ').next_back().unwrap().parse().unwrap();
    let ended = value(
        &lines,
        r#"turnout_http_request_duration_seconds_count{service="shop",color="blue"}"#,
    );
    assert_eq!(ended, Some(count));
    // the front door is asked for a proof, too
    assert!(count >= 5.0, "{count}");
    is("turnout_config_last_reload_successful", 1.0);
    is(r#"turnout_drift{service="shop",kind="served"}"#, 0.0);
    is("turnout_lock_held_seconds", 0.0);
    let generation = value(&lines, "turnout_config_generation");
    assert_eq!(
        generation,
        value(&lines, "turnout_config_served_generation")
    );
    let posts = r#"turnout_api_requests_total{route="/orchestration/canary/weights",method="POST",code="200"}"#;
    is(posts, 1.0);
    assert_eq!(get(site.control, "/wp-login.php", &[]).unwrap().status, 404);
    let lines = scrape(site.control);
    assert_eq!(
        value(
            &lines,
            r#"turnout_api_requests_total{route="other",method="GET",code="404"}"#
        ),
        Some(1.0)
    );

    traffic(daemon.api(), "maintenance");
    assert_eq!(site.ask("/").status, 503);
    let lines = scrape(site.control);
    assert_eq!(
        value(
            &lines,
            r#"turnout_http_requests_turned_away_total{service="shop",reason="maintenance"}"#
        ),
        Some(1.0)
    );
    assert_eq!(
        value(&lines, r#"turnout_traffic_open{service="shop"}"#),
        Some(0.0)
    );
    traffic(daemon.api(), "open");
    site.blue.refuse();
    wait_for("the failed probes to be counted", SOON, || {
        let lines = scrape(site.control);
        let failed = r#"turnout_health_checks_total{service="shop",color="blue",result="failed"}"#;
        (value(&lines, failed)? >= 2.0).then_some(())
    });
}

#[test]
fn a_service_without_metrics_has_no_series_and_costs_nobody_else_theirs() {
    let _turn = shared();
    let mut site = Site::embedded("blue_green");
    let listen = crate::support::Ports::address();
    let _blog = site.add_service("blog", listen);
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text = text.replacen("  blog:\n", "  blog:\n    metrics: false\n", 1);
    std::fs::write(site.config(), text).unwrap();
    let daemon = site.serve();
    assert_eq!(get(listen, "/", &[]).unwrap().status, 200);
    assert_eq!(site.served(), Color::Blue);
    wait_for("a probe of the service that is counted", SOON, || {
        let lines = scrape(site.control);
        value(
            &lines,
            r#"turnout_health_checks_total{service="shop",color="green",result="passed"}"#,
        )
    });
    let lines = scrape(site.control).join("\n");
    assert!(!lines.contains("blog"), "{lines}");
    assert!(
        lines.contains(r#"turnout_http_requests_total{service="shop",color="blue",code="200"}"#)
    );
    let figures = get(listen, "/__router_metrics", &[]).unwrap();
    assert_eq!(figures.status, 404);
    assert!(
        figures.text().contains("metrics: false"),
        "{}",
        figures.text()
    );
    drop(daemon);
}

#[test]
fn metrics_are_open_without_a_token_and_in_both_forms() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let token = site.folder().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let text = std::fs::read_to_string(site.config()).unwrap();
    let control = format!("control: {{ listen: \"{}\" }}", site.control);
    let with = format!(
        "control: {{ listen: \"{}\", tokens: [{{ name: ci, file: token, may: [read, write] }}] }}",
        site.control
    );
    assert!(text.contains(&control));
    std::fs::write(site.config(), text.replace(&control, &with)).unwrap();
    let _daemon = site.serve();
    let open = get(site.control, "/metrics", &[]).unwrap();
    assert_eq!(
        (open.status, open.header("content-type")),
        (
            200,
            Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
        )
    );
    let plain = get(site.control, "/metrics", &["Accept: text/plain"]).unwrap();
    assert_eq!(
        plain.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(
        plain
            .text()
            .contains("# TYPE turnout_api_requests_total counter\n")
    );
    assert_eq!(get(site.control, "/v1/status", &[]).unwrap().status, 401);
}
