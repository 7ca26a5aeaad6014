//! The promises of routing that do not depend on the color: hosts, headers, errors, bytes.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use turnout::domain::Color;

use super::lab::{Lab, Layout};
use crate::support::{Answer, Connection, shared};

/// A server that answers with the head of the request that it got, and has a way to say another status.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if stream.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
                    if path == "/hang" {
                        std::thread::sleep(Duration::from_secs(20));
                    }
                    let status = if path == "/own503" { 503 } else { 200 };
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\nX-Backend: blue\r\nX-Routed-To: forged\r\nContent-Length: {}\r\n\r\n{head}",
                        head.len()
                    );
                    if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn raw(lab: &Lab, request: &str) -> Answer {
    Connection::open(lab.front, Duration::from_secs(10))
        .unwrap()
        .send(request.as_bytes())
        .unwrap()
}

fn get_as(lab: &Lab, host: &str) -> Answer {
    raw(
        lab,
        &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    )
}

#[test]
fn hosts_are_exact_then_below_a_name_and_others_are_unknown() {
    let _turn = shared();
    let mut lab = Lab::new(Layout::Whole);
    lab.shop =
        "    hosts: [shop.example.com, \"*.shop.example.com\"]\n    active: green\n".to_owned();
    lab.services = format!(
        "  wide:\n    hosts: [\"*.example.com\"]\n    listen: {}\n    active: blue\n    blue: {{ servers: [\"{}\"] }}\n    green: {{ servers: [\"{}\"] }}\n",
        lab.front,
        lab.blue.url(),
        lab.green.url()
    );
    lab.begin();
    lab.turnout().ok(&["apply"]);
    for (host, expected) in [
        ("shop.example.com", Color::Green),
        ("SHOP.example.COM:8080", Color::Green),
        ("a.shop.example.com", Color::Green),
        ("b.example.com", Color::Blue),
    ] {
        assert_eq!(get_as(&lab, host).backend(), Some(expected), "{host}");
    }
    for host in ["example.com", "else.org", "notshop.example.org"] {
        let answer = get_as(&lab, host);
        assert_eq!(answer.status, 404, "{host}");
        assert!(answer.header("x-turnout-error").is_some(), "{host}");
    }
}

