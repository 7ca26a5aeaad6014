//! The last hour as paths of small pictures: requests, errors and p95 by color, with the switches as upright lines. Pure.
//!
//! Coordinates are those of a picture 300 wide ([`NOW`] is an hour) and [`HEIGHT`] high; whoever draws it stretches it. A color is
//! told by its name, its ink and the pattern of its line, never by ink alone.

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::Color;
use crate::traffic::Minute;

/// Where the present is: a little short of the right edge, so that what happens now is seen whole.
const NOW: f64 = 294.0;
const HEIGHT: f64 = 60.0;
const HOUR: f64 = 3600.0;
/// A minute that has just begun says little of its rate.
const FIRST_WORD: f64 = 5.0;

/// One moment at which traffic was moved.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    pub(super) what: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Chart {
    title: &'static str,
    /// At the upper edge.
    top: String,
    lines: Vec<Line>,
    marks: Vec<Mark>,
}

#[derive(Debug, Serialize)]
struct Line {
    color: Color,
    path: String,
    /// The latest value, with its unit.
    now: String,
}

#[derive(Debug, Serialize)]
struct Mark {
    x: String,
    what: String,
}

/// The three pictures of one service; `None` where there was no request in the hour.
pub(super) fn of(minutes: &[Minute], moments: &[Moment], now: Timestamp) -> Option<Vec<Chart>> {
    let quiet = |minute: &Minute| minute.colors.iter().all(|(_, seen)| seen.requests == 0);
    if minutes.iter().all(quiet) {
        return None;
    }
    let marks = || {
        let seen = moments.iter().filter(|moment| age(moment.at, now) <= HOUR);
        seen.map(|moment| Mark {
            x: format!("{:.1}", across(moment.at, now)),
            what: moment.what.clone(),
        })
        .collect::<Vec<_>>()
    };
    let rate = |minute: &Minute, color: Color| {
        let seconds = age(minute.begin, minute.end);
        (seconds >= FIRST_WORD).then(|| number(minute.colors[color].requests) / seconds)
    };
    let errors = |minute: &Minute, color: Color| {
        let seen = minute.colors[color];
        (seen.requests > 0).then(|| number(seen.errors) * 100.0 / number(seen.requests))
    };
    let p95 = |minute: &Minute, color: Color| {
        let slow = minute.colors[color].p95?;
        Some(slow.as_secs_f64() * 1e3)
    };
    let charts = [
        draw("Requests", &per_second, 1.0, minutes, now, &rate),
        draw("Errors", &percent, 1.0, minutes, now, &errors),
        draw("p95", &milliseconds, 1.0, minutes, now, &p95),
    ];
    Some(
        charts
            .into_iter()
            .map(|chart| Chart {
                marks: marks(),
                ..chart
            })
            .collect(),
    )
}

fn draw(
    title: &'static str,
    unit: &dyn Fn(f64) -> String,
    least: f64,
    minutes: &[Minute],
    now: Timestamp,
    value: &dyn Fn(&Minute, Color) -> Option<f64>,
) -> Chart {
    let all = minutes
        .iter()
        .flat_map(|minute| Color::BOTH.map(|color| value(minute, color)));
    let top = all.flatten().fold(least, f64::max);
    let lines = Color::BOTH.map(|color| {
        let mut path = String::new();
        let mut begun = false;
        let mut latest = None;
        for minute in minutes {
            let Some(value) = value(minute, color) else {
                begun = false;
                continue;
            };
            latest = Some(value);
            let (x, y) = (
                across(minute.end, now),
                HEIGHT - 1.0 - value / top * (HEIGHT - 3.0),
            );
            // a single point is a line to itself, which round ends make a dot
            let step = if begun {
                format!("L{x:.1} {y:.1}")
            } else {
                format!("M{x:.1} {y:.1}h.1")
            };
            path.push_str(&step);
            begun = true;
        }
        Line {
            color,
            path,
            now: latest.map_or_else(|| "–".to_owned(), unit),
        }
    });
    Chart {
        title,
        top: unit(top),
        lines: lines.into(),
        marks: Vec::new(),
    }
}

fn per_second(value: f64) -> String {
    if value >= 10.0 {
        format!("{value:.0}/s")
    } else {
        format!("{value:.1}/s")
    }
}

fn percent(value: f64) -> String {
    if value > 0.0 && value < 1.0 {
        format!("{value:.2} %")
    } else {
        format!("{value:.1} %")
    }
}

fn milliseconds(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0} s", value / 1e3)
    } else if value >= 10.0 {
        format!("{value:.0} ms")
    } else {
        format!("{value:.1} ms")
    }
}

/// Seconds from one to the other.
fn age(then: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(then).as_secs_f64()
}

fn across(at: Timestamp, now: Timestamp) -> f64 {
    (NOW * (1.0 - age(at, now) / HOUR)).clamp(0.0, NOW)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "requests of a minute, far below 2^53"
)]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Colors;
    use crate::traffic::Figures;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn minute(end: i64, requests: u64, errors: u64) -> Minute {
        Minute {
            begin: at(end - 60),
            end: at(end),
            colors: Colors {
                blue: Figures {
                    requests,
                    errors,
                    p95: Some(Duration::from_millis(12)),
                },
                green: Figures::default(),
            },
        }
    }

    #[test]
    fn an_hour_is_three_pictures_with_the_switches_in_them() {
        let minutes = [minute(-1800, 600, 6), minute(0, 1200, 0)];
        let moments = [
            Moment {
                at: at(-900),
                what: "switch to green".to_owned(),
            },
            Moment {
                at: at(-7200),
                what: "long ago".to_owned(),
            },
        ];
        let charts = of(&minutes, &moments, at(0)).unwrap();
        let texts: Vec<_> = charts
            .iter()
            .map(|chart| (chart.title, chart.top.as_str(), chart.lines[0].now.as_str()))
            .collect();
        assert_eq!(
            texts,
            [
                ("Requests", "20/s", "20/s"),
                ("Errors", "1.0 %", "0.0 %"),
                ("p95", "12 ms", "12 ms"),
            ]
        );
        assert_eq!(charts[0].lines[0].path, "M147.0 30.5h.1L294.0 2.0");
        assert_eq!(charts[0].marks.len(), 1);
        assert_eq!(charts[0].marks[0].x, "220.5");
        assert_eq!(charts[1].lines[1].now, "–");
    }

    #[test]
    fn an_hour_without_requests_is_no_picture() {
        assert!(of(&[minute(0, 0, 0)], &[], at(0)).is_none());
        assert!(of(&[], &[], at(0)).is_none());
    }
}
