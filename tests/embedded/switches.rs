//! The color that a request gets, by its key or cookie and by the table in force, and that a switch or a drain loses none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use turnout::domain::{Bucket, Color, Position, Split};

use super::servers::{named, patient};
use super::shop::{Shop, on};
use super::until;
use super::wire::{Wire, get};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gets_the_color_that_its_bucket_says() {
    let mut shop = Shop::with(
        vec![named("blue").await],
        vec![named("green").await],
        |_| {},
    )
    .await;
    let split = Split::from_percents(75.0, 25.0).unwrap();
    shop.install(Position::canary(Color::Blue, split)).await;
    let mut client = shop.client().await;
    let mut green = 0;
    for number in 0..1_000 {
        let key = format!("user-{number}");
        let expected = Bucket::of(&shop.service.name, key.as_bytes()).color(split);
        let line = if number % 2 == 0 {
            format!("X-Session-Key: {key}")
        } else {
            format!("Cookie: other=1; session_id={key}")
        };
        client
            .send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), expected.as_str(), "{key}");
        assert_eq!(answer.header("x-routed-to"), Some(expected.as_str()));
        green += u32::from(expected == Color::Green);
    }
    assert!((200..300).contains(&green), "{green}");
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Session-Key: x\r\nX-Turnout-Color: green\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.text(), "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_time_visitor_gets_a_cookie_that_leads_back() {
    let mut shop = Shop::with(
        vec![named("blue").await],
        vec![named("green").await],
        |service| service.sticky.as_mut().unwrap().set_cookie = true,
    )
    .await;
    let split = Split::from_percents(50.0, 50.0).unwrap();
    shop.install(Position::canary(Color::Blue, split)).await;
    for _ in 0..50 {
        let first = shop.ask(&get("/")).await;
        let cookie = first
            .header("set-cookie")
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        assert!(cookie.starts_with("session_id="), "{cookie}");
        let again = shop
            .ask(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"
            ))
            .await;
        assert_eq!(again.text(), first.text());
        assert_eq!(again.header("set-cookie"), None);
    }
}

/// How many clients of each kind load the proxy in the switch test.
const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_under_load_loses_nothing_and_is_in_force_when_it_returns() {
    let mut shop = Shop::with(
        vec![named("blue").await],
        vec![named("green").await],
        |_| {},
    )
    .await;
    // the color that every request must get that starts after this was written: 0 while a switch is on its way
    let settled = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for number in 0..CLIENTS * 2 {
        let (settled, stop, served) = (settled.clone(), stop.clone(), served.clone());
        let address = shop.address;
        clients.push(tokio::spawn(async move {
            let mut kept: Option<Wire> = None;
            while !stop.load(Ordering::SeqCst) {
                let mut wire = match kept.take() {
                    Some(wire) => wire,
                    None => Wire(TcpStream::connect(address).await.unwrap()),
                };
                let before = settled.load(Ordering::SeqCst);
                wire.send(&get("/")).await;
                let answer = wire.answer().await;
                let after = settled.load(Ordering::SeqCst);
                assert_eq!(answer.status(), 200, "{}", answer.head);
                // judged only where no switch began between the two looks
                if before == after && before > 0 {
                    let expected = if before % 2 == 0 { "blue" } else { "green" };
                    assert_eq!(answer.text(), expected, "after switch {before}");
                }
                served.fetch_add(1, Ordering::SeqCst);
                if number < CLIENTS {
                    kept = Some(wire);
                }
            }
        }));
    }
    for switch in 1..=40_u64 {
        let target = served.load(Ordering::SeqCst) + 50;
        until("load", || served.load(Ordering::SeqCst) >= target).await;
        settled.store(0, Ordering::SeqCst);
        shop.install(on(if switch % 2 == 0 {
            Color::Blue
        } else {
            Color::Green
        }))
        .await;
        settled.store(switch, Ordering::SeqCst);
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    for color in Color::BOTH {
        let totals = shop.proxy.totals(&shop.service.name, color).unwrap();
        assert_eq!((totals.failed, totals.in_flight), (0, 0), "{color}");
        assert!(totals.requests > 100, "{color}: {totals:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_finishes_on_the_color_that_was_left_and_is_counted_there() {
    let (slow, mut asked) = patient().await;
    let mut shop = Shop::with(vec![slow], vec![named("green").await], |_| {}).await;
    let name = shop.service.name.clone();
    let mut client = shop.client().await;
    client.send(&get("/")).await;
    let go = asked.recv().await.unwrap();
    shop.install(on(Color::Green)).await;
    assert_eq!(shop.ask(&get("/")).await.text(), "green");
    assert_eq!(shop.proxy.in_flight(&name, Color::Blue), 1);
    go.send(()).unwrap();
    let answer = client.answer().await;
    assert_eq!(
        (answer.text(), answer.header("x-routed-to")),
        ("ok", Some("blue"))
    );
    until("blue drained", || {
        shop.proxy.in_flight(&name, Color::Blue) == 0
    })
    .await;
    client.send(&get("/")).await;
    assert_eq!(client.answer().await.text(), "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let (slow, mut asked) = patient().await;
    let shop = Shop::new(slow).await;
    let mut idle = shop.client().await;
    idle.send(&get("/")).await;
    asked.recv().await.unwrap().send(()).unwrap();
    idle.answer().await;
    let mut untouched = shop.client().await;
    let mut busy = shop.client().await;
    busy.send(&get("/")).await;
    let go = asked.recv().await.unwrap();
    let proxy = shop.proxy.clone();
    let drain = tokio::spawn(async move {
        proxy
            .drain(tokio::time::Instant::now() + Duration::from_secs(30))
            .await
    });
    assert!(idle.ended().await);
    assert!(untouched.ended().await);
    until("nobody accepts", || {
        std::net::TcpStream::connect(shop.address).is_err()
    })
    .await;
    assert!(!drain.is_finished());
    go.send(()).unwrap();
    let answer = busy.answer().await;
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (200, Some("close"))
    );
    assert!(busy.ended().await);
    assert_eq!(drain.await.unwrap().cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_cuts_at_its_deadline() {
    let (slow, mut asked) = patient().await;
    let shop = Shop::new(slow).await;
    let mut busy = shop.client().await;
    busy.send(&get("/")).await;
    let _go = asked.recv().await.unwrap();
    let begun = Instant::now();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(300);
    assert_eq!(shop.proxy.drain(deadline).await.cut, 1);
    assert!(
        (300..3_000).contains(&begun.elapsed().as_millis()),
        "{:?}",
        begun.elapsed()
    );
    assert!(busy.ended().await);
}
