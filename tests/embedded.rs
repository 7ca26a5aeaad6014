//! The embedded proxy through the library, byte by byte over loopback: what servers get, what clients get, what is repeated,
//! and that nothing is lost in a switch or a drain.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that meets what it does not expect ends"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use turnout::balancer::{
    ApplyError, Balancer, Change, Embedded, Foreign, FrontDoor, Progress, Served,
};
use turnout::domain::{
    AccessLog, Bucket, Color, Colors, Expectation, Generation, HealthPolicy, Limits, OnUnhealthy,
    Position, Route, RoutingTable, Server, Service, Split, StatusRange, Sticky, Timeouts, Upstream,
};
use turnout::proxy::{LocalAnswer, LocalService, Proxy};

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(1);

pub(crate) fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// An address that refuses connections.
pub(crate) fn nobody() -> Server {
    format!("http://{}", free_address()).parse().unwrap()
}

pub(crate) fn shape(listen: SocketAddr, blue: Vec<Server>, green: Vec<Server>) -> Service {
    Service {
        name: "shop".parse().unwrap(),
        project: None,
        hosts: Vec::new(),
        listen: Some(listen),
        public: None,
        tls: None,
        proxy_protocol: false,
        upstream: Upstream::Colors(Colors { blue, green }),
        sticky: Some(Sticky {
            header: "X-Session-Key".to_owned(),
            cookie: "session_id".to_owned(),
            set_cookie: false,
        }),
        preview: Some("X-Turnout-Color".to_owned()),
        on_unhealthy: OnUnhealthy::Failover,
        health: HealthPolicy {
            path: "/health".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            unhealthy_after: 3,
            healthy_after: 1,
            expect: Expectation {
                status: StatusRange {
                    low: 200,
                    high: 299,
                },
                json: BTreeMap::new(),
            },
        },
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            response: Duration::from_secs(5),
            drain: Duration::from_secs(5),
            head: Duration::from_secs(5),
            idle: Duration::from_secs(75),
        },
        limits: Limits {
            head: 32 * 1024,
            headers: 100,
            body: None,
            connections: 10_000,
            hold: Duration::from_secs(30),
            rate: Vec::new(),
        },
        access_log: AccessLog::Off,
        metrics: true,
        router_endpoints: true,
    }
}

pub(crate) fn table(generation: u64, service: Service, position: Position) -> RoutingTable {
    let mut table = RoutingTable {
        generation: Generation(generation),
        ..RoutingTable::default()
    };
    let name = service.name.clone();
    table
        .routes
        .insert(name, Route::new(Arc::new(service), position));
    table
}

pub(crate) const fn on(active: Color) -> Position {
    Position::BlueGreen { active }
}

/// A proxy of two threads with one service `shop`, all on blue.
pub(crate) struct Shop {
    pub(crate) proxy: Proxy,
    pub(crate) address: SocketAddr,
    pub(crate) service: Service,
    generation: u64,
}

impl Shop {
    pub(crate) async fn with(
        blue: Vec<Server>,
        green: Vec<Server>,
        edit: impl FnOnce(&mut Service),
    ) -> Self {
        Self::trusting(vec![], blue, green, edit).await
    }

    pub(crate) async fn trusting(
        trusted: Vec<ipnet::IpNet>,
        blue: Vec<Server>,
        green: Vec<Server>,
        edit: impl FnOnce(&mut Service),
    ) -> Self {
        let address = free_address();
        let mut service = shape(address, blue, green);
        edit(&mut service);
        let mut shop = Self {
            proxy: Proxy::start(2, trusted).unwrap(),
            address,
            service,
            generation: 0,
        };
        shop.install(on(Color::Blue)).await;
        shop
    }

    pub(crate) async fn new(blue: Server) -> Self {
        Self::with(vec![blue], vec![nobody()], |_| {}).await
    }

