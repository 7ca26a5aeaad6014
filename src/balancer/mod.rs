//! What carries the traffic, behind one small trait: put a routing table into force and prove it, or say what is served.
//!
//! [`Applied`] is the proof that a table is served. Its constructor is private to this module, so that nothing else can
//! record a color as active (invariant 1). Nothing here reads or writes the state file, and nothing here decides where the
//! traffic should go.

mod address;
mod counts;
mod embedded;
mod exec;
mod fallback;
mod front_door;
mod haproxy;
mod http;
mod install;
mod listeners;
mod live;
mod nginx;
mod pid_file;
mod process;
mod seen;
mod step;
mod template;
mod tls;

pub use counts::CountsSocket;
pub use embedded::Embedded;
pub use exec::Exec;
#[cfg(test)]
pub(crate) use fallback::fake::Absent;
pub use fallback::{Backed, Duty, Fallback, Presence, Principal, Put, StandIn};
pub use front_door::{DoorAnswer, ask_door};
pub use haproxy::{Haproxy, OwnFormat};
pub use live::{AliasLive, Live, TrafficUse, Trouble, Troubled};
pub use nginx::Nginx;
pub use seen::{Disk, DoorLook, Drained, Finding, Observed, Served, Tended};
pub use step::{Progress, Step};

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{Color, Counted, Generation, Route, RoutingTable, ServiceName};

#[cfg(test)]
pub(crate) mod fake;

/// A routing table as the balancer's own files: made by [`Balancer::render`], not yet installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    /// The generation of the table it was rendered from.
    pub generation: Generation,
    /// What is to stand on disk, in the order in which it is installed. Empty for the embedded proxy.
    pub files: Vec<RenderedFile>,
}

/// One file of a rendered configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedFile {
    /// Where it is to be installed, absolute.
    pub path: PathBuf,
    /// All of its bytes.
    pub text: String,
}

/// Everything one apply needs. It holds no choices: what is not here is not done.
#[derive(Debug)]
pub struct Change<'a> {
    /// The table to put into force.
    pub desired: &'a RoutingTable,
    /// `desired`, rendered by this balancer.
    pub rendered: &'a Rendered,
    /// The table that was proved last; `None` before the first apply.
    pub previous: Option<&'a RoutingTable>,
    /// Whether the front door is asked for the colors that changed.
    pub front_door: FrontDoor,
    /// Services whose front door was never seen to lead to turnout: that it still does not is a warning for these, because
    /// what the user's own server block is to include has to be written first.
    pub unseen: &'a BTreeSet<ServiceName>,
    /// Whether files that were edited by hand, or were not written by turnout, may be replaced. They are kept as a copy.
    pub foreign: Foreign,
    /// Is told of each step as it is done.
    pub progress: Progress<'a>,
}

/// Whether a proof includes requests through the front door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrontDoor {
    /// One request for each color with a share, for each service whose route changed.
    Ask,
    /// The same, where turnout is enough: a color that gains traffic need not have a healthy server any more.
    Turnout,
    /// None: the target is known to be unhealthy and the change is forced.
    Skip,
}

/// What to do with a live file that turnout did not write as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Refuse: [`ApplyError::Edited`].
    Refuse,
    /// Keep a copy in the state directory and replace it.
    Replace,
}

/// The proof that a routing table is served. Only a balancer's `prove` makes one.
#[derive(Debug)]
#[must_use = "a proof that is not recorded is a switch that nobody knows of"]
pub struct Applied {
    generation: Generation,
    evidence: Vec<String>,
    warnings: Vec<String>,
    routed: BTreeSet<ServiceName>,
}

impl Applied {
    /// Private to `balancer`: see the module's documentation.
    fn new(generation: Generation, evidence: Vec<String>, warnings: Vec<String>) -> Self {
        Self {
            generation,
            evidence,
            warnings,
            routed: BTreeSet::new(),
        }
    }

