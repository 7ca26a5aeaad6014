//! What was counted of the traffic: answers by status, how long they took, their bytes. Numbers alone, whoever counted them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Color, Colors, ServiceName};

/// The upper ends of the buckets of a duration, in microseconds; what is longer is in one bucket more. From what a proxy on the
/// same host needs to the time after which nobody waits. 350 and 750 ms are there because they are what limits of latency say: a
/// limit between two bounds cannot be judged but at the next.
pub const DURATION_BOUNDS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 350_000, 500_000, 750_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// The statuses that are counted one by one, and the classes that all others are counted as: a server that answers with random
/// numbers must not make a time series of each.
pub const STATUS_LABELS: [&str; 40] = [
    "1xx", "2xx", "3xx", "4xx", "5xx", "other", "101", "200", "201", "202", "204", "206", "301",
    "302", "303", "304", "307", "308", "400", "401", "403", "404", "405", "406", "408", "409",
    "410", "412", "413", "415", "416", "422", "429", "431", "499", "500", "501", "502", "503",
    "504",
];

/// What stands for "no answer, because the client went away before there was one", as in nginx.
pub const CLIENT_GONE: u16 = 499;

/// The place of a status in [`STATUS_LABELS`].
pub const fn status_place(status: u16) -> usize {
    match status {
        101 => 6,
        200 => 7,
        201 => 8,
        202 => 9,
        204 => 10,
        206 => 11,
        301 => 12,
        302 => 13,
        303 => 14,
        304 => 15,
        307 => 16,
        308 => 17,
        400 => 18,
        401 => 19,
        403 => 20,
        404 => 21,
        405 => 22,
        406 => 23,
        408 => 24,
        409 => 25,
        410 => 26,
        412 => 27,
        413 => 28,
        415 => 29,
        416 => 30,
        422 => 31,
        429 => 32,
        431 => 33,
        CLIENT_GONE => 34,
        500 => 35,
        501 => 36,
        502 => 37,
        503 => 38,
        504 => 39,
        _ => match status / 100 {
            1 => 0,
            2 => 1,
            3 => 2,
            4 => 3,
            5 => 4,
            _ => 5,
        },
    }
}

/// The place of a duration's bucket: the first bound that it is not above.
pub const fn duration_place(microseconds: u64) -> usize {
    let mut place = 0;
    while place < DURATION_BOUNDS.len() && microseconds > DURATION_BOUNDS[place] {
        place += 1;
    }
    place
}

/// The bound, in milliseconds, above which requests are counted as slower than `milliseconds`: the first one that is not below.
/// `None`: there is none.
pub fn duration_bound(milliseconds: f64) -> Option<f64> {
    let bounds = DURATION_BOUNDS.into_iter();
    #[expect(clippy::cast_precision_loss, reason = "ten seconds at most")]
    let mut bounds = bounds.map(|bound| bound as f64 / 1e3);
    bounds.find(|bound| *bound >= milliseconds)
}

/// The requests of one color that have ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// By the status of their answer, as [`STATUS_LABELS`] has it; those that there were.
    pub statuses: BTreeMap<&'static str, u64>,
    /// Answered with 5xx, by whomever, or with an answer that broke off.
    pub failed: u64,
    /// Of the answers' bodies, as they went to the clients.
    pub bytes: u64,
    /// From the choice of the color to the end of the answer, by bucket (not added up); tunnels are not in it.
    pub durations: [u64; DURATION_BOUNDS.len() + 1],
    /// All those durations together.
    pub duration: Duration,
}

impl Tally {
    /// How many there were.
    pub fn requests(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// How many of them have a duration.
    pub fn timed(&self) -> u64 {
        self.durations.iter().sum()
    }
}

/// What was counted behind an alias, whose colors nobody here knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Carried {
    /// What has ended.
    pub ended: Tally,
    /// What has not.
    pub in_flight: u64,
    /// Attempts after a request's first.
    pub retried: u64,
}

/// What a balancer counted of one service's traffic. All but `in_flight` and `held` only grow while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Whose.
    pub service: ServiceName,
    /// What has ended, by color.
    pub ended: Colors<Tally>,
    /// What has not.
    pub in_flight: Colors<u64>,
    /// Attempts after a request's first.
    pub retried: Colors<u64>,
    /// Where the service is behind an alias: what went there. Its colors have nothing then.
    pub alias: Option<Carried>,
    /// Waiting, because the traffic is held.
    pub held: u64,
    /// Requests that went to no color, by reason.
    pub turned_away: Vec<(&'static str, u64)>,
    /// Of these, the ones that ought to have been served.
    pub unserved: u64,
}

/// The figures of a router as `/__router_metrics` shows them: of the requests that have ended since it began.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RouterFigures {
    /// Those that went to a color or to the alias, and those for which there was none (no healthy server, or held for too long). What a rate
    /// limit or maintenance turned away is not in it: that is somebody's wish.
    pub total_requests: u64,
    /// Answered by a server with a status below 500, or given up by the client.
    pub successful_requests: u64,
    /// The others.
    pub failed_requests: u64,
    /// In percent, one decimal, rounded down: 100 says that nothing failed. 100 also where there was no request.
    pub success_rate: f64,
    /// Of answers' bodies.
    pub bytes_proxied: u64,
    /// From the choice of the color to the end of the answer, three decimals; tunnels are not in it.
    pub avg_request_time_ms: f64,
    /// Those that went to each color; none to either where the service is behind an alias.
    pub version_requests: Colors<u64>,
}

