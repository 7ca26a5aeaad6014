//! What the balancer counted of the traffic, as metrics. A color that never got a request has no series of requests.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::known::gauges;
use crate::controller::Status;
use crate::domain::{Color, Counted, DURATION_BOUNDS, Tally};

/// At one moment.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) status: Arc<Status>,
    /// `None`: this balancer does not count, so there is nothing to say.
    pub(super) counted: Option<Vec<Counted>>,
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(counted) = &self.counted else {
            return Ok(());
        };
        let to = &mut encoder;
        requests(to, counted)?;
        durations(to, counted)?;
        gauges(
            to,
            (
                "http_requests_in_flight",
                "Requests that have not ended, event streams and tunnels among them",
            ),
            each(counted).map(|(counted, color)| (label(counted, color), counted.in_flight[color])),
        )?;
        gauges(
            to,
            (
                "http_requests_held",
                "Requests that wait because the traffic is held",
            ),
            counted
                .iter()
                .map(|counted| ([("service", counted.service.to_string())], counted.held)),
        )?;
        counters(
            to,
            (
                "http_requests_turned_away",
                "Requests that went to no color, by reason",
            ),
            counted.iter().flat_map(|counted| {
                let reasons = counted.turned_away.iter();
                let reasons = reasons.filter(|(_, count)| *count > 0);
                reasons.map(|(reason, count)| {
                    let label = [
                        ("service", counted.service.to_string()),
                        ("reason", (*reason).to_owned()),
                    ];
                    (label, *count)
                })
            }),
        )?;
        let refused = self.status.refused.iter();
        counters(
            to,
            (
                "http_refused",
                "Connections and requests that were refused or cut before a service was asked, by reason, as of the last look",
            ),
            refused.map(|(reason, count)| ([("reason", reason.as_str())], *count)),
        )
    }
}

fn each(counted: &[Counted]) -> impl Iterator<Item = (&Counted, Color)> {
    let services = counted.iter();
    services.flat_map(|counted| Color::BOTH.map(|color| (counted, color)))
}

/// The colors that had requests.
fn used(counted: &[Counted]) -> impl Iterator<Item = (&Counted, Color, &Tally)> {
    each(counted)
        .map(|(counted, color)| (counted, color, &counted.ended[color]))
        .filter(|(.., tally)| !tally.statuses.is_empty())
}

fn label(counted: &Counted, color: Color) -> [(&'static str, String); 2] {
    [
        ("service", counted.service.to_string()),
        ("color", color.to_string()),
    ]
}

fn requests(to: &mut DescriptorEncoder<'_>, counted: &[Counted]) -> Result<(), Error> {
    counters(
        to,
        (
            "http_requests",
            "Requests that went to a color and have ended, by the status of their answer; 499: the client went away before it",
        ),
        used(counted).flat_map(|(counted, color, tally)| {
            tally.statuses.iter().map(move |(code, count)| {
                let [service, color] = label(counted, color);
                ([service, color, ("code", (*code).to_owned())], *count)
            })
        }),
    )?;
    counters(
        to,
        (
            "http_requests_failed",
            "Of these, answered with 5xx by whomever, or with an answer that broke off",
        ),
        used(counted).map(|(counted, color, tally)| (label(counted, color), tally.failed)),
    )?;
    counters(
        to,
        (
            "http_requests_retried",
            "Attempts after the first one of a request",
        ),
        used(counted).map(|(counted, color, _)| (label(counted, color), counted.retried[color])),
    )?;
    counters(
        to,
        ("http_response_bytes", "Bytes of the bodies of answers"),
        used(counted).map(|(counted, color, tally)| (label(counted, color), tally.bytes)),
    )
}

fn durations(to: &mut DescriptorEncoder<'_>, counted: &[Counted]) -> Result<(), Error> {
    let mut values = used(counted).peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut family = to.encode_descriptor(
        "http_request_duration_seconds",
        "From the choice of a color to the end of the answer; tunnels are not in it",
        None,
        MetricType::Histogram,
    )?;
    for (counted, color, tally) in values {
        let bounds = DURATION_BOUNDS.iter().map(|bound| {
            #[expect(clippy::cast_precision_loss, reason = "ten seconds at most")]
            let bound = *bound as f64;
            bound / 1e6
        });
        // the crate writes the infinite bound as +Inf, and adds the buckets up
        let bounds = bounds.chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(tally.durations).collect();
        family
            .encode_family(&label(counted, color))?
            .encode_histogram::<NoLabelSet>(
                tally.duration.as_secs_f64(),
                tally.timed(),
                &buckets,
                None,
            )?;
    }
    Ok(())
}

/// A counter with labels; nothing at all where it has no value.
fn counters<L: EncodeLabelSet>(
    to: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    values: impl Iterator<Item = (L, u64)>,
) -> Result<(), Error> {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        family
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}
