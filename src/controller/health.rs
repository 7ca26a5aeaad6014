//! What health adds on top of the positions: failover, journalled like any change but not a move of the position; and
//! single servers left out, which is not journalled at all.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::change::milliseconds;
use super::decide::{Decided, Scope};
use super::{ChangeError, Controller};
use crate::balancer::{Balancer, Change, Foreign, FrontDoor, Progress};
use crate::domain::{Color, Health, RoutingTable, ServiceName, describe};
use crate::store::{AuditEntry, Holder, State};

impl<B: Balancer> Controller<B> {
    /// The services whose failover is not as health asks for.
    pub(super) fn wanted_overlays(
        &mut self,
        state: &State,
    ) -> BTreeMap<ServiceName, Option<Color>> {
        let mut wanted = BTreeMap::new();
        let health = &self.health;
        self.forced.retain(|name| {
            let active = state
                .services
                .get(name)
                .map(|known| known.position.active());
            let up = |color: Color| {
                health.get(name).is_some_and(|book| {
                    book[color]
                        .values()
                        .any(|(known, _)| known.health() == Health::Healthy)
                })
            };
            !active.is_none_or(up)
        });
        for (name, service) in &self.config.services {
            // without a single probe nothing is known, and an overlay stays as it is
            let (Some(known), true) = (state.services.get(name), self.health.contains_key(name))
            else {
                continue;
            };
            if self.forced.contains(name) {
                continue;
            }
            let overlay = super::desired::overlay(
                &service.shape,
                known.position,
                known.overlay,
                &self.health,
            );
            if overlay != known.overlay {
                wanted.insert(name.clone(), overlay);
            }
        }
        wanted
    }

    /// Puts failovers into force or takes them out.
    pub(super) async fn overlay(
        &mut self,
        wanted: BTreeMap<ServiceName, Option<Color>>,
    ) -> Result<(), ChangeError> {
        let started = std::time::Instant::now();
        let holder = Holder::current("turnout serve failover", None);
        // shorter than a command's wait: the next probe asks again
        let mut lock = self
            .store
            .lock(holder, std::time::Duration::from_secs(2))
            .await?;
        let loaded = self.settle(&mut lock, Foreign::Refuse).await?;
        let mut target = self.complete(&loaded.state);
        target.generation = loaded.used.next();
        for (name, overlay) in &wanted {
            if let Some(known) = target.services.get_mut(name) {
                known.overlay = *overlay;
            }
        }
        let decided = Decided {
            action: "failover",
            actor: "turnout".to_owned(),
            message: None,
            service: None,
            target,
            changed: wanted.keys().cloned().collect(),
            front_door: FrontDoor::Ask,
            forced: false,
            scope: Scope::Changed,
            foreign: Foreign::Refuse,
            staged: None,
        };
        let result = self
            .put_into_force(&mut lock, &decided, &loaded, Progress::silent())
            .await;
        // nobody asked for it, so nobody else is told what it found, such as a share that was set by hand
        for warning in result.iter().flat_map(|(_, applied)| applied.warnings()) {
            tracing::warn!("{warning}");
        }
        for (name, overlay) in wanted {
            let entry = AuditEntry {
                timestamp: Timestamp::now(),
                environment: overlay.or_else(|| {
                    decided
                        .target
                        .services
                        .get(&name)
                        .map(|known| known.position.active())
                }),
                service: Some(name),
                version: None,
                action: if overlay.is_some() {
                    "failover"
                } else {
                    "failback"
                }
                .to_owned(),
                success: result.is_ok(),
                message: match &result {
                    Ok(_) => "by health probes".to_owned(),
                    Err(error) => describe(error),
                },
                actor: "turnout".to_owned(),
                duration_ms: milliseconds(started.elapsed()),
            };
            if let Err(error) = lock.audit(&entry) {
                tracing::warn!(
                    error = describe(&error),
                    "the audit log could not be written"
                );
            }
        }
        result.map(|_| ())
    }

    /// The same generation again, with other servers left out.
    pub(super) async fn put_again(&mut self, table: RoutingTable) -> Result<(), ChangeError> {
        let rendered = self.balancer.render(&table)?;
        let change = Change {
            desired: &table,
            rendered: &rendered,
            previous: self.proved.as_ref(),
            front_door: FrontDoor::Skip,
            foreign: Foreign::Refuse,
            progress: Progress::silent(),
        };
        // the position is not touched, so the proof records nothing
        drop(self.balancer.apply(change).await?);
        self.proved = Some(table);
        Ok(())
    }
}
