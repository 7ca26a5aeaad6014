//! What is seen of a service behind an alias: metrics, the page, the API, `test`, `metrics` and `status -w`.

use super::PURPOSE;
use super::dns::Says;
use super::lab::{Kind, Lab};
use crate::metrics::scrape;
use crate::support::{SOON, get, is_root, shared, wait_for};

const MORE: &str = "    project: myproject\n    health: { interval: 200ms, unhealthy_after: 2 }\n";

fn page(lab: &Lab, path: &str) -> String {
    let answer = get(lab.control, path, &[]).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

#[test]
fn an_alias_is_in_metrics_page_api_and_commands() {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    let mut lab = Lab::new(Kind::Embedded, Says::Empty, MORE);
    let server = lab.server(1);
    lab.dns.say(Says::of(&[server.address]));
    lab.serve();
    lab.wait_at(server.address);
    let watched = lab.path("watched");
    let watch = lab
        .turnout
        .command(&["status", "-w", "-o", "json"])
        .background(&watched);
    for _ in 0..10 {
        assert_eq!(lab.ask("blog.com").status, 200);
    }
    let target = format!("blog.test:{}", lab.port);
    let up = format!("turnout_server_up{{service=\"blog\",color=\"\",server=\"http://{target}\"}}");
    let lines = wait_for("the alias to be up", SOON, || {
        let lines = scrape(lab.control);
        lines.contains(&format!("{up} 1")).then_some(lines)
    });
    let has = |line: &str| {
        assert!(
            lines.iter().any(|known| known == line),
            "{line}: {lines:#?}"
        );
    };
    has("turnout_service_info{service=\"blog\",project=\"myproject\",strategy=\"alias\"} 1");
    has(&format!(
        "turnout_alias_info{{service=\"blog\",target=\"{target}\"}} 1"
    ));
    has("turnout_alias_addresses{service=\"blog\"} 1");
    has("turnout_alias_resolved{service=\"blog\"} 1");
    has("turnout_alias_open{service=\"blog\"} 1");
    has("turnout_http_requests_failed_total{service=\"blog\",color=\"\"} 0");
    let counted = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(
        counted("turnout_health_checks_total{service=\"blog\",color=\"\",result=\"passed\"}"),
        1
    );
    assert_eq!(
        counted("turnout_http_requests_total{service=\"blog\",color=\"\",code=\"200\"}"),
        1
    );
    assert_eq!(
        counted("turnout_http_requests_total{service=\"blog\",color=\"blue\""),
        0
    );

    for path in ["/", "/page/services/blog"] {
        let page = page(&lab, path);
        for text in [
            target.as_str(),
            &server.address.to_string(),
            "myproject",
            "healthy",
            "requests <b>",
        ] {
            assert!(page.contains(text), "{path}: {text}\n{page}");
        }
    }
    let served = get(lab.control, "/v1/services/blog", &[]).unwrap().json();
    let total = |value: &serde_json::Value| value["live"]["router"]["total_requests"].as_u64();
    assert!(total(&served) >= Some(10), "{served}");
    let all = get(lab.control, "/v1/services", &[]).unwrap().json();
    assert_eq!(all[0]["target"], target, "{all}");

    let tested = lab.turnout.ok(&["test", "blog", "-o", "json"]).json();
    let results: Vec<_> = tested
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["result"])
        .collect();
    assert_eq!(results, ["passed", "passed", "passed"], "{tested}");
    let figures = lab.turnout.ok(&["metrics", "blog", "-o", "json"]).json();
    assert!(figures["total_requests"].as_u64() > Some(10), "{figures}");
    assert_eq!(figures["failed_requests"], 0, "{figures}");
    lab.turnout.ok(&["metrics"]).says("blog");
    lab.turnout.ok(&["status", "blog"]).says("Requests");
    let router = lab.ask_path("blog.com", "/__router_health").json();
    assert_eq!(
        router["active_version"],
        serde_json::Value::Null,
        "{router}"
    );
    assert_eq!(router["active_port"], lab.port, "{router}");
    let monitoring = lab.ask_path("blog.com", "/monitoring").text();
    assert!(
        monitoring.contains(&target) && !monitoring.contains("By color"),
        "{monitoring}"
    );

    server.sick(true);
    wait_for("the alias to be blocked", SOON, || {
        (lab.ask("blog.com").status == 503).then_some(())
    });
    let lines = scrape(lab.control);
    let has = |line: &str| {
        assert!(
            lines.iter().any(|known| known == line),
            "{line}: {lines:#?}"
        );
    };
    has("turnout_alias_open{service=\"blog\"} 0");
    has(&format!("{up} 0"));
    let page = page(&lab, "/");
    assert!(page.contains("Blocked.") && page.contains("500"), "{page}");
    lab.turnout.run(&["test", "blog"]).exits(1).says("Failed");
    wait_for("the watch to tell it", SOON, || {
        let told = watch.printed();
        let events: Vec<serde_json::Value> = told
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let is = |word: &str| {
            events
                .iter()
                .any(|event| event["health"] == word && event["service"] == "blog")
        };
        (is("healthy") && is("unhealthy")).then_some(())
    });
}

#[test]
fn requests_through_nginx_and_haproxy_are_tested_too() {
    let _turn = shared();
    if !is_root(PURPOSE) {
        return;
    }
    for kind in [Kind::Nginx, Kind::Haproxy] {
        let mut lab = Lab::new(kind, Says::Empty, MORE);
        let server = lab.server(1);
        lab.dns.say(Says::of(&[server.address]));
        lab.serve();
        lab.wait_at(server.address);
        let tested = lab.turnout.ok(&["test", "blog", "-o", "json"]).json();
        let results: Vec<_> = tested
            .as_array()
            .unwrap()
            .iter()
            .map(|one| &one["result"])
            .collect();
        assert_eq!(
            results,
            ["passed", "passed", "not_here"],
            "{kind:?}: {tested}"
        );
        let text = page(&lab, "/");
        assert!(
            text.contains("does not count its requests"),
            "{kind:?}: {text}"
        );
        lab.turnout
            .ok(&["metrics", "blog"])
            .says("does not count its requests behind an alias");
    }
}
