//! Renderings, line by line, and what is refused. That nginx takes them is shown in `tests/nginx`.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::domain::{
    AccessLog, Color, Colors, Expectation, Generation, HealthPolicy, Limits, OnUnhealthy, Position,
    Service, Split, StatusRange, Sticky, Strategy, Timeouts, Upstream,
};

pub(crate) fn service(name: &str) -> Service {
    Service {
        name: name.parse().unwrap(),
        project: None,
        hosts: vec![format!("{name}.example.com").parse().unwrap()],
        listen: Some("127.0.0.1:8080".parse().unwrap()),
        public: None,
        tls: None,
        proxy_protocol: false,
        upstream: Upstream::Colors(Colors {
            blue: vec!["http://127.0.0.1:5001".parse().unwrap()],
            green: vec!["http://127.0.0.1:5002".parse().unwrap()],
        }),
        sticky: Some(Sticky {
            header: "X-Session-Key".into(),
            cookie: "session_id".into(),
            set_cookie: false,
        }),
        preview: None,
        on_unhealthy: OnUnhealthy::Failover,
        health: HealthPolicy {
            path: "/health".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            unhealthy_after: 3,
            healthy_after: 1,
            expect: Expectation {
                status: StatusRange {
                    low: 200,
                    high: 299,
                },
                json: std::collections::BTreeMap::new(),
            },
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            response: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
        },
        limits: Limits {
            head: 32 * 1024,
            headers: 100,
            body: None,
            connections: 10_000,
            hold: Duration::from_secs(30),
            rate: Vec::new(),
        },
        access_log: AccessLog::Off,
        metrics: true,
        router_endpoints: true,
    }
}

pub(crate) fn table(generation: u64, names: &[&str]) -> RoutingTable {
    RoutingTable {
        generation: Generation(generation),
        aliases: std::collections::BTreeMap::new(),
        routes: names
            .iter()
            .map(|name| {
                let service = Arc::new(service(name));
                let position = Position::all(Strategy::BlueGreen, Color::Blue);
                (service.name.clone(), Route::new(service, position))
            })
            .collect(),
    }
}

fn settings() -> NginxContext {
    NginxContext {
        prove: "127.0.0.1:9181".parse().unwrap(),
        trusted_proxies: Vec::new(),
        already_set: BTreeSet::new(),
        resolver: None,
        markers: None,
        counts: None,
    }
}

fn with(change: impl FnOnce(&mut Service), position: Position) -> RoutingTable {
    let mut shape = service("shop-2");
    change(&mut shape);
    let name = shape.name.clone();
    RoutingTable {
        generation: Generation(7),
        routes: std::collections::BTreeMap::from([(name, Route::new(Arc::new(shape), position))]),
        aliases: std::collections::BTreeMap::new(),
    }
}

fn canary(blue: f64) -> Position {
    Position::canary(
        Color::Blue,
        Split::from_percents(blue, 100.0 - blue).unwrap(),
    )
}

fn text(table: &RoutingTable) -> String {
    nginx(table, &settings(), &Template::built_in()).unwrap()
}

#[track_caller]
fn has(text: &str, line: &str) {
    assert!(
        text.lines().any(|found| found.trim() == line),
        "no line `{line}` in\n{text}"
    );
}

#[test]
fn a_canary_is_a_split_with_blue_first_and_green_the_rest() {
    let text = text(&with(|_| (), canary(90.5)));
    has(
        &text,
        r#"split_clients "shop-2:$turnout__key_x_session_key__session_id" $turnout_shop_2 { 90.50% blue; * green; }"#,
    );
    has(
        &text,
        r#"map $http_x_session_key $turnout__key_x_session_key__session_id { default $http_x_session_key; "" $turnout__alt_x_session_key__session_id; }"#,
    );
    has(
        &text,
        r#"map $cookie_session_id $turnout__alt_x_session_key__session_id { default $cookie_session_id; "" $request_id; }"#,
    );
    has(&text, "proxy_pass http://turnout_shop_2_$turnout_shop_2;");
}

