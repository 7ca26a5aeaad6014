//! How a service stands, in one word: the same in the terminal and on the page.

use super::{AliasStatus, Drift, DriftKind, ServiceStatus};
use crate::domain::{Admission, Color, Health, ServiceName, TrafficMode};

/// How a service stands, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// State, disk and served do not agree.
    Drift,
    /// No server of a color that should serve is healthy, and nobody stands in; or what stands behind the alias is not.
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
        if concerns(drift, &service.service) {
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

    /// How this service behind an alias stands.
    pub fn of_alias(alias: &AliasStatus, drift: &[Drift]) -> Self {
        if concerns(drift, &alias.service) {
            return Self::Drift;
        }
        match (alias.admission, alias.health) {
            (Admission::Blocked, _) | (_, Health::Unhealthy) => Self::Down,
            (Admission::Open, Health::Unknown) => Self::Unknown,
            (Admission::Open, Health::Healthy) => Self::Stable,
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

/// True if something of this service does not agree. What is wrong with all that is served is wrong with each: nginx may be gone.
fn concerns(drift: &[Drift], service: &ServiceName) -> bool {
    drift.iter().any(|drift| match &drift.service {
        Some(name) => name == service,
        None => drift.kind == DriftKind::Served,
    })
}

impl ServiceStatus {
    /// True if the balancer answers this color's share of the traffic with 503.
    pub fn refuses(&self, color: Color) -> bool {
        self.refused.contains(&color) && self.split().weight(color).basis_points() > 0
    }
}
