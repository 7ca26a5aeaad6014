//! The order of one apply. The way back is `restore`'s.
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
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::front_door::Seen;
use super::super::install::{self, Ended, LastGood, NotInstalled, Target};
use super::super::{
    Applied, ApplyError, Change, FrontDoor, Rendered, RenderedFile, Step, address, front_door,
};
use super::Nginx;
use super::check::{Check, Failed, Passed};
use super::error_log::ErrorLog;
use super::folder::{forsaken, waits_for_its_folder};
use super::instant::{self, Markers};
use super::process::{Master, Worker};
use super::prove::{self, Expected, Unproved, Wait};
use super::restore::{not_put_back, restore, settle_undone, undo_untold};
use super::tell::{Untold, tell, with_log};
use crate::domain::{Generation, Hashing, RoutingTable};
use crate::exec::CommandError;

/// Longer than the 2.5 s for which nginx retries a bind; a large configuration takes longer to load.
const PROOF: Duration = Duration::from_secs(10);
/// Added for each service: 3,000 take nginx 0.6 s on two cores; this is ten times that.
const PROOF_PER_SERVICE: Duration = Duration::from_millis(2);
/// How many times as long as its check nginx may take to load the configuration: names in somebody's upstreams are looked up
/// again, and a stranger's reload may come first.
const PROOF_PER_CHECK: u32 = 3;

/// What is known before anything changes, for the way back.
pub(super) struct Before {
    pub(super) master: Option<Master>,
    pub(super) served: Option<Generation>,
    /// The shape that is served, where it goes with markers.
    pub(super) shape: Option<String>,
    pub(super) log: Option<ErrorLog>,
    pub(super) within: Duration,
    /// The workers from before nginx was told.
    pub(super) old: Vec<Worker>,
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
    let gone = forsaken(change.rendered, &nginx.settings.snippets);
    let targets = install::targets(files, &gone, change.foreign)?;
    let mut before = Before::now(nginx, master, change.desired.shapes().count()).await;
    let markers = Markers::of(nginx, change.rendered);
    match &markers {
        Some(markers) if markers.fit(&before, &targets) => {
            return instant::apply(nginx, &change, markers, &targets).await;
        }
        None if targets.is_empty() && before.serves(change.rendered.generation) => {
            return already_served(nginx, &change, &before).await;
        }
        Some(_) | None => {}
    }

    let check = Check::new(&nginx.settings, &nginx.state_dir, before.master.as_ref());
    let explain = |said: &str| explained(nginx, change.desired, change.rendered, &gone, said);
    let began = Instant::now();
    let checked = match check.staged(&targets).await {
        Err(Failed::Command(CommandError::NotFound { .. })) if before.master.is_none() => {
            Some(Passed {
                way: "not at all: no nginx on this side; the reload command has to check",
                ..Passed::default()
            })
        }
        Err(Failed::NoWay) => None,
        checked => Some(checked.map_err(|failed| failed.into_apply_error(explain))?),
    };
    // told before the first file is touched, because whoever stops a change goes by whether a step was told
    let way = checked.as_ref().map(|passed| passed.way);
    let way = way.unwrap_or("only once the files stand in place");
    change.progress.tell(Step::Check, way);
    if let Some(master) = &before.master {
        address::try_new(&addresses(nginx, change.desired), master.pid, &[master.pid]).map_err(
            |busy| ApplyError::Unchanged {
                message: format!("nginx would not get a new listen address: {busy}"),
                source: None,
            },
        )?;
    }

    let generation = change.rendered.generation;
    let last_good = LastGood::keep(&nginx.state_dir, generation, change.previous, &targets)?;
    let mut warnings = match install::install(&nginx.state_dir, generation, &targets, &last_good) {
        Ok(warnings) => warnings,
        Err(NotInstalled::Undone(failure)) => {
            settle_undone(last_good);
            return Err(failure.into());
        }
        Err(NotInstalled::Halfway { failure, undo }) => {
            let message = crate::domain::describe(&failure);
            return Err(not_put_back(&last_good, message, &undo));
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
                return Err(undo_untold(last_good, failed.into_apply_error(explain)));
            }
        },
    };
    before.within += began.elapsed() * PROOF_PER_CHECK;
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
    before.old = before
        .master
        .as_ref()
        .map(Master::workers)
        .unwrap_or_default();
    if let Some(markers) = &markers
        && let Err(error) = markers.prepare(before.shape.as_deref())
    {
        return Err(undo_untold(last_good, error.into()));
    }
    let told = match tell(nginx, before.master.as_ref()).await {
        Ok(how) => {
            change.progress.tell(Step::Reload, &how);
            prove_all(nginx, &change, markers.as_ref(), &before.wait(nginx)).await
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
        // nobody was seen before, and nobody was told
        Err(Untold::Command(message)) if before.master.is_none() && before.served.is_none() => {
            let message = format!(
                "{message}; nginx's configuration is as before. Start nginx, or correct balancer.nginx.reload"
            );
            return Err(undo_untold(last_good, ApplyError::Unreachable { message }));
        }
        Err(Untold::Command(message)) => Err(message),
    };
    match told {
        Ok(seen) => {
            if let Err(error) = last_good.settle() {
                warnings.push(format!("the change is in force, but: {error}"));
            }
            if markers.is_none() {
                instant::forget(nginx);
            }
            for line in &seen.evidence {
                change.progress.tell(Step::Prove, line);
            }
            warnings.extend(not_routed_yet(nginx, &seen));
            Ok(Applied::new(generation, seen.evidence, warnings).seen_through(seen.routed))
        }
        Err(message) => Err(restore(nginx, &change, before, last_good, message).await),
    }
}