#[test]
fn a_color_with_nothing_leaves_no_split_behind() {
    for (position, color) in [
        (canary(100.0), "blue"),
        (canary(0.0), "green"),
        (Position::all(Strategy::BlueGreen, Color::Green), "green"),
    ] {
        let text = text(&with(|_| (), position));
        has(
            &text,
            &format!(r#"split_clients "" $turnout_shop_2 {{ * {color}; }}"#),
        );
        assert!(!text.contains("% blue;"), "{text}");
    }
}

#[test]
fn an_overlay_routes_to_its_color_and_keeps_the_position_in_the_head() {
    let mut table = with(|_| (), canary(90.0));
    for route in table.routes.values_mut() {
        route.overlay = Some(Color::Green);
    }
    let text = text(&table);
    has(
        &text,
        "# turnout-position: shop-2 canary blue blue=90% green=10% overlay=green",
    );
    has(&text, r#"split_clients "" $turnout_shop_2 { * green; }"#);
    has(
        &text,
        r#"location = /0 { return 200 "generation 7\nshop-2 canary 0 100 $turnout_shop_2\n"; }"#,
    );
}

#[test]
fn a_refused_color_has_the_private_listener_for_its_server() {
    let mut table = with(|shape| shape.limits.head = 65_536, canary(90.0));
    for route in table.routes.values_mut() {
        route.refused = BTreeSet::from([Color::Green]);
    }
    let text = text(&table);
    has(&text, "server 127.0.0.1:5001;");
    has(&text, "server 127.0.0.1:9181;    # no healthy server: 503");
    assert!(!text.contains("127.0.0.1:5002"), "{text}");
    has(&text, "large_client_header_buffers 4 16384;");
}

#[test]
fn the_preview_header_wins_over_the_split() {
    let text = text(&with(
        |shape| shape.preview = Some("X-Turnout-Color".into()),
        canary(50.0),
    ));
    has(
        &text,
        "map $http_x_turnout_color $turnout_shop_2 { default $turnout__split_shop_2; blue blue; green green; }",
    );
    has(
        &text,
        r#"split_clients "shop-2:$turnout__key_x_session_key__session_id" $turnout__split_shop_2 { 50.00% blue; * green; }"#,
    );
}

#[test]
fn without_sticky_the_split_is_by_request() {
    let text = text(&with(|shape| shape.sticky = None, canary(50.0)));
    has(
        &text,
        r#"split_clients "shop-2:$request_id" $turnout_shop_2 { 50.00% blue; * green; }"#,
    );
}

#[test]
fn without_listen_there_is_no_server_and_the_snippet_proxies() {
    let table = with(|shape| shape.listen = None, canary(50.0));
    let text = text(&table);
    assert_eq!(
        text.matches("server {").count(),
        1,
        "the private listener alone: {text}"
    );
    let snippet = nginx_snippet(table.routes.values().next().unwrap(), &settings()).unwrap();
    has(
        &snippet,
        "proxy_pass http://turnout_shop_2_$turnout_shop_2;",
    );
    has(&snippet, "add_header X-Routed-To $turnout_shop_2 always;");
    let moved = with(|shape| shape.listen = None, canary(10.0));
    assert_eq!(
        nginx_snippet(moved.routes.values().next().unwrap(), &settings()).unwrap(),
        snippet
    );
}

#[test]
fn an_unknown_host_is_refused_unless_a_service_takes_any() {
    has(
        &text(&with(|_| (), canary(50.0))),
        "listen 127.0.0.1:8080 default_server;",
    );
    has(
        &text(&with(|_| (), canary(50.0))),
        r#"return 404 "No service answers to this host here";"#,
    );
    let any = text(&with(|shape| shape.hosts.clear(), canary(50.0)));
    has(&any, "listen 127.0.0.1:8080 default_server;");
    assert!(!any.contains("return 404"), "{any}");
}

#[test]
fn a_page_never_exceeds_one_nginx_parameter() {
    let names: Vec<String> = (0..90)
        .map(|number| format!("{number}-{}", "x".repeat(60 - number / 10)))
        .collect();
    let table = table(
        u64::MAX,
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let text = text(&table);
    let pages: Vec<_> = text
        .lines()
        .filter(|line| line.trim_start().starts_with("location = /") && line.contains("generation"))
        .collect();
    assert!(pages.len() > 3);
    assert!(pages.iter().all(|page| page.len() < 4_000), "{pages:#?}");
    has(&text, "variables_hash_bucket_size 128;");
}

#[test]
fn a_hash_size_that_the_user_has_set_is_left_to_the_user() {
    let long = with(
        |shape| shape.hosts = vec![format!("{}.example.com", "a".repeat(60)).parse().unwrap()],
        canary(50.0),
    );
    has(&text(&long), "server_names_hash_bucket_size 128;");
    let mut context = settings();
    context.already_set.insert("server_names_hash_bucket_size");
    let text = nginx(&long, &context, &Template::built_in()).unwrap();
    assert!(!text.contains("server_names_hash_bucket_size"), "{text}");
}

#[test]
fn trusted_proxies_are_lines_of_a_geo_with_a_default_for_each_family() {
    let mut context = settings();
    context.trusted_proxies = vec![
        "10.1.2.3/8".parse().unwrap(),
        "10.0.0.0/8".parse().unwrap(),
        "::/0".parse().unwrap(),
    ];
    let text = nginx(&with(|_| (), canary(50.0)), &context, &Template::built_in()).unwrap();
    for line in ["10.0.0.0/8 1;", "::/0 1;", "0.0.0.0/0 0;"] {
        has(&text, line);
        assert_eq!(text.matches(line).count(), 1, "{text}");
    }
}

#[test]
fn values_that_nginx_cannot_take_name_their_key() {
    let sticky = |header: &str, cookie: &str| Sticky {
        header: header.into(),
        cookie: cookie.into(),
        set_cookie: false,
    };
    for (table, key) in [
        (
            with(
                |shape| shape.sticky = Some(sticky("X.Y", "a")),
                canary(50.0),
            ),
            "services.shop-2.sticky.header",
        ),
        (
            with(
                |shape| shape.sticky = Some(sticky("X", "a;b")),
                canary(50.0),
            ),
            "services.shop-2.sticky.cookie",
        ),
        (
            with(|shape| shape.preview = Some("a{".into()), canary(50.0)),
            "services.shop-2.preview.header",
        ),
        (
            with(
                |shape| {
                    shape.tls = Some(crate::domain::TlsFiles {
                        cert: "/c".into(),
                        key: "/k".into(),
                    });
                },
                canary(50.0),
            ),
            "services.shop-2.tls",
        ),
    ] {
        let error = nginx(&table, &settings(), &Template::built_in()).unwrap_err();
        assert!(
            matches!(&error, Error::Value { key: named, .. } if named == key),
            "{error}"
        );
    }
}

#[test]
fn a_template_at_fault_is_named_with_its_line() {
    let template = Template {
        name: "mine.j2".into(),
        source: "a\nb {{ generatoin }}\n".into(),
    };
    let error = nginx(&table(1, &["shop"]), &settings(), &template).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mine.j2:2: undefined value: `generatoin` is undefined\n  2 | b {{ generatoin }}"
    );
    let template = Template {
        source: "a\n{% if %}\n".into(),
        ..template
    };
    let error = nginx(&table(1, &["shop"]), &settings(), &template).unwrap_err();
    assert!(
        error.to_string().starts_with("mine.j2:2: syntax error"),
        "{error}"
    );
}

#[test]
fn every_line_of_the_built_in_template_can_be_traced_back() {
    let table = table(3, &["shop", "blog"]);
    let template = Template::built_in();
    let text = text(&table);
    let origins = nginx_origins(&table, &settings(), &template).unwrap();
    assert_eq!(origins.len(), text.lines().count());
    let mut traced = 0;
    for (line, origin) in text.lines().zip(&origins) {
        let Some(origin) = origin else { continue };
        let source = if origin.file == template.name {
            template.source.as_str()
        } else {
            LOCATION.1
        };
        let template_line = source.lines().nth(origin.line - 1).unwrap();
        let constant = template_line.trim_start().split("{{").next().unwrap();
        assert!(
            line.trim_start().starts_with(constant),
            "{line:?} is not from {template_line:?}"
        );
        traced += 1;
    }
    assert!(traced > 60, "{traced}");
}
