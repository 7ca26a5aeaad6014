//! What a load saw, held against what was done meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use turnout::domain::Color;

use super::{Answer, Class, Failure};

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) class: Class,
    /// When its connection began to be opened.
    pub(crate) opened: Instant,
    /// Whether the connection had carried a request before.
    pub(crate) reused: bool,
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    pub(crate) outcome: Result<Seen, Failure>,
}

/// What an answer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    /// `X-Backend`: who answered.
    pub(crate) backend: Option<Color>,
    /// `X-Routed-To`: who the balancer says it was.
    pub(crate) routed: Option<Color>,
}

impl From<&Answer> for Seen {
    fn from(answer: &Answer) -> Self {
        Self {
            status: answer.status,
            backend: answer.backend(),
            routed: answer.color("x-routed-to"),
        }
    }
}

/// Something that was done to the balancer under load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    /// The color after it; `None`: a bare reload, which changes nothing.
    pub(crate) to: Option<Color>,
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
}

/// All requests of one load.
#[derive(Debug)]
pub(crate) struct Report {
    samples: Vec<Sample>,
    took: Duration,
}

impl Report {
    pub(crate) fn new(samples: Vec<Sample>, took: Duration) -> Self {
        Self { samples, took }
    }

    pub(crate) fn requests(&self) -> usize {
        self.samples.len()
    }

    /// What each request saw.
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.samples.len()).unwrap()) / self.took.as_secs_f64()
    }

    /// Requests on connections that were opened for them.
    pub(crate) fn fresh(&self) -> usize {
        self.samples.iter().filter(|sample| !sample.reused).count()
    }

    /// Those that failed.
    pub(crate) fn failures(&self) -> Vec<&Sample> {
        self.samples
            .iter()
            .filter(|sample| sample.outcome.is_err())
            .collect()
    }

    /// Those that failed on a connection opened for them: these a client cannot explain away.
    pub(crate) fn fresh_failures(&self) -> Vec<&Sample> {
        self.failures()
            .into_iter()
            .filter(|sample| !sample.reused)
            .collect()
    }

    /// Answers outside 200..=299.
    pub(crate) fn not_2xx(&self) -> Vec<&Sample> {
        self.samples
            .iter()
            .filter(|sample| {
                sample
                    .outcome
                    .is_ok_and(|seen| !(200..300).contains(&seen.status))
            })
            .collect()
    }

    /// Answers whose `X-Routed-To` is not who answered.
    pub(crate) fn mislabelled(&self) -> Vec<&Sample> {
        self.samples
            .iter()
            .filter(|sample| {
                sample
                    .outcome
                    .is_ok_and(|seen| seen.backend.is_none() || seen.backend != seen.routed)
            })
            .collect()
    }

    /// Failures on reused connections that ended between `from` and `to`, by class.
    pub(crate) fn lost(&self, from: Instant, to: Instant) -> BTreeMap<Class, u32> {
        let mut lost = BTreeMap::new();
        for sample in &self.samples {
            if sample.reused && sample.outcome.is_err() && sample.end >= from && sample.end < to {
                *lost.entry(sample.class).or_default() += 1;
            }
        }
        lost
    }

    /// Answers of another color than `color` to requests that ended before `until`, where `since` gives the time that must
    /// lie after the switch: the connection's opening or the request's start.
    pub(crate) fn stale(
        &self,
        color: Color,
        answered: Instant,
        until: Instant,
        since: impl Fn(&Sample) -> Instant,
    ) -> Vec<&Sample> {
        self.samples
            .iter()
            .filter(|sample| since(sample) >= answered && sample.end < until)
            .filter(|sample| sample.outcome.is_ok_and(|seen| seen.backend != Some(color)))
            .collect()
    }

    /// From `asked` to the first answer of the color that was switched to, if one came.
    pub(crate) fn first_new(&self, event: &Event) -> Option<Duration> {
        self.samples
            .iter()
            .filter(|sample| sample.end >= event.asked)
            .filter(|sample| {
                sample
                    .outcome
                    .is_ok_and(|seen| event.to.is_some() && seen.backend == event.to)
            })
            .map(|sample| sample.end - event.asked)
            .min()
    }

    /// From `asked` to the last answer of the color that was left, over all connections.
    pub(crate) fn last_old(&self, event: &Event, until: Instant) -> Duration {
        self.samples
            .iter()
            .filter(|sample| sample.end >= event.asked && sample.end < until)
            .filter(|sample| {
                sample
                    .outcome
                    .is_ok_and(|seen| event.to.is_some() && seen.backend != event.to)
            })
            .map(|sample| sample.end - event.asked)
            .max()
            .unwrap_or_default()
    }
}
