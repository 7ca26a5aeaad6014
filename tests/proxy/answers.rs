//! Answers that are framed oddly, break off, or meet a client that does not take them: the client sees what is whole and what is not,
//! and nothing is held for ever.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use turnout::domain::{Color, Server};

use crate::embedded::{OK, SOON, Shop, Wire, get, large, named, nobody, recording, server, until};

/// A server that answers each request with `answer`, and a word for each connection that it is asked on.
async fn counting(answer: &'static str) -> (Server, mpsc::UnboundedReceiver<()>) {
    let (opened, connections) = mpsc::unbounded_channel();
    let server = server(move |mut wire| {
        opened.send(()).unwrap();
        async move {
            while !wire.message().await.head.is_empty() {
                wire.send(answer).await;
            }
        }
    })
    .await;
    (server, connections)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_a_length_beside_chunks_is_as_long_as_its_chunks() {
    let (server, _requests) = recording(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    for _ in 0..2 {
        client.send(&get("/")).await;
        let answer = client.answer().await;
        assert_eq!(answer.header("content-length"), None);
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.text(), "hello");
    }
    let stream = tokio::net::TcpStream::connect(shop.address).await.unwrap();
    let answer = super::http2::whole(stream, "/").await.unwrap();
    assert_eq!(answer, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_said_twice_is_passed_on_once() {
    for twice in ["2, 2", "2\r\nContent-Length: 2"] {
        let server = server(move |mut wire| async move {
            let head = wire.message().await.head;
            let body = if head.starts_with("GET") { "ok" } else { "" };
            wire.send(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {twice}\r\n\r\n{body}"
            ))
            .await;
        })
        .await;
        let shop = Shop::new(server).await;
        for method in ["GET", "HEAD"] {
            let mut client = shop.client().await;
            let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.send(&request).await;
            let head = client.head().await;
            let lengths: Vec<_> = head.matches("content-length: 2\r\n").collect();
            assert_eq!(lengths.len(), 1, "{method}, {twice}: {head}");
            assert!(!head.contains("2, 2"), "{method}, {twice}: {head}");
        }
        let stream = tokio::net::TcpStream::connect(shop.address).await.unwrap();
        assert_eq!(super::http2::whole(stream, "/").await.unwrap(), "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_a_coding_that_the_client_would_not_hear_of_is_a_502() {
    for coding in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{coding}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        let (server, _requests) = recording(answer.leak()).await;
        let shop = Shop::new(server).await;
        assert_eq!(shop.ask(&get("/")).await.status(), 502, "{coding}");
        // without a body it says what there would be
        let text = "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let mut client = shop.client().await;
        client.send(text).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{coding}: {head}");
        assert!(!head.contains("transfer-encoding"), "{coding}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_trailers_gives_its_connection_back_and_is_logged_as_complete() {
    let (server, mut connections) = counting(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let shop = Shop::with(vec![server], vec![nobody()], |service| {
        service.access_log = turnout::domain::AccessLog::File(log.clone());
    })
    .await;
    // on one thread of the proxy, and so with one pool
    let mut client = shop.client().await;
    for _ in 0..3 {
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
            .await;
        client.head().await;
        let mut rest = [0; 22];
        client.0.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest[..], b"2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n".as_slice());
    }
    assert!(connections.recv().await.is_some());
    assert!(connections.try_recv().is_err(), "a second connection");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    until("three lines", || lines().lines().count() == 3).await;
    for line in lines().lines() {
        assert!(line.contains(r#""ended":"complete""#), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_behind_a_whole_one_has_the_time_of_a_head() {
    let shop = Shop::with(vec![named("blue").await], vec![nobody()], |service| {
        service.timeouts.head = Duration::from_millis(500);
    })
    .await;
    let mut client = shop.client().await;
    client.send(&format!("{}GET / HT", get("/"))).await;
    assert_eq!(client.answer().await.text(), "blue");
    let begun = Instant::now();
    assert_eq!(client.answer().await.status(), 408);
    assert!(client.ended().await);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

/// Writes a body of `length` bytes in parts, and says whether all of them were taken.
async fn upload(client: &mut Wire, length: usize) -> std::io::Result<()> {
    let part = vec![b'x'; 16 * 1024];
    let mut left = length;
    while left > 0 {
        let now = left.min(part.len());
        client.0.write_all(&part[..now]).await?;
        left -= now;
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_before_the_end_of_the_body_is_not_lost_to_a_client_that_writes_on() {
    let unauthorized = server(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
            .await;
        wire.ended().await;
    })
    .await;
    for (server, status) in [(unauthorized, 401), (nobody(), 502)] {
        let shop = Shop::new(server).await;
        let mut client = shop.client().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n")
            .await;
        upload(&mut client, 500_000).await.unwrap();
        assert_eq!(client.answer().await.status(), status);
        // the end, and no reset
        assert_eq!(client.0.read(&mut [0]).await.unwrap(), 0, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_head_is_not_lost_to_a_client_that_writes_on() {
    let shop = Shop::new(nobody()).await;
    for (begin, status) in [("X-Large: ", 431), ("X Y: ", 400)] {
        let mut client = shop.client().await;
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{begin}");
        client.send(&head).await;
        upload(&mut client, 200_000).await.unwrap();
        assert_eq!(client.answer().await.status(), status);
        assert_eq!(client.0.read(&mut [0]).await.unwrap(), 0, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_its_answer_is_cut_and_one_that_reads_slowly_is_not() {
    let large = large(96 * 1024 * 1024).await;
    let shop = Shop::with(vec![large], vec![nobody()], |service| {
        service.timeouts.idle = Duration::from_secs(4);
    })
    .await;
    let name = shop.service.name.clone();
    let in_flight = || shop.proxy.in_flight(&name, Color::Blue);
    let mut stuck = shop.client().await;
    stuck.send(&get("/")).await;
    let mut slow = shop.client().await;
    slow.send(&get("/")).await;
    until("both are asked", || in_flight() == 2).await;
    let begun = Instant::now();
    let mut part = vec![0; 1024 * 1024];
    while begun.elapsed() < Duration::from_secs(11) {
        slow.0.read_exact(&mut part).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(in_flight(), 1, "the one that does not read");
    let refused = shop.proxy.refused();
    assert!(refused.contains(&("idle", 1)), "{refused:?}");
    let mut rest = Vec::new();
    let read = stuck.0.read_to_end(&mut rest);
    // a reset is an end as well
    drop(tokio::time::timeout(SOON, read).await.expect("it goes on"));
    assert!(rest.len() < 96 * 1024 * 1024, "{}", rest.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_in_its_answer_is_given_up_and_an_event_stream_is_not() {
    let halves = server(|mut wire| async move {
        let request = wire.message().await;
        if request.head.starts_with("GET /events") {
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n")
                .await;
        } else {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it")
                .await;
        }
        wire.ended().await;
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let shop = Shop::with(vec![halves], vec![nobody()], |service| {
        service.timeouts.idle = Duration::from_secs(1);
        service.access_log = turnout::domain::AccessLog::File(log.clone());
    })
    .await;
    let mut events = shop.client().await;
    events.send(&get("/events")).await;
    events.head().await;
    assert_eq!(events.chunk().await.unwrap(), b"event");
    let begun = Instant::now();
    let mut client = shop.client().await;
    client.send(&get("/")).await;
    client.head().await;
    let mut rest = Vec::new();
    let read = client.0.read_to_end(&mut rest);
    tokio::time::timeout(SOON, read).await.unwrap().unwrap();
    // less than was announced, so that the client knows
    assert_eq!(rest, b"half of it");
    let took = begun.elapsed();
    // counted from the sweep before
    assert!((700..5_000).contains(&took.as_millis()), "{took:?}");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    until("a line", || lines().contains(r#""ended":"timeout""#)).await;
    let stream = tokio::net::TcpStream::connect(shop.address).await.unwrap();
    assert!(super::http2::whole(stream, "/").await.is_err());
    // two and more of its deadlines later
    let nothing = tokio::time::timeout(Duration::from_millis(500), events.chunk()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_answer_does_not_look_whole_to_http_1_0_where_its_end_is_the_connections() {
    let breaks = server(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            .await;
    })
    .await;
    let shop = Shop::new(breaks).await;
    for (version, reset) in [("1.0", true), ("1.1", false)] {
        let mut client = shop.client().await;
        client
            .send(&format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"))
            .await;
        let head = client.head().await;
        assert!(head.contains(" 200 OK"), "{head}");
        let mut rest = Vec::new();
        let read = client.0.read_to_end(&mut rest);
        let ended = tokio::time::timeout(SOON, read).await.unwrap();
        assert_eq!(ended.is_err(), reset, "HTTP/{version}: {ended:?}");
        assert!(!rest.ends_with(b"0\r\n\r\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_take_an_upload_is_a_504_and_its_client_is_not_to_blame() {
    let deaf = server(|mut wire| async move {
        wire.head().await;
        tokio::time::sleep(SOON).await;
    })
    .await;
    let shop = Shop::with(vec![deaf], vec![nobody()], |service| {
        service.timeouts.idle = Duration::from_secs(1);
    })
    .await;
    let client = shop.client().await;
    let (read, mut write) = client.0.into_split();
    let writing = tokio::spawn(async move {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n";
        write.write_all(head.as_bytes()).await.unwrap();
        // until it is told that this is enough
        let part = vec![b'x'; 64 * 1024];
        while write.write_all(&part).await.is_ok() {}
    });
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(read));
    let status = tokio::time::timeout(SOON, lines.next_line()).await.unwrap();
    assert_eq!(status.unwrap().unwrap(), "HTTP/1.1 504 Gateway Timeout");
    writing.await.unwrap();
    let refused = shop.proxy.refused();
    assert!(refused.contains(&("body_timeout", 0)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_before_its_answer_comes_before_it() {
    let (go, gone) = tokio::sync::watch::channel(());
    let hinting = server(move |mut wire| {
        let mut gone = gone.clone();
        gone.mark_unchanged();
        async move {
            while !wire.message().await.head.is_empty() {
                wire.send(
                    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nKeep-Alive: timeout=5\r\n\r\n",
                )
                .await;
                gone.changed().await.unwrap();
                // and one that comes along with it
                wire.send(&format!("HTTP/1.1 102 Processing\r\n\r\n{OK}"))
                    .await;
            }
        }
    })
    .await;
    let shop = Shop::new(hinting).await;
    let mut client = shop.client().await;
    for _ in 0..2 {
        client.send(&get("/")).await;
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
        assert_eq!(client.head().await, hint);
        go.send_replace(());
        assert_eq!(client.head().await, "HTTP/1.1 102 Processing\r\n\r\n");
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text()), (200, "ok"));
    }
    // nor do those get it who do not know of it
    let mut old = shop.client().await;
    old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let stream = tokio::net::TcpStream::connect(shop.address).await.unwrap();
    let two = tokio::spawn(super::http2::whole(stream, "/"));
    let name = shop.service.name.clone();
    until("both are asked", || {
        shop.proxy.in_flight(&name, Color::Blue) == 2
    })
    .await;
    // each waits for a word of its own
    let going = async {
        loop {
            go.send_replace(());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = going => {}
        answered = async { (old.message().await, two.await.unwrap().unwrap()) } => {
            assert_eq!((answered.0.status(), answered.0.text()), (200, "ok"));
            assert_eq!(answered.1, "ok");
        }
    }
}
