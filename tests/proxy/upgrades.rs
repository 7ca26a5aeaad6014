//! WebSockets and other upgrades: tunnelled after the server's 101 and not before, counted, and closed at the drain deadline.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};
use turnout::domain::{Color, Server};

use crate::embedded::{OK, SOON, Shop, Wire, get, named, nobody, on, recording, server, until};

const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// What the proxy answers by itself.
const OWN: &str = "GET /__router_health HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server that switches and says everything again.
async fn echo() -> Server {
    server(|mut wire| async move {
        wire.head().await;
        wire.send(SWITCH).await;
        let (mut reader, mut writer) = wire.0.split();
        // either end may break it off
        drop(tokio::io::copy(&mut reader, &mut writer).await);
        drop(writer.shutdown().await);
    })
    .await
}

/// The same, once it is told to; with a word for each request that came, and one for each connection that ended.
struct Waiting {
    server: Server,
    go: watch::Sender<bool>,
    asked: mpsc::UnboundedReceiver<()>,
    ended: mpsc::UnboundedReceiver<()>,
}

async fn waiting() -> Waiting {
    let (go, gone) = watch::channel(false);
    let (ask, asked) = mpsc::unbounded_channel();
    let (end, ended) = mpsc::unbounded_channel();
    let server = server(move |mut wire| {
        let (mut gone, ask, end) = (gone.clone(), ask.clone(), end.clone());
        async move {
            while wire.head().await.contains("upgrade: websocket") {
                ask.send(()).unwrap();
                gone.wait_for(|gone| *gone).await.unwrap();
                wire.send(SWITCH).await;
                let (mut reader, mut writer) = wire.0.split();
                drop(tokio::io::copy(&mut reader, &mut writer).await);
            }
            // nobody may want to know any more
            end.send(()).ok();
        }
    })
    .await;
    Waiting {
        server,
        go,
        asked,
        ended,
    }
}

async fn tunnel(shop: &Shop) -> Wire {
    let mut client = shop.client().await;
    client.send(ASK).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client
}

