//! What the balancer counted of the traffic, as metrics. A color that never got a request has no series of requests; what stands
//! behind an alias has no color, and an empty label.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::gauges::gauges;
use crate::controller::{NO_COLOR, Status};
use crate::domain::{Color, Counted, DURATION_BOUNDS, ServiceName, Tally};
use crate::traffic::Loss;

/// At one moment.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) status: Arc<Status>,
    /// `None`: this balancer does not count, so there is nothing to say.
    pub(super) counted: Option<Vec<Counted>>,
    pub(super) counted_by: CountedBy,
}

/// Where the counts come from, and so which there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum CountedBy {
    /// The embedded proxy, which knows everything of its requests.
    Proxy,
    /// A balancer's lines, one for each request that has ended; what is known of the lines themselves.
    Lines(Option<Loss>),
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(counted) = &self.counted else {
            return Ok(());
        };
        let to = &mut encoder;
        requests(to, counted)?;
        durations(to, counted)?;
        if let CountedBy::Lines(loss) = self.counted_by {
            return lines(to, loss);
        }
        retried(to, counted)?;
        gauges(
            to,
            (
                "http_requests_in_flight",
                "Requests that have not ended, event streams and tunnels among them",
            ),
            each(counted).map(|one| (one.label(), one.in_flight)),
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

/// What went one way.
struct Way<'a> {
    service: &'a ServiceName,
    /// `None`: behind an alias.
    color: Option<Color>,
    ended: &'a Tally,
    in_flight: u64,
    retried: u64,
}

impl Way<'_> {
    fn label(&self) -> [(&'static str, String); 2] {
        let color = self.color.map_or(NO_COLOR, Color::as_str);
        [
            ("service", self.service.to_string()),
            ("color", color.to_owned()),
        ]
    }
}

/// Both colors of each service, or what is behind its alias.
fn each(counted: &[Counted]) -> impl Iterator<Item = Way<'_>> {
    counted.iter().flat_map(|counted| {
        let service = &counted.service;
        let alias = counted.alias.as_ref().map(|alias| Way {
            service,
            color: None,
            ended: &alias.ended,
            in_flight: alias.in_flight,
            retried: alias.retried,
        });
        let colors = Color::BOTH.map(|color| Way {
            service,
            color: Some(color),
            ended: &counted.ended[color],
            in_flight: counted.in_flight[color],
            retried: counted.retried[color],
        });
        let has_colors = alias.is_none();
        alias
            .into_iter()
            .chain(colors.into_iter().filter(move |_| has_colors))
    })
}

/// Those that had requests.
fn used(counted: &[Counted]) -> impl Iterator<Item = Way<'_>> {
    each(counted).filter(|way| !way.ended.statuses.is_empty())
}

fn requests(to: &mut DescriptorEncoder<'_>, counted: &[Counted]) -> Result<(), Error> {
    counters(
        to,
        (
            "http_requests",
            "Requests that went to a color or an alias and have ended, by the status of their answer; 499: the client went away before it",
        ),
        used(counted).flat_map(|way| {
            let [service, color] = way.label();
            way.ended.statuses.iter().map(move |(code, count)| {
                let code = ("code", (*code).to_owned());
                ([service.clone(), color.clone(), code], *count)
            })
        }),
    )?;
    counters(
        to,
        (
            "http_requests_failed",
            "Of these, answered with 5xx by whomever, or with an answer that broke off",
        ),
        used(counted).map(|way| (way.label(), way.ended.failed)),
    )?;
    counters(
        to,
        ("http_response_bytes", "Bytes of the bodies of answers"),
        used(counted).map(|way| (way.label(), way.ended.bytes)),
    )
}

fn retried(to: &mut DescriptorEncoder<'_>, counted: &[Counted]) -> Result<(), Error> {
    counters(
        to,
        (
            "http_requests_retried",
            "Attempts after the first one of a request",
        ),
        used(counted).map(|way| (way.label(), way.retried)),
    )
}

/// How well the balancer's lines tell of its requests.
fn lines(to: &mut DescriptorEncoder<'_>, loss: Option<Loss>) -> Result<(), Error> {
    let Some(loss) = loss else {
        return Ok(());
    };
    let told = [
        (
            "traffic_lines",
            "Lines of the balancer that were counted",
            loss.lines,
        ),
        (
            "traffic_lines_refused",
            "Datagrams that were no line of a service's, or came from somebody who is not believed",
            loss.refused,
        ),
    ];
    for (name, help, count) in told {
        to.encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
    }
    let Some(share) = loss.share else {
        return Ok(());
    };
    to.encode_descriptor(
        "traffic_lost_ratio",
        "The share of the requests of the last bucket (balancer.counts.bucket) that the balancer's lines did not tell of, at most; no series: unknown",
        None,
        MetricType::Gauge,
    )?
    .encode_gauge(&share)
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
    for way in values {
        let tally = way.ended;
        let bounds = DURATION_BOUNDS.iter().map(|bound| {
            #[expect(clippy::cast_precision_loss, reason = "ten seconds at most")]
            let bound = *bound as f64;
            bound / 1e6
        });
        // the crate writes the infinite bound as +Inf, and adds the buckets up
        let bounds = bounds.chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(tally.durations).collect();
        family
            .encode_family(&way.label())?
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
