//! What the embedded proxy promises under load and against bad behaviour: a thousand switches that lose nothing, slow clients
//! by the hundred, ten thousand idle ones, servers that break in every way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use turnout::balancer::{Balancer, Change, Embedded, Foreign, FrontDoor, Progress};
use turnout::domain::{Color, Position, RoutingTable};
use turnout::proxy::Proxy;

use super::server::{App, RUNTIME};
use super::{SOON, Shop};
use crate::embedded::{shape, table};
use crate::support::{Connection, Failure, Load, Ports, Run, alone, get, shared, wait_for};

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
    let balancer = Embedded::new(Proxy::start(0, Vec::new()).unwrap());
    let mut in_force: Option<RoutingTable> = None;
    let mut switch = |generation: usize, active: Color| {
        let generation = u64::try_from(generation).unwrap();
        let next = table(generation, service.clone(), Position::BlueGreen { active });
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
    let stale: Vec<_> = report
        .samples()
        .iter()
        .filter(|sample| {
            // the last switch that was answered before the request began, unless the next was asked for before its end
            let place = switches.partition_point(|(_, _, answered)| *answered <= sample.start);
            let next = switches.get(place).map(|(_, asked, _)| *asked);
            let Some((color, _, _)) = place.checked_sub(1).map(|place| switches[place]) else {
                return false;
            };
            next.is_none_or(|next| sample.end < next)
                && sample.outcome.is_ok_and(|seen| seen.backend != Some(color))
        })
        .collect();
    assert!(
        stale.is_empty(),
        "{} stale: {:?}",
        stale.len(),
        stale.first()
    );
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

/// Kilobytes that a process has in memory.
pub(super) fn resident(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The client connections that a process has on its listener.
fn connections(front: SocketAddr) -> usize {
    let port = format!(":{:04X}", front.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .skip(1)
        .filter(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().unwrap_or_default();
            // established, as the proxy's side sees it
            local.ends_with(&port) && fields.nth(1) == Some("01")
        })
        .count()
}

/// slowhttptest's three ways to be slow, 600 connections each: others are served within a second all the time.
#[test]
fn slow_clients_by_the_hundred_keep_nobody_waiting_and_stallers_are_gone_in_time() {
    let _turn = alone();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let mut shop = Shop::start(&[&blue], &[&green], &["timeouts: { head: 10s }"]);
    shop.ask("/");
    let pid = shop.daemon.as_mut().unwrap().process().pid();
    let rest = resident(pid);
    let front = shop.front;
    let (worst, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(rest)));
    let stop = Arc::new(AtomicBool::new(false));
    let honest = {
        let (worst, most, stop) = (Arc::clone(&worst), Arc::clone(&most), Arc::clone(&stop));
        let direct = green.address;
        let time = |address| {
            let begin = Instant::now();
            assert_eq!(get(address, "/", &[]).unwrap().status, 200);
            u64::try_from(begin.elapsed().as_millis()).unwrap()
        };
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // a machine that is busy with something else is not the proxy's slowness
                let took = time(front).saturating_sub(time(direct));
                worst.fetch_max(took, Ordering::Relaxed);
                most.fetch_max(resident(pid), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let phase = |name: &str| {
        let (worst, most) = (
            worst.swap(0, Ordering::Relaxed),
            most.swap(rest, Ordering::Relaxed),
        );
        let grown = most - rest;
        println!("{name}: worst of the others {worst} ms, {grown} KiB above rest");
        assert!(worst < 1_000, "{name}: {worst} ms");
        assert!(grown < 64 * 1024, "{name}: {grown} KiB");
    };
    let slow = |mode: &[&str], path: &str, rate: &str, seconds: &str| {
        let url = format!("http://{front}{path}");
        Run::new("slowhttptest")
            .args(["-c", "600", "-r", rate, "-p", "2", "-l", seconds, "-u"])
            .arg(url)
            .args(mode.iter().copied())
            .deadline(Duration::from_mins(2))
    };
    let head = std::thread::spawn({
        let run = slow(&["-H", "-i", "2", "-x", "24"], "/", "400", "16");
        move || run.run()
    });
    // all 600 are there after 1.5 s
    wait_for("600 stallers", SOON, || {
        (connections(front) >= 590).then_some(())
    });
    let there = Instant::now();
    wait_for("the stallers to be gone", Duration::from_mins(1), || {
        (connections(front) < 20).then_some(())
    });
    let gone = there.elapsed();
    head.join().unwrap();
    phase("slow head");
    slow(
        &["-B", "-i", "1", "-s", "8192", "-x", "10"],
        "/",
        "400",
        "6",
    )
    .run();
    phase("slow body");
    slow(
        &[
            "-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "32", "-k", "3",
        ],
        "/big/1000000",
        // a megabyte each goes into the kernel's buffers, so that more at once would measure the kernel
        "100",
        "8",
    )
    .run();
    stop.store(true, Ordering::Relaxed);
    honest.join().unwrap();
    phase("slow read");
    println!("head-stallers gone after {gone:.1?}");
    assert!(gone < Duration::from_secs(11), "{gone:?}");
}

#[test]
fn ten_thousand_idle_connections_lose_nothing_while_switching() {
    const IDLE: usize = 9_500;
    const PATIENCE: Duration = Duration::from_mins(1);
    let _turn = alone();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let extra = ["timeouts: { idle: 5m }", "limits: { connections: 20000 }"];
    let mut shop = Shop::start(&[&blue], &[&green], &extra);
    shop.ask("/");
    let pid = shop.daemon.as_mut().unwrap().process().pid();
    let rest = resident(pid);
    let front = shop.front;
    let request = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
    let mut idle: Vec<_> = (0..IDLE)
        .map(|_| {
            let mut connection = Connection::open(front, PATIENCE).unwrap();
            assert_eq!(connection.send(request).unwrap().status, 200);
            connection
        })
        .collect();
    let each = || (resident(pid) - rest) / IDLE as u64;
    println!("{} KiB for each of {IDLE} connections at work", each());
    // allocators give back late, so that what matters is that connections that have rested find their memory again
    std::thread::sleep(Duration::from_secs(3));
    println!("{} KiB for each of {IDLE} idle connections", each());
    let mut color = Color::Blue;
    for _ in 0..21 {
        color = !color;
        shop.daemon().api().activate(color);
    }
    for connection in &mut idle {
        let answer = connection.send(request).unwrap();
        assert_eq!((answer.status, answer.backend()), (200, Some(color)));
    }
}

#[test]
fn servers_that_break_end_bounded_and_the_client_sees_it() {
    let _turn = shared();
    let (blue, green) = (App::start(Color::Blue), App::start(Color::Green));
    let mut shop = Shop::start(&[&blue], &[&green], &["timeouts: { response: 2s }"]);
    shop.ask("/");
    let pid = shop.daemon.as_mut().unwrap().process().pid();
    let rest = resident(pid);
    // a byte of the head each second, without an end
    assert_eq!(shop.ask("/drip-head").status, 504);
    // 10 GB of headers
    assert_eq!(shop.ask("/endless-head").status, 502);
    assert!(
        resident(pid) < rest + 16 * 1024,
        "{} KiB",
        resident(pid) - rest
    );
    // half of what was announced, and a reset in the middle of a chunked body: cut, not whole
    for path in ["/half", "/reset"] {
        let failure = get(shop.front, path, &[]).unwrap_err();
        // a chunk whose size never comes is the same to the reader of lines
        assert!(
            matches!(failure, Failure::Cut | Failure::Malformed),
            "{path}: {failure:?}"
        );
    }
    assert_eq!(shop.ask("/").status, 200);
}
