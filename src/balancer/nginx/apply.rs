//! The order of one apply, and the way back.
//!
//! ```text
//! master identified ─► targets looked at ─► check ─► new addresses ─► keep last good, install ─► SIGHUP ─► prove
//!     nothing has been changed up to here ──────────────────────┘                              │ fails
//!                                            last good back ─► reload if it is not what is served ─► prove
//! ```
//!
//! nginx takes a reload in silence and may refuse it in silence, so every step after SIGHUP is about what is seen.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::super::address;
use super::super::install::{self, LastGood, Target};
use super::super::{
    Applied, ApplyError, Change, FrontDoor, Rendered, RenderedFile, Step, front_door,
};
use super::Nginx;
use super::check::{Check, Failed, Passed};
use super::error_log::ErrorLog;
use super::folder::waits_for_its_folder;
use super::process::{Master, Worker};
use super::prove::{self, Unproved, Wait};
use super::restore::{restore, settle_undone, undo_untold};
use crate::config::NginxReload;
use crate::domain::{Generation, Hashing, RoutingTable};
use crate::exec::{CommandError, Program};

/// Longer than the 2.5 s for which nginx retries a bind; a large configuration takes longer to load.
const PROOF: Duration = Duration::from_secs(10);

/// Added for each service: 3,000 take nginx 0.6 s on two cores; this is ten times that.
const PROOF_PER_SERVICE: Duration = Duration::from_millis(2);

/// For the front door, once the workers are proved.
const FRONT_DOOR: Duration = Duration::from_secs(5);

/// For a reload command of the user's.
const RELOAD_COMMAND: Duration = Duration::from_mins(1);

/// What is known before anything changes, for the way back.
pub(super) struct Before {
    pub(super) master: Option<Master>,
    pub(super) served: Option<Generation>,
    pub(super) log: Option<ErrorLog>,
    pub(super) within: Duration,
}

pub(super) async fn apply(nginx: &Nginx, change: Change<'_>) -> Result<Applied, ApplyError> {
    let master = nginx.master().await?;
    let files = &change.rendered.files;
    install::sweep(
        files
            .iter()
            .map(|file| file.path.as_path())
            .chain([nginx.settings.main.as_path()]),
    );
    if files
        .iter()
        .any(|file| file.path.parent() == Some(&nginx.settings.snippets))
    {
        // the folder is turnout's alone; what keeps it from being made is said by the install
        drop(std::fs::create_dir_all(&nginx.settings.snippets));
    }
    let targets = install::targets(files, change.foreign)?;
    let served = prove::generation(nginx.settings.prove)
        .await
        .ok()
        .map(|said| said.generation);
    let within =
        PROOF + PROOF_PER_SERVICE * u32::try_from(change.desired.routes.len()).unwrap_or(u32::MAX);
    let mut before = Before {
        master,
        served,
        log: None,
        within,
    };
    if targets.is_empty() && served == Some(change.rendered.generation) {
        return already_served(nginx, &change, &before).await;
    }

    let check = Check::new(&nginx.settings, &nginx.state_dir, before.master.as_ref());
    let changed: Vec<&RenderedFile> = targets.iter().map(|target| target.file).collect();
    let checked = match check.staged(&changed).await {
        Err(Failed::Command(CommandError::NotFound { .. })) if before.master.is_none() => {
            Some(Passed {
                way: "not at all: no nginx on this side; the reload command has to check",
                ..Passed::default()
            })
        }
        Err(Failed::NoWay) => None,
        checked => Some(checked.map_err(|failed| {
            failed.into_apply_error(|said| nginx.translate(said, change.desired, change.rendered))
        })?),
    };
    if let Some(passed) = &checked {
        change.progress.tell(Step::Check, passed.way);
    }
    if let Some(master) = &before.master {
        address::try_new(&addresses(nginx, change.desired), master.pid, &[master.pid]).map_err(
            |busy| ApplyError::Unchanged {
                message: format!("nginx would not get a new listen address: {busy}"),
                source: None,
            },
        )?;
    }

    let last_good = LastGood::keep(&nginx.state_dir, &targets)?;
    let mut warnings = match install::install(
        &nginx.state_dir,
        change.rendered.generation,
        &targets,
        &last_good,
    ) {
        Ok(warnings) => warnings,
        Err(error) => {
            settle_undone(last_good);
            return Err(error.into());
        }
    };
    let checked = match checked {
        Some(passed) => passed,
        None => match check.live().await {
            Ok(passed) => {
                change.progress.tell(Step::Check, "in place");
                passed
            }
            Err(failed) => {
                let said = |said: &str| nginx.translate(said, change.desired, change.rendered);
                return Err(undo_untold(last_good, failed.into_apply_error(said)));
            }
        },
    };
    warnings.extend(
        checked
            .warnings
            .iter()
            .map(|line| format!("nginx warns: {line}")),
    );
    change.progress.tell(Step::Install, &installed(&targets));

    before.log = before
        .master
        .as_ref()
        .and_then(|master| ErrorLog::of(master.pid, checked.error_log.as_deref()));
    let old = before.workers();
    let told = match tell(nginx, before.master.as_ref()).await {
        Ok(how) => {
            change.progress.tell(Step::Reload, &how);
            let wait = before.wait(nginx, &old);
            prove_all(nginx, &change, &wait).await
        }
        Err(Untold::Gone) => {
            let error = ApplyError::Unreachable {
                message: format!(
                    "nginx ended before it could be told; its configuration is as before. Start it (systemctl start nginx): {} \
                     names no running master any more",
                    nginx.settings.pid.display()
                ),
            };
            return Err(undo_untold(last_good, error));
        }
        Err(Untold::Command(message)) => Err(message),
    };
    match told {
        Ok(evidence) => {
            if let Err(error) = last_good.settle() {
                warnings.push(format!("the change is in force, but: {error}"));
            }
            for line in &evidence {
                change.progress.tell(Step::Prove, line);
            }
            Ok(Applied::new(change.rendered.generation, evidence, warnings))
        }
        Err(message) => Err(restore(nginx, &change, before, last_good, message).await),
    }
}

