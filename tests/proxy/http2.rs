//! HTTP/2 from clients, in the clear by prior knowledge and over TLS by ALPN: many requests on one connection, each routed,
//! counted and ended for itself.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Frame;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use turnout::domain::Color;

use super::tls;
use crate::embedded::{OK, Shop, large, nobody, on, patient, recording, server, until};
use crate::support::Run;

async fn speak<B>(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> SendRequest<B>
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    let uri = format!("http://shop.example.com{path}");
    Request::get(uri).body(Empty::new()).unwrap()
}

/// The whole of an answer's body; an error where it breaks off.
pub(super) async fn whole(stream: TcpStream, path: &str) -> hyper::Result<String> {
    let mut sender = speak(stream).await;
    let response = sender.send_request(get(path)).await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_becomes_a_plain_request_of_http_1() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    let stream = TcpStream::connect(shop.address).await.unwrap();
    let mut sender = speak(stream).await;
    let request = Request::post("http://shop.example.com/a?b=%20")
        .header("cookie", "a=b")
        .header("cookie", "c=d")
        .header("te", "trailers")
        .header("x-forwarded-for", "6.6.6.6")
        .body(Full::new(Bytes::from_static(b"body")))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-routed-to"], "blue");
    assert!(response.headers().get("connection").is_none());
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "ok"
    );
    let request = requests.recv().await.unwrap();
    assert!(
        request.head.starts_with("POST /a?b=%20 HTTP/1.1\r\n"),
        "{}",
        request.head
    );
    assert_eq!(request.header("host"), Some("shop.example.com"));
    assert_eq!(request.header("cookie"), Some("a=b; c=d"));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("content-length"), Some("4"));
    assert_eq!(request.text(), "body");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http_1_would_not_let_through_is_refused_and_an_end_that_comes_late_is_not() {
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    let stream = TcpStream::connect(shop.address).await.unwrap();
    let mut sender = speak(stream).await;
    let mut ask = async |request: http::request::Builder, frames: &[&'static str]| {
        let (parts, coming) = tokio::sync::mpsc::unbounded_channel();
        let request = request.uri("http://a/").body(Parts(coming)).unwrap();
        let answer = sender.send_request(request);
        // the head alone goes first
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        for frame in frames {
            parts.send(*frame).ok();
        }
        drop(parts);
        answer.await.unwrap().status()
    };
    for name in ["transfer_encoding", "content_length", "Content--Length"] {
        let request = Request::get("/").header(name, "3");
        assert_eq!(ask(request, &[]).await, StatusCode::BAD_REQUEST, "{name}");
    }
    let twice = Request::post("/").header("content-length", "0");
    let twice = twice.header("content-length", "0");
    assert_eq!(ask(twice, &[]).await, StatusCode::BAD_REQUEST);
    let full = ask(Request::get("/"), &["body"]).await;
    assert_eq!(full, StatusCode::BAD_REQUEST);
    assert!(requests.try_recv().is_err());
    assert_eq!(ask(Request::get("/"), &[]).await, StatusCode::OK);
    assert_eq!(ask(Request::get("/"), &["", ""]).await, StatusCode::OK);
    let request = requests.recv().await.unwrap();
    assert!(request.head.starts_with("GET / HTTP/1.1\r\n"));
    assert_eq!(request.header("transfer-encoding"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_of_many_streams_is_cut_in_the_end() {
    let large = large(64 * 1024 * 1024).await;
    let shop = Shop::with(vec![large], vec![nobody()], |service| {
        service.timeouts.idle = std::time::Duration::from_secs(1);
    })
    .await;
    let name = shop.service.name.clone();
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    // windows as large as can be: it is TCP alone that holds the proxy up
    let mut bytes =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff".to_vec();
    bytes.extend(b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0");
    for number in 0..100_u32 {
        bytes.extend([0, 0, 6, 1, 5]);
        bytes.extend((number * 2 + 1).to_be_bytes());
        bytes.extend([0x82, 0x86, 0x84, 0x41, 0x01, b'a']);
    }
    stream.write_all(&bytes).await.unwrap();
    let in_flight = || shop.proxy.in_flight(&name, Color::Blue);
    until("all are in flight", || in_flight() == 100).await;
    until("all are cut", || in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_by_request_and_a_reset_one_goes_away() {
    let (slow, mut asked) = patient().await;
    let shop = Shop::new(slow).await;
    let name = shop.service.name.clone();
    let in_flight = || shop.proxy.in_flight(&name, Color::Blue);
    let stream = TcpStream::connect(shop.address).await.unwrap();
    let sender = speak(stream).await;
    let mut asking = Vec::new();
    for number in 0..8 {
        let mut sender = sender.clone();
        let request = get(&format!("/{number}"));
        asking.push(tokio::spawn(
            async move { sender.send_request(request).await },
        ));
    }
    let mut go = Vec::new();
    for _ in 0..8 {
        go.push(asked.recv().await.unwrap());
    }
    assert_eq!(in_flight(), 8);
    // the client resets three
    for gone in asking.drain(..3) {
        gone.abort();
    }
    until("three are gone", || in_flight() == 5).await;
    for go in go {
        // three of them wait for nothing any more
        let (Ok(()) | Err(())) = go.send(());
    }
    for asking in asking {
        let response = asking.await.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.unwrap();
    }
    until("none is in flight", || in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_with_trailers() {
    let server = server(|mut wire| async move {
        let head = wire.head().await;
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
            .await;
        while let Some(part) = wire.chunk().await {
            let part = String::from_utf8(part).unwrap();
            wire.send(&format!("{:x}\r\n{part}\r\n", part.len())).await;
        }
        wire.send("0\r\nX-Sum: 3\r\n\r\n").await;
    })
    .await;
    let shop = Shop::new(server).await;
    let stream = TcpStream::connect(shop.address).await.unwrap();
    let mut sender = speak(stream).await;
    let (parts, coming) = tokio::sync::mpsc::unbounded_channel();
    let request = Request::post("http://a/")
        .header("te", "trailers")
        .body(Parts(coming))
        .unwrap();
    parts.send("one").unwrap();
    let mut response = sender.send_request(request).await.unwrap();
    for (now, next) in [("one", "two"), ("two", "three")] {
        let frame = response.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), now);
        parts.send(next).unwrap();
    }
    drop(parts);
    let rest = response.into_body().collect().await.unwrap();
    assert_eq!(rest.trailers().unwrap()["x-sum"], "3");
    assert_eq!(rest.to_bytes(), "three");
}

/// A body whose parts come through a channel.
struct Parts(tokio::sync::mpsc::UnboundedReceiver<&'static str>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let part = self.0.poll_recv(cx);
        part.map(|part| part.map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_moves_the_next_stream_and_cuts_the_old_ones_at_the_deadline() {
    let green = crate::embedded::named("green").await;
    let endless = server(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
            .await;
        wire.ended().await;
        tokio::time::sleep(crate::embedded::SOON).await;
    })
    .await;
    let mut shop = Shop::with(vec![endless], vec![green], |service| {
        service.timeouts.drain = std::time::Duration::from_secs(1);
    })
    .await;
    let stream = TcpStream::connect(shop.address).await.unwrap();
    let mut sender = speak(stream).await;
    let mut old = sender.send_request(get("/")).await.unwrap();
    assert_eq!(
        old.frame().await.unwrap().unwrap().into_data().unwrap(),
        "hi"
    );
    shop.install(on(Color::Green)).await;
    let begun = std::time::Instant::now();
    let new = sender.send_request(get("/")).await.unwrap();
    assert_eq!(new.into_body().collect().await.unwrap().to_bytes(), "green");
    assert!(old.frame().await.unwrap().is_err());
    let took = begun.elapsed();
    assert!((950..4_000).contains(&took.as_millis()), "{took:?}");
    // the connection itself goes on
    let new = sender.send_request(get("/")).await.unwrap();
    assert_eq!(new.into_body().collect().await.unwrap().to_bytes(), "green");
}

#[test]
fn it_is_spoken_over_tls_too_and_by_curl() {
    super::in_turn(over_tls());
}

async fn over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (files, certificate) = tls::pair(folder.path(), "shop", "shop.example.com");
    let (server, mut requests) = recording(OK).await;
    let shop = Shop::with(vec![server], vec![nobody()], |service| {
        service.tls = Some(files);
    })
    .await;
    let connector = tls::trusting(&[&certificate], &[b"h2", b"http/1.1"]);
    let stream = tls::connect(&connector, shop.address, "shop.example.com")
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut sender = speak(stream).await;
    let response = sender.send_request(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    let url = format!("https://{}/", shop.address);
    let ran = tokio::task::spawn_blocking(move || {
        Run::new("curl")
            .args([
                "-sk",
                "--http2",
                "-o",
                "/dev/null",
                "-w",
                "%{http_version} %{http_code}",
            ])
            .arg(url)
            .run()
    })
    .await
    .unwrap();
    ran.exits(0).says("2 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_as_fast_as_it_asks_is_disconnected() {
    let (server, _requests) = recording(OK).await;
    let shop = Shop::new(server).await;
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // GET http a / in the static table and one literal, then RST_STREAM
    let head: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
    for number in 0..2_000_u32 {
        let id = (number * 2 + 1).to_be_bytes();
        bytes.extend([0, 0, 6, 1, 5]);
        bytes.extend(id);
        bytes.extend(head);
        bytes.extend([0, 0, 4, 3, 0]);
        bytes.extend(id);
        bytes.extend([0, 0, 0, 8]);
    }
    // it may be gone before all of it is written
    drop(stream.write_all(&bytes).await);
    let mut all = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut all);
    let ended = tokio::time::timeout(crate::embedded::SOON, read).await;
    assert!(ended.is_ok(), "the connection goes on");
}
