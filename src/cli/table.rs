//! The look of tables: no borders, two blanks between columns, a glyph and a word for each state (colour is never the only
//! carrier). Pure.

use std::fmt::Display;
use std::time::Duration;

use comfy_table::{Attribute, Cell, Color as Ink, Table, presets};
use jiff::Timestamp;

use crate::domain::{Color, Health, Weight};

/// A text that grows line by line.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Adds a text and ends its last line.
    pub(super) fn line(&mut self, text: impl Display) {
        self.0 += &text.to_string();
        self.0.push('\n');
    }

    /// Adds what has its line breaks already.
    pub(super) fn add(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// The text, without blank lines at its end.
    pub(super) fn finish(mut self) -> String {
        self.0.truncate(self.0.trim_end().len());
        self.0
    }
}

/// How a cell is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Wants to be looked at.
    Mind,
    /// Wrong.
    Bad,
    /// Less important.
    Dim,
}

/// An empty table with a head. Colours are always in it; `output` takes them out where nobody would see them.
pub(super) fn new(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).enforce_styling();
    if !head.is_empty() {
        table.set_header(head.iter().map(|title| match *title {
            "" => Cell::new(""),
            title => Cell::new(title).add_attribute(Attribute::Bold),
        }));
    }
    table
}

/// The text of a table, its last line ended.
pub(super) fn render(mut table: Table) -> String {
    // blanks behind a colour would stay at the ends of lines
    table.style_text_only();
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// A cell that is meant somehow.
pub(super) fn toned(text: &str, tone: Tone) -> Cell {
    let cell = Cell::new(text);
    if text.is_empty() {
        return cell;
    }
    match tone {
        Tone::Good => cell.fg(Ink::Green),
        Tone::Mind => cell.fg(Ink::Yellow),
        Tone::Bad => cell.fg(Ink::Red),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
    }
}

/// A color in its own colour.
pub(super) fn color(color: Color) -> Cell {
    Cell::new(color).fg(match color {
        Color::Blue => Ink::Blue,
        Color::Green => Ink::Green,
    })
}

/// The health of a server.
pub(super) fn health(health: Health) -> Cell {
    match health {
        Health::Healthy => toned("✔ Up", Tone::Good),
        Health::Unhealthy => toned("✖ Down", Tone::Bad),
        Health::Unknown => toned("◌ Unknown", Tone::Mind),
    }
}

/// A value, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A share as ten blocks.
pub(super) fn bar(weight: Weight) -> String {
    let filled = usize::from((weight.basis_points() + 500) / 1000);
    "█".repeat(filled) + &"░".repeat(10 - filled)
}

/// A time to the second: `2026-11-21T09:12:04Z`.
pub(super) fn second(time: Timestamp) -> impl Display {
    time.strftime("%Y-%m-%dT%H:%M:%SZ")
}

/// How long something took: `7ms` below a second, `2.4s` from there on.
pub(super) fn took(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{}ms", time.as_millis())
    } else {
        format!("{:.1}s", time.as_secs_f64())
    }
}

/// How long ago, in its largest unit: `6s`, `6m`, `3h`, `4d`. What lies ahead (a clock that was set back) is `0s`.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m", seconds / 60),
        3_600..=86_399 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ago_uses_the_largest_unit_and_never_the_future() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (then, text) in [
            ("2026-11-21T11:59:54Z", "6s"),
            ("2026-11-21T11:54:00Z", "6m"),
            ("2026-11-21T09:00:00Z", "3h"),
            ("2026-11-17T09:00:00Z", "4d"),
            ("2036-11-17T09:00:00Z", "0s"),
        ] {
            assert_eq!(ago(then.parse().unwrap(), now), text);
        }
    }

    #[test]
    fn a_bar_has_ten_blocks() {
        let weight = |points| Weight::from_basis_points(points).unwrap();
        assert_eq!(bar(weight(0)), "░░░░░░░░░░");
        assert_eq!(bar(weight(2_500)), "███░░░░░░░");
        assert_eq!(bar(weight(10_000)), "██████████");
    }
}
