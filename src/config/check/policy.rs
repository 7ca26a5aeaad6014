//! A service's `health`, `timeouts` and `limits`, with their defaults.

use std::time::Duration;

use super::Checker;
use crate::config::document::At;
use crate::config::file;
use crate::config::quantity::{count, duration, positive, size, statuses, unless_none, url_path};
use crate::domain::{Expectation, HealthPolicy, Limits, StatusRange, Timeouts};

pub(super) fn health(checker: &mut Checker<'_>, at: At<'_>, given: &file::Service) -> HealthPolicy {
    let default = file::Health::default();
    let health = given.health.as_ref().unwrap_or(&default);
    let (path, interval) = match given.target {
        None => ("/health", 5),
        Some(_) => ("/up", 30),
    };
    let expect_at = at.key("expect");
    let expect = health.expect.as_ref();
    let status = expect.and_then(|expect| expect.status.as_ref());
    HealthPolicy {
        path: checker
            .report
            .read(at.key("path"), health.path.as_deref(), url_path)
            .unwrap_or_else(|| path.into()),
        interval: time(
            checker,
            at.key("interval"),
            health.interval.as_deref(),
            interval,
        ),
        timeout: time(checker, at.key("timeout"), health.timeout.as_deref(), 2),
        unhealthy_after: health.unhealthy_after.unwrap_or(3),
        healthy_after: health.healthy_after.unwrap_or(1),
        expect: Expectation {
            status: checker
                .report
                .read(
                    expect_at.key("status"),
                    status.map(|status| status.0.as_str()),
                    statuses,
                )
                .unwrap_or(StatusRange {
                    low: 200,
                    high: 299,
                }),
            json: expect
                .and_then(|expect| expect.json.clone())
                .unwrap_or_default(),
        },
    }
}

/// A duration above zero, with its default in seconds.
pub(super) fn time(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: Option<&str>,
    default: u64,
) -> Duration {
    let read = checker.report.read(at, given, positive);
    read.unwrap_or(Duration::from_secs(default))
}

pub(super) fn timeouts(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: Option<&file::Timeouts>,
) -> Timeouts {
    let default = file::Timeouts::default();
    let given = given.unwrap_or(&default);
    let drain = checker
        .report
        .read(at.key("drain"), given.drain.as_deref(), duration);
    Timeouts {
        connect: time(checker, at.key("connect"), given.connect.as_deref(), 5),
        response: time(checker, at.key("response"), given.response.as_deref(), 30),
        // Zero is a choice here: nothing in flight is waited for.
        drain: drain.unwrap_or(Duration::from_secs(30)),
        head: time(checker, at.key("head"), given.head.as_deref(), 10),
        idle: time(checker, at.key("idle"), given.idle.as_deref(), 75),
    }
}

pub(super) fn limits(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: Option<&file::Limits>,
) -> Limits {
    let default = file::Limits::default();
    let given = given.unwrap_or(&default);
    let text = |written: &'_ Option<file::Written>| written.as_ref().map(|text| text.0.clone());
    let head = checker
        .report
        .read(at.key("head"), text(&given.head).as_deref(), size);
    let body = checker
        .report
        .read(at.key("body"), text(&given.body).as_deref(), |text| {
            unless_none(text, size)
        });
    let rate = checker
        .report
        .read(at.key("rate"), text(&given.rate).as_deref(), |text| {
            unless_none(text, count)
        });
    Limits {
        head: head.unwrap_or(32 << 10),
        headers: given.headers.unwrap_or(100),
        body: body.flatten(),
        connections: given.connections.unwrap_or(10_000),
        hold: time(checker, at.key("hold"), given.hold.as_deref(), 30),
        rate: rate.flatten(),
    }
}
