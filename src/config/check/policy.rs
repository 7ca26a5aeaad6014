//! A service's `health`, `timeouts` and `limits`, with their defaults.

use std::time::Duration;

use super::Checker;
use crate::config::document::At;
use crate::config::file;
use crate::config::quantity::{
    Refusal, count, duration, positive, size, statuses, unless_none, url_path,
};
use crate::config::valid::BalancerKind;
use crate::domain::{Expectation, HealthPolicy, Limits, RateBy, RateRule, StatusRange, Timeouts};

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
    balancer: BalancerKind,
) -> Limits {
    let default = file::Limits::default();
    match balancer {
        BalancerKind::Nginx => {
            let given = given.unwrap_or(&default);
            let without = [
                ("headers", given.headers.is_some()),
                ("connections", given.connections.is_some()),
                ("hold", given.hold.is_some()),
                ("rate", given.rate.is_some()),
            ];
            for (key, _) in without.into_iter().filter(|(_, is_given)| *is_given) {
                checker.not_in_force(
                    at.key(key),
                    "nginx is told `limits.head` and `limits.body` alone",
                );
            }
        }
        BalancerKind::Haproxy => {
            let given = given.unwrap_or(&default);
            let without = [
                ("head", given.head.is_some()),
                ("headers", given.headers.is_some()),
                ("connections", given.connections.is_some()),
                ("hold", given.hold.is_some()),
                ("rate", given.rate.is_some()),
            ];
            for (key, _) in without.into_iter().filter(|(_, is_given)| *is_given) {
                checker.not_in_force(at.key(key), "HAProxy is told `limits.body` alone");
            }
        }
        BalancerKind::Exec => {
            if given.is_some() {
                checker.not_in_force(at, "what clients send is not bounded by these limits");
            }
        }
        BalancerKind::Auto | BalancerKind::Embedded => {}
    }
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
    let rate = rate(checker, at.key("rate"), given.rate.as_ref());
    Limits {
        head: head.unwrap_or(32 << 10),
        headers: given.headers.unwrap_or(100),
        body: body.flatten(),
        connections: given.connections.unwrap_or(10_000),
        hold: time(checker, at.key("hold"), given.hold.as_deref(), 30),
        rate,
    }
}

fn rate(checker: &mut Checker<'_>, at: At<'_>, given: Option<&file::Rate>) -> Vec<RateRule> {
    let rules = match given {
        None => return Vec::new(),
        Some(file::Rate::Short(text)) => {
            let requests = checker
                .report
                .read(at, Some(&text.0), |text| unless_none(text, count))
                .flatten();
            return requests
                .map(|requests| RateRule {
                    requests,
                    per: Duration::from_secs(1),
                    burst: requests,
                    by: RateBy::Client,
                    paths: Vec::new(),
                })
                .into_iter()
                .collect();
        }
        Some(file::Rate::One(rule)) => return vec![rate_rule(checker, at, rule)],
        Some(file::Rate::Several(rules)) => rules,
    };
    rules
        .iter()
        .enumerate()
        .map(|(place, rule)| rate_rule(checker, at.item(place), rule))
        .collect()
}

fn rate_rule(checker: &mut Checker<'_>, at: At<'_>, given: &file::RateRule) -> RateRule {
    let per = checker
        .report
        .read(at.key("per"), given.per.as_deref(), |text| {
            let per = positive(text)?;
            if (Duration::from_millis(1)..=Duration::from_hours(24)).contains(&per) {
                Ok(per)
            } else {
                Err(Refusal(format!("`{text}` is not between 1ms and 24h")))
            }
        });
    let list = at.key("paths");
    let paths = given.paths.iter().flatten().enumerate();
    let paths = paths
        .filter_map(|(place, path)| {
            checker
                .report
                .read(list.item(place), Some(path), |text| match url_path(text)? {
                    path if path.contains(['?', '#', '%']) => Err(Refusal(format!(
                        "`{path}` is not a plain path: leave out the query, and write what is percent-encoded as it is"
                    ))),
                    path => Ok(path),
                })
        })
        .collect();
    RateRule {
        requests: given.requests,
        per: per.unwrap_or(Duration::from_secs(1)),
        burst: given.burst.unwrap_or(given.requests),
        by: match given.by {
            None | Some(file::RateBy::Client) => RateBy::Client,
            Some(file::RateBy::Service) => RateBy::Service,
        },
        paths,
    }
}
