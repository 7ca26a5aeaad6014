//! One switch after the other under load, on everything that turnout drives and on what people do without it, in one run:
//! `cargo bench --bench switch`. What clients lose, when the first answer of the new color comes, and when the last request
//! still goes to the old one.
//!
//! The contenders take turns, a few switches each, so that a neighbour's burst of work hits all of them. It measures and
//! judges nothing.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement that cannot go on says so by a panic, and its result by printing; it starts programs and writes their configurations"
)]

mod contender;
mod figures;
#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../../tests/haproxy/lab/mod.rs"]
mod lab;
mod picture;
#[expect(dead_code, unused_imports, reason = "the tests need more of it")]
#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use turnout::domain::Color;

use contender::{Contender, Kind};
use figures::Figures;
use support::{Event, Load, Report, Sample};

/// What to run.
#[derive(Debug, Parser)]
struct Args {
    /// Turns of each contender.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Switches in each turn.
    #[arg(long, default_value_t = 12)]
    switches: usize,
    /// Where the picture goes.
    #[arg(long, default_value = "target/switch-bench.svg")]
    svg: PathBuf,
    /// Cargo's own.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Between two switches: the longest think time passes twice, and nginx's old workers are long gone.
const PAUSE: Duration = Duration::from_millis(300);

fn main() {
    let args = Args::parse();
    let mut seen: Vec<(Vec<Sample>, Vec<Event>, Duration)> = Kind::ALL
        .map(|_| (Vec::new(), Vec::new(), Duration::ZERO))
        .into();
    for round in 0..args.rounds {
        for (kind, (samples, events, took)) in Kind::ALL.into_iter().zip(&mut seen) {
            println!("round {} of {}: {}", round + 1, args.rounds, kind.name());
            let begin = Instant::now();
            let (report, made) = drive(&Contender::start(kind), args.switches);
            samples.extend_from_slice(report.samples());
            events.extend(made);
            *took += begin.elapsed();
        }
    }
    let all: Vec<Figures> = Kind::ALL
        .into_iter()
        .zip(seen)
        .map(|(kind, (samples, events, took))| {
            Figures::new(kind.name(), &Report::new(samples, took), &events)
        })
        .collect();
    println!("{} switches each under load\n", args.rounds * args.switches);
    println!("{}", figures::table(&all));
    if let Some(folder) = args.svg.parent() {
        std::fs::create_dir_all(folder).expect("a folder for the picture");
    }
    std::fs::write(&args.svg, picture::svg(&all)).expect("the picture is written");
    println!("picture: {}", args.svg.display());
}

/// Switches under load, from blue.
fn drive(contender: &Contender, switches: usize) -> (Report, Vec<Event>) {
    let load = Load::start(contender.front());
    std::thread::sleep(Duration::from_secs(1));
    let mut color = Color::Blue;
    let mut events = Vec::new();
    for _ in 0..switches {
        color = !color;
        let asked = Instant::now();
        contender.switch(color);
        events.push(Event {
            to: Some(color),
            asked,
            answered: Instant::now(),
        });
        std::thread::sleep(PAUSE);
    }
    (load.finish(), events)
}
