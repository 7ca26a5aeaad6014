//! The difference between what is in force and what is desired, as a value that can be printed before anything happens.
//!
//! Pure. A plan holds no choices: executing it means putting its table into force, whatever the world looks like by then.

use serde::{Deserialize, Serialize};

use crate::domain::{Generation, Position, RoutingTable, ServiceName, TrafficMode};

/// What one change does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The generation in force.
    pub from: Generation,
    /// The generation that the change makes.
    pub to: Generation,
    /// Each service that changes, in the order of their names.
    pub steps: Vec<Change>,
}

/// What happens to one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub service: ServiceName,
    /// How.
    #[serde(flatten)]
    pub kind: ChangeKind,
}

/// How one service changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added {
        /// Where it starts.
        to: Position,
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
    /// Its requests are held, get the maintenance page, or go on again; the position stays.
    Traffic {
        /// What becomes of them.
        to: TrafficMode,
    },
    /// Failover begins or ends.
    Overlaid {
        /// Everything to this color, or `None`: back to the position.
        to: Option<crate::domain::Color>,
    },
}

impl Plan {
    /// What has to change between two tables. `current: None`: nothing is in force yet.
    pub fn between(current: Option<&RoutingTable>, desired: &RoutingTable) -> Self {
        let mut steps = Vec::new();
        for (name, route) in &desired.routes {
            let before = current.and_then(|table| table.routes.get(name));
            let kind = match before {
                None => ChangeKind::Added { to: route.position },
                Some(before) if before.position != route.position => ChangeKind::Moved {
                    from: before.position,
                    to: route.position,
                },
                Some(before) if before.overlay != route.overlay => {
                    ChangeKind::Overlaid { to: route.overlay }
                }
                Some(before) if before.traffic != route.traffic => ChangeKind::Traffic {
                    to: route.traffic.mode(),
                },
                Some(before) if before.service != route.service => ChangeKind::Reshaped,
                Some(_) => continue,
            };
            steps.push(Change {
                service: name.clone(),
                kind,
            });
        }
        if let Some(current) = current {
            for name in current
                .routes
                .keys()
                .filter(|name| !desired.routes.contains_key(*name))
            {
                steps.push(Change {
                    service: name.clone(),
                    kind: ChangeKind::Removed,
                });
            }
        }
        Self {
            from: current.map_or(Generation::default(), |table| table.generation),
            to: desired.generation,
            steps,
        }
    }

    /// A plan that does nothing.
    pub const fn empty(generation: Generation) -> Self {
        Self {
            from: generation,
            to: generation,
            steps: Vec::new(),
        }
    }

    /// True if nothing changes.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let service = &self.service;
        match &self.kind {
            ChangeKind::Added { to } => write!(f, "{service}: added at {to}"),
            ChangeKind::Removed => write!(f, "{service}: removed"),
            ChangeKind::Moved { from, to } => write!(f, "{service}: {from} → {to}"),
            ChangeKind::Reshaped => write!(
                f,
                "{service}: servers, hosts or settings change, the traffic stays"
            ),
            ChangeKind::Traffic { to } => write!(f, "{service}: the traffic is {to}"),
            ChangeKind::Overlaid { to: Some(to) } => write!(f, "{service}: failover to {to}"),
            ChangeKind::Overlaid { to: None } => write!(f, "{service}: failover ends"),
        }
    }
}