    /// With the services that turnout was seen behind, through their front doors.
    fn seen_through(mut self, routed: BTreeSet<ServiceName>) -> Self {
        self.routed = routed;
        self
    }

    /// The services that turnout was seen behind, through their front doors, in this proof.
    pub const fn routed(&self) -> &BTreeSet<ServiceName> {
        &self.routed
    }

    /// The generation that was proved.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// What was seen, a line for each fact.
    pub fn evidence(&self) -> &[String] {
        &self.evidence
    }

    /// What a person should know although it worked, such as a hand-edited file that was replaced (and where its copy is).
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// One request through the front door of each route that has one, in the order of names. Changes and proves nothing.
pub async fn look_through_doors(
    routes: impl Iterator<Item = &Route>,
) -> Vec<(ServiceName, DoorLook)> {
    front_door::look(routes).await
}

/// Why a table could not be rendered. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The template is at fault; `place` is `FILE:LINE`.
    #[error(
        "the template {place} cannot be rendered; mend it, or leave it out of the configuration for the built-in one: {message}"
    )]
    Template {
        /// Template file and line.
        place: String,
        /// What the engine said, with the source line.
        message: String,
    },
    /// A template could not be read.
    #[error(
        "failed to read the template {path}; leave it out of the configuration for the built-in one"
    )]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A value of the configuration that this balancer cannot put into force.
    #[error("{key} {rule}")]
    Value {
        /// Its path, such as `services.shop.tls`.
        key: String,
        /// What it may be here, and what to do.
        rule: &'static str,
    },
    /// This balancer has no configuration to render.
    #[error("the embedded proxy has no configuration file: there is nothing to render")]
    NothingToRender,
}

/// Why an apply did not end with a proof. Each variant says how things stand now.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The balancer's check, or turnout's own reading of it, refused what is staged. Nothing was changed. Exit 65.
    #[error("{balancer} refused the rendered configuration: {message}")]
    Refused {
        /// Whose check.
        balancer: &'static str,
        /// What it said, with rendered and template line.
        message: String,
    },
    /// The balancer is not running or cannot be asked. Nothing was changed, or it ended meanwhile and its files are as before.
    /// Exit 69.
    #[error("{message}")]
    Unreachable {
        /// What was looked for and what to do.
        message: String,
    },
    /// The operating system does not let this user do it. Nothing was changed. Exit 77.
    #[error("{message}")]
    NotPermitted {
        /// What, and as whom it would work.
        message: String,
    },
    /// A live file was edited by hand or is not turnout's. Nothing was changed. Exit 1.
    #[error(
        "{path} {what}, and would be replaced: look with `turnout diff`; --force keeps a copy and replaces it"
    )]
    Edited {
        /// Which.
        path: PathBuf,
        /// "was edited by hand since generation 12" or "was not written by turnout".
        what: String,
    },
    /// Something failed before the balancer was told; whatever was begun has been undone. Exit 3.
    #[error("{message}; nothing was changed")]
    Unchanged {
        /// What failed, where, and what to do.
        message: String,
        /// The cause.
        #[source]
        source: Option<std::io::Error>,
    },
    /// The balancer was told and did not take it; the last good configuration is back and proved. Exit 3.
    #[error("{message}; the last good configuration is back and serves generation {serves}")]
    Restored {
        /// What was waited for and what was seen, with the balancer's own message.
        message: String,
        /// The generation that serves.
        serves: Generation,
    },
    /// The balancer did not take it and the last good configuration could not be proved. Exit 4.
    #[error("{message}; and it could not be undone: {undo}. {advice}")]
    NotRestored {
        /// What failed first.
        message: String,
        /// What failed then.
        undo: String,
        /// What a person is to do, with commands.
        advice: String,
    },
}

/// Who decides which single servers of a color are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerHealthUse {
    /// The balancer's own passive checks.
    Own,
    /// Turnout's probes, by the routing table.
    Probes,
}

/// Who blocks an alias that is unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AliasHealthUse {
    /// It is told by each table, which costs nothing and is no change.
    Told,
    /// It is told by a change, which is recorded.
    Recorded,
    /// It has checks of its own.
    Own,
}

