//! What a rollout is fed with: both colors in the same stretches of time, or why there is nothing to judge by.
//!
//! Unknown means hold: nothing here makes a figure of what was not seen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::counting::{MOST_PERCENT, Shared};
use super::ledger::{Lost, Untold};
use super::prometheus::Series;
use crate::domain::{Color, Paired, ServiceName};

/// Why there is nothing to judge by. Each reads after "held: ".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unavailable {
    /// Nobody counts here at all.
    #[error("nobody counts the traffic: {0}")]
    NoSource(String),
    /// Somebody should.
    #[error("{0}")]
    Down(Down),
    /// Too many requests were not told of.
    #[error(
        "{} of the requests were not told of by the balancer, and with more than {MOST_PERCENT} % missing nothing is judged: see \
         net.unix.max_dgram_qlen (512 is systemd's), and turnout_traffic_lost_ratio in /metrics", lost(*share)
    )]
    Losing {
        /// 0 to 1; `None`: nobody knows how many.
        share: Option<f64>,
    },
    /// What the balancer answered for a service it did not tell of.
    #[error(
        "HAProxy answered {answered} requests of {service} in the last stretch and told of {told}, without losing a line: the frontend \
         that they come through has no `log` line of turnout's (`turnout doctor` shows it), or keeps lines back (`option \
         dontlog-normal`, `http-request set-log-level silent`)"
    )]
    Untold {
        /// Whose.
        service: ServiceName,
        /// Requests that have ended.
        answered: u64,
        /// Lines of them.
        told: u64,
    },
    /// Nothing was seen of either color.
    #[error("no request of {service} was counted since {since}")]
    NoData {
        /// Whose.
        service: ServiceName,
        /// Asked for.
        since: Timestamp,
    },
}

fn lost(share: Option<f64>) -> String {
    share.map_or_else(
        || "an unknown part".to_owned(),
        |share| format!("{:.1} %", share * 100.0),
    )
}

/// A source that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// Since when.
    pub since: Timestamp,
    /// Why, and what to do.
    pub reason: String,
}

impl Down {
    pub(super) fn now(reason: String) -> Self {
        Self {
            since: Timestamp::now(),
            reason,
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the source of figures is down since {}: {}",
            self.since, self.reason
        )
    }
}

/// A source of figures. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed(From);

#[derive(Debug, Clone)]
enum From {
    Traffic(Arc<Shared>),
    Prometheus(Arc<Series>),
}

impl Feed {
    pub(super) const fn of_traffic(shared: Arc<Shared>) -> Self {
        Self(From::Traffic(shared))
    }

    pub(super) const fn of_prometheus(series: Arc<Series>) -> Self {
        Self(From::Prometheus(series))
    }

    /// What both colors of `service` did in each stretch (10 s unless configured) that began at `since` or later and has ended,
    /// oldest first; those without a request of either are left out. `slow_over` is rounded up to a bound of
    /// [`DURATION_BOUNDS`](crate::domain::DURATION_BOUNDS) where the traffic is counted. Never waits. At least one stretch, or why there is none.
    pub fn pairs(
        &self,
        service: &ServiceName,
        stable: Color,
        slow_over: Duration,
        since: Timestamp,
    ) -> Result<Vec<Paired>, Unavailable> {
        let pairs = match &self.0 {
            From::Traffic(shared) => {
                if let Some(why) = shared.nobody() {
                    return Err(Unavailable::NoSource(why.to_owned()));
                }
                if let Some(down) = shared.down.load_full() {
                    return Err(Unavailable::Down((*down).clone()));
                }
                match shared.ledger.last() {
                    Some(last) if shared.ledger.begun() && !last.is_evidence() => {
                        let share = match last {
                            Lost::Share(share) => Some(share),
                            Lost::Unknown => None,
                        };
                        return Err(Unavailable::Losing { share });
                    }
                    Some(_) | None => {}
                }
                if let Some(Untold { answered, told }) = shared.ledger.untold(service) {
                    return Err(Unavailable::Untold {
                        service: service.clone(),
                        answered,
                        told,
                    });
                }
                shared.ledger.pairs(service, stable, slow_over, since)
            }
            From::Prometheus(series) => series.pairs(stable, since)?,
        };
        if pairs.is_empty() {
            return Err(Unavailable::NoData {
                service: service.clone(),
                since,
            });
        }
        Ok(pairs)
    }

    /// Nothing comes any more, because nobody looked for long: whoever does now begins a new one.
    pub fn has_ended(&self) -> bool {
        match &self.0 {
            From::Traffic(_) => false,
            From::Prometheus(series) => series.has_ended(),
        }
    }
}
