//! The difference between what is in force and what is desired, as a value that can be printed before anything happens.
//!
//! Pure. A plan holds no choices: executing it means putting its table into force, whatever the world looks like by then.
//!
//! Every change puts the whole configuration into force, so a switch of one service takes along what was edited of the others
//! and not applied yet. It cannot be otherwise: of a shape only a digest is remembered, since the file owns shape, and a
//! switch that first asked for an apply would leave the way back to somebody's unfinished edit. So the plan names every
//! service that changes, and [`Plan::taken_along`] those that nobody asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::{
    Admission, Color, Generation, Position, RoutingTable, Server, ServiceName, ShapeDigest,
    Traffic, TrafficMode,
};

/// What is in force, as far as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// Its generation.
    pub generation: Generation,
    /// The services that are in force.
    pub services: BTreeMap<ServiceName, InForce>,
    /// The aliases that are in force.
    pub aliases: BTreeMap<ServiceName, AliasInForce>,
}

/// One alias in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasInForce {
    /// Whether requests go on to it.
    pub admission: Admission,
    /// As in [`InForce::shape`].
    pub shape: Option<ShapeDigest>,
}

/// One service in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Where its traffic is.
    pub position: Position,
    /// Failover.
    pub overlay: Option<Color>,
    /// Colors answered with 503.
    pub refused: BTreeSet<Color>,
    /// Whether its requests go on.
    pub traffic: Traffic,
    /// Its shape; `None`: not known, or known to be the desired one.
    pub shape: Option<ShapeDigest>,
}

/// What one change does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Plan {
    /// The generation in force.
    pub from: Generation,
    /// The generation that the change makes.
    pub to: Generation,
    /// What happens to each service that changes, in the order of their names; those that are gone come last.
    pub steps: Vec<Change>,
}

/// What happens to one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Step)]
pub struct Change {
    /// Which.
    pub service: ServiceName,
    /// How.
    #[serde(flatten)]
    pub kind: ChangeKind,
}

/// How one service changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added {
        /// Where it starts.
        to: Position,
    },
    /// It is new, and behind an alias.
    Aliased {
        /// The alias, as a URL.
        #[schema(value_type = String)]
        target: Server,
    },
    /// It is behind an alias, whose requests begin or end to be answered with 503.
    Admission {
        /// What becomes of them.
        to: Admission,
    },
    /// It is gone.
    Removed,
    /// Its traffic moves.
    Moved {
        /// From here.
        from: Position,
        /// To there.
        to: Position,
    },
    /// Its servers, hosts or settings change; the traffic stays.
    Reshaped,
    /// Colors begin or end to be answered with 503.
    Refused {
        /// These, or none any more.
        colors: BTreeSet<crate::domain::Color>,
    },
    /// Its requests are held, get the maintenance page, or go on again; the position stays.
    Traffic {
        /// What becomes of them.
        to: TrafficMode,
    },
    /// Failover begins or ends.
    Overlaid {
        /// Everything to this color, or `None`: back to the position.
        to: Option<Color>,
    },
}

