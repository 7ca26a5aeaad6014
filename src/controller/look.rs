//! Looking without changing: status, the three columns of `verify`, health now.

use jiff::Timestamp;

use super::status::{Columns, Drift, DriftKind, HealthBook, VerifiedService};
use super::{ChangeError, Controller, ServerStatus, ServiceStatus, Status, Verification, desired};
use crate::balancer::{Balancer, Disk, Observed, Served, ServerHealthUse};
use crate::domain::{
    Color, Colors, Generation, Health, ProbeOutcome, Server, ServerHealth, Service, ServiceName,
    Split,
};
use crate::store::State;

/// One probe of every server of a color, all at once.
pub(super) async fn probe_all(shape: &Service, color: Color) -> Vec<(Server, ProbeOutcome)> {
    let mut running = tokio::task::JoinSet::new();
    for server in shape.servers[color].clone() {
        let policy = shape.health.clone();
        running.spawn(async move {
            let outcome = crate::probe::probe(&server, color, &policy).await;
            (server, outcome)
        });
    }
    let mut outcomes = running.join_all().await;
    outcomes.sort_by(|left, right| left.0.cmp(&right.0));
    outcomes
}

/// Where a status has its health from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probing {
    /// One round of probes now.
    Now,
    /// What the daemon's probes found.
    Known,
}

impl<B: Balancer> Controller<B> {
    /// Position, health (probed now) and drift, of one service or all.
    pub async fn status(&mut self, service: Option<&ServiceName>) -> Result<Status, ChangeError> {
        let names = match service {
            Some(name) => vec![desired::pick(&self.config, Some(name))?.0.clone()],
            None => Vec::new(),
        };
        self.status_with(&names, Probing::Now).await
    }

    /// `only`: these services; empty: all.
    pub(super) async fn status_with(
        &mut self,
        only: &[ServiceName],
        probing: Probing,
    ) -> Result<Status, ChangeError> {
        let loaded = self.load().await?;
        let state = loaded.state.clone();
        let names: Vec<_> = if only.is_empty() {
            self.config.services.keys().cloned().collect()
        } else {
            only.to_vec()
        };
        if probing == Probing::Now {
            self.health = self.probe_now(&names, None).await;
        }
        let verification = self.verify_state(&loaded.state).await?;
        let mut services = Vec::with_capacity(names.len());
        for name in &names {
            services.push(self.service_status(name, &state)?);
        }
        Ok(Status {
            balancer: self.balancer.kind().to_owned(),
            generation: loaded.state.generation,
            daemon: None,
            state_dir: self.store.dir().display().to_string(),
            services,
            drift: verification.drift,
            problems: self.problems.clone(),
        })
    }

    pub(super) fn service_status(
        &self,
        name: &ServiceName,
        state: &State,
    ) -> Result<ServiceStatus, ChangeError> {
        let (name, shape) = desired::pick(&self.config, Some(name))?;
        let complete = self.complete(state);
        let Some(known) = complete.services.get(name) else {
            return Err(ChangeError::WhichService {
                known: name.to_string(),
            });
        };
        let book = self.health.get(name);
        let servers = Colors::from_fn(|color| {
            shape.servers[color]
                .iter()
                .map(|server| server_status(server, book.and_then(|book| book[color].get(server))))
                .collect::<Vec<_>>()
        });
        let versions = Colors::from_fn(|color| {
            servers[color]
                .iter()
                .find_map(|server| server.version.clone())
                .or_else(|| known.versions[color].clone())
        });
        Ok(ServiceStatus {
            service: name.clone(),
            strategy: known.position.strategy(),
            active: known.position.active(),
            weights: known.position.split().weights(),
            generation: state.generation,
            overlay: known.overlay,
            previous: known.previous,
            versions,
            servers,
            since: state.services.get(name).map(|known| known.since),
            project: shape.project.clone(),
        })
    }

    /// The health book into a status that was made earlier.
    pub(super) fn refresh_health(&self, status: &mut Status) {
        for service in &mut status.services {
            let Some(book) = self.health.get(&service.service) else {
                continue;
            };
            let Some(config) = self.config.services.get(&service.service) else {
                continue;
            };
            for color in Color::BOTH {
                service.servers[color] = config.shape.servers[color]
                    .iter()
                    .map(|server| server_status(server, book[color].get(server)))
                    .collect();
                if let Some(version) = service.servers[color]
                    .iter()
                    .find_map(|server| server.version.clone())
                {
                    service.versions[color] = Some(version);
                }
            }
        }
    }

