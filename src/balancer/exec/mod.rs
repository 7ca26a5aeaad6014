//! Any other router, by the user's commands: `set` puts a split into force, `get` says which one is, and only `get` proves it.
//!
//! | file | owns |
//! |---|---|
//! | `commands` | running them, and reading what `get` prints |
//! | `record` | which generation which splits are, for the way back and for the next process |
//!
//! Such a router knows no generation, so a record in the state directory says which splits each of the last two means; it is written
//! before the first command. Nothing is believed because a command ended with 0.

mod commands;
mod record;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::{
    Applied, ApplyError, Balancer, Change, Drained, Finding, Foreign, Observed, RenderError,
    Rendered, Served, ServerHealthUse, Step,
};
use crate::config::ExecSettings;
use crate::domain::{Color, Generation, RoutingTable, ServiceName, Split};
use commands::{Commands, GetError, Wish};
use record::{Known, Record};

/// For `get` to say what `set` has set: a router may take it over a little later.
const PROVE: Duration = Duration::from_secs(10);
/// Between two looks meanwhile.
const LOOK: Duration = Duration::from_millis(100);

type Splits = BTreeMap<ServiceName, Split>;

/// A router that is driven by commands.
#[derive(Debug, Clone)]
pub struct Exec {
    commands: Commands,
    state_dir: PathBuf,
    services: Vec<ServiceName>,
}

impl Exec {
    /// Why nobody can tell what each color does here.
    pub const UNTOLD: &str = "a router that is driven by commands does not tell of its requests";

    /// The router as configured, of these services. Touches nothing.
    pub const fn new(
        settings: ExecSettings,
        state_dir: PathBuf,
        services: Vec<ServiceName>,
    ) -> Self {
        Self {
            commands: Commands(settings),
            state_dir,
            services,
        }
    }

    /// What a person should know before the first change. Runs `get` and changes nothing.
    pub async fn doctor(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for service in &self.services {
            findings.push(match self.commands.get(service).await {
                Ok(split) => Finding::Fine(format!("`get` says of {service}: {split}")),
                Err(error) => Finding::Problem(crate::domain::describe(&error)),
            });
        }
        findings
    }

    async fn ask(&self, services: impl Iterator<Item = &ServiceName>) -> Result<Splits, GetError> {
        let mut splits = Splits::new();
        for service in services {
            splits.insert(service.clone(), self.commands.get(service).await?);
        }
        Ok(splits)
    }

