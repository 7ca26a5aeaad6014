//! The pictures: time goes from left to right over the whole width, whatever that is.
//!
//! An SVG holds lines and areas alone, in a square of 100 by 100 that is stretched to its box; what must not be stretched (texts and
//! marks) is HTML, placed by percentages. So the same page is readable on a telephone and on a wall.

use jiff::Timestamp;

use super::bins::{Point, rates, real};
use super::html::{escaped, put};
use super::record::Record;
use super::text::{clock, said, word};
use crate::domain::{Arm, Decision, Evidence, Metric};
use crate::rollout::judge::words::percent;

/// A chart: its title, the labels of its height with their places (0 is the bottom, 1 the top), the insides of its SVG, and a legend of
/// classes and words.
struct Chart {
    title: String,
    ticks: Vec<(f64, String)>,
    drawn: String,
    legend: Vec<(&'static str, String)>,
}

/// All charts of a record that there is something to draw for.
pub(super) fn charts(record: &Record) -> String {
    let span = record.span();
    let mut out = String::new();
    let slow = |arm: &Arm| arm.slow;
    let any_slow = record
        .counts
        .iter()
        .any(|one| slow(&one.stable) + slow(&one.candidate) > 0);
    let all = [
        weights(record, span),
        rate(
            record,
            span,
            "Requests that failed, with 95 % intervals",
            |arm| arm.errors,
        ),
        rate(
            record,
            span,
            "Requests that were slow, with 95 % intervals",
            slow,
        )
        .filter(|_| any_slow),
        evidence(record, span),
    ];
    for chart in all.into_iter().flatten() {
        frame(&mut out, record, span, &chart);
    }
    out
}

/// The share of the whole time at which `at` is, in percent of the width.
fn across(at: Timestamp, span: (Timestamp, Timestamp)) -> f64 {
    let whole = span.1.duration_since(span.0).as_secs_f64().max(1e-9);
    (at.duration_since(span.0).as_secs_f64() / whole * 100.0).clamp(0.0, 100.0)
}

fn weights(record: &Record, span: (Timestamp, Timestamp)) -> Option<Chart> {
    if record.steps.is_empty() {
        return None;
    }
    let mut line = String::new();
    let mut weight = 0.0;
    put(&mut line, format_args!("M0 100"));
    for step in &record.steps {
        let x = across(step.at, span);
        let y = 100.0 - step.weight.clamp(0.0, 100.0);
        put(
            &mut line,
            format_args!(" L{x:.2} {:.2} L{x:.2} {y:.2}", 100.0 - weight),
        );
        weight = step.weight.clamp(0.0, 100.0);
    }
    put(&mut line, format_args!(" L100 {:.2}", 100.0 - weight));
    Some(Chart {
        title: "The candidate's weight".into(),
        ticks: [0.0, 0.5, 1.0].map(|share| (share, percent(share))).into(),
        drawn: format!(
            "<path class=\"area candidate\" d=\"{line} L100 100 Z\"/><path class=\"line candidate\" d=\"{line}\"/>"
        ),
        legend: Vec::new(),
    })
}

fn rate(
    record: &Record,
    span: (Timestamp, Timestamp),
    title: &str,
    bad: fn(&Arm) -> u64,
) -> Option<Chart> {
    let both = rates(&record.counts, span, bad);
    if both.iter().all(Vec::is_empty) {
        return None;
    }
    let top = roof(&both);
    let mut drawn = String::new();
    for (points, class) in both.iter().zip(["stable", "candidate"]) {
        let at = |x: f64, rate: f64| {
            format!(
                "{:.2} {:.2}",
                x * 100.0,
                100.0 - (rate / top).min(1.0) * 100.0
            )
        };
        let upper = points.iter().map(|point| at(point.x, point.high));
        let lower = points.iter().rev().map(|point| at(point.x, point.low));
        let band: Vec<String> = upper.chain(lower).collect();
        let line: Vec<String> = points.iter().map(|point| at(point.x, point.rate)).collect();
        put(
            &mut drawn,
            format_args!(
                "<path class=\"area {class}\" d=\"M{} Z\"/><path class=\"line {class}\" d=\"M{}\"/>",
                band.join(" L"),
                // a single point is a line of no length, which round ends make a dot
                if line.len() == 1 {
                    format!("{0} L{0}", line[0])
                } else {
                    line.join(" L")
                }
            ),
        );
    }
    let [stable, candidate] = record.names();
    Some(Chart {
        title: title.into(),
        ticks: [0.0, 0.5, 1.0]
            .map(|share| (share, percent(share * top)))
            .into(),
        drawn,
        legend: vec![("stable", stable), ("candidate", candidate)],
    })
}

/// Where the height of the rates ends: above every rate and most intervals, at a round figure. Wide intervals of a few requests are cut,
/// since they would press everything else to the ground.
fn roof(both: &[Vec<Point>; 2]) -> f64 {
    let all = || both.iter().flatten();
    let rates = all().map(|point| point.rate).fold(0.0, f64::max);
    let mut highs: Vec<f64> = all().map(|point| point.high).collect();
    highs.sort_by(f64::total_cmp);
    let most = highs.get(highs.len() * 3 / 4).copied().unwrap_or(1.0);
    let needed = (rates * 1.1).max(most).max(0.001);
    let size = 10.0_f64.powf(needed.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|times| times * size);
    round
        .into_iter()
        .find(|round| *round >= needed)
        .unwrap_or(needed)
        .min(1.0)
}

/// The evidence over what it is held against, so that 1 is where it tells; in powers of ten.
fn evidence(record: &Record, span: (Timestamp, Timestamp)) -> Option<Chart> {
    const LOWEST: f64 = -4.0;
    const HIGHEST: f64 = 1.0;
    let height = |ratio: f64| {
        let power = ratio.max(1e-300).log10().clamp(LOWEST, HIGHEST);
        (power - LOWEST) / (HIGHEST - LOWEST)
    };
    let metrics = [
        (Metric::Errors, "first", "failed requests"),
        (Metric::Latency, "second", "slow requests"),
        (Metric::Availability, "third", "availability"),
        (Metric::Cpu, "fourth", "CPU"),
    ];
    let mut drawn = format!(
        "<path class=\"bound\" d=\"M0 {0:.2} L100 {0:.2}\"/>",
        100.0 - height(1.0) * 100.0
    );
    let mut legend = Vec::new();
    let seen: Vec<(Timestamp, &[Evidence])> = if record.looks.is_empty() {
        let said = record.verdicts.iter();
        said.map(|said| (said.at, &*said.evidence)).collect()
    } else {
        let looks = record.looks.iter();
        looks.map(|look| (look.at, &*look.evidence)).collect()
    };
    for (metric, class, name) in metrics {
        let points: Vec<String> = seen
            .iter()
            .filter_map(|(at, evidence)| {
                let one = evidence.iter().find(|one| one.metric == metric)?;
                // of an availability too little is bad, of all else too much
                let ratio = if metric == Metric::Availability {
                    (1.0 - one.value) / (1.0 - one.bound).max(1e-9)
                } else {
                    one.value / one.bound.max(1e-300)
                };
                let y = 100.0 - height(ratio) * 100.0;
                Some(format!("{:.2} {y:.2}", across(*at, span)))
            })
            .collect();
        let Some(first) = points.first() else {
            continue;
        };
        let line = if points.len() == 1 {
            format!("{first} L{first}")
        } else {
            points.join(" L")
        };
        put(
            &mut drawn,
            format_args!("<path class=\"line {class}\" d=\"M{line}\"/>"),
        );
        legend.push((class, name.to_owned()));
    }
    if legend.is_empty() {
        return None;
    }
    let (title, labels) = if record.judge == "sequential" {
        (
            "Evidence of a regression, in parts of what a rollback needs",
            ["0.0001", "0.01", "needed"],
        )
    } else {
        (
            "Figures, in parts of their limits",
            ["0.0001", "0.01", "limit"],
        )
    };
    let ticks = [1e-4, 1e-2, 1.0].map(height);
    legend.push((
        "bound",
        if record.judge == "sequential" {
            "roll back"
        } else {
            "limit"
        }
        .into(),
    ));
    Some(Chart {
        title: title.into(),
        ticks: ticks.into_iter().zip(labels.map(str::to_owned)).collect(),
        drawn,
        legend,
    })
}

/// A chart in its box, with what was said as marks above it, and the times below.
fn frame(out: &mut String, record: &Record, span: (Timestamp, Timestamp), chart: &Chart) {
    put(
        out,
        format_args!("<figure>\n<figcaption>{}", escaped(&chart.title)),
    );
    for (class, name) in &chart.legend {
        put(
            out,
            format_args!(" <span class=\"key {class}\">{}</span>", escaped(name)),
        );
    }
    put(out, format_args!("</figcaption>\n<div class=\"plot\">\n"));
    for (share, label) in &chart.ticks {
        put(
            out,
            format_args!(
                "<span class=\"tick\" style=\"bottom:{:.2}%\">{}</span><i class=\"rule\" style=\"bottom:{:.2}%\"></i>\n",
                share * 100.0,
                escaped(label),
                share * 100.0
            ),
        );
    }
    put(
        out,
        format_args!(
            "<svg viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">{}</svg>\n",
            escaped(&chart.title),
            chart.drawn
        ),
    );
    for one in said(&record.verdicts) {
        let (class, sign) = match one.last.decision {
            Decision::Advance => ("advance", "▲"),
            Decision::RollBack => ("back", "✖"),
            Decision::Hold => continue,
        };
        put(
            out,
            format_args!(
                "<span class=\"mark {class}\" style=\"left:{:.2}%\" title=\"{} {}: {}\">{sign}</span>\n",
                across(one.first.at, span),
                clock(one.first.at),
                word(one.last.decision),
                escaped(&one.last.reason)
            ),
        );
    }
    put(out, format_args!("</div>\n<div class=\"times\">"));
    let whole = span.1.duration_since(span.0);
    for place in 0..5_usize {
        let at = span.0 + whole.mul_f64(real(place) / 4.0);
        put(out, format_args!("<span>{}</span>", clock(at)));
    }
    put(out, format_args!("</div>\n</figure>\n"));
}