impl RouterFigures {
    /// The figures of what was counted.
    pub fn of(counted: &Counted) -> Self {
        let colors = Color::BOTH.map(|color| &counted.ended[color]);
        let alias = counted.alias.as_ref().map(|alias| &alias.ended);
        let each: Vec<_> = colors.into_iter().chain(alias).collect();
        let sum = |part: fn(&Tally) -> u64| -> u64 { each.iter().map(|tally| part(tally)).sum() };
        let total = sum(Tally::requests) + counted.unserved;
        let failed = (sum(|tally| tally.failed) + counted.unserved).min(total);
        let time: Duration = each.iter().map(|tally| tally.duration).sum();
        Self {
            total_requests: total,
            successful_requests: total - failed,
            failed_requests: failed,
            success_rate: success_rate(total, failed),
            bytes_proxied: sum(|tally| tally.bytes),
            avg_request_time_ms: average_ms(time, sum(Tally::timed)),
            version_requests: Colors::from_fn(|color| counted.ended[color].requests()),
        }
    }
}

fn success_rate(total: u64, failed: u64) -> f64 {
    if total == 0 {
        return 100.0;
    }
    let thousandths = u128::from(total - failed) * 1_000 / u128::from(total);
    f64::from(u16::try_from(thousandths).unwrap_or(1_000)) / 10.0
}

fn average_ms(time: Duration, count: u64) -> f64 {
    if count == 0 {
        return 0.0;
    }
    let microseconds = time.as_micros() / u128::from(count);
    // exact up to 285 years
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 microseconds")]
    let microseconds = microseconds as f64;
    microseconds / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_the_place_of_its_label() {
        for status in 100..600_u16 {
            let label = STATUS_LABELS[status_place(status)];
            let exact = label == status.to_string();
            let class = label == format!("{}xx", status / 100);
            assert!(exact || class, "{status}: {label}");
        }
        for (place, label) in STATUS_LABELS.iter().enumerate() {
            if let Ok(status) = label.parse() {
                assert_eq!(status_place(status), place, "{label}");
            }
        }
        assert_eq!(STATUS_LABELS[status_place(799)], "other");
    }

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        assert_eq!(duration_place(0), 0);
        assert_eq!(duration_place(1_000), 0);
        assert_eq!(duration_place(1_001), 1);
        assert_eq!(duration_place(10_000_000), 13);
        assert_eq!(duration_place(u64::MAX), 14);
        assert_eq!(
            [0.1, 350.0, 350.1, 10_000.0, 10_001.0, f64::NAN].map(duration_bound),
            [
                Some(1.0),
                Some(350.0),
                Some(500.0),
                Some(10_000.0),
                None,
                None
            ]
        );
    }

    fn counted(blue: u64, failed: u64, unserved: u64) -> Counted {
        let tally = Tally {
            statuses: BTreeMap::from([("200", blue)]),
            failed,
            bytes: 5_242_880,
            durations: [0, blue, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            duration: Duration::from_millis(2) * u32::try_from(blue).unwrap(),
        };
        Counted {
            service: "shop".parse().unwrap(),
            ended: Colors {
                blue: tally,
                green: Tally::default(),
            },
            in_flight: Colors::default(),
            retried: Colors::default(),
            alias: None,
            held: 0,
            turned_away: Vec::new(),
            unserved,
        }
    }

    #[test]
    fn the_figures_add_up_as_the_example_of_their_page_does() {
        let figures = RouterFigures::of(&counted(1_024, 4, 0));
        assert_eq!(
            serde_json::to_value(&figures).unwrap(),
            serde_json::json!({
                "total_requests": 1024, "successful_requests": 1020, "failed_requests": 4, "success_rate": 99.6,
                "bytes_proxied": 5_242_880, "avg_request_time_ms": 2.0, "version_requests": { "blue": 1024, "green": 0 },
            })
        );
    }

    #[test]
    fn a_rate_of_100_says_that_nothing_failed() {
        for (total, failed, rate) in [(0, 0, 100.0), (10_000, 1, 99.9), (1, 1, 0.0), (3, 1, 66.6)] {
            let figures = RouterFigures::of(&counted(total, failed, 0));
            assert!((figures.success_rate - rate).abs() < 1e-9, "{figures:?}");
        }
        let unserved = RouterFigures::of(&counted(0, 0, 2));
        assert_eq!((unserved.total_requests, unserved.failed_requests), (2, 2));
    }

    #[test]
    fn what_went_to_an_alias_is_in_the_figures_and_of_no_color() {
        let mut counted = counted(0, 0, 1);
        counted.alias = Some(Carried {
            ended: Tally {
                statuses: BTreeMap::from([("200", 3)]),
                ..Tally::default()
            },
            ..Carried::default()
        });
        let figures = RouterFigures::of(&counted);
        assert_eq!((figures.total_requests, figures.failed_requests), (4, 1));
        assert_eq!(figures.version_requests, Colors::default());
    }
}
