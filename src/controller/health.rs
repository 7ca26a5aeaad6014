//! What health adds on top of the positions: failover, journalled like any change but not a move of the position; and
//! single servers left out, which is not journalled at all.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::change::milliseconds;
use super::decide::{Decided, Scope};
use super::{ChangeError, Controller};
use crate::balancer::{Balancer, Change, Foreign, FrontDoor, Progress};
use crate::domain::{Color, Health, RoutingTable, ServerHealth, ServiceName, describe};
use crate::store::{AuditEntry, Holder, State};

/// How the problem begins that a person should know of a failover that was made, until their next change.
pub(super) const BY_ITSELF: &str = "in a failover: ";

/// What health asks of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Failover to this color, or its end.
    Overlay(Option<Color>),
    /// The color that traffic was forced onto is healthy: from now on it is failed over from like any other.
    Heal,
}

impl Wish {
    /// The word for it in the audit log.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Overlay(Some(_)) => "failover",
            Self::Overlay(None) => "failback",
            Self::Heal => "heal",
        }
    }
}

impl<B: Balancer> Controller<B> {
    /// What health asks for and is not so.
    pub(super) fn wishes(&mut self, state: &State) -> BTreeMap<ServiceName, Wish> {
        let mut wishes = BTreeMap::new();
        self.healed.retain(|name, since| {
            let known = state.services.get(name);
            known.is_some_and(|known| known.forced.is_some() && known.since == *since)
        });
        for (name, service) in &self.config.services {
            // without a single probe nothing is known, and an overlay stays as it is
            let (Some(known), Some(book)) = (state.services.get(name), self.health.get(name))
            else {
                continue;
            };
            if let Some(color) = known.forced {
                let is_healthy =
                    |(server, _): &(ServerHealth, _)| server.health() == Health::Healthy;
                if book[color].values().any(is_healthy) {
                    self.healed.insert(name.clone(), known.since);
                } else if !self.healed.contains_key(name) {
                    continue;
                }
            }
            let overlay = super::desired::overlay(
                &service.shape,
                known.position,
                known.overlay,
                &self.health,
            );
            if overlay != known.overlay {
                wishes.insert(name.clone(), Wish::Overlay(overlay));
            } else if known.forced.is_some() {
                wishes.insert(name.clone(), Wish::Heal);
            }
        }
        wishes
    }

    /// Puts failovers into force or takes them out. A failover does not wait for somebody to look at a file that was edited
    /// by hand, because traffic is lost meanwhile: a copy is kept, and that is said. The rest can wait.
    ///
    /// That a forced color was healthy is a change like any other, which costs nginx a reload: it has to be known after a
    /// restart, or a color that a person once insisted on would never be failed over from.
    pub(super) async fn grant(
        &mut self,
        wishes: BTreeMap<ServiceName, Wish>,
    ) -> Result<(), ChangeError> {
        let is_failover = |wish: &Wish| matches!(wish, Wish::Overlay(Some(_)));
        let foreign = if wishes.values().any(is_failover) {
            Foreign::Replace
        } else {
            Foreign::Refuse
        };
        let started = std::time::Instant::now();
        let holder = Holder::current("turnout serve failover", None);
        // who waits in here hears no probe; the task tries again
        let mut lock = self.store.lock(holder, std::time::Duration::ZERO).await?;
        let loaded = self.settle(&mut lock, foreign).await?;
        let mut target = self.complete(&loaded.state);
        super::desired::note_shapes(&self.config, &mut target);
        target.generation = loaded.used.next();
        for (name, wish) in &wishes {
            if let Some(known) = target.services.get_mut(name) {
                known.forced = None;
                if let Wish::Overlay(overlay) = wish {
                    known.overlay = *overlay;
                }
            }
        }
        let decided = Decided {
            action: if wishes.values().all(|wish| *wish == Wish::Heal) {
                Wish::Heal.as_str()
            } else {
                "failover"
            },
            actor: "turnout".to_owned(),
            message: None,
            service: None,
            target,
            changed: wishes.keys().cloned().collect(),
            front_door: FrontDoor::Ask,
            scope: Scope::Changed,
            foreign,
            staged: None,
        };
        let result = self
            .put_into_force(&mut lock, &decided, &loaded, Progress::silent())
            .await;
        let told = match &result {
            Ok((_, applied)) => {
                let mut told = vec!["by health probes"];
                told.extend(applied.warnings().iter().map(String::as_str));
                told.join("; ")
            }
            Err(error) => describe(error),
        };
        if let Ok((_, applied)) = &result {
            for warning in applied.warnings() {
                self.note(format!("{BY_ITSELF}{warning}"));
            }
        }
        for (name, wish) in wishes {
            let entry = AuditEntry {
                timestamp: Timestamp::now(),
                environment: decided
                    .target
                    .services
                    .get(&name)
                    .map(|known| known.overlay.unwrap_or_else(|| known.position.active())),
                service: Some(name),
                version: None,
                action: wish.as_str().to_owned(),
                success: result.is_ok(),
                message: told.clone(),
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
