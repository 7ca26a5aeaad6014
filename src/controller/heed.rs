//! The task's side of health: what was learned is told once, and failover follows it.
//!
//! It must never wait: a change lock that somebody else holds, or a failure that is to be tried later, is left to the task's
//! clocks.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::events::HealthChange;
use super::facts::Heeded;
use super::handle::Proof;
use super::task::Task;
use super::{ChangeError, LockError};
use crate::balancer::Balancer;
use crate::domain::{Health, HealthEvent, ServiceName, describe};
use crate::probe::Report;

/// How the problem of a failover begins that could not be made.
const FAILOVER: &str = "failover: ";

/// Whether failover waits for the change lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heed {
    Done,
    Due,
}

impl<B: Balancer> Task<B> {
    /// Health that gates found changed is heeded like that which probes find.
    pub(super) async fn heed_gates(&mut self) {
        let learned = std::mem::take(&mut self.controller.learned);
        if learned.is_empty() {
            return;
        }
        let mut told = Vec::new();
        for (report, event) in &learned {
            told.extend(self.tell(report, *event));
        }
        self.controller.events.tell_health(&told);
        if *self.proof.borrow() == Proof::Seen {
            self.heed().await;
        }
        self.publish().await;
    }

    /// Probes that ended, in their order.
    pub(super) async fn probed(&mut self, reports: &mut Vec<Report>) {
        let mut seen = BTreeSet::new();
        let mut change = HealthEvent::Same;
        let mut told = Vec::new();
        for report in reports.drain(..) {
            let Some(event) = self.controller.take_probe(&report) else {
                continue;
            };
            told.extend(self.tell(&report, event));
            if event != HealthEvent::Same {
                change = event;
            }
            seen.insert(report.service);
        }
        if !seen.is_empty() {
            self.publish_health(&seen);
        }
        // the cause before what it leads to, and after it can be seen in the status
        self.controller.events.tell_health(&told);
        if change != HealthEvent::Same && *self.proof.borrow() == Proof::Seen {
            self.heed().await;
            self.publish().await;
        }
    }

    /// Something that was seen of an alias.
    pub(super) async fn sighted(&mut self, sighting: crate::probe::Sighting) {
        let service = sighting.service.clone();
        let Some(event) = self.controller.take_sighting(sighting) else {
            return;
        };
        if event != HealthEvent::Same {
            let told = self.controller.alias_change(&service);
            self.controller.events.tell_health(&told);
        }
        if event != HealthEvent::Same && *self.proof.borrow() == Proof::Seen {
            self.heed().await;
            self.publish().await;
        } else {
            self.publish_aliases();
        }
    }

    /// A change of a server's health, for the log and for whoever listens.
    fn tell(&self, report: &Report, event: HealthEvent) -> Option<HealthChange> {
        let health = match event {
            HealthEvent::Same => return None,
            HealthEvent::BecameHealthy => {
                tracing::info!(service = %report.service, color = %report.color, server = %report.server, "server is healthy");
                Health::Healthy
            }
            HealthEvent::BecameUnhealthy => {
                tracing::warn!(
                    service = %report.service, color = %report.color, server = %report.server,
                    reason = self.controller.reason(report), "server is unhealthy"
                );
                Health::Unhealthy
            }
        };
        Some(HealthChange {
            service: report.service.clone(),
            color: Some(report.color),
            url: report.server.to_string(),
            health,
            reason: (health == Health::Unhealthy).then(|| self.controller.reason(report)),
            checked_at: report.at,
        })
    }

    /// Brings failover to what health asks for. Asked after each change of health and at each look, so that what could not be
    /// done once is done later.
    pub(super) async fn heed(&mut self) {
        let result = self.controller.heed_health().await;
        self.health = match &result {
            Err(ChangeError::Lock(LockError::Held { .. })) => Heed::Due,
            Ok(_) | Err(_) => Heed::Done,
        };
        // what is told of the failure holds until then
        if let Ok(Heeded::Later) = result {
            return;
        }
        let before = self.controller.forget(FAILOVER);
        if let Err(error) = result {
            let text = format!("{FAILOVER}{}", describe(&error));
            if before.as_ref() != Some(&text) {
                tracing::error!(
                    error = describe(&error),
                    "failover could not be put into force; trying again"
                );
            }
            self.controller.problems.push(text);
        }
    }

    /// New health into the last status: no file is read and no balancer asked, so that probes cost nothing else.
    pub(super) fn publish_health(&self, names: &BTreeSet<ServiceName>) {
        self.status.send_modify(|status| {
            self.controller.refresh_health(Arc::make_mut(status), names);
        });
    }
}
