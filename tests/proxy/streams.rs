//! Streams of HTTP/2 that do not go on: their client opens no window, or resets them half way. Spoken in frames, because a client
//! library opens its windows by itself.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use turnout::domain::Color;

use crate::embedded::{SOON, Shop, large, named, nobody, on, patient, until};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW: u8 = 8;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A GET of `/` on the host `a`: the static table and one literal.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

struct Frames(TcpStream);

impl Frames {
    /// A client whose streams begin with a window of so many bytes.
    async fn open(shop: &Shop, window: u32) -> Self {
        let mut stream = TcpStream::connect(shop.address).await.unwrap();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        stream.write_all(preface).await.unwrap();
        let mut frames = Self(stream);
        let mut setting = vec![0, 4];
        setting.extend(window.to_be_bytes());
        frames.send(SETTINGS, 0, 0, &setting).await;
        frames
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let sent = self.try_send(kind, flags, stream, payload).await;
        sent.unwrap();
    }

    async fn try_send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        self.0.write_all(&bytes).await
    }

    async fn get(&mut self, stream: u32) {
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, GET)
            .await;
    }

    async fn widen(&mut self, stream: u32, bytes: u32) {
        self.send(WINDOW, 0, stream, &bytes.to_be_bytes()).await;
    }

    async fn next(&mut self) -> std::io::Result<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).await?;
        Ok(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// The next frame of this kind on this stream.
    async fn until(&mut self, kind: u8, stream: u32) -> Frame {
        let found = async {
            loop {
                let frame = self.next().await.unwrap();
                if (frame.kind, frame.stream) == (kind, stream) {
                    return frame;
                }
            }
        };
        let found = tokio::time::timeout(SOON, found).await;
        found.unwrap_or_else(|_| panic!("no frame {kind} on {stream}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_client_takes_nothing_of_it_is_reset_when_its_drain_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let blue = large(64 * 1024 * 1024).await;
    let mut shop = Shop::with(vec![blue], vec![named("green").await], |service| {
        service.timeouts.drain = Duration::from_secs(1);
        service.access_log = turnout::domain::AccessLog::File(log.clone());
    })
    .await;
    let name = shop.service.name.clone();
    let mut client = Frames::open(&shop, 0).await;
    client.get(1).await;
    client.until(HEADERS, 1).await;
    shop.install(on(Color::Green)).await;
    let begun = Instant::now();
    let reset = client.until(RESET, 1).await;
    let took = begun.elapsed();
    assert!((950..5_000).contains(&took.as_millis()), "{took:?}");
    // CANCEL
    assert_eq!(reset.payload, 8_u32.to_be_bytes());
    assert_eq!(shop.proxy.in_flight(&name, Color::Blue), 0);
    // the connection itself goes on
    client.get(3).await;
    client.widen(3, 5).await;
    assert_eq!(client.until(DATA, 3).await.payload, b"green");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    until("a line", || lines().contains(r#""ended":"cut""#)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_client_takes_nothing_of_it_is_reset_in_the_end_and_a_slow_one_goes_on() {
    let blue = large(64 * 1024 * 1024).await;
    let shop = Shop::with(vec![blue], vec![nobody()], |service| {
        service.timeouts.idle = Duration::from_secs(2);
    })
    .await;
    let name = shop.service.name.clone();
    let mut client = Frames::open(&shop, 0).await;
    for stream in [1, 3] {
        client.get(stream).await;
        client.until(HEADERS, stream).await;
    }
    let begun = Instant::now();
    let mut reset = None;
    let mut parts = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        client.widen(3, 1_000).await;
        let mut left = 1_000;
        while left > 0 {
            let frame = client.next().await.unwrap();
            match (frame.kind, frame.stream) {
                (DATA, 3) => left -= frame.payload.len(),
                (RESET, 1) => reset = Some(begun.elapsed()),
                (RESET, _) => panic!("{frame:?}"),
                _ => {}
            }
        }
        parts += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let reset = reset.expect("the stream without a window goes on");
    assert!((1_500..5_500).contains(&reset.as_millis()), "{reset:?}");
    assert!(parts >= 5, "{parts}");
    assert_eq!(shop.proxy.in_flight(&name, Color::Blue), 1);
    let refused = shop.proxy.refused();
    assert!(refused.contains(&("idle", 1)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_answer_that_waits_for_its_window_is_not_kept_for_a_client_that_only_pings() {
    let shop = Shop::with(vec![named("blue").await], vec![nobody()], |service| {
        service.timeouts.idle = Duration::from_secs(1);
    })
    .await;
    let name = shop.service.name.clone();
    let mut client = Frames::open(&shop, 1).await;
    client.get(1).await;
    let part = client.until(DATA, 1).await;
    assert_eq!((part.payload.as_slice(), part.flags), (&b"b"[..], 0));
    assert_eq!(shop.proxy.in_flight(&name, Color::Blue), 0);
    let begun = Instant::now();
    let ended = loop {
        assert!(begun.elapsed() < SOON, "the connection goes on");
        let asked = client.try_send(PING, 0, 0, &[0; 8]).await;
        // the answer, or what came before it
        if asked.is_err() || client.next().await.is_err() {
            break begun.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!((950..5_000).contains(&ended.as_millis()), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_reset_before_its_end_does_not_count_another_one_out() {
    let (slow, mut asked) = patient().await;
    let shop = Shop::with(vec![slow], vec![nobody()], |service| {
        service.timeouts.idle = Duration::from_secs(1);
    })
    .await;
    let mut client = Frames::open(&shop, 65_535).await;
    client.get(1).await;
    let go = asked.recv().await.unwrap();
    // its end is to come in a frame of its own
    client.send(HEADERS, END_HEADERS, 3, GET).await;
    client.send(PING, 0, 0, &[0; 8]).await;
    while client.until(PING, 0).await.flags != ACK {}
    client.send(RESET, 0, 3, &8_u32.to_be_bytes()).await;
    // for longer than a connection without a request may be idle
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    go.send(()).unwrap();
    assert_eq!(client.until(DATA, 1).await.payload, b"ok");
}
