//! Bodies, whole, in chunks and cut short: each end sees what the other one sent, and sees that it went away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turnout::domain::Color;

use super::servers::{OK, recording, server};
use super::shop::Shop;
use super::until;
use super::wire::{SOON, get};

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_arrives_in_one_framing() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    for method in ["POST", "DELETE"] {
        client
            .send(&format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.status(), 200);
        let request = requests.recv().await.unwrap();
        assert_eq!(request.text(), "abcde");
        assert_eq!(request.header("content-length"), None);
        assert_eq!(request.header("transfer-encoding"), Some("chunked"));
    }
    // pipelined behind another request
    client
        .send(&format!(
            "{}POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            get("/")
        ))
        .await;
    assert_eq!(client.answer().await.status(), 200);
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.header("connection")), (200, None));
    client.send(&get("/")).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_of_1_mb_arrives_whole() {
    let echo = server(|mut wire| async move {
        let request = wire.message().await;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            request.body.len()
        );
        wire.send(&head).await;
        wire.0.write_all(&request.body).await.unwrap();
    })
    .await;
    let shop = Shop::new(echo).await;
    let body: Vec<u8> = (0..1 << 20_u32)
        .map(|n: u32| n.to_le_bytes()[1] ^ 0x5a)
        .collect();
    let mut client = shop.client().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(&head).await;
    client.0.write_all(&body).await.unwrap();
    assert_eq!(client.answer().await.body, body);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_stream() {
    let server = server(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        while let Some(part) = wire.chunk().await {
            let part = String::from_utf8(part).unwrap();
            wire.send(&format!("{:x}\r\n{part}\r\n", part.len())).await;
        }
        wire.send("0\r\n\r\n").await;
    })
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    // the head of the answer and each part come back while the request is still on the way
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    for part in ["one", "two", "three"] {
        client
            .send(&format!("{:x}\r\n{part}\r\n", part.len()))
            .await;
        assert_eq!(client.chunk().await.unwrap(), part.as_bytes());
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_short_is_seen_as_cut_short() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let server = server(move |mut wire| async move {
            wire.message().await;
            wire.send(answer).await;
        })
        .await;
        let shop = Shop::new(server).await;
        let mut client = shop.client().await;
        client.send(&get("/")).await;
        let mut all = Vec::new();
        let read = client.0.read_to_end(&mut all);
        // whether the end is one or an error is the kernel's choice
        drop(tokio::time::timeout(SOON, read).await.unwrap());
        let text = String::from_utf8_lossy(&all);
        assert!(!text.ends_with("0\r\n\r\n"), "{text}");
        assert!(text.contains("half"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_its_request_along() {
    let gone = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&gone);
    let server = server(move |mut wire| {
        let seen = Arc::clone(&seen);
        async move {
            wire.head().await;
            seen.store(wire.ended().await, Ordering::SeqCst);
        }
    })
    .await;
    let shop = Shop::new(server).await;
    let name = shop.service.name.clone();
    let mut client = shop.client().await;
    client.send(&get("/")).await;
    until("in flight", || {
        shop.proxy.in_flight(&name, Color::Blue) == 1
    })
    .await;
    drop(client);
    until("the server's connection ended", || {
        gone.load(Ordering::SeqCst)
    })
    .await;
    assert_eq!(shop.proxy.in_flight(&name, Color::Blue), 0);
}
