//! Looking without changing: status, the three columns of `verify`, health now.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::status::HealthBook;
use super::{ChangeError, Controller, RolloutStatus, ServerStatus, ServiceStatus, Status, desired};
use crate::balancer::Balancer;
use crate::domain::{
    Color, Colors, Health, ProbeOutcome, Server, ServerHealth, Service, ServiceName,
};
use crate::store::State;

/// Colors probed at once by a command: with their servers they stay below the usual 1,024 open files.
const AT_ONCE: usize = 128;

/// One probe of every server of a color, all at once.
pub(super) async fn probe_all(shape: &Service, color: Color) -> Vec<(Server, ProbeOutcome)> {
    let mut running = tokio::task::JoinSet::new();
    for server in shape.servers(color).to_vec() {
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
            Some(name) => vec![self.known(name)?],
            None => Vec::new(),
        };
        self.status_with(&names, Probing::Now).await
    }

    /// A service of either kind.
    fn known(&self, name: &ServiceName) -> Result<ServiceName, ChangeError> {
        match self.config.aliases.get_key_value(name) {
            Some((name, _)) => Ok(name.clone()),
            None => Ok(desired::pick(&self.config, Some(name))?.0.clone()),
        }
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
            let services = self.config.services.keys();
            services
                .chain(self.config.aliases.keys())
                .cloned()
                .collect()
        } else {
            only.to_vec()
        };
        if probing == Probing::Now {
            self.health = self.probe_now(&names, None).await;
            self.aliases = self.look_at_aliases(&names).await;
        }
        let verification = self
            .verify_state(&loaded.state, super::verify::Doors::Pending)
            .await?;
        self.meter.saw(&verification, &self.config);
        let complete = self.complete(&state);
        let mut services = Vec::with_capacity(names.len());
        let mut aliases = self.alias_statuses();
        aliases.retain(|alias| names.contains(&alias.service));
        let colored = |name: &&ServiceName| !self.config.aliases.contains_key(*name);
        for name in names.iter().filter(colored) {
            services.push(self.service_status(name, &state, &complete)?);
        }
        Ok(Status {
            balancer: self.balancer.kind().to_owned(),
            generation: loaded.state.generation,
            daemon: None,
            state_dir: self.store.dir().display().to_string(),
            services,
            aliases,
            drift: verification.drift,
            problems: self.problems_now(),
            fallback: self.fallback(),
            refused: verification.refused,
        })
    }

    /// `complete`: `state` with what the configuration has besides, which is the same for all services.
    pub(super) fn service_status(
        &self,
        name: &ServiceName,
        state: &State,
        complete: &State,
    ) -> Result<ServiceStatus, ChangeError> {
        let (name, shape) = desired::pick(&self.config, Some(name))?;
        let Some(known) = complete.services.get(name) else {
            return Err(ChangeError::WhichService {
                known: name.to_string(),
            });
        };
        let book = self.health.get(name);
        let servers = Colors::from_fn(|color| {
            shape
                .servers(color)
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
            refused: known.refused.clone(),
            previous: known.previous,
            versions,
            servers,
            on_unhealthy: shape.on_unhealthy,
            since: state.services.get(name).map(|known| known.since),
            project: shape.project.clone(),
            traffic: known.traffic.mode(),
            live: self.balancer.live(name),
            rollout: self.walk_of(name, state.services.get(name).map(|known| known.since)),
        })
    }

    /// The newest rollout of a service, unless its traffic was moved since that was over.
    pub(super) fn walk_of(
        &self,
        name: &ServiceName,
        since: Option<Timestamp>,
    ) -> Option<Box<RolloutStatus>> {
        let walk = self.walks.get(name)?;
        let is_last = since.is_none_or(|since| since <= walk.updated_at);
        (is_last || !walk.status.is_over()).then(|| Box::new(RolloutStatus::clone(walk)))
    }

    /// The health book of these services into a status that was made earlier.
    pub(super) fn refresh_health(&self, status: &mut Status, names: &BTreeSet<ServiceName>) {
        for name in names {
            let place = status
                .services
                .binary_search_by(|service| service.service.cmp(name));
            let (Ok(place), Some(book), Some(config)) =
                (place, self.health.get(name), self.config.services.get(name))
            else {
                continue;
            };
            let service = &mut status.services[place];
            for color in Color::BOTH {
                service.servers[color] = config
                    .shape
                    .servers(color)
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
        let complete = self.complete(&loaded.state);
        self.health = self.probe_now(&names, color).await;
        names
            .iter()
            .map(|name| self.service_status(name, &loaded.state, &complete))
            .collect()
    }

    /// One probe of each server, taken for the whole truth: a command cannot wait for three in a row.
    async fn probe_now(&self, names: &[ServiceName], color: Option<Color>) -> HealthBook {
        let mut book = HealthBook::new();
        let places = Arc::new(Semaphore::new(AT_ONCE));
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
                let places = Arc::clone(&places);
                running.spawn(async move {
                    // the semaphore is never closed, so the place is always had
                    let place = places.acquire().await;
                    let outcomes = probe_all(&shape, each).await;
                    drop(place);
                    (name, each, outcomes, shape)
                });
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