impl Before {
    pub(super) fn workers(&self) -> Vec<Worker> {
        self.master
            .as_ref()
            .map(Master::workers)
            .unwrap_or_default()
    }

    pub(super) fn wait<'a>(&'a self, nginx: &Nginx, old: &'a [Worker]) -> Wait<'a> {
        Wait {
            prove: nginx.settings.prove,
            master: self.master.as_ref(),
            old,
            log: self.log.as_ref(),
            within: self.within,
        }
    }
}

/// The same files and the same generation: nothing to do but to prove it.
async fn already_served(
    nginx: &Nginx,
    change: &Change<'_>,
    before: &Before,
) -> Result<Applied, ApplyError> {
    let wait = before.wait(nginx, &[]);
    let mut evidence = vec!["already in force: no reload".to_owned()];
    match prove_all(nginx, change, &wait).await {
        Ok(lines) => {
            LastGood::keep(&nginx.state_dir, &[])?.settle()?;
            evidence.extend(lines);
            Ok(Applied::new(
                change.rendered.generation,
                evidence,
                Vec::new(),
            ))
        }
        Err(message) => Err(ApplyError::Unchanged {
            message,
            source: None,
        }),
    }
}

async fn prove_all(
    nginx: &Nginx,
    change: &Change<'_>,
    wait: &Wait<'_>,
) -> Result<Vec<String>, String> {
    let mut evidence = match wait.until(change.rendered.generation).await {
        Ok(evidence) => evidence,
        Err(Unproved::Gone) => return Err("nginx ended during the reload".to_owned()),
        Err(Unproved::NotTaken(message)) => {
            return Err(with_log(message, wait.log, nginx));
        }
    };
    match change.front_door {
        FrontDoor::Ask => {
            let changed = change.desired.changed_since(change.previous);
            let asked = front_door::ask_all(
                changed.map(|(_, route)| route),
                Hashing::SplitClients,
                FRONT_DOOR,
            )
            .await;
            evidence.extend(asked.map_err(|error| error.to_string())?);
        }
        FrontDoor::Skip => evidence.push("the front door was not asked".to_owned()),
    }
    Ok(evidence)
}

