//! The table as a picture: bars of CPU for each request, a group for each measurement, the spread as a line over each bar. Plain SVG.

use std::fmt::Write as _;

use crate::peers::Kind;
use crate::table::Table;

const BAR: f64 = 14.0;
const GAP: f64 = 22.0;
const LEFT: f64 = 200.0;
const WIDE: f64 = 560.0;

/// One panel for each measurement that has a figure of CPU; each has a scale of its own, beginning at 0.
pub(crate) fn svg(table: &Table) -> String {
    let shown: Vec<_> = table
        .names()
        .iter()
        .filter(|name| {
            table
                .spread(name, Kind::Turnout, |row| row.cpu_us)
                .is_some()
        })
        .collect();
    let group = 3.0 * BAR + GAP;
    let height = 70.0 + group * shown.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"10\" y=\"22\" font-size=\"15\">CPU microseconds for each request (median; line: lowest to highest round)</text>",
        LEFT + WIDE + 110.0
    );
    for (place, kind) in Kind::ALL.iter().enumerate() {
        let x = LEFT + 110.0 * place as f64;
        writeln!(
            out,
            "<rect x=\"{x}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"45\">{}</text>",
            color(*kind),
            x + 17.0,
            kind.name()
        )
        .expect("a string takes it");
    }
    for (row, name) in shown.iter().enumerate() {
        let top = 60.0 + group * row as f64;
        let spreads: Vec<_> = Kind::ALL
            .iter()
            .filter_map(|kind| Some((*kind, table.spread(name, *kind, |row| row.cpu_us)?)))
            .collect();
        let most = spreads
            .iter()
            .map(|(_, spread)| spread.high)
            .fold(1e-9, f64::max);
        let scale = WIDE / most;
        writeln!(
            out,
            "<text x=\"10\" y=\"{}\">{name}</text>",
            top + 1.5 * BAR + 4.0
        )
        .expect("a string takes it");
        for (place, (kind, spread)) in spreads.iter().enumerate() {
            let y = top + BAR * place as f64;
            let middle = y + BAR / 2.0 - 1.0;
            writeln!(
                out,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/><line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#222\"/><text x=\"{:.1}\" y=\"{}\">{:.1}</text>",
                spread.median * scale,
                BAR - 2.0,
                color(*kind),
                LEFT + spread.low * scale,
                LEFT + spread.high * scale,
                LEFT + spread.high * scale + 6.0,
                y + BAR - 3.0,
                spread.median,
            )
            .expect("a string takes it");
        }
    }
    out.push_str("</svg>\n");
    out
}

const fn color(kind: Kind) -> &'static str {
    match kind {
        Kind::Nginx => "#7aa37a",
        Kind::Haproxy => "#8a9bc4",
        Kind::Turnout => "#d98b3a",
    }
}