    /// Waits for `get` to say `split`; else what it said last.
    async fn prove(&self, service: &ServiceName, split: Split) -> Result<(), String> {
        let deadline = Instant::now() + PROVE;
        loop {
            let said = match self.commands.get(service).await {
                Ok(said) if said == split => return Ok(()),
                Ok(said) => format!(
                    "`get` still says {said} of {service} after {} s",
                    PROVE.as_secs()
                ),
                Err(error) => crate::domain::describe(&error),
            };
            if Instant::now() >= deadline {
                return Err(said);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Puts each split into force that is not, in the order of names, and proves it.
    async fn put(
        &self,
        now: &Splits,
        wanted: &Splits,
        wish: Wish<'_>,
    ) -> Result<Vec<String>, String> {
        let mut evidence = Vec::new();
        for (service, split) in wanted {
            let before = now.get(service).copied();
            if before == Some(*split) {
                continue;
            }
            match self.commands.set(service, before, *split, wish).await {
                Ok(ran) => {
                    self.prove(service, *split).await?;
                    evidence.push(format!(
                        "`{ran}` ended with 0, and `get` says {split} of {service}"
                    ));
                }
                // on the way back only what is in force counts
                Err(error) => match (wish, self.commands.get(service).await) {
                    (Wish::Back, Ok(said)) if said == *split => {
                        evidence.push(format!("`get` says {split} of {service}, although {error}"));
                    }
                    _ => return Err(crate::domain::describe(&error)),
                },
            }
        }
        Ok(evidence)
    }

    /// What `wanted` says of a service already, whatever was done.
    async fn restore(&self, change: &Change<'_>, before: &Known, message: String) -> ApplyError {
        let now = self.ask(before.splits.keys()).await;
        // what cannot be asked is set again
        let now = now.unwrap_or_default();
        match self.put(&now, &before.splits, Wish::Back).await {
            Ok(evidence) => {
                change.progress.tell(Step::Restore, &evidence.join("; "));
                ApplyError::Restored {
                    message,
                    serves: before.generation,
                }
            }
            Err(undo) => ApplyError::NotRestored {
                message,
                undo,
                advice: format!(
                    "Look at the router; `turnout doctor` runs `get`. These were in force before: {}",
                    told(&before.splits)
                ),
            },
        }
    }

    fn record(&self) -> Record {
        Record::in_state(&self.state_dir)
    }
}

fn told(splits: &Splits) -> String {
    let each: Vec<String> = splits
        .iter()
        .map(|(name, split)| format!("{name} {split}"))
        .collect();
    each.join(", ")
}

fn splits(table: &RoutingTable) -> Splits {
    let routes = table.routes.iter();
    routes
        .map(|(name, route)| (name.clone(), route.split()))
        .collect()
}

impl From<GetError> for ApplyError {
    fn from(error: GetError) -> Self {
        Self::Unreachable {
            message: format!(
                "{}; nothing was changed. `balancer.exec.get` has to say what is in force",
                crate::domain::describe(&error)
            ),
        }
    }
}

impl Balancer for Exec {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn server_health(&self) -> ServerHealthUse {
        ServerHealthUse::Own
    }

    fn untold(&self) -> Option<String> {
        Some(Self::UNTOLD.to_owned())
    }

    fn render(&self, table: &RoutingTable) -> Result<Rendered, RenderError> {
        Ok(Rendered {
            generation: table.generation,
            files: Vec::new(),
        })
    }

    /// Whether `get` answers: there is no other check of a split.
    async fn check(&self, desired: &RoutingTable, _: &Rendered) -> Result<Vec<String>, ApplyError> {
        self.ask(desired.routes.keys()).await?;
        Ok(Vec::new())
    }

    async fn apply(&self, change: Change<'_>) -> Result<Applied, ApplyError> {
        let desired = change.desired;
        let now = self.ask(desired.routes.keys()).await?;
        let before = Known {
            generation: change
                .previous
                .map_or_else(Generation::default, |table| table.generation),
            splits: now.clone(),
        };
        let wanted = Known {
            generation: desired.generation,
            splits: splits(desired),
        };
        self.record()
            .write(&before, &wanted)
            .map_err(|source| ApplyError::Unchanged {
                message: format!("failed to write {}", self.record().path().display()),
                source: Some(source),
            })?;
        let mut warnings = Vec::new();
        for (name, route) in desired
            .routes
            .iter()
            .filter(|(_, route)| !route.refused.is_empty())
        {
            let colors: Vec<_> = route.refused.iter().map(|color| color.as_str()).collect();
            warnings.push(format!(
                "{} of {name} has no healthy server; a router that is driven by commands cannot be told to answer 503",
                colors.join(" and ")
            ));
        }
        let wish = Wish::Forward(change.previous);
        match self.put(&now, &wanted.splits, wish).await {
            Ok(mut evidence) => {
                if evidence.is_empty() {
                    evidence.push(format!("`get` says {}", told(&wanted.splits)));
                }
                change.progress.tell(Step::Prove, &evidence.join("; "));
                Ok(Applied::new(desired.generation, evidence, warnings))
            }
            Err(message) => Err(self.restore(&change, &before, message).await),
        }
    }

    async fn revert(&self, to: Generation, _: Foreign) -> Result<Option<Applied>, ApplyError> {
        let Some((before, wanted)) = self.record().read() else {
            return Ok(None);
        };
        let known = match (wanted.generation == to, before.generation == to) {
            (true, _) => wanted,
            (false, true) => before,
            (false, false) => return Ok(None),
        };
        let now = self.ask(known.splits.keys()).await?;
        match self.put(&now, &known.splits, Wish::Back).await {
            Ok(mut evidence) => {
                evidence.push(format!("`get` says {}", told(&known.splits)));
                // what it replaced is not a way back any more
                self.record()
                    .write(&known, &known)
                    .map_err(|source| ApplyError::Unchanged {
                        message: format!("failed to write {}", self.record().path().display()),
                        source: Some(source),
                    })?;
                Ok(Some(Applied::new(to, evidence, Vec::new())))
            }
            Err(undo) => Err(ApplyError::NotRestored {
                message: format!("generation {to} was to be brought back"),
                undo,
                advice: format!(
                    "Look at the router; `turnout doctor` runs `get`. These were in force: {}",
                    told(&known.splits)
                ),
            }),
        }
    }

    async fn drained(&self, _: &ServiceName, _: Color, _: Duration) -> Drained {
        Drained::Busy {
            what: "unknown: a router that is driven by commands does not say what is in flight"
                .to_owned(),
        }
    }

    async fn observe(&self) -> Observed {
        Observed {
            disk: None,
            served: self.served().await,
        }
    }
}

impl Exec {
    async fn served(&self) -> Served {
        let now = match self.ask(self.services.iter()).await {
            Ok(now) => now,
            Err(error) => {
                return Served::Unreachable {
                    reason: crate::domain::describe(&error),
                };
            }
        };
        let Some((before, wanted)) = self.record().read() else {
            return Served::Foreign {
                reason: "nothing was applied yet: the router's own splits are in force".to_owned(),
            };
        };
        // a service that was added since is no drift
        let says = |known: &Known| {
            known
                .splits
                .iter()
                .all(|(name, split)| now.get(name).is_none_or(|said| said == split))
        };
        let generation = if !says(&wanted) && says(&before) {
            before.generation
        } else {
            wanted.generation
        };
        Served::Generation {
            generation,
            splits: now,
        }
    }
}
