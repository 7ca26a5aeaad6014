//! State, disk and served side by side, and where they disagree. Looks, and changes nothing.

use super::change::pending;
use super::status::{Columns, Drift, DriftKind, VerifiedService};
use super::{ChangeError, Controller, Verification, desired};
use crate::balancer::{
    Balancer, Disk, DoorLook, Observed, Served, ServerHealthUse, TrafficUse, look_through_doors,
};
use crate::domain::{Generation, ServiceName, Split, TrafficMode, describe};
use crate::store::State;

/// Whose front doors a look includes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doors {
    /// All.
    All,
    /// Those that were never seen to lead to turnout.
    Pending,
}

impl<B: Balancer> Controller<B> {
    /// State, disk and served side by side.
    pub async fn verify(&mut self) -> Result<Verification, ChangeError> {
        let loaded = self.load().await?;
        let mut verification = self.verify_state(&loaded.state, Doors::All).await?;
        if let Some(open) = &loaded.open {
            verification.notes.push(format!(
                "a {} to generation {} is at work or was interrupted; the next change settles it",
                open.action, open.generation
            ));
        }
        Ok(verification)
    }

    pub(super) async fn verify_state(
        &mut self,
        state: &State,
        doors: Doors,
    ) -> Result<Verification, ChangeError> {
        let observed = self.balancer.observe().await;
        let complete = self.complete(state);
        let mut drift = Vec::new();
        let mut notes = Vec::new();
        let applied = state.generation != Generation::default();
        if applied {
            disk_drift(state, observed.disk.as_ref(), &mut drift);
            served_drift(state, &observed.served, &mut drift);
            match self.files_agree(state) {
                Ok(false) if drift.is_empty() => drift.push(Drift {
                    kind: DriftKind::Config,
                    service: None,
                    message: "configuration or template were changed and are not in force yet: look with `turnout diff`, then `turnout apply`".to_owned(),
                }),
                Ok(_) => {}
                // what is served can be told without the template
                Err(error) => drift.push(Drift {
                    kind: DriftKind::Config,
                    service: None,
                    message: format!("the next change would fail: {}", describe(&error)),
                }),
            }
        } else {
            notes.push(
                match self.balancer.server_health() {
                    ServerHealthUse::Own => "nothing was applied yet: run `turnout apply`",
                    // what routes inside the daemon is put into force by its start
                    ServerHealthUse::Probes => {
                        "nothing was applied yet: `turnout serve` does it when it starts"
                    }
                }
                .to_owned(),
            );
        }
        notes.extend(self.fallback().map(|fallback| fallback.sentence()));
        let mut services = Vec::new();
        for name in self.config.services.keys() {
            let expected = complete
                .services
                .get(name)
                .map(|known| known.overlay.map_or(known.position.split(), Split::all));
            let split = Columns {
                state: if applied { expected } else { None },
                disk: disk_split(&observed, name),
                served: served_split(&observed, name),
            };
            let disagree = |seen: Option<Split>| seen.is_some() && seen != expected;
            if applied && disagree(split.disk) {
                drift.push(service_drift(DriftKind::Disk, name, expected, split.disk));
            }
            if applied && disagree(split.served) {
                drift.push(service_drift(
                    DriftKind::Served,
                    name,
                    expected,
                    split.served,
                ));
            }
            let traffic = complete
                .services
                .get(name)
                .map(|known| known.traffic.mode())
                .unwrap_or_default();
            if traffic != TrafficMode::Open && self.balancer.traffic_use() == TrafficUse::OpenOnly {
                notes.push(format!(
                    "the state says that the traffic of {name} is {traffic}, and {} lets it pass: take that back with `turnout traffic open {name}`",
                    self.balancer.kind()
                ));
            }
            services.push(VerifiedService {
                service: name.clone(),
                split,
                traffic,
                live: self.balancer.live(name),
            });
        }
        let doors = if applied && drift.is_empty() {
            self.look_through(&complete, doors, &mut drift, &mut notes)
                .await
        } else {
            Vec::new()
        };
        let generation = Columns {
            state: applied.then_some(state.generation),
            disk: match &observed.disk {
                Some(Disk::Intact { generation, .. } | Disk::Edited { generation, .. }) => {
                    Some(*generation)
                }
                Some(Disk::Absent | Disk::Foreign | Disk::Unreadable { .. }) | None => None,
            },
            served: match &observed.served {
                Served::Generation { generation, .. } => Some(*generation),
                Served::Foreign { .. } | Served::Unreachable { .. } => None,
            },
        };
        Ok(Verification {
            balancer: self.balancer.kind().to_owned(),
            generation,
            notes,
            doors,
            services,
            refused: self.balancer.refused(),
            drift,
        })
    }

    /// What clients get, by one request through each front door. Says what was seen; a door that leads elsewhere is drift, and
    /// one that is silent a note, since nothing contradicts the state then.
    async fn look_through(
        &self,
        complete: &State,
        which: Doors,
        drift: &mut Vec<Drift>,
        notes: &mut Vec<String>,
    ) -> Vec<String> {
        let pending = pending(complete);
        let table = self.table(complete);
        let routes = table
            .routes
            .iter()
            .filter(|(name, _)| which == Doors::All || pending.contains(*name))
            // a look would wait with the held, or get the page
            .filter(|(_, route)| route.traffic.is_open())
            .map(|(_, route)| route);
        let mut seen = Vec::new();
        for (name, look) in look_through_doors(routes).await {
            match look {
                DoorLook::Color { door, color } => seen.push(format!("{name}: {door} is {color}")),
                DoorLook::Nobody { door } => {
                    seen.push(format!("{name}: {door} is turnout; no healthy server"));
                }
                DoorLook::Silent(reason) if !pending.contains(&name) => notes.push(reason),
                DoorLook::Silent(reason) | DoorLook::Elsewhere(reason) => drift.push(Drift {
                    kind: DriftKind::Served,
                    service: Some(name.clone()),
                    message: if pending.contains(&name) {
                        format!("not routed by turnout yet: {reason}")
                    } else {
                        reason
                    },
                }),
            }
        }
        seen
    }

