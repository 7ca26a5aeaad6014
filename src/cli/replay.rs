//! `turnout canary replay FILE`: what both judges would have made of recorded counts, to tune a policy before trusting it. Touches
//! nothing but the file that it is told to write.

#![expect(
    clippy::doc_markdown,
    reason = "some of these comments are the help that people read, where backticks are noise"
)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use comfy_table::Cell;
use jiff::{SignedDuration, Timestamp};

use super::globals::duration;
use super::output;
use super::table::{self, Page, Tone};
use super::{CliError, Globals};
use crate::domain::{Decision, Paired};
use crate::exit::ExitCode;
use crate::rollout::judge::replay::{ReadError, Replay, Replayed, looks, read, replay};
use crate::rollout::judge::{Draft, Policy, PolicyError};
use crate::rollout::report::{self, Record};

/// Arguments of `canary replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Recorded counts: lines of JSON, or CSV with the header
    /// time,stable_requests,stable_errors,stable_slow,candidate_requests,candidate_errors,candidate_slow; `-` for stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The policy, as JSON with the fields of `policy` of POST /deployments
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The largest share of failed requests, 0 to 1
    #[arg(long, value_name = "SHARE")]
    pub max_error_rate: Option<f64>,
    /// Requests of the candidate that are enough data
    #[arg(long, value_name = "NUMBER")]
    pub min_requests: Option<u64>,
    /// Misses in a row that the thresholds bear
    #[arg(long, value_name = "NUMBER")]
    pub max_consecutive_failures: Option<u32>,
    /// The share of healthy rollouts that the sequential test may roll back
    #[arg(long, value_name = "SHARE")]
    pub alpha: Option<f64>,
    /// How many times the stable color's rate is a regression that matters
    #[arg(long, value_name = "TIMES")]
    pub smallest_regression: Option<f64>,
    /// From how many milliseconds on the recorded slow requests were counted as slow; without it they are not judged
    #[arg(long, value_name = "MS")]
    pub slow_ms: Option<f64>,
    /// How often the judges are asked
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub interval: Duration,
    /// Write a page with pictures to FILE as well
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Why nothing was replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The counts.
    #[error("failed to read the counts in {path}")]
    Counts {
        /// The file.
        path: PathBuf,
        /// Each bad line, or that there is none.
        #[source]
        source: ReadError,
    },
    /// The policy's file.
    #[error("failed to read the policy in {path}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        #[source]
        source: serde_json::Error,
    },
    /// The policy's figures.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Runs both judges over the counts and says what they would have done.
pub(super) fn run(globals: &Globals, args: &ReplayArgs) -> Result<ExitCode, CliError> {
    let policy = policy(args)?;
    let wrong = |source| ReplayError::Counts {
        path: args.file.clone(),
        source,
    };
    let counts = read(&text(&args.file)?).map_err(wrong)?;
    let interval = SignedDuration::try_from(args.interval).unwrap_or(SignedDuration::from_mins(1));
    let replayed = replay(&counts, policy, interval).map_err(wrong)?;
    if let Some(to) = &args.html {
        let name = args.file.display().to_string();
        let records = replayed
            .judges
            .each_ref()
            .map(|judged| record(&name, judged, &counts, policy));
        write(to, &report::page(&records)).map_err(|source| CliError::Write {
            path: to.clone(),
            source,
        })?;
    }
    output::value(globals.format(), &replayed, view)?;
    if let Some(to) = &args.html {
        output::talk(format_args!("pictures: {}", to.display()));
    }
    Ok(ExitCode::Done)
}

fn policy(args: &ReplayArgs) -> Result<Policy, CliError> {
    let written = match &args.policy {
        None => Draft::default(),
        Some(path) => serde_json::from_str(&text(path)?).map_err(|source| ReplayError::Json {
            path: path.clone(),
            source,
        })?,
    };
    let draft = Draft {
        max_error_rate: args.max_error_rate.or(written.max_error_rate),
        min_requests: args.min_requests.unwrap_or(written.min_requests),
        max_consecutive_failures: args
            .max_consecutive_failures
            .unwrap_or(written.max_consecutive_failures),
        alpha: args.alpha.unwrap_or(written.alpha),
        smallest_regression: args
            .smallest_regression
            .unwrap_or(written.smallest_regression),
        slow_ms: args.slow_ms.or(written.slow_ms),
        ..written
    };
    Ok(Policy::new(draft).map_err(ReplayError::from)?)
}

fn text(path: &Path) -> Result<String, CliError> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map(|_bytes| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|source| CliError::Read {
        path: path.to_owned(),
        source,
    })
}

fn write(to: &Path, page: &str) -> io::Result<()> {
    let mut file = File::create(to)?;
    file.write_all(page.as_bytes())
}

/// What a page is made of, for one judge.
fn record(name: &str, judged: &Replayed, counts: &[Paired], policy: Policy) -> Record {
    let until = judged.rolled_back;
    let (began, end) = (counts.first(), counts.last());
    let seen = counts
        .iter()
        .filter(|one| until.is_none_or(|until| one.to <= until));
    let seen: Vec<Paired> = seen.copied().collect();
    let status = match (until, judged.advanced.is_empty()) {
        (Some(_), _) => "rolled_back",
        (None, true) => "held to the end",
        (None, false) => "advanced",
    };
    Record {
        id: name.into(),
        service: "replay".into(),
        candidate: None,
        new_version: None,
        baseline_version: None,
        judge: judged.judge.clone(),
        status: status.into(),
        reason: last(judged),
        began: began.map_or(Timestamp::UNIX_EPOCH, |first| first.from),
        ended: until.or(end.map(|last| last.to)),
        steps: Vec::new(),
        verdicts: judged.verdicts.clone(),
        looks: if judged.judge == "sequential" {
            looks(&seen, policy, &judged.advanced)
        } else {
            Vec::new()
        },
        counts: seen,
    }
}

