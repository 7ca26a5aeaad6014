//! The answers that are nginx's own: refused colors, dead and hanging servers. The same words as the embedded proxy's.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use turnout::balancer::Foreign;
use turnout::domain::{Color, OnUnhealthy, PublicUrl, RoutingTable, Server};

use super::lab::Lab;
use super::must_apply;
use super::tables::{canary, colors, whole};
use super::traffic::Answer;

/// A server on a port where nobody listens.
fn dead() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    format!("http://{address}").parse().unwrap()
}

/// A server that takes connections and says `answer` to each, or nothing.
fn says(answer: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if !answer.is_empty() {
                let mut head = [0; 4096];
                assert!(stream.read(&mut head).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
            held.push(stream);
        }
    });
    format!("http://{address}").parse().unwrap()
}

fn refuse(table: &mut RoutingTable, colors: &[Color]) {
    for route in table.routes.values_mut() {
        route.refused = colors.iter().copied().collect();
    }
}

#[track_caller]
fn is_turnouts(answer: &Answer, status: u16, text: &str) {
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (status, text),
        "{:?}",
        answer.header("x-turnout-error")
    );
    assert_eq!(answer.header("x-turnout-error"), text);
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
}

#[tokio::test]
async fn a_refused_color_answers_503_and_the_other_one_serves_on() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let mut table = lab.table_with(1, canary(50.0), |shape| {
        shape.on_unhealthy = OnUnhealthy::Reject;
        shape.preview = Some("X-Turnout-Color".into());
    });
    refuse(&mut table, &[Color::Blue]);
    must_apply(&nginx, &table, None, Foreign::Refuse).await;

    for path in ["/", "/0", "/any?x=1"] {
        let answer = lab.get(path, &[("X-Turnout-Color", "blue")]).await;
        is_turnouts(&answer, 503, "No active backend available");
        assert_eq!(answer.header("x-upstream-url"), "");
        let answer = lab.get(path, &[("X-Turnout-Color", "green")]).await;
        assert_eq!((answer.status, answer.header("x-turnout-error")), (200, ""));
    }
    let mut healthy = table.clone();
    healthy.generation = turnout::domain::Generation(2);
    refuse(&mut healthy, &[]);
    must_apply(&nginx, &healthy, Some(&table), Foreign::Refuse).await;
    let answer = lab.get("/", &[("X-Turnout-Color", "blue")]).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_refused_color_answers_503_in_a_user_s_own_server_block_too() {
    let lab = Lab::start_with_own_server().await;
    let nginx = lab.nginx();
    let mut table = lab.table_with(1, whole(Color::Blue), |shape| {
        shape.listen = None;
        shape.public = Some(PublicUrl(lab.public_url()));
    });
    refuse(&mut table, &Color::BOTH);
    must_apply(&nginx, &table, None, Foreign::Refuse).await;
    let asked = turnout::exec::Program::new(["curl", "-ski", &lab.public_url()])
        .run()
        .await
        .unwrap()
        .success()
        .unwrap();
    assert!(
        asked.stdout.starts_with("HTTP/1.1 503 "),
        "{}",
        asked.stdout
    );
    assert!(
        asked
            .stdout
            .ends_with("\r\n\r\nNo active backend available"),
        "{}",
        asked.stdout
    );
}

#[tokio::test]
async fn dead_and_hanging_servers_are_told_apart_and_an_application_s_own_502_is_passed_on() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let hanging = says("");
    let failing = says(
        "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\nContent-Type: text/x\r\nConnection: close\r\n\r\nmine\n",
    );
    let mut previous: Option<RoutingTable> = None;
    let cases = [
        (vec![dead()], 502, "Bad gateway"),
        (vec![dead(), dead()], 502, "Bad gateway"),
        (vec![hanging.clone(), hanging], 504, "Gateway timeout"),
        (vec![failing], 502, "mine\n"),
    ];
    for (generation, (servers, status, text)) in (1..).zip(cases) {
        let table = lab.table_with(generation, whole(Color::Blue), |shape| {
            colors(shape).blue = servers;
            shape.timeouts.response = Duration::from_secs(2);
        });
        must_apply(&nginx, &table, previous.as_ref(), Foreign::Refuse).await;
        let answer = lab.get("/", &[]).await;
        assert_eq!(answer.header("x-routed-to"), "blue");
        if text == "mine\n" {
            assert_eq!((answer.status, answer.body.as_str()), (status, text));
            assert_eq!(answer.header("x-turnout-error"), "");
        } else {
            is_turnouts(&answer, status, text);
        }
        previous = Some(table);
    }
}

#[tokio::test]
async fn weight_is_taken_from_a_color_that_hangs_without_asking_it() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let hanging = says("");
    let shape = |shape: &mut turnout::domain::Service| {
        colors(shape).green = vec![hanging.clone()];
        // far longer than the switch may take
        shape.timeouts.response = Duration::from_secs(20);
    };
    let mut half = lab.table_with(1, canary(50.0), shape);
    // its first apply is with blue alone, so that nobody waits for green
    let whole_blue = lab.table_with(1, canary(100.0), shape);
    must_apply(&nginx, &whole_blue, None, Foreign::Refuse).await;
    half.generation = turnout::domain::Generation(2);
    let rendered = turnout::balancer::Balancer::render(&nginx, &half).unwrap();
    let forced = turnout::balancer::Balancer::apply(
        &nginx,
        turnout::balancer::Change {
            desired: &half,
            rendered: &rendered,
            previous: Some(&whole_blue),
            front_door: turnout::balancer::FrontDoor::Skip,
            unseen: &std::collections::BTreeSet::new(),
            foreign: Foreign::Refuse,
            progress: turnout::balancer::Progress::silent(),
        },
    )
    .await
    .unwrap();
    assert_eq!(forced.generation(), half.generation);
    for (generation, blue) in [(3, 80.0), (4, 100.0)] {
        let less = lab.table_with(generation, canary(blue), shape);
        let started = Instant::now();
        must_apply(&nginx, &less, Some(&half), Foreign::Refuse).await;
        // a question to green would take all of it
        assert!(started.elapsed() < Duration::from_secs(20), "{blue}");
        half = less;
    }
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client_and_limits_bound_head_and_body() {
    let mut lab = Lab::start().await;
    lab.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let table = lab.table_with(1, whole(Color::Blue), |shape| {
        shape.proxy_protocol = true;
        shape.limits.body = Some(10);
        shape.limits.head = 4 * 1024;
    });
    must_apply(&lab.nginx(), &table, None, Foreign::Refuse).await;
    let front = lab.front();
    let ask = |line: &str, rest: &str| {
        let mut stream = std::net::TcpStream::connect(front).unwrap();
        let request = format!("{line}{rest}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let proxy = "PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n";
    let end = "Host: shop.example.com\r\nConnection: close\r\n";
    let answer = ask(proxy, &format!("GET / HTTP/1.1\r\n{end}\r\n"));
    assert!(answer.contains("\nX-Real-IP: 203.0.113.7\n"), "{answer}");
    assert_eq!(ask("", &format!("GET / HTTP/1.1\r\n{end}\r\n")), "");
    let long = "x".repeat(11);
    let answer = ask(
        proxy,
        &format!("POST / HTTP/1.1\r\n{end}Content-Length: 11\r\n\r\n{long}"),
    );
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let long = "x".repeat(5_000);
    let answer = ask(
        proxy,
        &format!("GET / HTTP/1.1\r\nX-Long: {long}\r\n{end}\r\n"),
    );
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}
