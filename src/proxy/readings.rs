//! What a running proxy has counted, read by whoever shows or judges it. Changes nothing.

use super::counters::{DoorTotals, Totals};
use super::handle::Proxy;
use super::lane::Lane;
use super::mark::MarkTotals;
use crate::domain::{Color, Server, ServiceName};

impl Proxy {
    /// Requests of a color that have not ended; 0 for a service that is not in force.
    pub fn in_flight(&self, service: &ServiceName, color: Color) -> u64 {
        self.totals(service, color)
            .map_or(0, |totals| totals.in_flight)
    }

    /// What a color did so far, and what it has in flight, here and in the process before; `None` for a service that is not in force.
    pub fn totals(&self, service: &ServiceName, color: Color) -> Option<Totals> {
        let snapshot = self.inner.core.current.load();
        snapshot.entry(service).map(|entry| {
            let mut totals = entry.counters.totals(Lane::Color(color));
            totals.in_flight += self.inner.elder.in_flight(service, color);
            totals
        })
    }

    /// What was done behind the alias of a service; `None` for a service that has none, or is not in force.
    pub fn alias_totals(&self, service: &ServiceName) -> Option<Totals> {
        let snapshot = self.inner.core.current.load();
        let entry = snapshot.entry(service)?;
        entry.alias()?;
        Some(entry.counters.totals(Lane::Alias))
    }

    /// What was done with a service's requests before any color was chosen; `None` for a service that is not in force.
    pub fn door(&self, service: &ServiceName) -> Option<DoorTotals> {
        let snapshot = self.inner.core.current.load();
        snapshot.entry(service).map(|entry| entry.counters.door())
    }

    /// Access log lines that were lost since the start.
    pub fn lines_lost(&self) -> u64 {
        self.inner.core.access.dropped()
    }

    /// What the traffic says of each server of a color that probes do not hold for unhealthy.
    pub fn marks(&self, service: &ServiceName, color: Color) -> Vec<(Server, MarkTotals)> {
        let snapshot = self.inner.core.current.load();
        let entry = snapshot.entry(service);
        entry
            .into_iter()
            .flat_map(|entry| &entry.sides[Lane::Color(color)].healthy)
            .map(|target| (target.server.clone(), target.mark.totals()))
            .collect()
    }

    /// What was refused or cut before a service was asked, by reason, since the start.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        self.inner.core.refused.totals()
    }
}
