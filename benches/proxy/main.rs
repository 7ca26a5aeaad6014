//! The embedded proxy beside Debian's nginx and HAProxy: CPU for each request, requests a second, latency at a fixed rate
//! and memory for each idle connection, with the same routing on each. `cargo bench --bench proxy` builds nothing but turnout.
//!
//! Proxies are pinned to cpu 0, load and servers to cpu 1. Rounds are interleaved and every other one runs in reverse order, so that a
//! neighbour's burst of work hits all three; medians are printed, and ratios are of medians. CPU is what the scheduler counted
//! for every task of every process of a proxy, so it is right even where the load generator is the bottleneck; requests a second are
//! not, then. It measures and judges nothing.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on says so by a panic, and its result by printing; it starts programs and writes their configurations"
)]

mod backend;
mod load;
mod measure;
mod open_loop;
mod peers;
mod picture;
mod settings;
mod table;

use std::path::PathBuf;

use clap::Parser;

use load::Wrk;
use peers::{Kind, Peer};
use table::{Row, Table};

/// What to run.
#[derive(Debug, Parser)]
struct Args {
    /// Interleaved rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load in each round.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// One round of one second: whether it all runs, and no figures to be quoted.
    #[arg(long)]
    quick: bool,
    /// Only these measurements, by the first word of their name.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Another binary in place of the one just built.
    #[arg(long)]
    turnout: Option<PathBuf>,
    /// Where the picture goes.
    #[arg(long, default_value = "target/proxy-bench.svg")]
    svg: PathBuf,
    /// Cargo's own.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One thing that is measured.
struct Case {
    name: &'static str,
    group: Group,
    what: What,
}

/// How the peers are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Group {
    services: usize,
    large: settings::Buffers,
}

enum What {
    Wrk(Wrk),
    /// Requests a second, from their intended time.
    Rate(u64),
    /// Connections kept after one request each.
    Idle(usize),
}

const SMALL: Group = Group {
    services: 1,
    large: settings::Buffers::Default,
};
const LARGE: Group = Group {
    services: 1,
    large: settings::Buffers::Large,
};

fn cases() -> Vec<Case> {
    let wrk = |name, group, wrk| Case {
        name,
        group,
        what: What::Wrk(wrk),
    };
    let many = |services| Group { services, ..SMALL };
    vec![
        wrk("get, 64 connections", SMALL, Wrk::get("/")),
        wrk("post of 256 B", SMALL, Wrk::post(256)),
        wrk("new connection each time", SMALL, Wrk::closing()),
        Case {
            name: "rate of 5,000/s",
            group: SMALL,
            what: What::Rate(5_000),
        },
        Case {
            name: "idle connections",
            group: SMALL,
            what: What::Idle(9_000),
        },
        wrk("64k answers", LARGE, Wrk::get("/64k")),
        wrk("1m answers", LARGE, Wrk::get("/1m").connections(16)),
        wrk("1000 services, get", many(1_000), Wrk::get("/")),
        wrk("10000 services, get", many(10_000), Wrk::get("/")),
        wrk(
            "10000 services, one asked",
            many(10_000),
            Wrk::get("/").of_one(),
        ),
    ]
}

fn main() {
    let mut own = std::env::args().skip(1);
    match own.next().as_deref() {
        Some("as-backend") => return backend::run(own),
        Some("as-rate") => return open_loop::run(own),
        Some("as-idle") => return load::idle(own),
        _ => {}
    }
    let mut args = Args::parse();
    if args.quick {
        (args.rounds, args.seconds) = (1, 1);
    }
    let turnout = args
        .turnout
        .clone()
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_turnout")));
    if let Some(folder) = args.svg.parent() {
        std::fs::create_dir_all(folder).expect("the picture's folder");
    }
    let servers = backend::Servers::start();
    let mut wanted = cases();
    wanted.retain(|case| {
        let first = case.name.split([' ', ',']).next().unwrap_or_default();
        args.only.is_empty() || args.only.iter().any(|only| only == first)
    });
    let mut table = Table::default();
    let mut groups: Vec<Group> = Vec::new();
    for case in &wanted {
        if !groups.contains(&case.group) {
            groups.push(case.group);
        }
    }
    for group in groups {
        let mut running: Vec<Peer> = Kind::ALL
            .iter()
            .filter_map(|kind| Peer::start(*kind, group, &servers, &turnout))
            .collect();
        for round in 0..args.rounds {
            for case in wanted.iter().filter(|case| case.group == group) {
                for peer in &running {
                    // memory that was used before would be used again
                    let fresh = matches!(case.what, What::Idle(_))
                        .then(|| Peer::start(peer.kind, group, &servers, &turnout))
                        .flatten();
                    let peer = fresh.as_ref().unwrap_or(peer);
                    let row = measure(case, peer, group, args.seconds);
                    table.add(case.name, peer.kind, row);
                }
            }
            println!(
                "{} services, {:?} buffers: round {} of {} done",
                group.services,
                group.large,
                round + 1,
                args.rounds
            );
            running.reverse();
        }
    }
    println!("\n{table}");
    std::fs::write(&args.svg, picture::svg(&table)).expect("the picture is written");
    println!("picture: {}", args.svg.display());
}

fn measure(case: &Case, peer: &Peer, group: Group, seconds: u64) -> Row {
    match &case.what {
        What::Wrk(wrk) => {
            let before = peer.cpu();
            let seen = wrk.run(peer.address, group.services, seconds);
            let used = peer.cpu().saturating_sub(before);
            Row {
                cpu_us: Some(used.as_secs_f64() * 1e6 / seen.requests as f64),
                per_second: Some(seen.requests as f64 / seen.seconds),
                failed: seen.failed,
                ..Row::default()
            }
        }
        What::Rate(rate) => {
            let before = peer.cpu();
            let seen = open_loop::measure(peer.address, *rate, seconds);
            let used = peer.cpu().saturating_sub(before);
            Row {
                cpu_us: Some(used.as_secs_f64() * 1e6 / seen.requests as f64),
                per_second: Some(seen.requests as f64 / seconds as f64),
                p50_us: Some(seen.p50_us),
                p99_us: Some(seen.p99_us),
                failed: seen.failed,
                ..Row::default()
            }
        }
        What::Idle(connections) => {
            let before = peer.pss();
            let held = load::hold(peer.address, *connections);
            let with = peer.pss();
            drop(held);
            Row {
                idle_bytes: Some(with.saturating_sub(before) as f64 / *connections as f64),
                ..Row::default()
            }
        }
    }
}