async fn says_again(client: &mut Wire, text: &str) {
    client.send(text).await;
    let mut heard = vec![0; text.len()];
    let read = client.0.read_exact(&mut heard);
    tokio::time::timeout(SOON, read).await.unwrap().unwrap();
    assert_eq!(heard, text.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_speaks_both_ways_and_says_goodbye() {
    use futures_util::{SinkExt as _, StreamExt as _};
    let server = server(|wire| async move {
        let mut socket = accept_async(wire.0).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
            socket.send(message).await.unwrap();
        }
    })
    .await;
    let shop = Shop::new(server).await;
    let name = shop.service.name.clone();
    let stream = shop.client().await.0;
    let url = format!("ws://{}/chat", shop.address);
    let (mut socket, response) = client_async(url, stream).await.unwrap();
    assert_eq!(response.headers()["x-routed-to"], "blue");
    for length in [1, 200, 100_000] {
        let message = Message::text("x".repeat(length));
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    assert_eq!(shop.proxy.in_flight(&name, Color::Blue), 1);
    socket.close(None).await.unwrap();
    drop(socket);
    until("it is over", || {
        shop.proxy.in_flight(&name, Color::Blue) == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_with_the_heads_is_not_lost_and_each_side_ends_by_itself() {
    let server = server(|mut wire| async move {
        wire.head().await;
        wire.send(&format!("{SWITCH}first")).await;
        let mut all = String::new();
        wire.0.read_to_string(&mut all).await.unwrap();
        // the client's side has ended, this one has not
        wire.send(&format!(" heard {all}")).await;
    })
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    client.send(&format!("{ASK}early")).await;
    client.head().await;
    client.send(" and late").await;
    client.0.shutdown().await.unwrap();
    let mut all = String::new();
    client.0.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "first heard early and late");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fitting_101_it_stays_http() {
    // a server that does not switch
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    client.send(ASK).await;
    assert_eq!(client.answer().await.text(), "ok");
    client.send(&get("/next")).await;
    assert_eq!(client.answer().await.text(), "ok");
    requests.recv().await.unwrap();
    let next = requests.recv().await.unwrap();
    assert!(next.head.starts_with("GET /next "), "{}", next.head);
    assert_eq!(next.header("upgrade"), None);

    // one that switches to something else, or unasked
    for (ask, answer) in [
        (ASK, SWITCH.replace("websocket", "other")),
        (ASK, "HTTP/1.1 101 Switching Protocols\r\n\r\n".to_owned()),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", SWITCH.to_owned()),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            SWITCH.replace("websocket", "h2c"),
        ),
    ] {
        let (server, _requests) = recording(answer.leak()).await;
        let shop = Shop::new(server).await;
        let mut client = shop.client().await;
        client.send(ask).await;
        assert_eq!(client.answer().await.status(), 502, "{ask:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_outlives_the_switch_until_the_drain_deadline_and_not_longer() {
    let green = named("green").await;
    let mut shop = Shop::with(vec![echo().await], vec![green], |service| {
        service.timeouts.drain = Duration::from_secs(2);
    })
    .await;
    let name = shop.service.name.clone();
    let mut client = tunnel(&shop).await;
    says_again(&mut client, "before").await;
    shop.install(on(Color::Green)).await;
    let begun = Instant::now();
    assert_eq!(shop.ask(&get("/")).await.text(), "green");
    while begun.elapsed() < Duration::from_millis(1_800) {
        says_again(&mut client, "after").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(shop.proxy.in_flight(&name, Color::Blue), 1);
    assert!(client.ended().await);
    let took = begun.elapsed();
    assert!((1_900..6_000).contains(&took.as_millis()), "{took:?}");
    until("it is over", || {
        shop.proxy.in_flight(&name, Color::Blue) == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_back_saves_what_was_in_flight_and_an_answer_is_cut_like_a_tunnel() {
    let endless = server(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        // until the proxy breaks it off
        while wire.0.write_all(b"2\r\nhi\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let green = named("green").await;
    let mut shop = Shop::with(vec![endless], vec![green], |service| {
        service.timeouts.drain = Duration::from_secs(1);
    })
    .await;
    let mut client = shop.client().await;
    client.send(&get("/")).await;
    client.head().await;
    shop.install(on(Color::Green)).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    shop.install(on(Color::Blue)).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(client.chunk().await.unwrap(), b"hi");
    }
    shop.install(on(Color::Green)).await;
    let begun = Instant::now();
    while client.chunk().await.is_some() {}
    let took = begun.elapsed();
    assert!((950..5_000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_proxy_waits_for_a_tunnel_until_its_deadline() {
    let shop = Shop::with(vec![echo().await], vec![nobody()], |_| {}).await;
    let mut client = tunnel(&shop).await;
    let begun = Instant::now();
    let proxy = shop.proxy.clone();
    let drain = tokio::spawn(async move {
        proxy
            .drain(tokio::time::Instant::now() + Duration::from_secs(1))
            .await
    });
    while begun.elapsed() < Duration::from_millis(800) {
        says_again(&mut client, "still here").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(drain.await.unwrap().cut, 1);
    assert!(client.ended().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_101_that_does_not_reach_its_client_leaves_nothing_in_flight() {
    let mut waiting = waiting().await;
    let shop = Shop::new(waiting.server).await;
    let name = shop.service.name.clone();
    let in_flight = || shop.proxy.in_flight(&name, Color::Blue);
    let mut client = shop.client().await;
    // with something behind the request hyper does not look for the client's end
    client.send(&format!("{ASK}early")).await;
    waiting.asked.recv().await.unwrap();
    assert_eq!(in_flight(), 1);
    client.0.set_zero_linger().unwrap();
    drop(client);
    waiting.go.send_replace(true);
    let ended = tokio::time::timeout(SOON, waiting.ended.recv()).await;
    assert_eq!(ended.expect("the server's connection goes on"), Some(()));
    until("it is over", || in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_answered_after_a_handover_began_is_still_one() {
    let mut waiting = waiting().await;
    let shop = Shop::new(waiting.server).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = shop.client().await;
        client.send(ASK).await;
        waiting.asked.recv().await.unwrap();
        clients.push(client);
    }
    // on each of the proxy's threads, one whose answer says that it has heard
    let mut kept = Vec::new();
    for _ in 0..16 {
        let mut client = shop.client().await;
        client.send(OWN).await;
        assert_eq!(client.answer().await.header("connection"), None);
        kept.push(client);
    }
    let proxy = shop.proxy.clone();
    let deadline = tokio::time::Instant::now() + SOON;
    let handing = tokio::spawn(async move { proxy.hand_over(deadline).await });
    for client in &mut kept {
        loop {
            client.send(OWN).await;
            if client.answer().await.header("connection") == Some("close") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    waiting.go.send_replace(true);
    for client in &mut clients {
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        says_again(client, "still here").await;
    }
    drop(clients);
    assert_eq!(handing.await.unwrap().cut, 0);
}
