//! A thousand switches under every kind of load, which lose nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use turnout::balancer::{Balancer, Change, Embedded, Foreign, FrontDoor, Progress};
use turnout::domain::{Color, Position, Route, RoutingTable};
use turnout::proxy::Proxy;

use super::kinds::Kinds;
use super::server::{App, RUNTIME};
use crate::embedded::{shape, table};
use crate::proxy::tls;
use crate::support::{Load, Ports, alone};

/// As many as the promise names.
const SWITCHES: usize = 1_000;
/// The shop's `timeouts.drain` in the test of switches.
const DRAIN: Duration = Duration::from_secs(3);
/// How late a stream may end: two looks of the proxy's sweep, and what a busy machine adds.
const LATE: Duration = Duration::from_millis(1_500);

/// What became of one long stream.
#[derive(Debug)]
pub(super) struct Stream {
    color: Color,
    pub(super) ended: Option<Instant>,
}

pub(super) type Streams = Vec<JoinHandle<Stream>>;

/// Event streams that are read until they end or `stop` says so.
pub(super) fn event_streams(front: SocketAddr, count: usize, stop: &Arc<AtomicBool>) -> Streams {
    let open = |_| {
        let stop = Arc::clone(stop);
        RUNTIME.spawn(async move {
            let mut stream = TcpStream::connect(front).await.unwrap();
            let ask = b"GET /events HTTP/1.1\r\nHost: shop\r\nAccept: text/event-stream\r\n\r\n";
            stream.write_all(ask).await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"data: x\n\n\r\n") {
                seen.push(stream.read_u8().await.unwrap());
            }
            let color = String::from_utf8(seen)
                .unwrap()
                .lines()
                .find_map(|line| line.strip_prefix("x-routed-to: ")?.parse().ok())
                .unwrap();
            let mut part = [0; 256];
            while !stop.load(Ordering::Relaxed) {
                match stream.read(&mut part).await {
                    Ok(0) | Err(_) => {
                        let ended = Some(Instant::now());
                        return Stream { color, ended };
                    }
                    Ok(_) => {}
                }
            }
            Stream { color, ended: None }
        })
    };
    (0..count).map(open).collect()
}