    pub(crate) async fn install(&mut self, position: Position) {
        self.generation += 1;
        let table = table(self.generation, self.service.clone(), position);
        let snapshot = self
            .proxy
            .snapshot(&table, turnout::domain::Hashing::SplitClients);
        self.proxy.install(snapshot).await.unwrap();
        assert_eq!(self.proxy.generation(), Generation(self.generation));
    }

    pub(crate) async fn client(&self) -> Wire {
        Wire(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, text: &str) -> Answer {
        let mut client = self.client().await;
        client.send(text).await;
        client.answer().await
    }
}

/// One end of a connection, spoken to in bytes.
pub(crate) struct Wire(pub(crate) TcpStream);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Wire {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// A whole head; empty at the end of the stream.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = tokio::time::timeout(SOON, self.0.read_u8()).await;
            match read.expect("nothing came") {
                Ok(byte) => head.push(byte),
                Err(_end) => break,
            }
        }
        String::from_utf8(head).unwrap()
    }

    /// A head with the body that it announces.
    pub(crate) async fn message(&mut self) -> Answer {
        let head = self.head().await;
        let mut message = Answer {
            head,
            body: Vec::new(),
        };
        if let Some(length) = message.header("content-length") {
            message.body = vec![0; length.parse().unwrap()];
            let read = self.0.read_exact(&mut message.body);
            tokio::time::timeout(SOON, read).await.unwrap().unwrap();
        } else if message.header("transfer-encoding").is_some() {
            while let Some(part) = self.chunk().await {
                message.body.extend(part);
            }
        }
        message
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let answer = self.message().await;
        assert!(answer.head.starts_with("HTTP/1.1 "), "{:?}", answer.head);
        answer
    }

    /// One chunk; `None` at the last one, or where the stream ends.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let read = tokio::time::timeout(SOON, self.0.read_u8()).await;
            line.push(read.expect("no chunk came").ok()?);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let mut part = vec![0; size + 2];
        self.0.read_exact(&mut part).await.ok()?;
        part.truncate(size);
        (size > 0).then_some(part)
    }

    /// True if the other end closes.
    pub(crate) async fn ended(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(SOON, self.0.read_to_end(&mut rest)).await;
        read.is_ok() && rest.is_empty()
    }
}

/// A server that does `behave` with each connection.
pub(crate) async fn server<F>(behave: impl Fn(Wire) -> F + Send + Sync + 'static) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(behave(Wire(stream)));
        }
    });
    format!("http://{address}").parse().unwrap()
}

/// A server that answers each request with `answer`, and a receiver of the requests as they came.
pub(crate) async fn recording(answer: &'static str) -> (Server, mpsc::UnboundedReceiver<Answer>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let server = server(move |mut wire| {
        let sender = sender.clone();
        async move {
            loop {
                let request = wire.message().await;
                if request.head.is_empty() || sender.send(request).is_err() {
                    return;
                }
                wire.send(answer).await;
            }
        }
    })
    .await;
    (server, requests)
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server that answers with its name.
pub(crate) async fn named(name: &'static str) -> Server {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
        name.len()
    );
    recording_forever(answer.leak()).await
}

async fn recording_forever(answer: &'static str) -> Server {
    server(move |mut wire| async move {
        while !wire.message().await.head.is_empty() {
            wire.send(answer).await;
        }
    })
    .await
}

