//! What the controller makes of facts: a configuration that was read anew, a probe's report, health that changed.

use std::sync::Arc;

use super::health::{Unmet, Wishes, foreign};
use super::look::Probing;
use super::patience::Patience;
use super::{ChangeError, Controller, Status, desired};
use crate::balancer::{Balancer, Served, ServerHealthUse};
use crate::config::Config;
use crate::domain::{Color, HealthEvent, ServerHealth};

/// How the problem of a configuration that was not taken begins.
const CONFIG: &str = "configuration: ";
/// And that of a certificate.
const CERTIFICATE: &str = "certificate: ";

/// How the problem of a configuration begins that only a start takes.
const RESTART: &str = "restart needed: ";

/// Whether a configuration that was read anew says anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It does.
    New,
    /// It is the one in use.
    Same,
}

/// What came of looking at what health asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heeded {
    /// It is so.
    Done,
    /// It failed a while ago, and it is not time to try again.
    Later,
}

impl<B: Balancer> Controller<B> {
    /// The status as a daemon gives it: health by its probes alone.
    pub(super) async fn daemon_status(&mut self) -> Result<Status, ChangeError> {
        let mut status = self.status_with(&[], Probing::Known).await?;
        status.daemon = Some(std::process::id());
        Ok(status)
    }

    /// Takes a configuration that was read anew.
    pub(super) fn take_config(&mut self, config: Arc<Config>) -> Taken {
        self.forget(CONFIG);
        if config == self.config {
            return Taken::Same;
        }
        for (name, book) in &mut self.health {
            let Some(service) = config.services.get(name) else {
                continue;
            };
            book.blue
                .retain(|server, _| service.shape.servers(Color::Blue).contains(server));
            book.green
                .retain(|server, _| service.shape.servers(Color::Green).contains(server));
        }
        self.health
            .retain(|name, _| config.services.contains_key(name));
        super::alias::keep(&mut self.aliases, &self.config, &config);
        self.meter.keep_to(&self.config, &config);
        self.shapes = desired::shapes(&config);
        self.config = config;
        Taken::New
    }

    /// Takes a kind of problem off the list, and returns what it was (the first, where there were several).
    pub(super) fn forget(&mut self, kind: &str) -> Option<String> {
        self.problems
            .extract_if(.., |known| known.starts_with(kind))
            .reduce(|first, _| first)
    }

    /// Takes the present problems of certificates for all that there are.
    pub(super) fn take_certificates(&mut self, problems: Vec<String>) {
        self.problems
            .retain(|known| !known.starts_with(CERTIFICATE));
        for problem in problems {
            tracing::error!(problem, "a certificate was not taken");
            self.problems.push(format!("{CERTIFICATE}{problem}"));
        }
    }

    pub(super) fn refuse_config(&mut self, problems: &str) {
        self.forget(CONFIG);
        self.problems.push(format!("{CONFIG}{problems}"));
    }

    /// Keeps in mind what only a start takes, and says it once.
    pub(super) fn needs_restart(&mut self, keys: &[&str]) {
        let before = self.forget(RESTART);
        if keys.is_empty() {
            return;
        }
        let text = format!(
            "{RESTART}{} changed: restart `turnout serve` to put that into force",
            keys.join(", ")
        );
        if before.as_ref() != Some(&text) {
            tracing::warn!("{text}");
        }
        self.problems.push(text);
    }

    /// A probe's report into the book; `None` for a server that is not configured any more.
    pub(super) fn learn_probe(&mut self, report: &crate::probe::Report) -> Option<HealthEvent> {
        let service = self.config.services.get(&report.service)?;
        if !service.shape.servers(report.color).contains(&report.server) {
            return None;
        }
        let book = self.health.entry(report.service.clone()).or_default();
        let known = book[report.color]
            .entry(report.server.clone())
            .or_insert_with(|| (ServerHealth::default(), report.at));
        known.1 = report.at;
        Some(known.0.observe(&service.shape.health, &report.outcome))
    }

    pub(super) fn reason(&self, report: &crate::probe::Report) -> String {
        self.health
            .get(&report.service)
            .and_then(|book| book[report.color].get(&report.server))
            .and_then(|(health, _)| health.last_failure())
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Puts failover into force, or takes it out, where health asks for it; and tells a balancer that leaves out single
    /// servers by turnout's probes which those are.
    ///
    /// What failed is tried again after a while, or at once where health asks for something else or the balancer is not as it
    /// was: a try that fails may last as long as a proof, and a caller's message waits behind it.
    pub(super) async fn heed_health(&mut self) -> Result<Heeded, ChangeError> {
        let loaded = self.load().await?;
        let wishes = self.wishes(&loaded.state);
        if !wishes.is_empty() {
            return self.try_to_grant(wishes).await;
        }
        self.unmet = None;
        if self.balancer.server_health() == ServerHealthUse::Own {
            return Ok(Heeded::Done);
        }
        // an edited shape goes into force by a change of its own, with intent and proof
        let Some(proved) = &self.proved else {
            return Ok(Heeded::Done);
        };
        let mut table = desired::with_health(proved.clone(), &self.health);
        for (name, route) in &mut table.aliases {
            route.admission = super::alias::admission(&self.aliases, name);
        }
        if *proved == table
            || !matches!(
                self.balancer.observe().await.served,
                Served::Generation { .. }
            )
        {
            return Ok(Heeded::Done);
        }
        self.put_again(table).await.map(|()| Heeded::Done)
    }

    async fn try_to_grant(&mut self, wishes: Wishes) -> Result<Heeded, ChangeError> {
        if let Some(unmet) = &self.unmet
            && unmet.wishes == wishes
            && !unmet.patience.is_over(&self.balancer.observe().await)
        {
            return Ok(Heeded::Later);
        }
        let result = self.grant(foreign(&wishes)).await;
        match &result {
            Ok(()) => self.unmet = None,
            // nothing was tried
            Err(ChangeError::Lock(_)) => {}
            Err(_) => {
                let before = self.unmet.take().filter(|unmet| unmet.wishes == wishes);
                let seen = self.balancer.observe().await;
                let patience = Patience::after(before.map(|unmet| unmet.patience), seen);
                self.unmet = Some(Unmet { wishes, patience });
            }
        }
        result.map(|()| Heeded::Done)
    }
}
