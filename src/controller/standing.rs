//! How a service stands, in one word: the same in the terminal and on the page.

use super::{Drift, DriftKind, ServiceStatus};
use crate::domain::{Color, Health, TrafficMode};

/// How a service stands, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// State, disk and served do not agree.
    Drift,
    /// No server of a color that should serve is healthy, and nobody stands in.
    Down,
    /// An operator has stopped its requests.
    Stopped,
    /// The other color stands in.
    Failover,
    /// Nobody has looked at a server that should serve.
    Unknown,
    /// The traffic is divided.
    Divided,
    /// All is as it should be.
    Stable,
}

impl Standing {
    /// How this service stands.
    pub fn of(service: &ServiceStatus, drift: &[Drift]) -> Self {
        let serving = |color: &Color| service.split().weight(*color).basis_points() > 0;
        let known = |color: Color| {
            service.servers[color]
                .iter()
                .any(|server| server.health != Health::Unknown)
        };
        let mut colors = Color::BOTH.into_iter().filter(serving);
        // what is wrong with all that is served is wrong with this one: nginx may be gone
        let own = |drift: &Drift| drift.service.as_ref() == Some(&service.service);
        let unserved = |drift: &Drift| drift.service.is_none() && drift.kind == DriftKind::Served;
        if drift.iter().any(own) || drift.iter().any(unserved) {
            Self::Drift
        } else if colors
            .clone()
            .any(|color| service.refuses(color) || known(color) && !service.healthy(color))
        {
            Self::Down
        } else if service.traffic != TrafficMode::Open {
            Self::Stopped
        } else if service.overlay.is_some() {
            Self::Failover
        } else if colors.any(|color| !known(color)) {
            Self::Unknown
        } else if service.split().whole().is_none() {
            Self::Divided
        } else {
            Self::Stable
        }
    }

    /// Glyph and word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Drift => "✖ Drift",
            Self::Down => "✖ Down",
            Self::Stopped => "‖ Stopped",
            Self::Failover => "↺ Failover",
            Self::Unknown => "◌ Unknown",
            Self::Divided => "✔ Divided",
            Self::Stable => "✔ Stable",
        }
    }

    /// True if a person is needed.
    pub const fn needs_person(self) -> bool {
        match self {
            Self::Drift | Self::Down => true,
            Self::Stopped | Self::Failover | Self::Unknown | Self::Divided | Self::Stable => false,
        }
    }
}

impl ServiceStatus {
    /// True if the balancer answers this color's share of the traffic with 503.
    pub fn refuses(&self, color: Color) -> bool {
        self.refused.contains(&color) && self.split().weight(color).basis_points() > 0
    }
}