fn last(judged: &Replayed) -> String {
    let last = judged.verdicts.last();
    last.map_or("nothing was said".into(), |said| said.reason.clone())
}

fn view(replayed: &Replay) -> String {
    let mut page = Page::default();
    page.line(format_args!(
        "{} stretches from {} to {}",
        replayed.stretches,
        table::second(replayed.from),
        table::second(replayed.to)
    ));
    for (name, arm) in [
        ("stable", replayed.stable),
        ("candidate", replayed.candidate),
    ] {
        page.line(format_args!(
            "{name}: {} requests, {} failed, {} slow",
            arm.requests, arm.errors, arm.slow
        ));
    }
    let mut outcome = table::new(&[
        "JUDGE",
        "WOULD HAVE",
        "AFTER",
        "REQUESTS",
        "FAILED",
        "ADVANCES",
        "FIRST",
    ]);
    for judged in &replayed.judges {
        let after = |at: Timestamp| {
            table::took(Duration::try_from(at.duration_since(replayed.from)).unwrap_or_default())
        };
        outcome.add_row(vec![
            Cell::new(&judged.judge),
            match (judged.rolled_back, judged.advanced.is_empty()) {
                (Some(_), _) => table::toned("✖ rolled back", Tone::Bad),
                (None, false) => table::toned("✔ advanced", Tone::Good),
                (None, true) => table::toned("● held", Tone::Mind),
            },
            Cell::new(table::or_dash(judged.rolled_back.map(after))),
            Cell::new(judged.exposed.requests),
            Cell::new(judged.exposed.errors),
            Cell::new(judged.advanced.len()),
            Cell::new(table::or_dash(judged.advanced.first().map(|at| after(*at)))),
        ]);
    }
    page.line("");
    page.add(&table::render(outcome));
    for judged in &replayed.judges {
        page.line(format_args!("\n{}", judged.judge));
        let mut said = table::new(&[]);
        let verdicts = &judged.verdicts;
        let shown = verdicts.iter().enumerate().filter(|(place, verdict)| {
            // a hold after a hold says little that is new
            let before = place.checked_sub(1).and_then(|before| verdicts.get(before));
            verdict.decision != Decision::Hold
                || before.is_none_or(|one| one.decision != Decision::Hold)
        });
        for (_, verdict) in shown {
            said.add_row(vec![
                Cell::new(table::second(verdict.at)),
                match verdict.decision {
                    Decision::Advance => table::toned("▲ advance", Tone::Good),
                    Decision::Hold => table::toned("● hold", Tone::Mind),
                    Decision::RollBack => table::toned("✖ roll back", Tone::Bad),
                },
                Cell::new(&verdict.reason),
            ]);
        }
        page.add(&table::render(said));
    }
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_judges_are_shown_with_what_they_would_have_done() {
        let header = "time,stable_requests,stable_errors,candidate_requests,candidate_errors";
        let rows = (0..60).map(|place| format!("{},900,2,100,2", 1_764_000_000 + place * 10));
        let lines: Vec<String> = [header.to_owned()].into_iter().chain(rows).collect();
        let counts = read(&lines.join("\n")).unwrap();
        let replayed = replay(&counts, Policy::default(), SignedDuration::from_mins(1)).unwrap();
        insta::assert_snapshot!(anstream::adapter::strip_str(&view(&replayed)), @r"
        60 stretches from 2025-11-24T16:00:00Z to 2025-11-24T16:10:00Z
        stable: 54000 requests, 120 failed, 0 slow
        candidate: 6000 requests, 120 failed, 0 slow

        JUDGE       WOULD HAVE     AFTER   REQUESTS  FAILED  ADVANCES  FIRST
        thresholds  ✖ rolled back  120.0s  1200      24      0         -
        sequential  ✖ rolled back  50.0s   500       10      0         -

        thresholds
        2025-11-24T16:01:00Z  ● hold       error rate 2 % (1 % allowed), of 600 requests (miss 1; more than 1 in a row rolls back)
        2025-11-24T16:02:00Z  ✖ roll back  error rate 2 % (1 % allowed), of 600 requests (miss 2; more than 1 in a row rolls back)

        sequential
        2025-11-24T16:00:50Z  ✖ roll back  2 % of the candidate's 500 requests failed, 0.22 % of the stable color's 4,500: 9.0 times as many (evidence 287 to 1, 100 needed)
        ");
        let records = replayed
            .judges
            .each_ref()
            .map(|judged| record("counts.csv", judged, &counts, Policy::default()));
        assert_eq!(records[1].status, "rolled_back");
        assert_eq!((records[1].counts.len(), records[1].looks.len()), (5, 5));
        assert_eq!((records[0].looks.len(), records[0].verdicts.len()), (0, 2));
        let page = report::page(&records);
        assert_eq!(page.matches("<section>").count(), 2);
    }
}
