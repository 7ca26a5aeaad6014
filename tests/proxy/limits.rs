//! What a client may send, and what becomes of one that sends more: a status, a counter, and the others go on. And the PROXY
//! protocol in front of all of it.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::embedded::{OK, SOON, Shop, get, named, nobody, recording, server, until};

fn count(shop: &Shop, reason: &str) -> u64 {
    let refused = shop.proxy.refused();
    let found = refused.iter().find(|(name, _)| *name == reason);
    found.unwrap_or_else(|| panic!("{reason} is not counted")).1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_a_413_by_its_length_and_as_it_comes() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::with(vec![server], vec![nobody()], |service| {
        service.limits.body = Some(1_000);
    })
    .await;
    let mut client = shop.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (413, Some("close"))
    );
    assert!(client.ended().await);
    assert!(requests.try_recv().is_err());

    let mut client = shop.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..11 {
        // the last one may come when the answer is on its way
        drop(
            client
                .0
                .write_all(format!("64\r\n{}\r\n", "x".repeat(100)).as_bytes())
                .await,
        );
    }
    assert_eq!(client.answer().await.status(), 413);
    until("body_too_large", || count(&shop, "body_too_large") == 2).await;

    let text = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}",
        "x".repeat(1000)
    );
    assert_eq!(shop.ask(&text).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_100_continue_is_answered_once_the_server_takes_the_request() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(requests.recv().await.unwrap().text(), "body");
    // nobody to take it: no 100
    let shop = Shop::new(nobody()).await;
    let mut client = shop.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_told_so_and_a_place_is_free_again_when_one_ends() {
    let shop = Shop::with(vec![named("blue").await], vec![nobody()], |service| {
        service.limits.connections = 2;
    })
    .await;
    let mut first = shop.client().await;
    let mut second = shop.client().await;
    for client in [&mut first, &mut second] {
        client.send(&get("/")).await;
        assert_eq!(client.answer().await.text(), "blue");
    }
    let mut third = shop.client().await;
    let answer = third.answer().await;
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (503, Some("close"))
    );
    assert!(third.ended().await);
    until("connections", || count(&shop, "connections") == 1).await;
    drop(second);
    // the proxy may need a moment to see that it ended
    let deadline = std::time::Instant::now() + SOON;
    while shop.ask(&get("/")).await.status() != 200 {
        assert!(std::time::Instant::now() < deadline, "no place came free");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.send(&get("/")).await;
    assert_eq!(first.answer().await.text(), "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_counter() {
    let shop = Shop::with(vec![named("blue").await], vec![nobody()], |service| {
        service.timeouts.head = Duration::from_millis(500);
        service.timeouts.idle = Duration::from_millis(500);
    })
    .await;
    for (text, status, reason) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "ambiguous"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
            400,
            "ambiguous",
        ),
        ("GET / HTTP/1.1\r\nX Y: a\r\n\r\n", 400, "malformed"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-", 408, "head_timeout"),
    ] {
        let before = count(&shop, reason);
        let mut client = shop.client().await;
        client.send(text).await;
        assert_eq!(client.answer().await.status(), status, "{text:?}");
        assert!(client.ended().await, "{text:?}");
        until(reason, || count(&shop, reason) == before + 1).await;
    }
    let text = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X-Many: 1\r\n".repeat(101)
    );
    assert_eq!(shop.ask(&text).await.status(), 431);
    until("head_too_large", || count(&shop, "head_too_large") == 1).await;
    let mut idle = shop.client().await;
    idle.send(&get("/")).await;
    idle.answer().await;
    assert!(idle.ended().await);
    until("idle", || count(&shop, "idle") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_more_than_its_answer_is_not_asked_again_on_that_connection() {
    let (sender, mut connections) = tokio::sync::mpsc::unbounded_channel();
    let server = server(move |mut wire| {
        let sender = sender.clone();
        async move {
            sender.send(()).unwrap();
            while !wire.message().await.head.is_empty() {
                let more = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
                wire.send(&format!("{OK}{more}")).await;
            }
        }
    })
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    for _ in 0..3 {
        client.send(&get("/")).await;
        assert_eq!(client.answer().await.text(), "ok");
        assert!(connections.recv().await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_protocol_says_who_the_client_is() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::with(vec![server], vec![nobody()], |service| {
        service.proxy_protocol = true;
        service.timeouts.head = Duration::from_millis(500);
    })
    .await;
    let two = ppp::v2::Builder::with_addresses(
        ppp::v2::Version::Two | ppp::v2::Command::Proxy,
        ppp::v2::Protocol::Stream,
        (
            "203.0.113.9:4000".parse::<std::net::SocketAddr>().unwrap(),
            shop.address,
        ),
    )
    .build()
    .unwrap();
    for (head, client_ip) in [
        (
            &b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 80\r\n"[..],
            "203.0.113.9",
        ),
        (
            b"PROXY TCP6 2001:db8::9 2001:db8::1 4000 80\r\n",
            "2001:db8::9",
        ),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (&two, "203.0.113.9"),
    ] {
        let mut client = shop.client().await;
        client.0.write_all(head).await.unwrap();
        for _ in 0..2 {
            client.send(&get("/")).await;
            assert_eq!(client.answer().await.status(), 200);
            let request = requests.recv().await.unwrap();
            assert_eq!(request.header("x-real-ip"), Some(client_ip));
            assert_eq!(request.header("x-forwarded-for"), Some(client_ip));
        }
    }
    // missing, malformed, or not in time: closed without a word, since nobody knows who asks
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PROXY TCP4 x y\r\n",
        "PROXY",
    ] {
        let mut client = shop.client().await;
        client.send(head).await;
        let mut rest = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut client.0, &mut rest);
        // a reset is an end as well
        drop(
            tokio::time::timeout(SOON, read)
                .await
                .expect("it stays open"),
        );
        assert!(rest.is_empty());
    }
    until("proxy_protocol", || count(&shop, "proxy_protocol") == 3).await;
    assert!(requests.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_head_of_somebody_who_is_not_trusted_is_read_and_not_believed() {
    let (server, mut requests) = recording(OK).await;
    let trusted = vec!["10.0.0.0/8".parse().unwrap()];
    let shop = Shop::trusting(trusted, vec![server], vec![nobody()], |service| {
        service.proxy_protocol = true;
    })
    .await;
    let text = format!("PROXY TCP4 203.0.113.9 192.0.2.1 4000 80\r\n{}", get("/"));
    assert_eq!(shop.ask(&text).await.status(), 200);
    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("x-real-ip"), Some("127.0.0.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_before_the_body_is_complete_is_passed_on_at_once() {
    let server = server(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            .await;
        wire.ended().await;
    })
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegin")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text()), (403, "no"));
}
