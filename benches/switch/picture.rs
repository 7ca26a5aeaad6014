//! The figures as a picture: for each contender what failed, and when new answers begin and old ones end, in milliseconds
//! after the command. Plain SVG.

use std::fmt::Write as _;
use std::time::Duration;

use crate::figures::{Figures, milliseconds};
use crate::support::Class;

const LEFT: f64 = 170.0;
const WIDE: f64 = 520.0;
const ROW: f64 = 62.0;

pub(crate) fn svg(all: &[Figures]) -> String {
    let longest = all
        .iter()
        .map(|one| (one.answer.p95 + one.last_old.p95).max(one.first_new.p95))
        .max()
        .unwrap_or_default()
        .as_secs_f64()
        .max(1e-3);
    let x = |time: Duration| LEFT + time.as_secs_f64() / longest * WIDE;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"10\" y=\"22\" font-size=\"15\">One switch under load, milliseconds after the command (median; thin line: 95th percentile)</text>\n",
        LEFT + WIDE + 380.0,
        70.0 + ROW * f64::from(u32::try_from(all.len()).unwrap_or(0))
    );
    let mut line = |text: String| writeln!(out, "{text}").expect("a string takes it");
    for (place, (color, text)) in [
        (ANSWER, "command to answer"),
        (NEW, "first answer of the new color"),
        (OLD, "last request to the old color"),
    ]
    .iter()
    .enumerate()
    {
        let at = LEFT + 230.0 * f64::from(u32::try_from(place).unwrap_or(0));
        line(format!(
            "<rect x=\"{at}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{color}\"/><text x=\"{}\" y=\"45\">{text}</text>",
            at + 17.0
        ));
    }
    for (row, one) in all.iter().enumerate() {
        let top = 60.0 + ROW * f64::from(u32::try_from(row).unwrap_or(0));
        line(format!(
            "<text x=\"10\" y=\"{}\">{}</text>",
            top + 26.0,
            one.name
        ));
        let bars = [
            (ANSWER, one.answer.p50, one.answer.p95),
            (NEW, one.first_new.p50, one.first_new.p95),
            (
                OLD,
                one.answer.p50 + one.last_old.p50,
                one.answer.p50 + one.last_old.p95,
            ),
        ];
        for (place, (color, p50, p95)) in bars.into_iter().enumerate() {
            let y = top + 16.0 * f64::from(u32::try_from(place).unwrap_or(0));
            line(format!(
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"13\" fill=\"{color}\"/><line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{m}\" y2=\"{m}\" stroke=\"#222\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
                x(p50) - LEFT,
                x(p95),
                x(p95.max(p50)) + 6.0,
                y + 11.0,
                milliseconds(p50),
                m = y + 6.5,
            ));
        }
        let failed: usize = one.failed.values().sum();
        let by: Vec<_> = Class::ALL
            .into_iter()
            .filter(|class| one.failed[class] > 0)
            .map(|class| format!("{} {}", word(class), one.failed[&class]))
            .collect();
        line(format!(
            "<text x=\"{}\" y=\"{}\">{failed} failed of {}</text><text x=\"{}\" y=\"{}\" fill=\"#666\">{}</text>",
            LEFT + WIDE + 70.0,
            top + 14.0,
            one.requests,
            LEFT + WIDE + 70.0,
            top + 30.0,
            by.join(", ")
        ));
    }
    out.push_str("</svg>\n");
    out
}

const fn word(class: Class) -> &'static str {
    match class {
        Class::Busy => "busy",
        Class::Idle => "idle",
        Class::IdleCheck => "idle that checks",
        Class::Post => "POST",
        Class::Close => "new",
    }
}

const ANSWER: &str = "#8a9bc4";
const NEW: &str = "#7aa37a";
const OLD: &str = "#d98b3a";