/// WebSockets that send a frame each 100 ms and get it back, until they end or `stop` says so.
pub(super) fn web_sockets(front: SocketAddr, count: usize, stop: &Arc<AtomicBool>) -> Streams {
    let open = |_| {
        let stop = Arc::clone(stop);
        RUNTIME.spawn(async move {
            let (mut socket, answer) = tokio_tungstenite::connect_async(format!("ws://{front}/ws"))
                .await
                .unwrap();
            let color = answer.headers()["x-routed-to"].to_str().unwrap();
            let color: Color = color.parse().unwrap();
            while !stop.load(Ordering::Relaxed) {
                let sent = socket.send(Message::text("x")).await;
                let back = socket.next().await;
                match (sent, back) {
                    (Ok(()), Some(Ok(message))) if !message.is_close() => {}
                    _ => {
                        let ended = Some(Instant::now());
                        return Stream { color, ended };
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Stream { color, ended: None }
        })
    };
    (0..count).map(open).collect()
}

pub(super) fn join(streams: Streams) -> Vec<Stream> {
    streams
        .into_iter()
        .map(|stream| RUNTIME.block_on(stream).unwrap())
        .collect()
}

/// Each switch is an apply of the balancer with its whole proof: every thread's word and a request through the front door. The
/// journal, whose fsync belongs to the disk and not to the proxy, is left out; `whole` has it.
#[test]
fn a_thousand_switches_at_saturation_lose_nothing_and_streams_end_at_the_drain_deadline() {
    let _turn = alone();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let url = |app: &App| format!("http://{}", app.address).parse().unwrap();
    let front = Ports::address();
    let mut service = shape(front, vec![url(&blue)], vec![url(&green)]);
    service.timeouts.drain = DRAIN;
    let folder = tempfile::tempdir().unwrap();
    let (files, certificate) = tls::pair(folder.path(), "shop", "shop");
    let mut secure = service.clone();
    secure.name = "secure".parse().unwrap();
    secure.listen = Some(Ports::address());
    secure.tls = Some(files);
    let balancer = Embedded::new(Proxy::start(0, Vec::new()).unwrap());
    let mut in_force: Option<RoutingTable> = None;
    let mut switch = |generation: usize, active: Color| {
        let generation = u64::try_from(generation).unwrap();
        let position = Position::BlueGreen { active };
        let mut next = table(generation, service.clone(), position);
        let route = Route::new(Arc::new(secure.clone()), position);
        next.routes.insert(secure.name.clone(), route);
        let rendered = balancer.render(&next).unwrap();
        let change = Change {
            desired: &next,
            rendered: &rendered,
            previous: in_force.as_ref(),
            unseen: &std::collections::BTreeSet::new(),
            front_door: FrontDoor::Ask,
            foreign: Foreign::Refuse,
            progress: Progress::silent(),
        };
        let asked = Instant::now();
        let applied = RUNTIME.block_on(balancer.apply(change)).unwrap();
        let answered = Instant::now();
        assert_eq!(applied.generation(), next.generation);
        in_force = Some(next);
        (active, asked, answered)
    };
    let mut color = Color::Blue;
    switch(1, color);
    let stop = Arc::new(AtomicBool::new(false));
    let load = Load::start(front);
    let kinds = Kinds::start(front, secure.listen.unwrap(), &certificate, &stop);
    let mut streams = event_streams(front, 8, &stop);
    streams.extend(web_sockets(front, 8, &stop));
    let began = Instant::now();
    let mut switches = Vec::with_capacity(SWITCHES);
    for number in 0..SWITCHES {
        color = !color;
        switches.push(switch(number + 2, color));
        if number == SWITCHES / 2 {
            // and some whose first color is the other one
            streams.extend(event_streams(front, 4, &stop));
            streams.extend(web_sockets(front, 4, &stop));
        }
    }
    let took = began.elapsed();
    let left = switches[SWITCHES - 1].1;
    // past the deadline of what the last switch left
    std::thread::sleep((left + DRAIN + LATE).saturating_duration_since(Instant::now()));
    stop.store(true, Ordering::Relaxed);
    let report = load.finish();
    let streams = join(streams);
    let kinds = kinds.finish();
    println!(
        "{SWITCHES} switches in {took:.1?} ({:.1?} each), {} requests at {:.0} a second",
        took / u32::try_from(SWITCHES).unwrap(),
        report.requests(),
        report.rate()
    );
    let failures = report.failures();
    assert!(
        failures.is_empty(),
        "{} failed: {:?}",
        failures.len(),
        failures.first()
    );
    let not_2xx = report.not_2xx();
    assert!(
        not_2xx.is_empty(),
        "{}: {:?}",
        not_2xx.len(),
        not_2xx.first()
    );
    assert_eq!(report.mislabelled().len(), 0);
    // the color of the last switch that was answered before the request began, unless the next was asked for before its end
    let expected = |start: Instant, end: Instant| {
        let place = switches.partition_point(|(_, _, answered)| *answered <= start);
        let next = switches.get(place).map(|(_, asked, _)| *asked);
        let (color, _, _) = switches[place.checked_sub(1)?];
        next.is_none_or(|next| end < next).then_some(color)
    };
    let stale: Vec<_> = report
        .samples()
        .iter()
        .filter(|sample| {
            let expected = expected(sample.start, sample.end);
            sample
                .outcome
                .is_ok_and(|seen| expected.is_some() && seen.backend != expected)
        })
        .collect();
    assert!(
        stale.is_empty(),
        "{} stale: {:?}",
        stale.len(),
        stale.first()
    );
    for (kind, asked) in kinds {
        println!("{} requests over {kind}", asked.len());
        assert!(asked.len() > SWITCHES, "{kind}: {}", asked.len());
        for one in asked {
            let color = one.color.as_ref().unwrap_or_else(|error| {
                panic!("{kind}: {error} after {:?}", one.end - one.start);
            });
            let expected = expected(one.start, one.end);
            assert!(
                expected.is_none_or(|expected| expected == *color),
                "{kind}: stale: {one:?}"
            );
        }
    }
    let (kept, ended): (Vec<_>, Vec<_>) = streams.iter().partition(|stream| stream.color == color);
    assert!(!kept.is_empty() && !ended.is_empty(), "{streams:?}");
    assert!(kept.iter().all(|stream| stream.ended.is_none()), "{kept:?}");
    for stream in ended {
        let after = stream
            .ended
            .unwrap_or_else(|| panic!("still there: {stream:?}"))
            - left;
        assert!(
            (DRAIN..DRAIN + LATE).contains(&after),
            "ended after {after:?}"
        );
    }
}
