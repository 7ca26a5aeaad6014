//! The way from what is recorded to what is desired, as a plan. Asks nobody and changes nothing.

use super::{ChangeError, Controller};
use crate::balancer::{AliasHealthUse, Balancer, ServerHealthUse};
use crate::domain::{Generation, RoutingTable};
use crate::plan::{AliasInForce, Current, InForce, Plan};
use crate::store::State;

impl<B: Balancer> Controller<B> {
    /// What `apply` would do, not checked by the balancer (`diff`).
    pub async fn plan(&mut self) -> Result<Plan, ChangeError> {
        let loaded = self.load().await?;
        let mut target = self.complete(&loaded.state);
        target.generation = loaded.used.next();
        let mut plan = self.plan_to(&loaded.state, &self.table(&target))?;
        if plan.steps.is_empty() && self.files_agree(&loaded.state)? {
            plan.to = plan.from;
        }
        Ok(plan)
    }

    /// The way from what is recorded to `desired`. Where the files on disk are what the present configuration renders to, its
    /// shapes are in force, whatever else it says of them now.
    pub(super) fn plan_to(
        &self,
        state: &State,
        desired: &RoutingTable,
    ) -> Result<Plan, ChangeError> {
        if state.generation == Generation::default() {
            return Ok(Plan::between(None, desired, &self.shapes));
        }
        let mut shapes = state.services.values().map(|known| &known.shape);
        let keeps_shapes = shapes.any(Option::is_some) || !state.aliases.is_empty();
        let is_rendered = self.balancer.server_health() == ServerHealthUse::Own;
        let shapes_agree = is_rendered && self.files_agree(state)?;
        let services = state
            .services
            .iter()
            .filter(|(name, known)| {
                known.shape.is_some() || (!keeps_shapes && desired.routes.contains_key(*name))
            })
            .map(|(name, known)| {
                let in_force = InForce {
                    position: known.position,
                    overlay: known.overlay,
                    refused: known.refused.clone(),
                    traffic: known.traffic.clone(),
                    shape: known.shape.clone().filter(|_| !shapes_agree),
                };
                (name.clone(), in_force)
            });
        let aliases = state
            .aliases
            .iter()
            .filter(|(_, known)| known.shape.is_some());
        let aliases = aliases.map(|(name, known)| {
            let in_force = AliasInForce {
                // where it is no change it is none of a plan either
                admission: match (self.balancer.alias_health(), desired.aliases.get(name)) {
                    (AliasHealthUse::Recorded, _) | (_, None) => known.admission,
                    (AliasHealthUse::Told | AliasHealthUse::Own, Some(route)) => route.admission,
                },
                shape: known.shape.clone().filter(|_| !shapes_agree),
            };
            (name.clone(), in_force)
        });
        let current = Current {
            generation: state.generation,
            services: services.collect(),
            aliases: aliases.collect(),
        };
        Ok(Plan::between(Some(&current), desired, &self.shapes))
    }
}