impl Before {
    /// What is served by now, and how long nginx has for a configuration with so many services.
    pub(super) async fn now(nginx: &Nginx, master: Option<Master>, services: usize) -> Self {
        // who does not answer serves nothing of turnout's
        let said = prove::generation(nginx.settings.prove).await.ok();
        Self {
            master,
            served: said.as_ref().map(|said| said.generation),
            shape: said.and_then(|said| said.shape),
            log: None,
            within: PROOF + PROOF_PER_SERVICE * u32::try_from(services).unwrap_or(u32::MAX),
            old: Vec::new(),
        }
    }

    /// True if this generation is served, and its positions are in its configuration.
    fn serves(&self, generation: Generation) -> bool {
        self.shape.is_none() && self.served == Some(generation)
    }

    pub(super) fn wait<'a>(&'a self, nginx: &Nginx) -> Wait<'a> {
        Wait {
            prove: nginx.settings.prove,
            master: self.master.as_ref(),
            old: &self.old,
            log: self.log.as_ref(),
            within: self.within,
        }
    }
}

/// What nginx said in refusing, with template lines, and what to do where it misses a snippet that is to go.
pub(super) fn explained(
    nginx: &Nginx,
    table: &RoutingTable,
    rendered: &Rendered,
    gone: &[PathBuf],
    said: &str,
) -> String {
    let mut text = nginx.translate(said, table, rendered);
    for path in gone.iter().map(|path| path.display().to_string()) {
        if said.contains(&path) {
            text.extend([format!(
                "; {path} goes with its service, which is not in the configuration any more (or has a `listen` of its own): \
                 take the include of it out of nginx's configuration first"
            )]);
        }
    }
    text
}

/// The same files and the same generation: nothing to do but to prove it.
async fn already_served(
    nginx: &Nginx,
    change: &Change<'_>,
    before: &Before,
) -> Result<Applied, ApplyError> {
    let mut evidence = vec!["already in force: no reload".to_owned()];
    match prove_all(nginx, change, None, &before.wait(nginx)).await {
        Ok(seen) => {
            // a process that died before this proof left it open
            if let Some((Ended::No, kept)) = LastGood::kept(&nginx.state_dir)? {
                kept.settle()?;
            }
            let warnings = not_routed_yet(nginx, &seen);
            evidence.extend(seen.evidence);
            Ok(Applied::new(change.rendered.generation, evidence, warnings)
                .seen_through(seen.routed))
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
    markers: Option<&Markers>,
    wait: &Wait<'_>,
) -> Result<Seen, String> {
    let expected = match markers {
        Some(markers) => Expected::Shape(markers.shape.clone()),
        None => Expected::Served(change.rendered.generation),
    };
    let mut evidence = match wait.until(&expected).await {
        Ok(evidence) => evidence,
        Err(Unproved::Gone) => return Err("nginx ended during the reload".to_owned()),
        Err(Unproved::NotTaken(message)) => {
            return Err(with_log(message, wait.log, nginx));
        }
    };
    if let Some(markers) = markers {
        evidence.extend(markers.put_and_prove(nginx, change).await?);
    }
    through_front_doors(change, evidence).await
}

/// The last part of a proof, behind `evidence`.
pub(super) async fn through_front_doors(
    change: &Change<'_>,
    mut evidence: Vec<String>,
) -> Result<Seen, String> {
    match change.front_door {
        FrontDoor::Ask | FrontDoor::Turnout => {
            let mut seen = front_door::ask_all(change, Hashing::SplitClients)
                .await
                .map_err(|error| error.to_string())?;
            evidence.append(&mut seen.evidence);
            Ok(Seen { evidence, ..seen })
        }
        FrontDoor::Skip => {
            evidence.push("the front door was not asked".to_owned());
            Ok(Seen {
                evidence,
                ..Seen::default()
            })
        }
    }
}

/// What the user has yet to do, for services that stand in a server block of theirs.
pub(super) fn not_routed_yet(nginx: &Nginx, seen: &Seen) -> Vec<String> {
    seen.unrouted
        .iter()
        .map(|(name, door)| {
            format!(
                "applied, but {door} does not go through turnout yet: add `include {};` to its location, reload nginx, then \
                 run `turnout verify`",
                nginx.settings.snippets.join(format!("{name}.conf")).display()
            )
        })
        .collect()
}

fn addresses(nginx: &Nginx, desired: &RoutingTable) -> BTreeSet<SocketAddr> {
    desired
        .shapes()
        .filter_map(|service| service.listen)
        .chain([nginx.settings.prove])
        .collect()
}

pub(super) fn installed(targets: &[Target<'_>]) -> String {
    let paths: Vec<_> = targets
        .iter()
        .map(|target| match target.text {
            Some(_) => target.path.display().to_string(),
            None => format!("{} (removed)", target.path.display()),
        })
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
    let gone = forsaken(rendered, &nginx.settings.snippets);
    let targets = install::targets(&files, &gone, super::super::Foreign::Replace)?;
    let check = Check::new(&nginx.settings, &nginx.state_dir, master.as_ref());
    match check.staged(&targets).await {
        Ok(passed) => Ok(passed.warnings),
        Err(Failed::NoWay) => Ok(vec![
            "nginx's check was not run: here it can only be run on installed files (as root it can without)".to_owned(),
        ]),
        Err(failed) => {
            Err(failed.into_apply_error(|said| explained(nginx, table, rendered, &gone, said)))
        }
    }
}