#[test]
fn what_reaches_the_server_is_what_came_but_for_what_was_forged() {
    let _turn = shared();
    let server = echo();
    let mut lab = Lab::new(Layout::Beside);
    lab.begin();
    let yaml = std::fs::read_to_string(lab.path("turnout.yaml")).unwrap();
    let yaml = yaml.replace(&lab.blue.url(), &format!("http://{server}"));
    std::fs::write(lab.path("turnout.yaml"), &yaml).unwrap();
    lab.turnout().ok(&["apply"]);
    let request = "GET /a%2Fb//c/../d?x=%20y&z=1+2#f HTTP/1.1\r\nHost: shop.example.com:99\r\nX-Forwarded-For: 9.9.9.9\r\n\
        X-Forwarded-Proto: https\r\nX-Real-IP: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\nX-Request-ID: given\r\nConnection: close\r\n\r\n";
    let answer = raw(&lab, &request.replace("#f", ""));
    assert_eq!(answer.color("x-routed-to"), Some(Color::Blue));
    assert_eq!(
        answer.header("x-upstream-url"),
        Some(format!("http://{server}").as_str())
    );
    let seen = answer.text();
    let has = |line: &str| seen.lines().any(|other| other.eq_ignore_ascii_case(line));
    assert!(
        seen.starts_with("GET /a%2Fb//c/../d?x=%20y&z=1+2 HTTP/1.1"),
        "{seen}"
    );
    for line in [
        "Host: shop.example.com:99",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: shop.example.com:99",
        "X-Real-IP: 127.0.0.1",
        "X-Request-ID: given",
    ] {
        assert!(has(line), "{line} is not in\n{seen}");
    }
    assert!(!seen.contains("9.9.9.9"), "{seen}");
    assert_eq!(
        seen.to_ascii_lowercase().matches("x-forwarded-for").count(),
        1,
        "{seen}"
    );

    // an application's own 503 stays one
    let own = lab.ask("/own503", &[]);
    assert_eq!(own.status, 503);
    assert!(own.text().starts_with("GET /own503"), "{}", own.text());

    // believed from a trusted proxy
    let trusting = yaml.replace("services:\n", "trusted_proxies: [127.0.0.0/8]\nservices:\n");
    std::fs::write(lab.path("turnout.yaml"), trusting).unwrap();
    lab.turnout().ok(&["apply"]);
    let seen = raw(&lab, &request.replace("#f", "")).text();
    let has = |line: &str| seen.lines().any(|other| other.eq_ignore_ascii_case(line));
    for line in [
        "X-Forwarded-For: 9.9.9.9, 127.0.0.1",
        "X-Forwarded-Proto: https",
        "X-Real-IP: 9.9.9.9",
        "Forwarded: for=9.9.9.9",
    ] {
        assert!(has(line), "{line} is not in\n{seen}");
    }
    let seen = raw(
        &lab,
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .text();
    let has = |line: &str| seen.lines().any(|other| other.eq_ignore_ascii_case(line));
    assert!(
        has("X-Forwarded-For: 127.0.0.1") && has("X-Real-IP: 127.0.0.1"),
        "{seen}"
    );
    assert!(
        seen.to_ascii_lowercase().contains("x-request-id: "),
        "{seen}"
    );
}

#[test]
fn errors_have_the_bodies_that_the_embedded_proxy_has() {
    let _turn = shared();
    let server = echo();
    let mut lab = Lab::new(Layout::Whole);
    // no check by HAProxy in the time of this test, so that it finds out by itself
    lab.shop = "    timeouts: { response: 1s }\n    on_unhealthy: reject\n".to_owned();
    lab.begin();
    let yaml = std::fs::read_to_string(lab.path("turnout.yaml")).unwrap();
    let yaml = yaml
        .replace(&lab.blue.url(), &format!("http://{server}"))
        .replace("interval: 200ms", "interval: 60s");
    std::fs::write(lab.path("turnout.yaml"), &yaml).unwrap();
    lab.turnout().ok(&["apply"]);
    let begin = Instant::now();
    let late = lab.ask("/hang", &[]);
    assert_eq!(
        (late.status, late.text().as_str()),
        (504, "Gateway timeout")
    );
    assert!(begin.elapsed() < Duration::from_secs(4));
    lab.turnout().ok(&["switch", "green"]);
    lab.green.refuse();
    let begin = Instant::now();
    let refused = lab.ask("/", &[]);
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (502, "Bad gateway")
    );
    assert!(
        begin.elapsed() < Duration::from_millis(500),
        "{:?}",
        begin.elapsed()
    );
    let post = raw(
        &lab,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab",
    );
    assert_eq!(post.status, 502);
    // with its check HAProxy knows that nobody is there
    std::fs::write(
        lab.path("turnout.yaml"),
        yaml.replace("interval: 60s", "interval: 200ms"),
    )
    .unwrap();
    lab.turnout().run(&["apply"]);
    std::thread::sleep(Duration::from_secs(1));
    let nobody = lab.ask("/", &[]);
    assert_eq!(
        (nobody.status, nobody.text().as_str()),
        (503, "No active backend available")
    );
    assert_eq!(nobody.color("x-routed-to"), Some(Color::Green));
}

#[test]
fn a_preview_names_its_color_and_a_first_visit_is_pinned() {
    let _turn = shared();
    let mut lab = Lab::new(Layout::Whole);
    lab.shop = "    strategy: canary\n    preview: { header: X-Turnout-Color }\n    sticky: { header: X-Session-Key, cookie: session_id, set_cookie: true }\n"
        .to_owned();
    lab.begin();
    lab.turnout().ok(&["apply"]);
    let preview = |color: &str| lab.ask("/", &[("X-Turnout-Color", color)]).backend();
    assert_eq!(preview("green"), Some(Color::Green));
    assert_eq!(preview("blue"), Some(Color::Blue));
    assert_eq!(preview("red"), Some(Color::Blue));
    lab.turnout()
        .ok(&["weights", "shop", "blue=50", "green=50"]);
    let mut seen = [0, 0];
    for _ in 0..60 {
        let first = lab.ask("/", &[]);
        let color = first.backend().unwrap();
        seen[usize::from(color == Color::Green)] += 1;
        let cookie = first.header("set-cookie").expect("no cookie").to_owned();
        assert!(cookie.contains("HttpOnly"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        let again = lab.ask("/", &[("Cookie", pair)]);
        assert_eq!(again.backend(), Some(color), "{cookie}");
        assert_eq!(again.header("set-cookie"), None);
    }
    assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
}
