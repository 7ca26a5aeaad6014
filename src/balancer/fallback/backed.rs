//! A balancer that somebody stands in for: the one that serves is asked, and every change reaches the files of both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::{
    AliasHealthUse, Applied, ApplyError, Balancer, Change, Drained, Embedded, Foreign, Live,
    Observed, RenderError, Rendered, ServerHealthUse, Step, Tended, TrafficUse,
};
use super::files::bring_to;
use super::stand_in::{StandIn, as_served};
use super::{Presence, Principal};
use crate::domain::{Color, Generation, RoutingTable, ServiceName};

/// nginx or HAProxy, and the proxy that stands in for it, where that is configured.
#[derive(Debug)]
pub struct Backed<B> {
    principal: B,
    stand_in: Option<Arc<StandIn>>,
}

impl<B: Principal> Backed<B> {
    /// `stand_in`: `None` where nobody stands in.
    pub const fn new(principal: B, stand_in: Option<Arc<StandIn>>) -> Self {
        Self {
            principal,
            stand_in,
        }
    }

    /// The proxy, while it serves.
    fn serving(&self) -> Option<Embedded> {
        self.stand_in.as_ref()?.serving()
    }

    /// The files for the principal's return, then the proxy that serves, whose proof counts.
    async fn apply_to_both(
        &self,
        embedded: &Embedded,
        change: Change<'_>,
    ) -> Result<Applied, ApplyError> {
        let put = self.principal.put(&change).await?;
        change.progress.tell(Step::Install, &put.evidence);
        let desired = as_served(change.desired);
        let previous = change.previous.map(as_served);
        let inside = Change {
            desired: &desired,
            previous: previous.as_ref(),
            ..change
        };
        match embedded.apply(inside).await {
            Ok(mut applied) => {
                let (warnings, evidence) = put.settle();
                applied.warnings.extend(warnings);
                let kind = self.principal.kind();
                applied.evidence.push(format!(
                    "turnout itself serves in place of {kind}, which is gone; for its return: {evidence}"
                ));
                Ok(applied)
            }
            Err(error) => Err(put.take_back(error)),
        }
    }
}

impl<B: Principal> Balancer for Backed<B> {
    /// The principal's: a fallback is no other balancer.
    fn kind(&self) -> &'static str {
        self.principal.kind()
    }

    /// The principal's, in a fallback too: what health asks for stays an overlay that the principal finds in its files.
    fn server_health(&self) -> ServerHealthUse {
        self.principal.server_health()
    }

    fn alias_health(&self) -> AliasHealthUse {
        self.principal.alias_health()
    }

    fn traffic_use(&self) -> TrafficUse {
        self.principal.traffic_use()
    }

    fn live(&self, service: &ServiceName) -> Option<Live> {
        match self.serving() {
            Some(embedded) => embedded.live(service),
            None => self.principal.live(service),
        }
    }

    fn refused(&self) -> BTreeMap<String, u64> {
        match self.serving() {
            Some(embedded) => embedded.refused(),
            None => self.principal.refused(),
        }
    }

    fn render(&self, table: &RoutingTable) -> Result<Rendered, RenderError> {
        self.principal.render(table)
    }

    async fn check(
        &self,
        desired: &RoutingTable,
        rendered: &Rendered,
    ) -> Result<Vec<String>, ApplyError> {
        match self.serving() {
            Some(_) => Ok(vec![format!(
                "{} is gone, and checks files only for a change that is made",
                self.principal.kind()
            )]),
            None => self.principal.check(desired, rendered).await,
        }
    }

    async fn apply(&self, change: Change<'_>) -> Result<Applied, ApplyError> {
        match self.serving() {
            Some(embedded) => self.apply_to_both(&embedded, change).await,
            None => self.principal.apply(change).await,
        }
    }

    async fn revert(
        &self,
        to: Generation,
        foreign: Foreign,
    ) -> Result<Option<Applied>, ApplyError> {
        let Some(embedded) = self.serving() else {
            return self.principal.revert(to, foreign).await;
        };
        let leading = self.principal.leading_file();
        let state_dir = self.principal.state_dir();
        let Some(warnings) = bring_to(to, &leading, state_dir, foreign)? else {
            return Ok(None);
        };
        let reverted = embedded.revert(to, foreign).await?;
        Ok(reverted.map(|mut applied| {
            applied.warnings.extend(warnings);
            applied
        }))
    }

    async fn drained(&self, service: &ServiceName, color: Color, within: Duration) -> Drained {
        match self.serving() {
            Some(embedded) => embedded.drained(service, color, within).await,
            None => self.principal.drained(service, color, within).await,
        }
    }

    async fn observe(&self) -> Observed {
        match self.serving() {
            Some(embedded) => Observed {
                disk: self.principal.observe().await.disk,
                ..embedded.observe().await
            },
            None => self.principal.observe().await,
        }
    }

    async fn is_new(&self) -> bool {
        self.serving().is_none() && self.principal.is_new().await
    }

    async fn tend(&self, desired: &RoutingTable) -> Tended {
        self.principal.tend(desired).await
    }

    fn stand_in(&self) -> Option<&Arc<StandIn>> {
        self.stand_in.as_ref()
    }

    async fn presence(&self) -> Presence {
        self.principal.presence().await
    }
}