/// What carries the traffic. Real implementations drive nginx or the embedded proxy; tests have one that fails on request.
pub trait Balancer: Send + Sync + 'static {
    /// The word for it in messages and the state: `nginx`, `embedded`.
    fn kind(&self) -> &'static str;

    /// Whether it leaves out single unhealthy servers ([`crate::domain::Route::unhealthy`]) by turnout's probes.
    fn server_health(&self) -> ServerHealthUse;

    /// Who answers for an alias that is unhealthy ([`crate::domain::AliasRoute::admission`]).
    fn alias_health(&self) -> AliasHealthUse {
        match self.server_health() {
            ServerHealthUse::Probes => AliasHealthUse::Told,
            ServerHealthUse::Own => AliasHealthUse::Recorded,
        }
    }

    /// Whether it heeds [`crate::domain::Route::traffic`].
    fn traffic_use(&self) -> TrafficUse {
        TrafficUse::OpenOnly
    }

    /// What it counts of one service's traffic now; `None` where it does not count.
    fn live(&self, _service: &ServiceName) -> Option<Live> {
        None
    }

    /// What it counts of every service's traffic, in the order of their names; `None` where it does not count.
    fn counted(&self) -> Option<Vec<Counted>> {
        None
    }

    /// Why nobody can ever tell what each color does here, neither it nor lines that it sends; `None`: somebody can.
    fn untold(&self) -> Option<String> {
        None
    }

    /// What it refused or cut before any service was asked, by reason, since its start; empty where it does not count.
    fn refused(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// The table in the balancer's own words. Pure but for reading a template of the user's.
    fn render(&self, table: &RoutingTable) -> Result<Rendered, RenderError>;

    /// The balancer's own check of a rendered table, without touching anything (`--dry-run`). Returns its warnings.
    fn check(
        &self,
        desired: &RoutingTable,
        rendered: &Rendered,
    ) -> impl Future<Output = Result<Vec<String>, ApplyError>> + Send;

    /// Puts a table into force and proves it, or restores what was and proves that.
    fn apply(&self, change: Change<'_>)
    -> impl Future<Output = Result<Applied, ApplyError>> + Send;

    /// Makes sure of an earlier generation, for a change that could not be recorded or was interrupted: where `to` is in
    /// force already that is proved and nothing is touched; where it is what the last apply replaced, that is put back byte
    /// for byte (whatever the configuration says by now) and proved. `None`: this balancer has nothing of `to` any more, and
    /// nothing was touched. The default generation stands for what was before the first apply.
    fn revert(
        &self,
        to: Generation,
        foreign: Foreign,
    ) -> impl Future<Output = Result<Option<Applied>, ApplyError>> + Send;

    /// Waits until `color` of `service` has nothing in flight any more, at most `within` (`--wait-drained`).
    fn drained(
        &self,
        service: &ServiceName,
        color: Color,
        within: Duration,
    ) -> impl Future<Output = Drained> + Send;

    /// What stands on disk and what is served, without changing anything.
    fn observe(&self) -> impl Future<Output = Observed> + Send;

    /// A daemon's look without the change lock: whether somebody else has been at it since turnout last saw it, where that can
    /// lose a position (a reload, a restart, a folder wiped).
    fn is_new(&self) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }

    /// After [`Self::is_new`], under the change lock and with nothing open: the position of `desired` is read back and put
    /// right. What a person has set by hand is drift and stays.
    fn tend(&self, _desired: &RoutingTable) -> impl Future<Output = Tended> + Send {
        std::future::ready(Tended::Nothing)
    }

    /// The proxy that stands in for it when it is gone, where that is configured.
    fn stand_in(&self) -> Option<&Arc<StandIn>> {
        None
    }

    /// A daemon's look at whether it is gone. Changes nothing.
    fn presence(&self) -> impl Future<Output = Presence> + Send {
        std::future::ready(Presence::Here)
    }
}
