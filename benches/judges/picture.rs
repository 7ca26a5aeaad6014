//! The figures as a picture: above how often each judge rolls back a healthy candidate, below how soon it finds a
//! regression. A row for each scenario, a mark for each judge. Plain SVG.

use std::fmt::Write as _;

use super::figures::Row;
use super::rules::Rule;

const LEFT: f64 = 345.0;
const WIDE: f64 = 560.0;
const ROW: f64 = 24.0;
const RIGHT: f64 = LEFT + WIDE + 40.0;

/// Both panels, one above the other.
pub(crate) fn svg(rows: &[Row]) -> String {
    let (healthy, bad): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.scenario.is_healthy());
    let tall = 150.0 + ROW * (healthy.len() + bad.len()) as f64 + 130.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {RIGHT} {tall}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (place, rule) in Rule::ALL.into_iter().enumerate() {
        let (column, line) = (place % 4, place / 4);
        let (x, y) = (20.0 + 210.0 * column as f64, 22.0 + 20.0 * line as f64);
        mark(&mut out, rule, x, y - 4.0, 1.0);
        text(&mut out, x + 12.0, y, "start", rule.name());
    }
    let top = panel(
        &mut out,
        80.0,
        "No regression: rolled back all the same (share of runs)",
        &healthy,
        &[
            (0.0, "0"),
            (0.01, "1 %"),
            (0.1, "10 %"),
            (0.5, "50 %"),
            (1.0, "100 %"),
        ],
        |share| share.powf(0.4),
        |row, rule| row.of(rule).map(|one| (one.rolled_back, 1.0)),
    );
    panel(
        &mut out,
        top + 50.0,
        "A regression: minutes until it is rolled back (median of the runs that found it; paler: found in fewer)",
        &bad,
        &[
            (0.1, "0.1"),
            (0.5, "0.5"),
            (1.0, "1"),
            (2.0, "2"),
            (5.0, "5"),
            (10.0, "10"),
            (30.0, "30"),
        ],
        |minutes: f64| (minutes / 0.1).ln() / 300.0_f64.ln(),
        |row, rule| {
            let one = row.of(rule)?;
            Some((one.minutes?, one.rolled_back)).filter(|_| one.rolled_back >= 0.05)
        },
    );
    out.push_str("</svg>\n");
    out
}

fn panel(
    out: &mut String,
    top: f64,
    title: &str,
    rows: &[&Row],
    ticks: &[(f64, &str)],
    along: impl Fn(f64) -> f64,
    figure: impl Fn(&Row, Rule) -> Option<(f64, f64)>,
) -> f64 {
    line(
        out,
        &format!("<text x=\"20\" y=\"{top}\" font-size=\"15\">{title}</text>"),
    );
    let bottom = top + 20.0 + ROW * rows.len() as f64;
    for (value, label) in ticks {
        let x = LEFT + WIDE * along(*value);
        line(
            out,
            &format!(
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{bottom}\" stroke=\"#ddd\"/>",
                top + 10.0
            ),
        );
        text(out, x, bottom + 15.0, "middle", label);
    }
    for (place, row) in rows.iter().enumerate() {
        let y = top + 26.0 + ROW * place as f64;
        text(out, LEFT - 14.0, y + 4.0, "end", &row.full_name());
        for rule in Rule::ALL {
            if let Some((value, pale)) = figure(row, rule) {
                mark(out, rule, LEFT + WIDE * along(value), y, pale);
            }
        }
    }
    bottom + 15.0
}

/// Turnout's are filled, and above the others; the peers' are outlines of different shapes.
fn mark(out: &mut String, rule: Rule, x: f64, y: f64, strength: f64) {
    let (color, shape) = match rule {
        Rule::Flagger => ("#3b6fb6", "square"),
        Rule::Argo => ("#b0413e", "square"),
        Rule::ArgoFloor => ("#b0413e", "diamond"),
        Rule::Kayenta => ("#7a5195", "circle"),
        Rule::Plain => ("#777", "circle"),
        Rule::Sprt => ("#777", "diamond"),
        Rule::Thresholds => ("#d98b3a", "filled square"),
        Rule::Sequential => ("#2e7d4f", "filled circle"),
    };
    let fill = if shape.starts_with("filled") {
        color
    } else {
        "none"
    };
    let strength = strength.max(0.25);
    let style = format!(
        "fill=\"{fill}\" stroke=\"{color}\" stroke-width=\"1.6\" opacity=\"{strength:.2}\""
    );
    let drawn = if shape.ends_with("circle") {
        format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" {style}/>")
    } else {
        let turn = if shape == "diamond" { 45 } else { 0 };
        format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\" transform=\"rotate({turn} {x:.1} {y:.1})\" {style}/>",
            x - 4.0,
            y - 4.0
        )
    };
    line(out, &drawn);
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    line(
        out,
        &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"),
    );
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a string takes it");
}
