//! What Go's reverse proxy is tested for (`net/http/httputil/reverseproxy_test.go`), as far as it can be seen from outside:
//! thirteen cases in words of our own. nginx and HAProxy pass eight of them.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use turnout::domain::Color;

use crate::embedded::{OK, SOON, Shop, get, nobody, recording, server, until};

type Case = Pin<Box<dyn Future<Output = ()> + Send>>;

#[tokio::test(flavor = "multi_thread")]
async fn twelve_of_the_thirteen_cases_of_gos_reverse_proxy_pass() {
    let cases: [(&str, Case); 13] = [
        (
            "hop-by-hop headers, TE, repeated headers, announced trailers",
            Box::pin(headers()),
        ),
        ("a server that hangs up is a 502", Box::pin(hangup())),
        (
            "what Connection names is removed, both ways",
            Box::pin(tokens()),
        ),
        (
            "an empty Connection token removes nothing else",
            Box::pin(empty_tokens()),
        ),
        (
            "X-Forwarded-For of a trusted proxy is added to",
            Box::pin(forwarded_for()),
        ),
        ("query bytes arrive as they are", Box::pin(query())),
        ("a part of an answer is flushed at once", Box::pin(flush())),
        (
            "a client that cancels ends the server's request",
            Box::pin(cancel()),
        ),
        ("no body stays no body, HTTP/1.0 too", Box::pin(no_body())),
        ("a User-Agent is not invented", Box::pin(user_agent())),
        ("a POST of 1 MB arrives whole", Box::pin(post())),
        ("an upgrade passes bytes after the 101", Box::pin(upgrade())),
        ("an unannounced trailer arrives", Box::pin(unannounced())),
    ];
    let mut failed = Vec::new();
    for (name, case) in cases {
        let passed = tokio::spawn(case).await.is_ok();
        println!("| {} | {name} |", if passed { "pass" } else { "FAIL" });
        if !passed {
            failed.push(name);
        }
    }
    // hyper sends only the trailers that `Trailer` announced
    assert_eq!(failed, ["an unannounced trailer arrives"]);
}

async fn headers() {
    let (server, mut requests) = recording(
        "HTTP/1.1 404 Not Found\r\nTrailers: not a special header field name\r\nTrailer: X-Trailer\r\n\
         X-Foo: bar\r\nUpgrade: foo\r\nX-Multi-Value: foo\r\nX-Multi-Value: bar\r\n\
         Set-Cookie: flavor=chocolateChip\r\nTransfer-Encoding: chunked\r\n\r\n\
         10\r\nI am the backend\r\n0\r\nX-Trailer: trailer_value\r\n\r\n",
    )
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: some-name\r\nConnection: close, TE\r\nTE: foo\r\n\
             TE: bar, trailers\r\nProxy-Connection: should be deleted\r\nUpgrade: foo\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 404"));
    for line in [
        "trailers: not a special header field name",
        "trailer: X-Trailer",
        "x-foo: bar",
        "x-multi-value: foo",
        "x-multi-value: bar",
        "set-cookie: flavor=chocolateChip",
    ] {
        assert!(head.lines().any(|found| found == line), "{line} in {head}");
    }
    assert!(!head.contains("upgrade"), "{head}");
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client.0, &mut rest)
        .await
        .unwrap();
    assert_eq!(
        rest,
        "10\r\nI am the backend\r\n0\r\nx-trailer: trailer_value\r\n\r\n"
    );
    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("host"), Some("some-name"));
    assert_eq!(request.header("te"), Some("trailers"));
    assert!(request.header("x-forwarded-for").is_some());
    for gone in [
        "connection",
        "upgrade",
        "proxy-connection",
        "transfer-encoding",
    ] {
        assert_eq!(request.header(gone), None, "{gone}");
    }
}

async fn hangup() {
    let server = server(|mut wire| async move {
        wire.head().await;
    })
    .await;
    let shop = Shop::new(server).await;
    assert_eq!(shop.ask(&get("/?mode=hangup")).await.status(), 502);
}

