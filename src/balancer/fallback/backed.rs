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
use crate::domain::{Color, Counted, Generation, RoutingTable, ServiceName};

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

    /// From the moment at which the proxy took over until the principal is seen to be back.
    fn is_stood_in_for(&self) -> bool {
        self.stand_in
            .as_ref()
            .is_some_and(|stand_in| stand_in.told().is_some())
    }

    /// The files for the principal's return, then the proxy that serves, whose proof counts.
    async fn apply_to_both(
        &self,
        embedded: &Embedded,
        change: Change<'_>,
    ) -> Result<Applied, ApplyError> {
        if let Presence::Here = self.presence().await {
            // it would route on by what it has loaded, whatever is put on disk
            return Err(ApplyError::Unchanged {
                message: format!(
                    "{} is there again and serves beside turnout, which gives the listeners back at its next look: try again",
                    self.principal.kind()
                ),
                source: None,
            });
        }
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

    fn counted(&self) -> Option<Vec<Counted>> {
        match self.serving() {
            Some(embedded) => embedded.counted(),
            None => self.principal.counted(),
        }
    }

    fn untold(&self) -> Option<String> {
        self.principal.untold()
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

    /// Not while somebody stands in: what a change has taken away meanwhile was lost to no stranger.
    async fn is_new(&self) -> bool {
        !self.is_stood_in_for() && self.principal.is_new().await
    }

    async fn tend(&self, desired: &RoutingTable) -> Tended {
        self.principal.tend(desired).await
    }

    fn stand_in(&self) -> Option<&Arc<StandIn>> {
        self.stand_in.as_ref()
    }

    /// While the proxy serves, and until the listeners that it gave back are the principal's, one that runs is there only if it
    /// serves as well: one without turnout's configuration would leave the clients to nobody.
    async fn presence(&self) -> Presence {
        let presence = self.principal.presence().await;
        if presence != Presence::Here || !self.is_stood_in_for() {
            return presence;
        }
        match self.principal.serves().await {
            Ok(()) => Presence::Here,
            Err(seen) => Presence::Unclear(seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::TcpListener;

    use jiff::Timestamp;

    use super::super::super::fake::Fake;
    use super::super::super::{FrontDoor, Progress, Served};
    use super::super::fake::Absent;
    use super::*;
    use crate::domain::{Position, Route, Strategy};
    use crate::proxy::tests::shape;

    /// One service on a free port.
    fn table(generation: u64, color: Color) -> RoutingTable {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let shape = shape("shop", port.local_addr().unwrap());
        let position = Position::all(Strategy::BlueGreen, color);
        RoutingTable {
            generation: Generation(generation),
            routes: BTreeMap::from([(shape.name.clone(), Route::new(Arc::new(shape), position))]),
            aliases: BTreeMap::new(),
        }
    }

    /// A principal that is gone, and the proxy that stands in for it on blue.
    async fn in_a_fallback() -> (Fake, Backed<Absent>, RoutingTable) {
        let fake = Fake::new();
        fake.appear(Presence::Gone("killed".to_owned()));
        let absent = Absent::of(&fake);
        let stand_in = StandIn::of(&absent, Vec::new());
        let before = table(1, Color::Blue);
        let since = Timestamp::now();
        stand_in.take_over(&before, "killed", since).await.unwrap();
        (fake, Backed::new(absent, Some(stand_in)), before)
    }

    async fn switch(backed: &Backed<Absent>, before: &RoutingTable) -> Result<Applied, ApplyError> {
        let mut desired = before.clone();
        desired.generation = Generation(2);
        for route in desired.routes.values_mut() {
            route.position = Position::all(Strategy::BlueGreen, Color::Green);
        }
        let change = Change {
            desired: &desired,
            rendered: &backed.render(&desired).unwrap(),
            previous: Some(before),
            front_door: FrontDoor::Skip,
            unseen: &BTreeSet::new(),
            foreign: Foreign::Refuse,
            progress: Progress::silent(),
        };
        backed.apply(change).await
    }

    fn serving(generation: u64) -> Served {
        Served::Generation {
            generation: Generation(generation),
            splits: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn a_change_is_the_proxys_while_the_principal_is_gone() {
        let (_fake, backed, before) = in_a_fallback().await;
        let applied = switch(&backed, &before).await.unwrap();
        assert_eq!(applied.generation(), Generation(2));
        let said = applied.evidence().join("\n");
        assert!(said.contains("in place of fake, which is gone"), "{said}");
    }

    #[tokio::test]
    async fn a_change_is_refused_while_the_principal_serves_beside_the_proxy() {
        let (fake, backed, before) = in_a_fallback().await;
        fake.appear(Presence::Here);
        fake.serve(serving(1));
        assert_eq!(backed.presence().await, Presence::Here);
        let error = switch(&backed, &before).await.unwrap_err();
        assert!(
            matches!(&error, ApplyError::Unchanged { message, .. } if message.contains("is there again and serves beside")),
            "{error:?}"
        );
        let observed = backed.observe().await.served;
        assert!(
            matches!(observed, Served::Generation { generation, .. } if generation == Generation(1)),
            "{observed:?}"
        );
    }

    #[tokio::test]
    async fn a_principal_without_turnouts_configuration_is_not_back_after_a_release_either() {
        let (fake, backed, _before) = in_a_fallback().await;
        let stand_in = backed.stand_in().unwrap();
        stand_in.give_back(Duration::ZERO).await.unwrap();
        fake.appear(Presence::Here);
        let reason = "its file is not included".to_owned();
        fake.serve(Served::Foreign {
            reason: reason.clone(),
        });
        assert_eq!(backed.presence().await, Presence::Unclear(reason));
        fake.serve(serving(1));
        assert_eq!(backed.presence().await, Presence::Here);
    }

    #[tokio::test]
    async fn nobody_else_was_at_a_principal_that_is_stood_in_for() {
        let (fake, backed, _before) = in_a_fallback().await;
        fake.wear(Tended::Nothing);
        assert!(!backed.is_new().await);
        let stand_in = backed.stand_in().unwrap();
        stand_in.give_back(Duration::ZERO).await.unwrap();
        assert!(!backed.is_new().await, "it is still away");
        stand_in.stand_aside().unwrap();
        assert!(backed.is_new().await);
    }

    #[tokio::test]
    async fn a_principal_that_runs_without_turnouts_configuration_is_not_back() {
        let (fake, backed, before) = in_a_fallback().await;
        fake.appear(Presence::Here);
        let reason = "its file is not included".to_owned();
        for served in [
            Served::Foreign {
                reason: reason.clone(),
            },
            Served::Unreachable {
                reason: reason.clone(),
            },
        ] {
            fake.serve(served);
            assert_eq!(backed.presence().await, Presence::Unclear(reason.clone()));
        }
        assert_eq!(
            switch(&backed, &before).await.unwrap().generation(),
            Generation(2)
        );
    }
}