/// A server that answers each request with so many bytes, while somebody takes them.
pub(crate) async fn large(bytes: usize) -> Server {
    server(move |mut wire| async move {
        while !wire.message().await.head.is_empty() {
            wire.send(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n"
            ))
            .await;
            let part = vec![b'x'; 64 * 1024];
            for _ in 0..bytes / part.len() {
                if wire.0.write_all(&part).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
}

/// Waits until `holds`, looking every few milliseconds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} never came true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn a_key_gets_the_color_that_its_bucket_says() {
    let mut shop = Shop::with(
        vec![named("blue").await],
        vec![named("green").await],
        |_| {},
    )
    .await;
    let split = Split::from_percents(75.0, 25.0).unwrap();
    shop.install(Position::canary(Color::Blue, split)).await;
    let mut client = shop.client().await;
    let mut green = 0;
    for number in 0..1_000 {
        let key = format!("user-{number}");
        let expected = Bucket::of(&shop.service.name, key.as_bytes()).color(split);
        let line = if number % 2 == 0 {
            format!("X-Session-Key: {key}")
        } else {
            format!("Cookie: other=1; session_id={key}")
        };
        client
            .send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"))
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.text(), expected.as_str(), "{key}");
        assert_eq!(answer.header("x-routed-to"), Some(expected.as_str()));
        green += u32::from(expected == Color::Green);
    }
    assert!((200..300).contains(&green), "{green}");
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Session-Key: x\r\nX-Turnout-Color: green\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.text(), "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_time_visitor_gets_a_cookie_that_leads_back() {
    let mut shop = Shop::with(
        vec![named("blue").await],
        vec![named("green").await],
        |service| service.sticky.as_mut().unwrap().set_cookie = true,
    )
    .await;
    let split = Split::from_percents(50.0, 50.0).unwrap();
    shop.install(Position::canary(Color::Blue, split)).await;
    for _ in 0..50 {
        let first = shop.ask(&get("/")).await;
        let cookie = first
            .header("set-cookie")
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        assert!(cookie.starts_with("session_id="), "{cookie}");
        let again = shop
            .ask(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"
            ))
            .await;
        assert_eq!(again.text(), first.text());
        assert_eq!(again.header("set-cookie"), None);
    }
}

