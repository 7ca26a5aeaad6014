//! What health adds on top of the positions: failover, journalled like any change but not a move of the position; and
//! single servers left out, which is not journalled at all.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::change::milliseconds;
use super::decide::{Decided, Scope};
use super::patience::Patience;
use super::told::Ended;
use super::{ChangeError, Controller};
use crate::balancer::{Balancer, Change, Foreign, FrontDoor, Progress, ServerHealthUse};
use crate::domain::{Admission, Color, Health, RoutingTable, ServerHealth, ServiceName, describe};
use crate::store::{AuditEntry, Holder, State};

/// How the problem begins that a person should know of a failover that was made, until their next change.
pub(super) const BY_ITSELF: &str = "in a failover: ";

/// The word in the audit log for the end of a protection that a person asked for.
const HEAL: &str = "heal";

/// What health asks for one service. With neither field other than it is, the color that traffic was forced onto is healthy:
/// from now on it is failed over from like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// Failover to this color, or its end.
    pub(super) overlay: Option<Color>,
    /// Colors to answer with 503.
    pub(super) refused: BTreeSet<Color>,
    /// The word for it in the audit log.
    action: &'static str,
}

/// All that health asks for and is not so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wishes {
    /// Of services with colors.
    pub(super) colors: BTreeMap<ServiceName, Wish>,
    /// Of services behind an alias.
    pub(super) aliases: BTreeMap<ServiceName, Admission>,
}

impl Wishes {
    pub(super) fn is_empty(&self) -> bool {
        self.colors.is_empty() && self.aliases.is_empty()
    }
}

/// What could not be brought about, and when that is tried again.
#[derive(Debug)]
pub(super) struct Unmet {
    pub(super) wishes: Wishes,
    pub(super) patience: Patience,
}

/// A failover does not wait for somebody to look at a file that was edited by hand, because traffic is lost meanwhile: a
/// copy is kept, and that is said. The rest can wait.
pub(super) fn foreign(wishes: &Wishes) -> Foreign {
    let saves_traffic = |wish: &Wish| wish.overlay.is_some() && wish.refused.is_empty();
    if wishes.colors.values().any(saves_traffic) {
        Foreign::Replace
    } else {
        Foreign::Refuse
    }
}

impl<B: Balancer> Controller<B> {
    /// What health asks for and is not so.
    pub(super) fn wishes(&mut self, state: &State) -> Wishes {
        Wishes {
            aliases: self.admissions(state),
            colors: self.color_wishes(state),
        }
    }

    fn color_wishes(&mut self, state: &State) -> BTreeMap<ServiceName, Wish> {
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
            // who leaves out single servers refuses by itself
            let refused = match self.balancer.server_health() {
                ServerHealthUse::Own => super::desired::refused(
                    &service.shape,
                    known.position,
                    &known.refused,
                    &self.health,
                ),
                ServerHealthUse::Probes => BTreeSet::new(),
            };
            let action = match (overlay, refused.is_empty()) {
                _ if overlay == known.overlay && refused == known.refused => {
                    if known.forced.is_none() {
                        continue;
                    }
                    HEAL
                }
                (_, false) => "refuse",
                (Some(_), true) => "failover",
                (None, true) => "failback",
            };
            let wish = Wish {
                overlay,
                refused,
                action,
            };
            wishes.insert(name.clone(), wish);
        }
        wishes
    }

    /// Puts failovers into force or takes them out: those that health asks for under the lock, since somebody else may have
    /// made a change since it was last looked at. `settling`: whether edited files may be replaced before that.
    ///
    /// That a forced color was healthy is a change like any other, which costs nginx a reload: it has to be known after a
    /// restart, or a color that a person once insisted on would never be failed over from.
    pub(super) async fn grant(&mut self, settling: Foreign) -> Result<(), ChangeError> {
        let started = std::time::Instant::now();
        let holder = Holder::current("turnout serve failover", None);
        // who waits in here hears no probe; the task tries again
        let mut lock = self.store.lock(holder, std::time::Duration::ZERO).await?;
        let loaded = self.settle(&mut lock, settling, Progress::silent()).await?;
        let wishes = self.wishes(&loaded.state);
        if wishes.is_empty() {
            return Ok(());
        }
        let mut target = self.complete(&loaded.state);
        super::desired::note_shapes(&self.shapes, &mut target);
        target.generation = loaded.used.next();
        for (name, admission) in &wishes.aliases {
            if let Some(known) = target.aliases.get_mut(name) {
                known.admission = *admission;
            }
        }
        for (name, wish) in &wishes.colors {
            if let Some(known) = target.services.get_mut(name) {
                known.forced = None;
                known.overlay = wish.overlay;
                known.refused.clone_from(&wish.refused);
            }
        }
        let decided = Decided {
            action: if wishes.aliases.is_empty()
                && wishes.colors.values().all(|wish| wish.action == HEAL)
            {
                HEAL
            } else {
                "failover"
            },
            actor: "turnout".to_owned(),
            message: None,
            service: None,
            target,
            changed: wishes
                .colors
                .keys()
                .chain(wishes.aliases.keys())
                .cloned()
                .collect(),
            // what health moves may be down again by the time of the question, and is to move all the same
            front_door: FrontDoor::Turnout,
            scope: Scope::Changed,
            foreign: foreign(&wishes),
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
        let unmet = self.unmet.as_ref();
        if result.is_err() && unmet.is_some_and(|unmet| unmet.wishes == wishes) {
            // its first failure has a line; the rest is in status and log
            return result.map(|_| ());
        }
        let (ended, generation) = match &result {
            Ok(_) => (Ended::Done, Some(decided.target.generation)),
            Err(_) => (Ended::Failed, None),
        };
        let aliases = wishes.aliases.into_iter();
        let aliases = aliases.map(|(name, admission)| match admission {
            Admission::Blocked => (name, "refuse"),
            Admission::Open => (name, "failback"),
        });
        let colors = wishes.colors.into_iter();
        let colors = colors.map(|(name, wish)| (name, wish.action));
        for (name, action) in colors.chain(aliases) {
            let entry = AuditEntry {
                timestamp: Timestamp::now(),
                environment: decided
                    .target
                    .services
                    .get(&name)
                    .map(|known| known.overlay.unwrap_or_else(|| known.position.active())),
                service: Some(name),
                version: None,
                action: action.to_owned(),
                success: result.is_ok(),
                message: told.clone(),
                actor: "turnout".to_owned(),
                duration_ms: milliseconds(started.elapsed()),
            };
            self.record(&mut lock, &entry, ended, generation);
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
            unseen: &BTreeSet::new(),
            foreign: Foreign::Refuse,
            progress: Progress::silent(),
        };
        // the position is not touched, so the proof records nothing
        drop(self.balancer.apply(change).await?);
        self.proved = Some(table);
        Ok(())
    }
}
