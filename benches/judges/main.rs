//! Judges on made-up traffic: how often each rolls back a healthy candidate, how often and how soon it finds a regression, and what
//! users see of it until then. `cargo bench --bench judges`; with the code that ships, and the peers' rules beside it.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    clippy::many_single_char_names,
    reason = "a measurement that cannot go on says so by a panic, and its result by printing; the letters are those of the methods' papers"
)]

mod claims;
mod figures;
mod kayenta;
mod picture;
mod rules;
mod table;
mod traffic;
mod walk;

use std::path::PathBuf;

use clap::Parser;

use rules::Rule;
use traffic::Draw;
use walk::Walk;

/// What to run.
#[derive(Debug, Parser)]
struct Args {
    /// Runs of each scenario.
    #[arg(long, default_value_t = 1000)]
    runs: usize,
    /// Of the random numbers.
    #[arg(long, default_value_t = 20_261_121)]
    seed: u64,
    /// Only scenarios with this in their name.
    #[arg(long)]
    only: Option<String>,
    /// Where the picture goes.
    #[arg(long, default_value = "target/judges-bench.svg")]
    svg: PathBuf,
    /// Cargo's own.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let mut draw = Draw::new(args.seed);
    let only = args.only.as_deref().unwrap_or_default();
    let rows: Vec<_> = figures::scenarios()
        .into_iter()
        .filter(|scenario| scenario.name.contains(only))
        .map(|scenario| figures::row(scenario, &Rule::ALL, args.runs, &mut draw))
        .collect();
    println!("{} runs of each scenario, seed {}\n", args.runs, args.seed);
    println!(
        "Rolled back, share of runs @ median minute:\n\n{}\n",
        table::verdicts(&rows)
    );
    println!(
        "Requests that the candidate got / failed ones, up to the way back:\n\n{}\n",
        table::exposure(&rows)
    );
    println!("Said to be well:\n\n{}\n", table::ruled_out(&rows));
    let walks: Vec<_> = Walk::all()
        .into_iter()
        .filter(|walk| walk.name().contains(only))
        .map(|walk| {
            let both = [false, true].map(|sequential| walk.run(sequential, args.runs, &mut draw));
            (walk, both)
        })
        .collect();
    println!("Whole rollouts:\n\n{}\n", table::walks(&walks));
    for (claim, against) in [
        (
            "rolled back without a regression in more than 1 %",
            claims::false_alarms(&rows),
        ),
        (
            "found later than by a threshold rule that is quiet on healthy versions",
            claims::later(&rows),
        ),
        (
            "found in fewer runs than by such a rule",
            claims::fewer(&rows),
        ),
    ] {
        println!(
            "{claim}: {}",
            if against.is_empty() { "nowhere" } else { "" }
        );
        for one in against {
            println!("- {one}");
        }
    }
    if let Some(folder) = args.svg.parent() {
        std::fs::create_dir_all(folder).expect("a folder for the picture");
    }
    std::fs::write(&args.svg, picture::svg(&rows)).expect("the picture is written");
    println!("picture: {}", args.svg.display());
}
