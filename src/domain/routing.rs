//! The routing table: the desired position of every service, with a generation that only grows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Color, Position, Server, Service, ServiceName, Split, Traffic, Weight};

/// The number of a routing table. Only grows; 0 is "nothing was ever applied".
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One service in a table: its shape, its position, and what health adds on top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The shape, from the configuration.
    pub service: Arc<Service>,
    /// The position, from the state.
    pub position: Position,
    /// Failover: everything goes to this color for as long as the one it should go to is unhealthy. Not a position.
    pub overlay: Option<Color>,
    /// Colors that a balancer with health of its own is told to answer with 503, because no server of theirs is healthy and
    /// the other color may not or cannot stand in. Not a position either.
    pub refused: BTreeSet<Color>,
    /// Whether requests go on at all; an operator's overlay. Only the embedded proxy knows anything but open.
    pub traffic: Traffic,
    /// Servers that health probes found unhealthy. Only the embedded proxy leaves them out one by one.
    pub unhealthy: BTreeSet<Server>,
}

impl Route {
    /// A route with nothing added by health.
    pub const fn new(service: Arc<Service>, position: Position) -> Self {
        Self {
            service,
            position,
            overlay: None,
            refused: BTreeSet::new(),
            traffic: Traffic::Open,
            unhealthy: BTreeSet::new(),
        }
    }

    /// The split that is really to be in force: the overlay's, else the position's.
    pub fn split(&self) -> Split {
        self.overlay.map_or(self.position.split(), Split::all)
    }

    /// The part of the traffic that `color` really gets: none while it is refused.
    pub fn share(&self, color: Color) -> Weight {
        if self.refused.contains(&color) {
            Weight::ZERO
        } else {
            self.split().weight(color)
        }
    }

    /// True if a request without a key always gets the same color.
    pub fn constant(&self) -> Option<Color> {
        self.split().whole()
    }
}

/// Whether requests go on to an alias.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    /// They do.
    #[default]
    Open,
    /// They are answered with 503, until a probe passes again.
    Blocked,
}

impl Admission {
    /// For leaving the default out of a file.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}

/// One service behind an alias, in a table. It has no position: nothing of it can be switched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasRoute {
    /// The shape, from the configuration.
    pub service: Arc<Service>,
    /// The alias.
    pub target: Server,
    /// What health makes of it.
    pub admission: Admission,
}

/// What the balancer is to serve: every service, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoutingTable {
    /// Which table this is.
    pub generation: Generation,
    /// The services with colors, by name.
    pub routes: BTreeMap<ServiceName, Route>,
    /// The services behind an alias, by name; none of them is among the others.
    pub aliases: BTreeMap<ServiceName, AliasRoute>,
}

impl RoutingTable {
    /// Every shape, of both kinds: those with colors first, each kind in the order of the names.
    pub fn shapes(&self) -> impl Iterator<Item = &Arc<Service>> {
        let colored = self.routes.values().map(|route| &route.service);
        colored.chain(self.aliases.values().map(|alias| &alias.service))
    }

    /// The services with colors whose route is not the same in `other` (or is missing there).
    pub fn changed_since<'a>(
        &'a self,
        other: Option<&'a Self>,
    ) -> impl Iterator<Item = (&'a ServiceName, &'a Route)> {
        self.routes.iter().filter(move |(name, route)| {
            other.and_then(|table| table.routes.get(*name)) != Some(*route)
        })
    }
}
