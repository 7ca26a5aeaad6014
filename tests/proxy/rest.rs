//! Kept-alive connections whose clients think for longer than the proxy keeps buffers for them: they are answered as any other,
//! whatever comes first, and however often they rest.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::tls::{connect, pair, trusting};
use crate::embedded::{OK, Shop, get, named, nobody, on, recording, until};
use turnout::domain::Color;

/// Longer than a connection is idle before it rests (a second, found by a sweep each 250 ms).
const THOUGHT: Duration = Duration::from_millis(1_800);

async fn think() {
    tokio::time::sleep(THOUGHT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_thinks_for_long_is_answered_each_time() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    for number in 0..3 {
        let body = "x".repeat(number * 20_000);
        let text = format!(
            "POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.send(&text).await;
        assert_eq!(client.answer().await.text(), "ok");
        let request = requests.recv().await.unwrap();
        assert!(request.head.starts_with(&format!("POST /{number} ")));
        assert_eq!(request.body.len(), body.len());
        think().await;
    }
    // a head in two parts, the second long after the first; then two requests at once
    client.send("GET /half HTTP/1.1\r\nHo").await;
    think().await;
    client.send("st: a\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "ok");
    think().await;
    client.send(&get("/one").repeat(2)).await;
    assert_eq!(client.answer().await.text(), "ok");
    assert_eq!(client.answer().await.text(), "ok");
    think().await;
    client.send("\r\n").await;
    think().await;
    client.send(&get("/")).await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wakes_is_looked_at_as_strictly_and_rest_does_not_put_off_the_end() {
    let shop = Shop::with(vec![named("blue").await], vec![nobody()], |service| {
        service.timeouts.head = Duration::from_millis(500);
        service.timeouts.idle = Duration::from_secs(3);
    })
    .await;
    let refused = |reason: &str| {
        let refused = shop.proxy.refused();
        refused.iter().find(|(name, _)| *name == reason).unwrap().1
    };
    let (mut twofold, mut late, mut idle) = (
        shop.client().await,
        shop.client().await,
        shop.client().await,
    );
    for client in [&mut twofold, &mut late, &mut idle] {
        client.send(&get("/")).await;
        assert_eq!(client.answer().await.text(), "blue");
    }
    think().await;
    twofold
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await;
    assert_eq!(twofold.answer().await.status(), 400);
    assert_eq!(refused("ambiguous"), 1);
    late.send("GET / HTTP/1.1\r\nHost: a\r\nX-").await;
    assert_eq!(late.answer().await.status(), 408);
    assert_eq!(refused("head_timeout"), 1);
    assert!(idle.ended().await);
    until("idle", || refused("idle") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_in_tls_rests_and_wakes_and_gets_the_color_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let (files, certificate) = pair(folder.path(), "shop", "shop.test");
    let mut shop = Shop::with(
        vec![named("blue").await],
        vec![named("green").await],
        |service| service.tls = Some(files),
    )
    .await;
    let connector = trusting(&[&certificate], &[b"http/1.1"]);
    let mut stream = connect(&connector, shop.address, "shop.test")
        .await
        .unwrap();
    for color in [Color::Blue, Color::Green, Color::Blue] {
        shop.install(on(color)).await;
        stream.write_all(get("/").as_bytes()).await.unwrap();
        let (mut answer, end) = (Vec::new(), format!("\r\n\r\n{color}"));
        while !answer.ends_with(end.as_bytes()) {
            answer.push(stream.read_u8().await.unwrap());
        }
        think().await;
    }
}