impl Plan {
    /// What has to change. `current: None`: nothing is in force yet. `shapes`: digests of desired shapes that are known already;
    /// with thousands of services making them anew for each change costs as much as the change.
    pub fn between(
        current: Option<&Current>,
        desired: &RoutingTable,
        shapes: &BTreeMap<ServiceName, ShapeDigest>,
    ) -> Self {
        let mut steps = Vec::new();
        let mut step = |service: &ServiceName, kind| {
            steps.push(Change {
                service: service.clone(),
                kind,
            });
        };
        for (name, route) in &desired.routes {
            let Some(before) = current.and_then(|current| current.services.get(name)) else {
                step(name, ChangeKind::Added { to: route.position });
                continue;
            };
            if before.position != route.position {
                let (from, to) = (before.position, route.position);
                step(name, ChangeKind::Moved { from, to });
            } else if before.overlay != route.overlay {
                step(name, ChangeKind::Overlaid { to: route.overlay });
            } else if before.refused != route.refused {
                let colors = route.refused.clone();
                step(name, ChangeKind::Refused { colors });
            }
            if before.traffic != route.traffic {
                let to = route.traffic.mode();
                step(name, ChangeKind::Traffic { to });
            }
            let is_reshaped = before.shape.as_ref().is_some_and(|before| {
                shapes.get(name).map_or_else(
                    || *before != ShapeDigest::of(&route.service),
                    |known| before != known,
                )
            });
            if is_reshaped {
                step(name, ChangeKind::Reshaped);
            }
        }
        for (name, route) in &desired.aliases {
            let Some(before) = current.and_then(|current| current.aliases.get(name)) else {
                let target = route.target.clone();
                step(name, ChangeKind::Aliased { target });
                continue;
            };
            if before.admission != route.admission {
                let to = route.admission;
                step(name, ChangeKind::Admission { to });
            }
            let shape = ShapeDigest::of(&route.service);
            if before.shape.as_ref().is_some_and(|before| *before != shape) {
                step(name, ChangeKind::Reshaped);
            }
        }
        let before = current
            .into_iter()
            .flat_map(|current| current.services.keys().chain(current.aliases.keys()));
        let is_gone = |name: &ServiceName| {
            !desired.routes.contains_key(name) && !desired.aliases.contains_key(name)
        };
        for name in before.filter(|name| is_gone(name)) {
            step(name, ChangeKind::Removed);
        }
        Self {
            from: current.map_or(Generation::default(), |current| current.generation),
            to: desired.generation,
            steps,
        }
    }

    /// The services besides `named` whose edited configuration goes into force with this.
    pub fn taken_along(&self, named: &ServiceName) -> Vec<&ServiceName> {
        let steps = self.steps.iter().filter(|step| step.service != *named);
        steps
            .filter(|step| match step.kind {
                ChangeKind::Added { .. }
                | ChangeKind::Aliased { .. }
                | ChangeKind::Removed
                | ChangeKind::Reshaped => true,
                ChangeKind::Moved { .. }
                | ChangeKind::Admission { .. }
                | ChangeKind::Overlaid { .. }
                | ChangeKind::Refused { .. }
                | ChangeKind::Traffic { .. } => false,
            })
            .map(|step| &step.service)
            .collect()
    }

    /// A plan that does nothing.
    pub const fn empty(generation: Generation) -> Self {
        Self {
            from: generation,
            to: generation,
            steps: Vec::new(),
        }
    }

    /// True if nothing changes. A plan without steps may still make a generation: of a changed template, say.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.from == self.to
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let service = &self.service;
        match &self.kind {
            ChangeKind::Added { to } => write!(f, "{service}: added at {to}"),
            ChangeKind::Aliased { target } => {
                write!(
                    f,
                    "{service}: added behind the alias {}",
                    target.authority()
                )
            }
            ChangeKind::Admission { to } => f.write_str(&match to {
                Admission::Open => format!("{service}: requests go on to the alias again"),
                Admission::Blocked => format!("{service}: the alias is answered with 503"),
            }),
            ChangeKind::Removed => write!(f, "{service}: removed"),
            ChangeKind::Moved { from, to } => write!(f, "{service}: {from} → {to}"),
            ChangeKind::Reshaped => write!(f, "{service}: servers, hosts or settings change"),
            ChangeKind::Traffic { to } => write!(f, "{service}: traffic → {to}"),
            ChangeKind::Overlaid { to: Some(to) } => write!(f, "{service}: failover to {to}"),
            ChangeKind::Refused { colors } if colors.is_empty() => {
                write!(f, "{service}: no color is refused any more")
            }
            ChangeKind::Refused { colors } => {
                let colors: Vec<_> = colors.iter().map(|color| color.as_str()).collect();
                write!(f, "{service}: {} answers 503", colors.join(" and "))
            }
            ChangeKind::Overlaid { to: None } => write!(f, "{service}: failover ends"),
        }
    }
}
