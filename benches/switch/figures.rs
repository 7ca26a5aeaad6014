//! What clients saw of the switches: requests that failed by the kind of their connection, and times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{Class, Event, Report};

/// The figures of one contender.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) name: &'static str,
    pub(crate) requests: usize,
    pub(crate) rate: f64,
    /// Requests without a whole answer, or with one that is not 2xx, by kind of connection.
    pub(crate) failed: BTreeMap<Class, usize>,
    /// From the command to its answer.
    pub(crate) answer: Spread,
    /// From the command to the first answer of the new color.
    pub(crate) first_new: Spread,
    /// From the command's answer to the beginning of the last request that the old color still got; 0: none began after it.
    pub(crate) last_old: Spread,
    /// Requests that began after the command's answer and got the old color.
    pub(crate) stale: usize,
}

/// Median, 95th percentile and largest.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spread {
    pub(crate) p50: Duration,
    pub(crate) p95: Duration,
    pub(crate) max: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| {
            let place = (times.len() * share / 100).min(times.len().saturating_sub(1));
            times.get(place).copied().unwrap_or_default()
        };
        Self {
            p50: at(50),
            p95: at(95),
            max: times.last().copied().unwrap_or_default(),
        }
    }
}

impl Figures {
    pub(crate) fn new(name: &'static str, report: &Report, events: &[Event]) -> Self {
        let mut failed: BTreeMap<Class, usize> = Class::ALL.map(|class| (class, 0)).into();
        for sample in report.samples() {
            let is_good = sample
                .outcome
                .is_ok_and(|seen| (200..300).contains(&seen.status));
            if !is_good {
                *failed.entry(sample.class).or_default() += 1;
            }
        }
        let (mut late, mut stale) = (Vec::new(), 0);
        for (place, event) in events.iter().enumerate() {
            let until = events
                .get(place + 1)
                .map_or_else(Instant::now, |next| next.asked);
            let Some(color) = event.to else { continue };
            let old = report.stale(color, event.answered, until, |sample| sample.start);
            stale += old.len();
            let last = old.iter().map(|sample| sample.start - event.answered).max();
            late.push(last.unwrap_or_default());
        }
        Self {
            name,
            requests: report.requests(),
            rate: report.rate(),
            failed,
            answer: Spread::of(
                events
                    .iter()
                    .map(|event| event.answered - event.asked)
                    .collect(),
            ),
            first_new: Spread::of(
                events
                    .iter()
                    .filter_map(|event| report.first_new(event))
                    .collect(),
            ),
            last_old: Spread::of(late),
            stale,
        }
    }
}

/// As Markdown prints it.
pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// All figures as one Markdown table.
pub(crate) fn table(all: &[Figures]) -> String {
    let mut out = String::from(
        "| | requests (a second) | failed: busy | idle | idle that checks | POST | new | answer, ms (p50/p95/max) | first new, ms | last old after the answer, ms | old after the answer |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for one in all {
        let spread = |spread: Spread| {
            [spread.p50, spread.p95, spread.max]
                .map(milliseconds)
                .join("/")
        };
        let failed = Class::ALL.map(|class| one.failed[&class].to_string());
        let cells = [
            one.name.to_owned(),
            format!("{} ({:.0})", one.requests, one.rate),
            failed.join(" | "),
            spread(one.answer),
            spread(one.first_new),
            spread(one.last_old),
            one.stale.to_string(),
        ];
        out.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    out
}