    /// Probes servers now, once each, whatever a daemon knows.
    pub async fn check(
        &mut self,
        service: Option<&ServiceName>,
        color: Option<Color>,
    ) -> Result<Vec<ServiceStatus>, ChangeError> {
        let names: Vec<_> = match service {
            Some(name) => vec![desired::pick(&self.config, Some(name))?.0.clone()],
            None => self.config.services.keys().cloned().collect(),
        };
        let loaded = self.load().await?;
        self.health = self.probe_now(&names, color).await;
        names
            .iter()
            .map(|name| self.service_status(name, &loaded.state))
            .collect()
    }

    /// One probe of each server, taken for the whole truth: a command cannot wait for three in a row.
    async fn probe_now(&self, names: &[ServiceName], color: Option<Color>) -> HealthBook {
        let mut book = HealthBook::new();
        let mut running = tokio::task::JoinSet::new();
        for name in names {
            let Some(service) = self.config.services.get(name) else {
                continue;
            };
            for each in Color::BOTH
                .into_iter()
                .filter(|each| color.is_none_or(|only| only == *each))
            {
                let (name, shape) = (name.clone(), service.shape.clone());
                running.spawn(async move { (name, each, probe_all(&shape, each).await, shape) });
            }
        }
        for (name, color, outcomes, shape) in running.join_all().await {
            let mut once = shape.health.clone();
            (once.healthy_after, once.unhealthy_after) = (1, 1);
            let servers = outcomes.into_iter().map(|(server, outcome)| {
                let mut health = ServerHealth::default();
                health.observe(&once, &outcome);
                (server, (health, Timestamp::now()))
            });
            book.entry(name).or_default()[color] = servers.collect();
        }
        book
    }

    /// State, disk and served side by side.
    pub async fn verify(&mut self) -> Result<Verification, ChangeError> {
        let loaded = self.load().await?;
        let mut verification = self.verify_state(&loaded.state).await?;
        if let Some(open) = &loaded.open {
            verification.notes.push(format!(
                "a {} to generation {} is at work or was interrupted; the next change settles it",
                open.action, open.generation
            ));
        }
        Ok(verification)
    }

    async fn verify_state(&mut self, state: &State) -> Result<Verification, ChangeError> {
        let observed = self.balancer.observe().await;
        let complete = self.complete(state);
        let mut drift = Vec::new();
        let mut notes = Vec::new();
        let applied = state.generation != Generation::default();
        if applied {
            disk_drift(state, observed.disk.as_ref(), &mut drift);
            served_drift(state, &observed.served, &mut drift);
            if drift.is_empty() && !self.files_agree(state)? {
                drift.push(Drift {
                    kind: DriftKind::Config,
                    service: None,
                    message: "configuration or template were changed and are not in force yet: look with `turnout diff`, then `turnout apply`".to_owned(),
                });
            }
        } else {
            notes.push("nothing was applied yet: run `turnout apply`".to_owned());
        }
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
            services.push(VerifiedService {
                service: name.clone(),
                split,
            });
        }
        let generation = Columns {
            state: applied.then_some(state.generation),
            disk: match &observed.disk {
                Some(Disk::Intact { generation, .. } | Disk::Edited { generation }) => {
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
            services,
            drift,
        })
    }

    /// True if every file on disk is what the state and the configuration render to.
    pub(super) fn files_agree(&self, state: &State) -> Result<bool, ChangeError> {
        let rendered = self.balancer.render(&self.table(&self.complete(state)))?;
        Ok(rendered
            .files
            .iter()
            .all(|file| std::fs::read(&file.path).is_ok_and(|bytes| bytes == file.text.as_bytes())))
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
            .all(|name| state.services.contains_key(name));
        // a balancer without files has its shape in this process alone
        let shaped = match self.balancer.server_health() {
            ServerHealthUse::Own => true,
            ServerHealthUse::Probes => self.proved.as_ref() == Some(&table),
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

fn server_status(server: &Server, known: Option<&(ServerHealth, Timestamp)>) -> ServerStatus {
    ServerStatus {
        url: server.to_string(),
        health: known.map_or(Health::Unknown, |(health, _)| health.health()),
        reason: known.and_then(|(health, _)| health.last_failure().map(ToString::to_string)),
        version: known.and_then(|(health, _)| health.version().map(ToOwned::to_owned)),
        checked_at: known.map(|(_, at)| *at),
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
        Some(Disk::Edited { generation }) => format!(
            "the file on disk was edited by hand since generation {generation}: look with `turnout diff`; `turnout apply --force` keeps a copy and replaces it"
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