    /// True if every file on disk is what the state and the configuration render to.
    pub(super) fn files_agree(&self, state: &State) -> Result<bool, ChangeError> {
        let rendered = self.balancer.render(&self.table(&self.complete(state)))?;
        Ok(rendered
            .files
            .iter()
            .all(|file| std::fs::read(&file.path).is_ok_and(|bytes| bytes == file.text.as_bytes())))
    }

    /// True if what is recorded is what is served, whatever stands on disk: the last proved generation, and each service on
    /// its split. What the configuration has newly is not asked for.
    pub(super) async fn serves_record(&mut self) -> bool {
        let Ok(loaded) = self.load().await else {
            return false;
        };
        let state = loaded.state;
        if state.generation == Generation::default() {
            return false;
        }
        let Served::Generation { generation, splits } = self.balancer.observe().await.served else {
            return false;
        };
        generation == state.generation
            && self
                .table(&state)
                .routes
                .iter()
                .filter(|(name, _)| state.services.contains_key(*name))
                .all(|(name, route)| splits.get(name) == Some(&route.split()))
    }

    /// True if state, files and what is served agree, so that a change to what is already so has nothing to do.
    pub(super) async fn in_force(&self, state: &State) -> bool {
        if state.generation == Generation::default() || !self.files_agree(state).unwrap_or(false) {
            return false;
        }
        let table = self.table(&self.complete(state));
        let known = table
            .routes
            .keys()
            .all(|name| state.services.contains_key(name))
            && table
                .aliases
                .keys()
                .all(|name| state.aliases.contains_key(name));
        // a balancer without files has its shape in this process alone, and what another one goes by is what is remembered
        let shaped = match self.balancer.server_health() {
            ServerHealthUse::Own => true,
            ServerHealthUse::Probes => {
                let mut noted = state.clone();
                desired::note_shapes(&self.shapes, &mut noted);
                self.proved.as_ref() == Some(&table) && noted == *state
            }
        };
        if !known || !shaped {
            return false;
        }
        match self.balancer.observe().await.served {
            Served::Generation { generation, splits } => {
                generation == state.generation
                    && table
                        .routes
                        .iter()
                        .all(|(name, route)| splits.get(name) == Some(&route.split()))
            }
            Served::Foreign { .. } | Served::Unreachable { .. } => false,
        }
    }
}

fn disk_split(observed: &Observed, name: &ServiceName) -> Option<Split> {
    match observed.disk.as_ref()? {
        Disk::Intact { splits, .. } => splits.get(name).copied(),
        Disk::Absent | Disk::Edited { .. } | Disk::Foreign | Disk::Unreadable { .. } => None,
    }
}

fn served_split(observed: &Observed, name: &ServiceName) -> Option<Split> {
    match &observed.served {
        Served::Generation { splits, .. } => splits.get(name).copied(),
        Served::Foreign { .. } | Served::Unreachable { .. } => None,
    }
}

fn disk_drift(state: &State, disk: Option<&Disk>, drift: &mut Vec<Drift>) {
    let message = match disk {
        None => return,
        Some(Disk::Intact { generation, .. }) if *generation == state.generation => return,
        Some(Disk::Intact { generation, .. }) => format!(
            "the file on disk has generation {generation}, the state {}: repair with `turnout apply`",
            state.generation
        ),
        Some(Disk::Edited { generation, path }) => format!(
            "the file on disk ({}) was edited by hand since generation {generation}: look with `turnout diff`; `turnout apply --force` keeps a copy and replaces it",
            path.display()
        ),
        Some(Disk::Absent) => {
            "the file on disk is gone: put it back with `turnout apply`".to_owned()
        }
        Some(Disk::Foreign) => {
            "the file on disk was not written by turnout: look with `turnout diff`; `turnout apply --force` keeps a copy and replaces it".to_owned()
        }
        Some(Disk::Unreadable { reason }) => format!("the file on disk cannot be read: {reason}"),
    };
    drift.push(Drift {
        kind: DriftKind::Disk,
        service: None,
        message,
    });
}

fn served_drift(state: &State, served: &Served, drift: &mut Vec<Drift>) {
    let message = match served {
        Served::Generation { generation, .. } if *generation == state.generation => return,
        Served::Generation { generation, .. } => format!(
            "generation {generation} is served, expected {}: repair with `turnout apply`",
            state.generation
        ),
        Served::Foreign { reason } => {
            format!("what is served is not turnout's: {reason}; repair with `turnout apply`")
        }
        Served::Unreachable { reason } => reason.clone(),
    };
    drift.push(Drift {
        kind: DriftKind::Served,
        service: None,
        message,
    });
}

fn service_drift(
    kind: DriftKind,
    name: &ServiceName,
    expected: Option<Split>,
    seen: Option<Split>,
) -> Drift {
    let text = |split: Option<Split>| {
        split.map_or_else(|| "nothing".to_owned(), |split| split.to_string())
    };
    let place = match kind {
        DriftKind::Disk => "the file on disk says",
        DriftKind::Served => "the balancer serves",
        DriftKind::Config => "the configuration says",
    };
    Drift {
        kind,
        service: Some(name.clone()),
        message: format!("{place} {}, expected {}", text(seen), text(expected)),
    }
}