/// How many clients of each kind load the proxy in the switch test.
const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_under_load_loses_nothing_and_is_in_force_when_it_returns() {
    let mut shop = Shop::with(
        vec![named("blue").await],
        vec![named("green").await],
        |_| {},
    )
    .await;
    // the color that every request must get that starts after this was written: 0 while a switch is on its way
    let settled = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for number in 0..CLIENTS * 2 {
        let (settled, stop, served) = (settled.clone(), stop.clone(), served.clone());
        let address = shop.address;
        clients.push(tokio::spawn(async move {
            let mut kept: Option<Wire> = None;
            while !stop.load(Ordering::SeqCst) {
                let mut wire = match kept.take() {
                    Some(wire) => wire,
                    None => Wire(TcpStream::connect(address).await.unwrap()),
                };
                let before = settled.load(Ordering::SeqCst);
                wire.send(&get("/")).await;
                let answer = wire.answer().await;
                let after = settled.load(Ordering::SeqCst);
                assert_eq!(answer.status(), 200, "{}", answer.head);
                // judged only where no switch began between the two looks
                if before == after && before > 0 {
                    let expected = if before % 2 == 0 { "blue" } else { "green" };
                    assert_eq!(answer.text(), expected, "after switch {before}");
                }
                served.fetch_add(1, Ordering::SeqCst);
                if number < CLIENTS {
                    kept = Some(wire);
                }
            }
        }));
    }
    for switch in 1..=40_u64 {
        let target = served.load(Ordering::SeqCst) + 50;
        until("load", || served.load(Ordering::SeqCst) >= target).await;
        settled.store(0, Ordering::SeqCst);
        shop.install(on(if switch % 2 == 0 {
            Color::Blue
        } else {
            Color::Green
        }))
        .await;
        settled.store(switch, Ordering::SeqCst);
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    for color in Color::BOTH {
        let totals = shop.proxy.totals(&shop.service.name, color).unwrap();
        assert_eq!((totals.failed, totals.in_flight), (0, 0), "{color}");
        assert!(totals.requests > 100, "{color}: {totals:?}");
    }
}

/// A server that answers when it is told to.
pub(crate) async fn patient() -> (
    Server,
    mpsc::UnboundedReceiver<tokio::sync::oneshot::Sender<()>>,
) {
    let (sender, asked) = mpsc::unbounded_channel();
    let server = server(move |mut wire| {
        let sender = sender.clone();
        async move {
            while !wire.message().await.head.is_empty() {
                let (go, gone) = tokio::sync::oneshot::channel();
                sender.send(go).unwrap();
                if gone.await.is_ok() {
                    wire.send(OK).await;
                }
            }
        }
    })
    .await;
    (server, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_finishes_on_the_color_that_was_left_and_is_counted_there() {
    let (slow, mut asked) = patient().await;
    let mut shop = Shop::with(vec![slow], vec![named("green").await], |_| {}).await;
    let name = shop.service.name.clone();
    let mut client = shop.client().await;
    client.send(&get("/")).await;
    let go = asked.recv().await.unwrap();
    shop.install(on(Color::Green)).await;
    assert_eq!(shop.ask(&get("/")).await.text(), "green");
    assert_eq!(shop.proxy.in_flight(&name, Color::Blue), 1);
    go.send(()).unwrap();
    let answer = client.answer().await;
    assert_eq!(
        (answer.text(), answer.header("x-routed-to")),
        ("ok", Some("blue"))
    );
    until("blue drained", || {
        shop.proxy.in_flight(&name, Color::Blue) == 0
    })
    .await;
    client.send(&get("/")).await;
    assert_eq!(client.answer().await.text(), "green");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_is_in_flight_and_closes_what_is_idle() {
    let (slow, mut asked) = patient().await;
    let shop = Shop::new(slow).await;
    let mut idle = shop.client().await;
    idle.send(&get("/")).await;
    asked.recv().await.unwrap().send(()).unwrap();
    idle.answer().await;
    let mut untouched = shop.client().await;
    let mut busy = shop.client().await;
    busy.send(&get("/")).await;
    let go = asked.recv().await.unwrap();
    let proxy = shop.proxy.clone();
    let drain = tokio::spawn(async move {
        proxy
            .drain(tokio::time::Instant::now() + Duration::from_secs(30))
            .await
    });
    assert!(idle.ended().await);
    assert!(untouched.ended().await);
    until("nobody accepts", || {
        std::net::TcpStream::connect(shop.address).is_err()
    })
    .await;
    assert!(!drain.is_finished());
    go.send(()).unwrap();
    let answer = busy.answer().await;
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (200, Some("close"))
    );
    assert!(busy.ended().await);
    assert_eq!(drain.await.unwrap().cut, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_cuts_at_its_deadline() {
    let (slow, mut asked) = patient().await;
    let shop = Shop::new(slow).await;
    let mut busy = shop.client().await;
    busy.send(&get("/")).await;
    let _go = asked.recv().await.unwrap();
    let begun = Instant::now();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(300);
    assert_eq!(shop.proxy.drain(deadline).await.cut, 1);
    assert!(
        (300..3_000).contains(&begun.elapsed().as_millis()),
        "{:?}",
        begun.elapsed()
    );
    assert!(busy.ended().await);
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

struct Api;

impl LocalService for Api {
    fn wants(&self, path: &str) -> bool {
        path.starts_with("/orchestration/")
    }

    fn call(
        &self,
        request: http::Request<hyper::body::Incoming>,
        peer: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = http::Response<LocalAnswer>> + Send>> {
        Box::pin(async move {
            assert_ne!(request.uri().path(), "/orchestration/panic", "as asked for");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let text = format!("{} bytes from {}", body.len(), peer.ip());
            let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
            http::Response::new(body.boxed())
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_its_own_paths_and_a_panic_ends_one_connection_only() {
    let shop = Shop::new(named("blue").await).await;
    shop.proxy.set_local(Arc::new(Api)).await;
    let text = "POST /orchestration/x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    // commands are taken in their order, so an answer to a later one means that this one was taken
    shop.proxy.acknowledged(Generation(1), SOON).await.unwrap();
    let mut client = shop.client().await;
    client.send(text).await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "3 bytes from 127.0.0.1");
    assert_eq!(answer.header("x-routed-to"), None);
    client.send(&get("/orchestration")).await;
    assert_eq!(client.answer().await.text(), "blue");
    for _ in 0..4 {
        let mut other = shop.client().await;
        other.send(&get("/orchestration/panic")).await;
        assert!(other.ended().await);
    }
    client.send(text).await;
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(shop.ask(&get("/")).await.text(), "blue");
}

/// None that waits for an include.
static NO_SERVICE: BTreeSet<turnout::domain::ServiceName> = BTreeSet::new();

fn change<'a>(
    desired: &'a RoutingTable,
    rendered: &'a turnout::balancer::Rendered,
    previous: Option<&'a RoutingTable>,
) -> Change<'a> {
    Change {
        desired,
        rendered,
        previous,
        front_door: FrontDoor::Skip,
        unseen: &NO_SERVICE,
        foreign: Foreign::Refuse,
        progress: Progress::silent(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_is_proved_by_every_thread_and_observed() {
    let balancer = Embedded::new(Proxy::start(3, vec![]).unwrap());
    let service = shape(free_address(), vec![named("blue").await], vec![nobody()]);
    let name = service.name.clone();
    let first = table(7, service, on(Color::Blue));
    let rendered = balancer.render(&first).unwrap();
    assert_eq!(
        (rendered.generation, rendered.files.len()),
        (Generation(7), 0)
    );
    let applied = balancer
        .apply(change(&first, &rendered, None))
        .await
        .unwrap();
    assert_eq!(applied.generation(), Generation(7));
    assert_eq!(
        applied.evidence(),
        ["all 3 proxy threads route by generation 7"]
    );
    let observed = balancer.observe().await;
    assert_eq!(observed.disk, None);
    assert_eq!(
        observed.served,
        Served::Generation {
            generation: Generation(7),
            splits: BTreeMap::from([(name, Split::all(Color::Blue))]),
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_listen_address_changes_nothing_and_names_its_holder() {
    let proxy = Proxy::start(2, vec![]).unwrap();
    let balancer = Embedded::new(proxy.clone());
    let address = free_address();
    let blue = named("blue").await;
    let service = shape(address, vec![blue.clone()], vec![nobody()]);
    let first = table(1, service.clone(), on(Color::Blue));
    let rendered = balancer.render(&first).unwrap();
    let applied = balancer.apply(change(&first, &rendered, None)).await;
    assert_eq!(applied.unwrap().generation(), Generation(1));

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap();
    let mut second = table(2, service, on(Color::Blue));
    let free = free_address();
    for (name, listen) in [("other", free), ("zoo", taken_address)] {
        let mut service = shape(listen, vec![blue.clone()], vec![nobody()]);
        service.name = name.parse().unwrap();
        let route = Route::new(Arc::new(service), on(Color::Blue));
        second.routes.insert(name.parse().unwrap(), route);
    }
    let rendered = balancer.render(&second).unwrap();
    let error = balancer
        .apply(change(&second, &rendered, Some(&first)))
        .await
        .unwrap_err();
    let ApplyError::Unchanged { message, .. } = &error else {
        panic!("{error:?}");
    };
    let expected = format!("bind() to {taken_address} failed (98: Address already in use); ");
    assert!(message.starts_with(&expected), "{message}");
    assert!(
        message.contains(&format!("(pid {})", std::process::id())),
        "{message}"
    );
    assert_eq!(proxy.generation(), Generation(1));
    assert!(std::net::TcpStream::connect(free).is_err(), "all or none");

    // once it is free the same table goes in, and the next one without it gives the address back at once
    drop(taken);
    let applied = balancer
        .apply(change(&second, &rendered, Some(&first)))
        .await;
    assert_eq!(applied.unwrap().generation(), Generation(2));
    let mut client = Wire(TcpStream::connect(taken_address).await.unwrap());
    client.send(&get("/")).await;
    assert_eq!(client.answer().await.text(), "blue");
    let mut third = first.clone();
    third.generation = Generation(3);
    let rendered = balancer.render(&third).unwrap();
    let applied = balancer
        .apply(change(&third, &rendered, Some(&second)))
        .await;
    assert_eq!(applied.unwrap().generation(), Generation(3));
    assert!(std::net::TcpListener::bind(taken_address).is_ok());
}