async fn tokens() {
    let (server, mut requests) = recording(
        "HTTP/1.1 200 OK\r\nConnection: X-Some, X-Token\r\nX-Some: 1\r\nX-Token: 2\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let shop = Shop::new(server).await;
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Some, X-Token\r\nX-Some: 1\r\nX-Token: 2\r\n\r\n";
    let answer = shop.ask(text).await;
    let request = requests.recv().await.unwrap();
    for name in ["x-some", "x-token"] {
        assert_eq!((request.header(name), answer.header(name)), (None, None));
    }
}

async fn empty_tokens() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Some,,\r\nConnection: \r\nX-Some: 1\r\nX-Kept: 2\r\n\r\n";
    assert_eq!(shop.ask(text).await.status(), 200);
    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("x-some"), None);
    assert_eq!(request.header("x-kept"), Some("2"));
}

async fn forwarded_for() {
    let (server, mut requests) = recording(OK).await;
    let trusted = vec!["127.0.0.0/8".parse().unwrap()];
    let shop = Shop::trusting(trusted, vec![server], vec![nobody()], |_| {}).await;
    shop.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: client ip\r\n\r\n")
        .await;
    let request = requests.recv().await.unwrap();
    let chain = request.header("x-forwarded-for").unwrap();
    assert_eq!(chain, "client ip, 127.0.0.1");
}

async fn query() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    for path in ["/", "/?us=er", "/?a=1;b=2&c=%zz&&=", "/?x=y%20z+&us=er?"] {
        shop.ask(&get(path)).await;
        let line = format!("GET {path} HTTP/1.1\r\n");
        assert!(requests.recv().await.unwrap().head.starts_with(&line));
    }
}

async fn flush() {
    let server = server(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        wire.send("2\r\nhi\r\n").await;
        // the rest never comes
        tokio::time::sleep(SOON * 6).await;
    })
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    client.send(&get("/")).await;
    client.head().await;
    let part = tokio::time::timeout(Duration::from_secs(3), client.chunk());
    assert_eq!(part.await.unwrap().unwrap(), b"hi");
}

async fn cancel() {
    let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let server = server(move |mut wire| {
        let sender = sender.clone();
        async move {
            wire.head().await;
            sender.send("asked").unwrap();
            assert!(wire.ended().await);
            sender.send("cancelled").unwrap();
        }
    })
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    client.send(&get("/")).await;
    assert_eq!(ended.recv().await, Some("asked"));
    drop(client);
    let cancelled = tokio::time::timeout(SOON, ended.recv()).await.unwrap();
    assert_eq!(cancelled, Some("cancelled"));
    let name = shop.service.name.clone();
    until("nothing in flight", || {
        shop.proxy.in_flight(&name, Color::Blue) == 0
    })
    .await;
}

async fn no_body() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    for text in [
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut client = shop.client().await;
        client.send(text).await;
        assert_eq!(client.message().await.text(), "ok");
        let request = requests.recv().await.unwrap();
        assert_eq!(request.header("content-length"), None);
        assert_eq!(request.header("transfer-encoding"), None);
    }
}

async fn user_agent() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    shop.ask(&get("/noua")).await;
    assert_eq!(requests.recv().await.unwrap().header("user-agent"), None);
    shop.ask("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: explicit UA\r\n\r\n")
        .await;
    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("user-agent"), Some("explicit UA"));
}

async fn post() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    let body = vec![b'a'; 1 << 20];
    let mut client = shop.client().await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(&head).await;
    client.0.write_all(&body).await.unwrap();
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(requests.recv().await.unwrap().body, body);
}

async fn upgrade() {
    let server = server(|mut wire| async move {
        let head = wire.head().await;
        assert!(head.contains("upgrade: websocket"), "{head}");
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n",
        )
        .await;
        let mut line = [0; 6];
        tokio::io::AsyncReadExt::read_exact(&mut wire.0, &mut line)
            .await
            .unwrap();
        wire.send("backend got ").await;
        wire.0.write_all(&line).await.unwrap();
    })
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("upgrade: websocket"), "{head}");
    client.send("Hello\n").await;
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client.0, &mut rest)
        .await
        .unwrap();
    assert_eq!(rest, "backend got Hello\n");
}

async fn unannounced() {
    let (server, _requests) = recording(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Unannounced: value\r\n\r\n",
    )
    .await;
    let shop = Shop::new(server).await;
    let mut client = shop.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n")
        .await;
    client.head().await;
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut client.0, &mut rest)
        .await
        .unwrap();
    assert!(rest.contains("x-unannounced: value"), "{rest}");
}
