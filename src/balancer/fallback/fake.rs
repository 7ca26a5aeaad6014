//! The fake balancer as one that can be stood in for, for the tests of a fallback and of what decides about it.
//!
//! As the fake: it must never do what no real balancer could.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::fake::Fake;
use super::super::install::LastGood;
use super::super::{
    Applied, ApplyError, Balancer, Change, Drained, Foreign, Observed, RenderError, Rendered,
    ServerHealthUse,
};
use super::{Presence, Principal, Put};
use crate::domain::{Color, Generation, Hashing, RoutingTable, ServiceName};

/// A fake that can be stood in for.
#[derive(Debug)]
pub(crate) struct Absent {
    fake: Fake,
    state_dir: tempfile::TempDir,
}

impl Absent {
    /// That fake, with a state directory of its own.
    pub(crate) fn of(fake: &Fake) -> Self {
        Self {
            fake: fake.clone(),
            state_dir: tempfile::tempdir().unwrap(),
        }
    }
}

impl Balancer for Absent {
    fn kind(&self) -> &'static str {
        self.fake.kind()
    }

    fn render(&self, table: &RoutingTable) -> Result<Rendered, RenderError> {
        self.fake.render(table)
    }

    fn server_health(&self) -> ServerHealthUse {
        self.fake.server_health()
    }

    async fn check(
        &self,
        table: &RoutingTable,
        rendered: &Rendered,
    ) -> Result<Vec<String>, ApplyError> {
        self.fake.check(table, rendered).await
    }

    async fn drained(&self, service: &ServiceName, color: Color, within: Duration) -> Drained {
        self.fake.drained(service, color, within).await
    }

    async fn apply(&self, change: Change<'_>) -> Result<Applied, ApplyError> {
        self.fake.apply(change).await
    }

    async fn revert(&self, to: Generation, how: Foreign) -> Result<Option<Applied>, ApplyError> {
        self.fake.revert(to, how).await
    }

    async fn observe(&self) -> Observed {
        self.fake.observe().await
    }

    async fn is_new(&self) -> bool {
        self.fake.is_new().await
    }

    async fn presence(&self) -> Presence {
        self.fake.presence().await
    }
}

impl Principal for Absent {
    fn hashing(&self) -> Hashing {
        Hashing::SplitClients
    }

    fn state_dir(&self) -> &Path {
        self.state_dir.path()
    }

    fn leading_file(&self) -> PathBuf {
        self.state_dir.path().join("turnout.conf")
    }

    async fn put(&self, change: &Change<'_>) -> Result<Put, ApplyError> {
        let generation = change.desired.generation;
        let last_good = LastGood::keep(self.state_dir(), generation, change.previous, &[])?;
        Ok(Put {
            last_good,
            warnings: Vec::new(),
            evidence: "the fake's file".to_owned(),
        })
    }
}