/// `message` with what nginx itself said, and who holds an address that it did not get.
pub(super) fn with_log(message: String, log: Option<&ErrorLog>, nginx: &Nginx) -> String {
    let emergencies = log.map(ErrorLog::emergencies).unwrap_or_default();
    if emergencies.is_empty() {
        return message;
    }
    let holders: BTreeSet<String> = emergencies
        .iter()
        .filter(|line| line.contains("Address already in use"))
        .filter_map(|line| {
            let text = line.strip_prefix("bind() to ")?.split(' ').next()?;
            let address: SocketAddr = text.parse().ok()?;
            Some(format!(
                "{address} is held by {}",
                address::holder(address)?
            ))
        })
        .collect();
    let mut lines = vec![format!("{message}; nginx says: {}", emergencies.join("; "))];
    lines.extend(holders);
    if emergencies
        .iter()
        .any(|line| line.contains("(13: Permission denied)"))
    {
        lines.push(format!(
            "the master that {} names may not do that: look at its user and capabilities",
            nginx.settings.pid.display()
        ));
    }
    lines.join("; ")
}

pub(super) enum Untold {
    Gone,
    Command(String),
}

pub(super) async fn tell(nginx: &Nginx, master: Option<&Master>) -> Result<String, Untold> {
    match (&nginx.settings.reload, master) {
        (NginxReload::Command(argv), _) => {
            let program = Program::new(argv).deadline(RELOAD_COMMAND);
            let output = program.run().await.and_then(crate::exec::Output::success);
            match output {
                Ok(output) => Ok(format!("`{}`", output.argv)),
                Err(error) => Err(Untold::Command(format!(
                    "the reload command failed: {error}"
                ))),
            }
        }
        (NginxReload::Signal, Some(master)) => match master.reload() {
            Ok(()) => Ok(format!("SIGHUP to the master {}", master.pid)),
            Err(_gone) => Err(Untold::Gone),
        },
        (NginxReload::Signal, None) => Err(Untold::Gone),
    }
}

fn addresses(nginx: &Nginx, desired: &RoutingTable) -> BTreeSet<SocketAddr> {
    desired
        .routes
        .values()
        .filter_map(|route| route.service.listen)
        .chain([nginx.settings.prove])
        .collect()
}

fn installed(targets: &[Target<'_>]) -> String {
    let paths: Vec<_> = targets
        .iter()
        .map(|target| target.file.path.display().to_string())
        .collect();
    match paths.as_slice() {
        [] => "the files already stood there".to_owned(),
        [first, .., last] if paths.len() > 3 => {
            format!("{} files, from {first} to {last}", paths.len())
        }
        paths => paths.join(", "),
    }
}

/// The check alone. The lines are nginx's warnings.
pub(super) async fn check_only(
    nginx: &Nginx,
    table: &RoutingTable,
    rendered: &Rendered,
) -> Result<Vec<String>, ApplyError> {
    let master = nginx.master().await?;
    let files: Vec<RenderedFile> = rendered
        .files
        .iter()
        .filter(|file| !waits_for_its_folder(file, &nginx.settings.snippets))
        .cloned()
        .collect();
    let targets = install::targets(&files, super::super::Foreign::Replace)?;
    let changed: Vec<&RenderedFile> = targets.iter().map(|target| target.file).collect();
    let check = Check::new(&nginx.settings, &nginx.state_dir, master.as_ref());
    match check.staged(&changed).await {
        Ok(passed) => Ok(passed.warnings),
        Err(Failed::NoWay) => Ok(vec![
            "nginx's check was not run: here it can only be run on installed files (as root it can without)".to_owned(),
        ]),
        Err(failed) => {
            Err(failed.into_apply_error(|said| nginx.translate(said, table, rendered)))
        }
    }
}
