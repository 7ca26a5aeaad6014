//! Routing tables from states: the shapes of the present configuration, positions as recorded, health as the balancer uses it.

use jiff::Timestamp;

use super::alias;
use super::status::HealthBook;
use super::{Controller, desired};
use crate::balancer::{AliasHealthUse, Balancer, ServerHealthUse};
use crate::domain::{Admission, Generation, RoutingTable};
use crate::store::State;

impl<B: Balancer> Controller<B> {
    pub(super) fn complete(&self, state: &State) -> State {
        let mut complete = desired::complete(&self.config, state, Timestamp::now());
        if let (Some(follow), Some(color)) = (&self.config.follow, self.followed)
            && !state.services.contains_key(&follow.service)
            && let Some(new) = complete.services.get_mut(&follow.service)
        {
            new.position = new.position.switched(color);
        }
        complete
    }

    pub(super) fn table(&self, state: &State) -> RoutingTable {
        let none = HealthBook::new();
        let health = match self.balancer.server_health() {
            ServerHealthUse::Probes => &self.health,
            ServerHealthUse::Own => &none,
        };
        let mut table = desired::table(&self.config, state, state.generation, health);
        table.aliases = self.config.alias_routes();
        for (name, route) in &mut table.aliases {
            route.admission = match self.balancer.alias_health() {
                AliasHealthUse::Told => alias::admission(&self.aliases, name),
                AliasHealthUse::Recorded => state
                    .aliases
                    .get(name)
                    .map_or(Admission::Open, |known| known.admission),
                AliasHealthUse::Own => Admission::Open,
            };
        }
        table
    }

    /// The table in force, with the shapes of the present configuration; `None` before the first apply.
    pub(super) fn current_table(&self, state: &State) -> Option<RoutingTable> {
        if state.generation == Generation::default() {
            return None;
        }
        let mut table = self.table(state);
        table
            .routes
            .retain(|name, _| state.services.contains_key(name));
        table
            .aliases
            .retain(|name, _| state.aliases.contains_key(name));
        Some(table)
    }
}
