//! What is known, as values for people and programs: the status of each service, and drift.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RolloutStatus;
use crate::balancer::{Fallback, Live};
use crate::domain::{
    Color, Colors, Generation, Health, OnUnhealthy, ServiceName, Split, Strategy, TrafficMode,
    Weight,
};

/// Everything at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Status {
    /// The balancer in use.
    pub balancer: String,
    /// The generation that was proved last.
    pub generation: Generation,
    /// The daemon's process id; `None` where a command looked for itself.
    pub daemon: Option<u32>,
    /// The state directory, absolute.
    pub state_dir: String,
    /// The services that have colors, in the order of their names.
    pub services: Vec<ServiceStatus>,
    /// The services behind an alias, in the order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<super::AliasStatus>,
    /// What does not agree.
    pub drift: Vec<Drift>,
    /// The embedded proxy stands in for the balancer, which is gone; `None`: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// What a person should know: a bad configuration file that was not taken, a state read from its backup …
    pub problems: Vec<String>,
    /// Connections and requests that the balancer refused or cut before any service was asked, by reason, since its start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
}

// the first six fields are CONTRACT 5.1's
/// One service at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceStatus {
    /// Its name.
    pub service: ServiceName,
    /// The strategy in force.
    pub strategy: Strategy,
    /// The active (under canary: stable) color.
    pub active: Color,
    /// The split by position.
    pub weights: Colors<Weight>,
    /// The generation in force.
    pub generation: Generation,
    /// Failover in force: everything goes to this color.
    pub overlay: Option<Color>,
    /// Colors that the balancer answers with 503, because none of their servers is healthy and nobody stands in.
    #[serde(default)]
    pub refused: BTreeSet<Color>,
    /// Where `rollback` would go.
    pub previous: Option<Color>,
    /// The version each color runs, if known.
    pub versions: Colors<Option<String>>,
    /// The servers of each color.
    pub servers: Colors<Vec<ServerStatus>>,
    /// What becomes of requests whose color is unhealthy.
    #[serde(default)]
    pub on_unhealthy: OnUnhealthy,
    /// When the position was last moved; `None`: never.
    pub since: Option<Timestamp>,
    /// Its label.
    pub project: Option<String>,
    /// Whether an operator holds its requests, or has put it into maintenance.
    #[serde(default)]
    pub traffic: TrafficMode,
    /// What the balancer counts; `None` where it does not, or a command looked for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
    /// The rollout that its traffic is in, or that brought it where it is, in brief.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Box<RolloutStatus>>,
}

impl ServiceStatus {
    /// True if at least one server of `color` is healthy.
    pub fn healthy(&self, color: Color) -> bool {
        self.servers[color]
            .iter()
            .any(|server| server.health == Health::Healthy)
    }

    /// True unless every server of `color` is known to be unhealthy.
    pub fn can_serve(&self, color: Color) -> bool {
        self.servers[color]
            .iter()
            .any(|server| server.health != Health::Unhealthy)
    }

    /// True if any client can be answered: by the other color only where requests fail over to it.
    pub fn can_answer(&self) -> bool {
        let split = self.split();
        Color::BOTH.into_iter().any(|color| {
            let reached = match self.on_unhealthy {
                OnUnhealthy::Failover => true,
                OnUnhealthy::Reject => split.whole().is_none_or(|whole| whole == color),
            };
            reached && self.can_serve(color)
        })
    }

    /// The split that is really in force.
    pub fn split(&self) -> Split {
        self.overlay
            .map_or_else(|| Split::giving(Color::Blue, self.weights.blue), Split::all)
    }
}

/// One server at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServerStatus {
    /// `http://HOST:PORT`
    pub url: String,
    /// What is known of it.
    pub health: Health,
    /// Why the last probe failed; `None` if it passed or none was made.
    pub reason: Option<String>,
    /// The version it reports.
    pub version: Option<String>,
    /// When it was last probed.
    pub checked_at: Option<Timestamp>,
}

/// One disagreement between state, disk and what is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Drift {
    /// Which two disagree.
    pub kind: DriftKind,
    /// The service; `None`: the configuration as a whole.
    pub service: Option<ServiceName>,
    /// A sentence for people: what, and what to do.
    pub message: String,
}

/// Which two disagree.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DriftKind {
    /// The file on disk is not what the state says.
    Disk,
    /// What is served is not what the state says.
    Served,
    /// The configuration (or template) was changed and not applied.
    Config,
}

/// The three columns of `verify`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Verification {
    /// The balancer in use.
    pub balancer: String,
    /// The generation that the state, the disk and the served configuration have; `None`: none, or not to be seen.
    pub generation: Columns<Option<Generation>>,
    /// What is wrong with the file on disk or with what is served, if that can be said in a word.
    pub notes: Vec<String>,
    /// What one request through each front door showed, where nothing else disagrees.
    #[serde(default)]
    pub doors: Vec<String>,
    /// Each service.
    pub services: Vec<VerifiedService>,
    /// As in the status.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
    /// What does not agree; empty: no drift.
    pub drift: Vec<Drift>,
}

/// State, disk, served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Columns<T> {
    /// What the state file says.
    pub state: T,
    /// What stands on disk.
    pub disk: T,
    /// What is served.
    pub served: T,
}

/// One service in `verify`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VerifiedService {
    /// Its name.
    pub service: ServiceName,
    /// The split in each place; `None`: not there or not to be seen.
    #[schema(value_type = Columns<Option<Colors<Weight>>>)]
    pub split: Columns<Option<Split>>,
    /// Whether an operator holds its requests, or has put it into maintenance.
    #[serde(default)]
    pub traffic: TrafficMode,
    /// What the balancer counts, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<Live>,
}

/// The servers' health by service, color and server, as the daemon's probes or one round of a command's found it.
pub type HealthBook = BTreeMap<
    ServiceName,
    Colors<BTreeMap<crate::domain::Server, (crate::domain::ServerHealth, Timestamp)>>,
>;
