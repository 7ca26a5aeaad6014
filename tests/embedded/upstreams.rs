//! The way to the servers: whose turn it is, what is said when nobody serves, which connections are kept, and what is repeated on
//! another one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use turnout::domain::{Color, Server};

use super::servers::{OK, named, nobody, recording_forever, server};
use super::shop::{Shop, on, table};
use super::wire::{SOON, get};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_serve_gives_502_503_and_504() {
    let refused = Shop::new(nobody()).await;
    let answer = refused.ask(&get("/")).await;
    assert_eq!((answer.status(), answer.text()), (502, "Bad gateway"));
    assert_eq!(answer.header("x-routed-to"), Some("blue"));

    let silent = server(|mut wire| async move {
        wire.head().await;
        tokio::time::sleep(SOON).await;
    })
    .await;
    let silent = Shop::with(vec![silent], vec![nobody()], |service| {
        service.timeouts.response = Duration::from_millis(200);
    })
    .await;
    let begun = Instant::now();
    assert_eq!(silent.ask(&get("/")).await.status(), 504);
    assert!(begun.elapsed() < Duration::from_secs(3));

    let nonsense = Shop::new(recording_forever("SSH-2.0-OpenSSH\r\n").await).await;
    assert_eq!(nonsense.ask(&get("/")).await.status(), 502);

    let mut sick = Shop::new(named("blue").await).await;
    let mut sick_table = table(9, sick.service.clone(), on(Color::Blue));
    for route in sick_table.routes.values_mut() {
        route.unhealthy = Color::BOTH
            .into_iter()
            .flat_map(|color| sick.service.servers(color).to_vec())
            .collect();
    }
    sick.proxy
        .install(
            sick.proxy
                .snapshot(&sick_table, turnout::domain::Hashing::SplitClients),
        )
        .await
        .unwrap();
    let answer = sick.ask(&get("/")).await;
    assert_eq!(
        (answer.status(), answer.text()),
        (503, "No active backend available")
    );
    // healthy again, without anyone's help but the next table's
    sick.generation = 9;
    sick.install(on(Color::Blue)).await;
    assert_eq!(sick.ask(&get("/")).await.text(), "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_take_turns_and_a_refused_one_is_passed_over() {
    let servers = vec![named("one").await, nobody(), named("two").await];
    let shop = Shop::with(servers, vec![nobody()], |_| {}).await;
    let mut client = shop.client().await;
    let mut seen = BTreeMap::new();
    for _ in 0..30 {
        client.send(&get("/")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 200);
        *seen.entry(answer.text().to_owned()).or_insert(0) += 1;
    }
    // two's turn comes twice in three: its own, and that of the one that refuses
    assert_eq!(
        seen,
        BTreeMap::from([("one".to_owned(), 10), ("two".to_owned(), 20)])
    );
}

/// A server that answers the first request of each connection, takes a second one, and closes without an answer.
async fn dying() -> (Server, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let server = server(move |mut wire| {
        let seen = Arc::clone(&seen);
        async move {
            for answers in [true, false] {
                let request = wire.message().await;
                if request.head.is_empty() {
                    return;
                }
                let line = request.head.lines().next().unwrap().to_owned();
                seen.lock().unwrap().push(line);
                if answers {
                    wire.send(OK).await;
                }
            }
        }
    })
    .await;
    (server, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_idempotent_and_has_no_body_is_repeated_and_only_on_a_kept_connection() {
    for (request, status, times) in [
        ("GET /x HTTP/1.1\r\nHost: a\r\n\r\n", 200, 2),
        ("DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n", 200, 2),
        (
            "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            200,
            2,
        ),
        (
            "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1",
            502,
            1,
        ),
        (
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            502,
            1,
        ),
        (
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1",
            502,
            1,
        ),
        ("PATCH /x HTTP/1.1\r\nHost: a\r\n\r\n", 502, 1),
    ] {
        let (server, lines) = dying().await;
        let shop = Shop::new(server).await;
        let mut client = shop.client().await;
        client.send(&get("/first")).await;
        assert_eq!(client.answer().await.status(), 200);
        client.send(request).await;
        assert_eq!(client.answer().await.status(), status, "{request:?}");
        let seen = lines.lock().unwrap();
        let count = seen.iter().filter(|line| line.contains(" /x ")).count();
        assert_eq!(count, times, "{request:?}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_connection_that_dies_is_not_tried_again() {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let server = server(move |mut wire| {
        let count = Arc::clone(&count);
        async move {
            wire.head().await;
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let shop = Shop::new(server).await;
    assert_eq!(shop.ask(&get("/")).await.status(), 502);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_never_meets_a_connection_that_the_server_has_closed() {
    let server = server(|mut wire| async move {
        wire.message().await;
        wire.send(OK).await;
    })
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    for _ in 0..50 {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            .await;
        assert_eq!(client.answer().await.status(), 200);
        // for the server's FIN to arrive; one that crosses the request on the way cannot be seen by anybody
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_servers_are_kept() {
    let accepted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&accepted);
    let server = server(move |mut wire| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            while !wire.message().await.head.is_empty() {
                wire.send(OK).await;
            }
        }
    })
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    for _ in 0..100 {
        client.send(&get("/")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}
