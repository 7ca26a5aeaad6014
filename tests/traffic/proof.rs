//! What the embedded proxy promises against bad behaviour: slow clients by the hundred, ten thousand idle ones, servers that break in
//! every way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use turnout::domain::Color;

use super::server::App;
use super::{SOON, Shop};
use crate::support::{Connection, Failure, Run, alone, get, shared, wait_for};

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
    const IDLE: usize = 10_000;
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
    let mut shop = Shop::start(
        &[&blue],
        &[&green],
        &["timeouts: { response: 2s, idle: 2s }"],
    );
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
    // a byte of the body each second: not silent for as long as it may be, and over when all of it has come
    let dripped = shop.ask("/drip-body");
    assert_eq!((dripped.status, dripped.text()), (200, "drip".to_owned()));
    // half of what was announced, with and without an end, and a reset in the middle of a chunked body: cut, not whole
    for path in ["/half", "/half-and-silence", "/reset"] {
        let failure = get(shop.front, path, &[]).unwrap_err();
        // a chunk whose size never comes is the same to the reader of lines
        assert!(
            matches!(failure, Failure::Cut | Failure::Malformed),
            "{path}: {failure:?}"
        );
    }
    assert_eq!(shop.ask("/").status, 200);
}
