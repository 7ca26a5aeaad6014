//! The audit line of a change: who asked for what, and what came of it. A failure to write it does not unmake the change, so
//! it is logged and no more; whoever listens to the events hears the line in any case.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::change::milliseconds;
use super::events::Happening;
use super::request::Origin;
use super::told::{Ended, tell};
use super::{ChangeError, Controller, LockError, Outcome, Request, Verb, desired};
use crate::balancer::Balancer;
use crate::domain::{Color, Generation, ServiceName, describe};
use crate::store::{AuditEntry, ChangeLock};

/// The message of a change that changed nothing.
pub const SO_ALREADY: &str = "it was so already";

impl<B: Balancer> Controller<B> {
    /// Writes one line, and tells it.
    pub(super) fn record(
        &self,
        lock: &mut ChangeLock,
        entry: &AuditEntry,
        ended: Ended,
        generation: Option<Generation>,
    ) {
        tell(entry, ended, generation, lock.audit(entry));
        self.events.tell(&Happening::Audit(entry));
    }

    /// The line of a change that was made or refused under the lock.
    pub(super) fn audit(
        &self,
        lock: &mut ChangeLock,
        request: &Request,
        result: &Result<Outcome, ChangeError>,
        started: Instant,
    ) {
        if let Some(entry) = self.line(request, result, started.elapsed()) {
            let generation = result.as_ref().ok().map(|outcome| outcome.generation);
            self.record(lock, &entry, Ended::of(result), generation);
        }
    }

    /// The line of a change that somebody asked for and that waited in vain for the lock of another one.
    pub(super) fn audit_without_lock(
        &self,
        request: &Request,
        result: &Result<Outcome, ChangeError>,
    ) {
        if matches!(result, Err(ChangeError::Lock(LockError::Held { .. })))
            && let Some(entry) = self.line(request, result, request.lock_wait)
        {
            let written = self.store.audit_without_lock(&entry);
            tell(&entry, Ended::Failed, None, written);
            self.events.tell(&Happening::Audit(&entry));
        }
    }

    fn line(
        &self,
        request: &Request,
        result: &Result<Outcome, ChangeError>,
        took: Duration,
    ) -> Option<AuditEntry> {
        let done = matches!(result, Ok(outcome) if outcome.changed);
        // what turnout does by itself it does again and again: its line is the change, its failures are in status and log
        if request.origin != Origin::Person && !done {
            return None;
        }
        let status = result
            .as_ref()
            .ok()
            .and_then(|outcome| outcome.service.as_ref());
        let named = match &request.change {
            Verb::Switch { service, .. }
            | Verb::Rollback { service }
            | Verb::Strategy { service, .. }
            | Verb::Weights { service, .. }
            | Verb::Shift { service, .. }
            | Verb::Traffic { service, .. } => desired::pick(&self.config, service.as_ref())
                .ok()
                .map(|(name, _)| name.clone()),
            Verb::Apply | Verb::Reload => None,
        };
        let environment = match result {
            Ok(_) => status.map(|status| status.active),
            Err(_) => self.asked_for(&request.change, named.as_ref()),
        };
        Some(AuditEntry {
            timestamp: Timestamp::now(),
            service: named,
            environment,
            version: status.and_then(|status| status.versions[status.active].clone()),
            action: request.change.as_str().to_owned(),
            success: result.is_ok(),
            message: match result {
                Ok(_) if done => request.message.clone().unwrap_or_default(),
                Ok(_) => match &request.message {
                    Some(message) => format!("{message} (it was so already)"),
                    None => SO_ALREADY.to_owned(),
                },
                Err(error) => describe(error),
            },
            actor: request.actor.clone(),
            duration_ms: milliseconds(took),
        })
    }

    /// The color that a change which failed would have made active, as far as that can be told.
    fn asked_for(&self, verb: &Verb, service: Option<&ServiceName>) -> Option<Color> {
        if let Verb::Switch { to: Some(to), .. } = verb {
            return Some(*to);
        }
        // it failed, so what is recorded is what it began from
        let recorded = self.store.load().ok()?;
        let name = service?;
        let complete = self.complete(&recorded.state);
        let from = complete.services.get(name)?;
        let position = desired::moved(name, from, verb).ok()?;
        Some(position.active())
    }
}
