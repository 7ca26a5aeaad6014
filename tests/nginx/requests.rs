//! What a request meets on its way through nginx: its color, its headers, a pin, and servers that are gone.

use std::collections::BTreeMap;

use turnout::balancer::Foreign;
use turnout::domain::{Bucket, Color};

use super::lab::Lab;
use super::must_apply;
use super::tables::{canary, colors, whole};

#[tokio::test]
async fn a_key_gets_the_same_color_from_nginx_and_from_the_bucket() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let service = "shop".parse().unwrap();
    for (generation, blue) in [10.0, 25.0, 50.0, 0.01, 99.99].into_iter().enumerate() {
        let position = canary(blue);
        let table = lab.table(generation as u64 + 1, position);
        must_apply(&nginx, &table, None, Foreign::Refuse).await;
        let mut seen = BTreeMap::new();
        let mut connection = lab.connection().await;
        for number in 0..1_000 {
            // nginx ends a connection after 1,000 requests
            if number == 500 {
                connection = lab.connection().await;
            }
            let key = format!("user-{number}-{}", "k".repeat(number % 9));
            let expected = Bucket::of(&service, key.as_bytes()).color(position.split());
            let routed = connection.routed(&[("X-Session-Key", &key)]).await;
            assert_eq!(routed, expected, "{key} at {blue} %");
            if number % 50 == 0 {
                let by_cookie = connection
                    .routed(&[("Cookie", &format!("a=b; session_id={key}"))])
                    .await;
                assert_eq!(by_cookie, expected, "cookie {key} at {blue} %");
            }
            *seen.entry(routed).or_insert(0) += 1;
        }
        let share = f64::from(*seen.get(&Color::Blue).unwrap_or(&0)) / 10.0;
        assert!((share - blue).abs() < 4.0, "{share} % at {blue} %");
    }
}

#[tokio::test]
async fn what_reaches_the_server_is_what_came_but_for_what_was_forged() {
    let mut lab = Lab::start().await;
    let nginx = lab.nginx();
    must_apply(
        &nginx,
        &lab.table(1, whole(Color::Blue)),
        None,
        Foreign::Refuse,
    )
    .await;
    let path = "/a%2Fb//c/./d?x=%20&y=a+b";
    let forged = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-Request-ID", "given"),
        ("Proxy-Connection", "x"),
        ("Forwarded", "for=6.6.6.6"),
    ];
    let echo = lab.get(path, &forged).await.body.to_ascii_lowercase();
    assert!(
        echo.starts_with(&format!("get {} http/1.1", path.to_ascii_lowercase())),
        "{echo}"
    );
    for line in [
        "host: shop.example.com",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: shop.example.com",
        "x-real-ip: 127.0.0.1",
        "x-request-id: given",
    ] {
        assert!(
            echo.lines().any(|found| found == line),
            "no `{line}` in {echo}"
        );
    }
    assert!(
        !echo.contains("proxy-connection") && !echo.contains("forwarded: for"),
        "{echo}"
    );
    lab.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    must_apply(
        &lab.nginx(),
        &lab.table(2, whole(Color::Blue)),
        None,
        Foreign::Refuse,
    )
    .await;
    let echo = lab.get(path, &forged).await.body.to_ascii_lowercase();
    for line in [
        "x-forwarded-for: 6.6.6.6, 127.0.0.1",
        "x-forwarded-proto: https",
        "x-real-ip: 6.6.6.6",
        "forwarded: for=6.6.6.6",
    ] {
        assert!(
            echo.lines().any(|found| found == line),
            "no `{line}` in {echo}"
        );
    }
}

#[tokio::test]
async fn the_preview_header_names_a_color_and_an_unknown_host_is_refused() {
    let lab = Lab::start().await;
    let nginx = lab.nginx();
    let table = lab.table_with(1, whole(Color::Blue), |shape| {
        shape.preview = Some("X-Turnout-Color".into());
    });
    must_apply(&nginx, &table, None, Foreign::Refuse).await;
    let preview = lab.get("/", &[("X-Turnout-Color", "green")]).await;
    assert_eq!(preview.header("x-backend"), "green");
    assert_eq!(
        lab.get("/", &[("X-Turnout-Color", "red")])
            .await
            .header("x-backend"),
        "blue"
    );
    let unknown = lab.get_as("other.example.com", "/", &[]).await;
    assert_eq!(
        (unknown.status, unknown.header("x-turnout-error")),
        (404, "No service answers to this host here")
    );
}

#[tokio::test]
async fn a_first_visitor_is_pinned_by_the_cookie_that_comes_with_the_answer() {
    let lab = Lab::start().await;
    let table = lab.table_with(1, canary(50.0), |shape| {
        if let Some(sticky) = &mut shape.sticky {
            sticky.set_cookie = true;
            sticky.cookie = "turnout-pin".into();
        }
    });
    must_apply(&lab.nginx(), &table, None, Foreign::Refuse).await;
    for _ in 0..40 {
        let first = lab.get("/", &[]).await;
        let cookie = first
            .header("set-cookie")
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        let color = first.header("x-routed-to").to_owned();
        for _ in 0..3 {
            let next = lab.get("/", &[("Cookie", &cookie)]).await;
            assert_eq!(next.header("x-routed-to"), color);
            assert_eq!(next.header("set-cookie"), "");
        }
    }
}

#[tokio::test]
async fn a_dead_server_is_passed_over_within_its_color_and_never_for_the_other_color() {
    let lab = Lab::start().await;
    let table = lab.table_with(1, whole(Color::Blue), |shape| {
        colors(shape)
            .blue
            .insert(0, "http://127.0.0.1:1".parse().unwrap());
    });
    let nginx = lab.nginx();
    must_apply(&nginx, &table, None, Foreign::Refuse).await;
    for _ in 0..10 {
        let answer = lab.get("/", &[]).await;
        assert_eq!((answer.status, answer.header("x-backend")), (200, "blue"));
    }
    let dead = lab.table_with(2, whole(Color::Blue), |shape| {
        colors(shape).blue = vec!["http://127.0.0.1:1".parse().unwrap()];
    });
    must_apply(&nginx, &dead, Some(&table), Foreign::Refuse).await;
    let answer = lab.get("/", &[]).await;
    assert_eq!(
        (
            answer.status,
            answer.header("x-routed-to"),
            answer.header("x-backend")
        ),
        (502, "blue", "")
    );
}
