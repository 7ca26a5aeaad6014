//! Requests whose answers begin before they have ended: the rest of them is taken, waited for, and not waited for without an end.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use turnout::domain::{Color, Server};

use crate::embedded::{SOON, Shop, nobody, server, until};

/// Bytes of the body of a request.
const BODY: usize = 10;

/// A server that begins to answer with `begin`, and says `end` long after it has the whole body.
async fn early(begin: &'static str, end: &'static str) -> Server {
    server(move |mut wire| async move {
        wire.head().await;
        wire.send(begin).await;
        if wire.0.read_exact(&mut [0; BODY]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            wire.send(end).await;
        }
        wire.ended().await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_rest_does_not_come_is_cut_though_its_answer_has_begun() {
    for (begin, end) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n",
            "3\r\nend\r\n0\r\n\r\n",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nbegin", "end"),
    ] {
        let shop = Shop::with(vec![early(begin, end).await], vec![nobody()], |service| {
            service.timeouts.idle = Duration::from_secs(2);
        })
        .await;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n");
        let mut slow = shop.client().await;
        slow.send(&head).await;
        let mut stalled = shop.client().await;
        stalled.send(&format!("{head}half")).await;
        let begun = Instant::now();
        let stalling = tokio::spawn(async move {
            stalled.head().await;
            let mut rest = Vec::new();
            let read = stalled.0.read_to_end(&mut rest);
            tokio::time::timeout(SOON, read).await.unwrap().unwrap();
            (begun.elapsed(), String::from_utf8(rest).unwrap())
        });
        // each byte in less than the time, all of them in several of it
        for _ in 0..BODY {
            tokio::time::sleep(Duration::from_millis(400)).await;
            slow.send("x").await;
        }
        let answer = slow.answer().await;
        assert_eq!((answer.status(), answer.text()), (200, "beginend"));
        let (took, rest) = stalling.await.unwrap();
        assert!(!rest.contains("end"), "{rest:?}");
        assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
        // counted from the sweep before
        assert!((1_700..6_000).contains(&took.as_millis()), "{took:?}");
        let name = shop.service.name.clone();
        let totals = || shop.proxy.totals(&name, Color::Blue).unwrap();
        until("both have ended", || totals().in_flight == 0).await;
        // it is not the server's doing
        assert_eq!((totals().requests, totals().failed), (2, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_no_known_length_has_all_the_time_once_the_request_is_whole() {
    let events = server(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n")
            .await;
        wire.0.read_exact(&mut [0; BODY]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        wire.send("3\r\nend\r\n0\r\n\r\n").await;
        wire.ended().await;
    })
    .await;
    let shop = Shop::with(vec![events], vec![nobody()], |service| {
        service.timeouts.idle = Duration::from_secs(2);
    })
    .await;
    let mut client = shop.client().await;
    client
        .send(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\nhalf!"
        ))
        .await;
    client.head().await;
    assert_eq!(client.chunk().await.unwrap(), b"begin");
    // so that it is waited for by then
    tokio::time::sleep(Duration::from_millis(500)).await;
    client.send("half!").await;
    assert_eq!(client.chunk().await.unwrap(), b"end");
    assert!(client.chunk().await.is_none());
}

/// More than the kernel holds between any two of the three.
const MUCH: usize = 48 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_send_all_of_its_request_before_it_reads_the_answer() {
    let both_ways = server(|mut wire| async move {
        wire.head().await;
        let (mut read, mut write) = wire.0.into_split();
        let answering = tokio::spawn(async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {MUCH}\r\n\r\n");
            write.write_all(head.as_bytes()).await.unwrap();
            much(&mut write).await;
            write
        });
        all(&mut read).await;
        drop(answering.await.unwrap());
    })
    .await;
    let shop = Shop::new(both_ways).await;
    let mut client = shop.client().await;
    client
        .send(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {MUCH}\r\n\r\n"
        ))
        .await;
    let sent = tokio::time::timeout(SOON, much(&mut client.0)).await;
    sent.expect("the request is not taken");
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    let read = tokio::time::timeout(SOON, all(&mut client.0)).await;
    read.expect("the answer does not come");
}

/// Writes [`MUCH`].
async fn much(to: &mut (impl tokio::io::AsyncWrite + Unpin)) {
    let part = vec![b'x'; 64 * 1024];
    for _ in 0..MUCH / part.len() {
        to.write_all(&part).await.unwrap();
    }
}

/// Reads it.
async fn all(from: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut part = vec![0; 64 * 1024];
    for _ in 0..MUCH / part.len() {
        from.read_exact(&mut part).await.unwrap();
    }
}
