//! `/__router_health`, `/__router_metrics` and `/monitoring` on the router, and `turnout test` and `turnout metrics`.

use crate::support::{Connection, Mode, SOON, Site, get, shared, wait_for};

const HEALTH: &str = "/__router_health";
const FIGURES: &str = "/__router_metrics";

#[test]
fn the_router_says_who_is_active_and_what_it_has_done() {
    let _turn = shared();
    let mut site = Site::embedded("blue_green");
    let daemon = site.serve();
    let health = site.ask(HEALTH);
    assert_eq!(
        (health.status, health.json()),
        (
            200,
            serde_json::json!({
                "status": "healthy", "active_port": site.blue.address().port(), "active_version": "blue",
            })
        )
    );
    let before = site.ask(FIGURES).json();
    for _ in 0..4 {
        assert_eq!(site.ask("/").text(), "blue");
    }
    // the answers' ends come to the counters after they came to the client
    let after = wait_for("the requests to be counted", SOON, || {
        let after = site.ask(FIGURES).json();
        let more = after["total_requests"].as_u64()? - before["total_requests"].as_u64()?;
        (more == 4).then_some(after)
    });
    // and the questions themselves are not
    assert_eq!(site.ask(FIGURES).json(), after);
    let keys: Vec<_> = after.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys,
        [
            "total_requests",
            "successful_requests",
            "failed_requests",
            "success_rate",
            "bytes_proxied",
            "avg_request_time_ms",
            "version_requests"
        ]
    );
    assert_eq!(after["success_rate"], 100.0);
    assert_eq!(
        after["bytes_proxied"].as_u64().unwrap() - before["bytes_proxied"].as_u64().unwrap(),
        4 * 4
    );
    assert!(after["avg_request_time_ms"].as_f64().unwrap() > 0.0);

    daemon.api().activate(turnout::domain::Color::Green);
    let health = site.ask(HEALTH).json();
    assert_eq!(health["active_version"], "green");
    assert_eq!(health["active_port"], site.green.address().port());
    site.green.set(Mode::Status(503));
    assert_eq!(site.ask("/").status, 503);
    wait_for("the failure to be counted", SOON, || {
        let after = site.ask(FIGURES).json();
        (after["failed_requests"].as_u64()? >= 1).then(|| {
            assert!(after["success_rate"].as_f64().unwrap() < 100.0, "{after}");
            let green = after["version_requests"]["green"].as_u64().unwrap();
            let blue = after["version_requests"]["blue"].as_u64().unwrap();
            assert!(green >= 1);
            assert_eq!(after["total_requests"], blue + green);
        })
    });
    site.blue.refuse();
    site.green.refuse();
    let down = wait_for("the router to have nobody", SOON, || {
        let health = site.ask(HEALTH);
        (health.status == 503).then_some(health)
    });
    assert_eq!(down.json()["status"], "unhealthy");
    assert_eq!(site.ask("/").status, 503);
    let lines = super::scrape(site.control).join("\n");
    assert!(lines.contains(r#"reason="no_backend"} 1"#), "{lines}");
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_the_paths_only_reading() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let _daemon = site.serve();
    let page = site.ask("/monitoring");
    let text = page.text();
    assert_eq!(page.status, 200);
    assert!(
        text.contains("<h1>shop</h1>") && text.contains("Active: blue."),
        "{text}"
    );
    assert!(text.contains(r#"<meta http-equiv="refresh" content="5">"#));
    assert!(text.contains("prefers-color-scheme: dark"));
    for outside in [
        "http://", "https://", "<script", "<img", "<link", "{", "@import",
    ] {
        let found = if outside == "{" {
            // what was not filled in; the style sheet has braces of its own
            text.split("</style>").nth(1).unwrap().contains('{')
        } else {
            text.contains(outside)
        };
        assert!(!found, "{outside}: {text}");
    }
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let mut client = Connection::open(site.front, SOON).unwrap();
    let post = format!(
        "POST {FIGURES} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
        site.front
    );
    let refused = client.send(post.as_bytes()).unwrap();
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD"))
    );
    // with a query, as scrapers add one against caches
    assert_eq!(site.ask(&format!("{HEALTH}?now=1")).status, 200);
}

#[test]
fn strangers_and_services_that_want_the_paths_get_the_application() {
    let _turn = shared();
    let mut site = Site::embedded("blue_green");
    let listen = crate::support::Ports::address();
    let _blog = site.add_service("blog", listen);
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text = text.replacen("  blog:\n", "  blog:\n    router_endpoints: false\n", 1);
    std::fs::write(site.config(), text).unwrap();
    let _daemon = site.serve();
    for path in [HEALTH, FIGURES, "/monitoring"] {
        assert_eq!(get(listen, path, &[]).unwrap().text(), "blue");
        // somebody's proxy on this host speaks for somebody: it is not in trusted_proxies
        for header in [
            "X-Forwarded-For: 127.0.0.1",
            "Via: 1.1 front",
            "Forwarded: for=10.0.0.1",
        ] {
            let answer = get(site.front, path, &[header]).unwrap();
            assert_eq!(answer.text(), "blue", "{path} with {header}");
        }
    }
}

#[test]
fn test_and_metrics_say_what_the_router_says_and_test_fails_where_it_does() {
    let _turn = shared();
    let mut site = Site::embedded("blue_green");
    site.turnout()
        .run(&["metrics"])
        .exits(0)
        .says("there is no daemon that could be asked");
    let daemon = site.serve();
    let passed = site.turnout().ok(&["test", "-o", "json"]).json();
    let results: Vec<_> = passed
        .as_array()
        .unwrap()
        .iter()
        .map(|test| {
            (
                test["test"].as_str().unwrap(),
                test["result"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        results,
        [
            ("backend", "passed"),
            ("router", "passed"),
            ("metrics", "passed")
        ],
        "{passed}"
    );
    let metrics = site.turnout().ok(&["metrics", "shop", "-o", "json"]).json();
    assert_eq!(
        (&metrics["service"], &metrics["balancer"]),
        (&"shop".into(), &"embedded".into())
    );
    assert!(
        metrics["total_requests"].as_u64().unwrap() >= 1,
        "{metrics}"
    );
    assert_eq!(metrics["version_requests"]["green"], 0);
    site.turnout()
        .ok(&["metrics"])
        .says("SUCCESSFUL")
        .says("100.0%");
    site.turnout()
        .run(&["metrics", "nobody"])
        .exits(2)
        .says("there is no service `nobody`");
    site.blue.refuse();
    site.green.refuse();
    let failed = wait_for("nobody to be healthy", SOON, || {
        let ran = site.turnout().run(&["test"]);
        (ran.code() == Some(1) && ran.stdout.contains("No active backend available")).then_some(ran)
    });
    assert!(failed.stdout.contains("✖ Failed"), "{failed}");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn behind_nginx_the_route_is_tested_and_what_is_not_counted_is_said() {
    let _turn = shared();
    let site = Site::nginx_on_blue();
    let tested = site.turnout().ok(&["test", "-o", "json"]).json();
    let result = |place: usize| tested[place]["result"].as_str().unwrap().to_owned();
    assert_eq!(
        [result(0), result(1), result(2)],
        ["passed", "passed", "not_here"],
        "{tested}"
    );
    assert!(
        tested[1]["detail"]
            .as_str()
            .unwrap()
            .contains("nginx routes to blue")
    );
    let figures = site
        .turnout()
        .ok(&["metrics", "shop", "-o", "json"])
        .says("turnout does not count its requests yet")
        .json();
    assert!(figures.get("total_requests").is_none(), "{figures}");
}
