//! Heads: what of a request reaches the server, what of an answer reaches the client, and what is refused before it reaches anybody.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::servers::{OK, named, nobody, recording, recording_forever, server};
use super::shop::Shop;
use super::wire::{Answer, get};

#[tokio::test(flavor = "multi_thread")]
async fn path_and_query_arrive_byte_for_byte() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    for path in [
        "/",
        "/a//b/../c/./d;x=1",
        "//double",
        "/%2e%2E/%00?a=%20+b&&c=%zz;d=e?f=/../",
        "/?",
        "/caf%C3%A9?q='|{}",
        "/*",
    ] {
        assert_eq!(shop.ask(&get(path)).await.status(), 200, "{path}");
        let line = format!("GET {path} HTTP/1.1");
        assert_eq!(
            requests.recv().await.unwrap().head.lines().next(),
            Some(&*line)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_absolute_form_or_http_1_0_goes_on_in_origin_form_and_1_1() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    let text = "GET http://shop.example.com/a?b HTTP/1.1\r\nHost: Shop.example.com\r\n\r\n";
    assert_eq!(shop.ask(text).await.status(), 200);
    let request = requests.recv().await.unwrap();
    assert!(request.head.starts_with("GET /a?b HTTP/1.1\r\n"));
    assert_eq!(request.header("host"), Some("Shop.example.com"));
    let mut client = shop.client().await;
    client
        .send("GET /old HTTP/1.0\r\nHost: shop.example.com\r\n\r\n")
        .await;
    let answer = client.message().await;
    assert_eq!((answer.status(), answer.text()), (200, "ok"));
    assert!(client.ended().await);
    let request = requests.recv().await.unwrap();
    assert!(request.head.starts_with("GET /old HTTP/1.1\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_gets_the_headers_of_the_contract_and_none_that_were_forged() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    shop.ask(
        "GET / HTTP/1.1\r\nHost: shop.example.com:8080\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Request-ID: mine\r\n\
         Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
         Upgrade: h2c\r\nTE: trailers\r\nProxy-Connection: x\r\nExpect: 100-continue\r\n\
         X-Kept: yes\r\nCookie: a=b\r\n\r\n",
    )
    .await;
    let request = requests.recv().await.unwrap();
    let mut lines: Vec<_> = request.head.trim_end().lines().skip(1).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "cookie: a=b",
            "host: shop.example.com:8080",
            "te: trailers",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: shop.example.com:8080",
            "x-forwarded-proto: http",
            "x-kept: yes",
            "x-real-ip: 127.0.0.1",
            "x-request-id: mine",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_gets_where_it_was_routed_and_nothing_of_the_servers_own_connection() {
    let server = recording_forever(
        "HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX-Routed-To: green\r\nX-Upstream-URL: http://evil\r\n\
         Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nok",
    )
    .await;
    let shop = Shop::new(server.clone()).await;
    let answer = shop.ask(&get("/")).await;
    let mut lines: Vec<_> = answer
        .head
        .trim_end()
        .lines()
        .filter(|line| !line.starts_with("date:"))
        .collect();
    lines.sort_unstable();
    let url = format!("x-upstream-url: {server}");
    assert_eq!(
        lines,
        [
            "HTTP/1.1 201 Created",
            "content-length: 2",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "x-routed-to: blue",
            &url,
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn head_204_and_304_have_no_body_and_keep_the_connection() {
    let server = server(|mut wire| async move {
        loop {
            let request = wire.message().await;
            let answer = match request.head.split(' ').nth(1) {
                Some("/head") => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => {
                    "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 9\r\n\r\n"
                }
                Some(_) => OK,
                None => return,
            };
            wire.send(answer).await;
        }
    })
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    for (method, path, status, length) in [
        ("HEAD", "/head", "200", Some("1234")),
        ("GET", "/204", "204", None),
        // hyper leaves the length of what is not sent out of a 304, as RFC 9110, 15.4.5 allows
        ("GET", "/304", "304", None),
    ] {
        client
            .send(&format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let head = client.head().await;
        let answer = Answer { head, body: vec![] };
        assert_eq!(&answer.head[9..12], status);
        assert_eq!(answer.header("content-length"), length, "{path}");
        client.send(&get("/")).await;
        assert_eq!(client.answer().await.text(), "ok", "after {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ambiguous_is_refused_and_never_reaches_a_server() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::with(vec![server], vec![nobody()], |service| {
        service.hosts = vec!["a".parse().unwrap()];
    })
    .await;
    for (text, status) in [
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ncontent-LENGTH: 3\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ] {
        let mut client = shop.client().await;
        client.send(text).await;
        let answer = client.message().await;
        assert_eq!(answer.status(), status, "{text:?}");
        assert!(client.ended().await, "{text:?} kept the connection");
    }
    let mut client = shop.client().await;
    client.send("GET / HTTP/1.1\r\nHost: b\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), 404);
    assert!(answer.header("x-turnout-error").is_some());
    assert!(requests.try_recv().is_err());
    // and the connection of a stranger to this host is as good as before
    client.send("GET / HTTP/1.1\r\nHost: A\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_is_cut_and_an_idle_connection_is_not() {
    let shop = Shop::with(vec![named("blue").await], vec![nobody()], |service| {
        service.timeouts.head = Duration::from_millis(500);
    })
    .await;
    let mut idle = shop.client().await;
    idle.send(&get("/")).await;
    idle.answer().await;
    let mut silent = shop.client().await;
    let mut stalling = shop.client().await;
    stalling.send("GET / HTTP/1.1\r\nHost: a\r\nX-").await;
    let begun = Instant::now();
    assert!(silent.ended().await);
    assert_eq!(stalling.answer().await.status(), 408);
    assert!(stalling.ended().await);
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    idle.send(&get("/")).await;
    assert_eq!(idle.answer().await.text(), "blue");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_refused() {
    let shop = Shop::new(named("blue").await).await;
    let many = "X-Many: 1\r\n".repeat(101);
    let long = format!("X-Long: {}\r\n", "x".repeat(40 * 1024));
    for lines in [many, long] {
        let mut client = shop.client().await;
        // the proxy may close before all of it is read
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        drop(client.0.write_all(text.as_bytes()).await);
        assert_eq!(client.message().await.status(), 431);
    }
}
