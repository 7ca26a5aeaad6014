//! What a balancer can do to one service's traffic besides routing it, and what it counts of it, for status. Nothing is decided
//! by the numbers.

use serde::{Deserialize, Serialize};

use crate::domain::{Color, Colors, Counted, RouterFigures};

/// What a balancer can do to a service's requests besides routing them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficUse {
    /// Nothing: they go on.
    OpenOnly,
    /// It holds them and answers them with a maintenance page, as the routing table says.
    Stops,
}

/// The traffic of one service as its balancer counts it. All but `in_flight` and `held` only grow while the balancer runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Live {
    /// Requests that have not ended, event streams and tunnels among them.
    pub in_flight: Colors<u64>,
    /// Requests that were routed to the color.
    pub requests: Colors<u64>,
    /// Of those, without an answer of a server's, or with one that broke.
    pub failed: Colors<u64>,
    /// Attempts after a request's first.
    pub retried: Colors<u64>,
    /// Waiting now, because the traffic is held.
    pub held: u64,
    /// Given up because the traffic was held for too long.
    pub held_too_long: u64,
    /// Answered with the maintenance page.
    pub in_maintenance: u64,
    /// Answered with 429.
    pub rate_limited: u64,
    /// Answered with 503 because nobody who may serve was healthy.
    #[serde(default)]
    pub unserved: u64,
    /// What `/__router_metrics` shows; `None`: the service has `metrics: false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterFigures>,
    /// Servers that the traffic itself has found wanting, whatever probes say.
    pub troubled: Vec<Troubled>,
}

/// The traffic of one service behind an alias as its balancer counts it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AliasLive {
    /// Requests that have not ended, event streams and tunnels among them.
    pub in_flight: u64,
    /// Attempts after a request's first.
    pub retried: u64,
    /// Requests that went nowhere, because the alias was unhealthy or led nowhere.
    pub unserved: u64,
    /// What `/__router_metrics` shows.
    pub router: RouterFigures,
}

impl AliasLive {
    /// Its part of what was counted; `None`: that is of a service with colors.
    pub fn of(counted: &Counted) -> Option<Self> {
        let alias = counted.alias.as_ref()?;
        Some(Self {
            in_flight: alias.in_flight,
            retried: alias.retried,
            unserved: counted.unserved,
            router: RouterFigures::of(counted),
        })
    }
}

/// One server that gets fewer requests than its turn, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Troubled {
    /// Its color.
    pub color: Color,
    /// `http://HOST:PORT`
    pub url: String,
    /// Why.
    pub trouble: Trouble,
    /// How often it was so since the balancer began.
    pub times: u64,
}

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// It refused connections, and is passed over for some seconds.
    PassedOver,
    /// It failed too often in a row: nothing is sent but a trial now and then.
    CircuitOpen,
}

impl Trouble {
    /// As it reads after the server's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PassedOver => "refuses connections and is passed over",
            Self::CircuitOpen => "fails, its circuit is open",
        }
    }
}
