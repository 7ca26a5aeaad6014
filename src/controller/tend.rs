//! A look at a balancer that somebody else has been at (a reload, a restart, a folder wiped): what it lost is put right, under
//! the change lock and only while nothing is open, and written down. Never moves traffic to where the state does not say. Also
//! tells the log of drift.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::change::milliseconds;
use super::{ChangeError, Controller, LockError, Status};
use crate::balancer::{Balancer, Tended};
use crate::domain::describe;
use crate::store::{AuditEntry, Holder};

/// How the problem of a balancer that could not be put right begins.
const STRANGER: &str = "by somebody else: ";

/// Logs what is newly not as recorded, and that it is over.
pub(super) fn tell_drift(before: &Status, now: &Status) {
    for drift in &now.drift {
        if !before.drift.contains(drift) {
            let service = drift.service.as_ref().map(ToString::to_string);
            tracing::warn!(service, "{}", drift.message);
        }
    }
    if now.drift.is_empty() && !before.drift.is_empty() {
        tracing::info!("what is served is as recorded again");
    }
}

impl<B: Balancer> Controller<B> {
    /// One look; what was found is logged once, and a failure is in the status until it is over.
    pub(super) async fn tend(&mut self) {
        let before = self.forget(STRANGER);
        if !self.balancer.is_new().await {
            return;
        }
        let problem = match self.tend_locked().await {
            Ok(Tended::Seen(what)) => {
                tracing::info!("{what}");
                return;
            }
            Ok(Tended::PutRight(what)) => {
                tracing::warn!("{what}");
                return;
            }
            Ok(Tended::Failed(what)) => what,
            // whoever holds the lock is at work on the position and proves it
            Ok(Tended::Nothing) | Err(ChangeError::Lock(LockError::Held { .. })) => return,
            Err(error) => describe(&error),
        };
        let problem = format!("{STRANGER}{problem}");
        if before.as_ref() != Some(&problem) {
            tracing::warn!("{problem}");
        }
        self.problems.push(problem);
    }

    async fn tend_locked(&mut self) -> Result<Tended, ChangeError> {
        let begin = Instant::now();
        let holder = Holder::current(&format!("{} look", self.command), None);
        let mut lock = self.store.lock(holder, Duration::ZERO).await?;
        let loaded = self.load().await?;
        let tended = match self.current_table(&loaded.state) {
            Some(table) if loaded.open.is_none() => self.balancer.tend(&table).await,
            Some(_) | None => Tended::Nothing,
        };
        if let Tended::PutRight(what) = &tended {
            let entry = AuditEntry {
                timestamp: Timestamp::now(),
                service: None,
                environment: None,
                version: None,
                action: "put_right".to_owned(),
                success: true,
                message: what.clone(),
                actor: "turnout".to_owned(),
                duration_ms: milliseconds(begin.elapsed()),
            };
            if let Err(error) = lock.audit(&entry) {
                let error = describe(&error);
                tracing::warn!(error, "the audit log could not be written");
            }
        }
        Ok(tended)
    }
}
