//! The order of one apply.
//!
//! ```text
//! socket asked ─► targets looked at ─► same shape? ─ yes ─► keep last good, install the map ─► set map ─► read back ─► prove
//!                                           │ no
//!                                           └► check ─► new addresses ─► keep last good, install ─► reload ─► read back ─► prove
//!     nothing has been changed up to here ───────────────────────────┘
//! ```

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::super::front_door::Seen;
use super::super::install::{self, Ended, LastGood, NotInstalled, Target};
use super::super::{Applied, ApplyError, Change, FrontDoor, Rendered, Step, address, front_door};
use super::process::{Master, MasterError};
use super::reload::{self, Unproved};
use super::restore::{not_put_back, restore, settle_undone, undo_untold};
use super::socket::{Said, SocketError};
use super::{Haproxy, check, elders, position};
use crate::domain::{Hashing, RoutingTable};
use crate::render::{HaproxyPosition, haproxy_keys, haproxy_shape};

/// What HAProxy says of a map that nothing in its configuration names.
const UNKNOWN_MAP: &str = "Unknown map identifier";

/// What is known before anything changes, for the way back.
pub(super) struct Before {
    /// `None` where it is not seen, which only a reload needs.
    pub(super) master: Option<Master>,
    pub(super) said: Said,
    pub(super) within: std::time::Duration,
}

impl Before {
    /// The keys that were served, as they were.
    pub(super) fn keys(&self) -> Vec<(String, u64)> {
        self.said.position.to_keys()
    }
}

pub(super) async fn apply(haproxy: &Haproxy, change: Change<'_>) -> Result<Applied, ApplyError> {
    let map = haproxy.map();
    let socket = haproxy.socket(&map);
    let said = match socket.look().await {
        Ok(said) => said,
        Err(error) => return Err(haproxy.unreachable(error).await),
    };
    if let Err(error) = socket.admin(&said) {
        return Err(haproxy.unreachable(error).await);
    }
    let (master, no_master) = match Master::find(&haproxy.settings.pid).await {
        Ok(master) => (Some(master), None),
        Err(error) => (None, Some(error)),
    };
    let within = reload::within(change.desired.shapes().count());
    let before = Before {
        master,
        said,
        within,
    };
    let files = &change.rendered.files;
    install::sweep(files.iter().map(|file| file.path.as_path()));
    let folder = install::Folder::make(&haproxy.settings.maps)?;
    let targets = install::targets(files, &[], change.foreign)?;
    let shape = shape_of(haproxy, change.rendered);
    let in_shape = shape.is_some()
        && before.said.shape == shape
        && !targets
            .iter()
            .any(|target| target.path == haproxy.settings.config);
    let keys = haproxy_keys(change.desired);
    if in_shape && targets.is_empty() && before.said.has(&keys) {
        return already_served(haproxy, &change, &before).await;
    }
    let mut warnings = Vec::new();
    if in_shape {
        warnings.extend(
            position::by_hand(haproxy, &before.said)
                .into_iter()
                .map(|line| format!("{line}; it was put right")),
        );
    } else {
        warnings.extend(may_reload(haproxy, &change, &before, no_master).await?);
    }

    let generation = change.rendered.generation;
    let last_good = LastGood::keep(&haproxy.state_dir, generation, change.previous, &targets)?;
    match install::install(&haproxy.state_dir, generation, &targets, &last_good) {
        Ok(replaced) => warnings.extend(replaced),
        Err(NotInstalled::Undone(failure)) => {
            settle_undone(last_good);
            return Err(failure.into());
        }
        Err(NotInstalled::Halfway { failure, undo }) => {
            folder.keep();
            let message = crate::domain::describe(&failure);
            return Err(not_put_back(&last_good, message, &undo));
        }
    }
    change.progress.tell(Step::Install, &installed(&targets));

    let told = if in_shape {
        Ok(())
    } else {
        match new_shape(haproxy, &change, &before, shape.as_deref()).await {
            Err(Unproved::Untold(error)) => return Err(undo_untold(last_good, error.into())),
            Err(Unproved::NotTaken(seen)) => Err(seen),
            Ok(()) => Ok(()),
        }
    };
    let proved = match told {
        Ok(()) => prove(haproxy, &change, &before, &keys).await,
        Err(seen) => Err(seen),
    };
    match proved {
        Ok((said, seen)) => {
            folder.keep();
            if moved(&before.said, &keys) {
                warnings
                    .extend(elders::follow(haproxy, before.master.as_ref(), &said, &keys).await);
            }
            if let Err(error) = last_good.settle() {
                warnings.push(format!("the change is in force, but: {error}"));
            }
            for line in &seen.evidence {
                change.progress.tell(Step::Prove, line);
            }
            warnings.extend(not_routed_yet(&seen));
            Ok(Applied::new(generation, seen.evidence, warnings).seen_through(seen.routed))
        }
        Err(message) => {
            let error = restore(haproxy, &change, &before, last_good, message).await;
            if matches!(error, ApplyError::NotRestored { .. }) {
                folder.keep();
            }
            Err(error)
        }
    }
}

/// The shape that the rendered configuration says.
fn shape_of(haproxy: &Haproxy, rendered: &Rendered) -> Option<String> {
    let config = rendered
        .files
        .iter()
        .find(|file| file.path == haproxy.settings.config)?;
    haproxy_shape(&config.text).map(str::to_owned)
}

/// Everything that would make a reload fail, found out without one. The lines are HAProxy's warnings.
async fn may_reload(
    haproxy: &Haproxy,
    change: &Change<'_>,
    before: &Before,
    no_master: Option<MasterError>,
) -> Result<Vec<String>, ApplyError> {
    let master = match (&before.master, no_master) {
        (Some(master), _) => master,
        (None, Some(error)) => return Err(error.into()),
        (None, None) => {
            return Err(ApplyError::Unreachable {
                message: "no HAProxy master is seen".to_owned(),
            });
        }
    };
    if haproxy.settings.master_socket.is_none() {
        master.may_signal()?;
    }
    if !haproxy.is_loaded_by(master) {
        return Err(ApplyError::Unchanged {
            message: format!(
                "HAProxy (master {}) was started without `-f {}`, so it would not read it: add that to its command line \
                 (EXTRAOPTS in /etc/default/haproxy) and restart it. Where the file is not there yet, `turnout render --to` \
                 writes it and its map",
                master.pid,
                haproxy.settings.config.display()
            ),
            source: None,
        });
    }
    let translate = |said: &str| haproxy.translate(said, change.desired);
    let warned = check::staged(haproxy, &change.rendered.files, translate).await?;
    change.progress.tell(Step::Check, "haproxy -c");
    let workers: Vec<i32> = master.workers().iter().map(|worker| worker.pid).collect();
    address::try_new(&addresses(change.desired), master.pid, &workers).map_err(|busy| {
        ApplyError::Unchanged {
            message: format!("HAProxy would not get a new listen address: {busy}"),
            source: None,
        }
    })?;
    Ok(warned
        .into_iter()
        .map(|line| format!("haproxy warns: {line}"))
        .collect())
}

async fn new_shape(
    haproxy: &Haproxy,
    change: &Change<'_>,
    before: &Before,
    shape: Option<&str>,
) -> Result<(), Unproved> {
    let Some(master) = &before.master else {
        return Err(Unproved::NotTaken("no HAProxy master is seen".to_owned()));
    };
    let (said, how) = reload::into(haproxy, master, shape, before.within).await?;
    change.progress.tell(
        Step::Reload,
        &format!("{how}; worker {} has taken over", said.pid),
    );
    Ok(())
}

/// The position in the running worker, then through the front door. The error says what was seen.
async fn prove(
    haproxy: &Haproxy,
    change: &Change<'_>,
    before: &Before,
    keys: &[(String, u64)],
) -> Result<(Said, Seen), String> {
    let said = position::put(haproxy, before.master.as_ref(), keys).await;
    let said = said.map_err(|error| {
        if let SocketError::Answer { answer, .. } = &error
            && answer.contains(UNKNOWN_MAP)
        {
            return format!(
                "HAProxy does not read {}, because none of its frontends asks for a position: put the lines of `turnout \
                 doctor` into yours, reload HAProxy, and apply again",
                haproxy.map().display()
            );
        }
        error.to_string()
    })?;
    let mut evidence = vec![format!(
        "runtime socket: worker {} has generation {} with the shape {}",
        said.pid,
        change.rendered.generation,
        said.shape.as_deref().unwrap_or("of somebody else")
    )];
    match change.front_door {
        FrontDoor::Ask | FrontDoor::Turnout => {
            let mut seen = front_door::ask_all(change, Hashing::Xxh32)
                .await
                .map_err(|error| error.to_string())?;
            evidence.append(&mut seen.evidence);
            Ok((said, Seen { evidence, ..seen }))
        }
        FrontDoor::Skip => {
            evidence.push("the front door was not asked".to_owned());
            let seen = Seen {
                evidence,
                ..Seen::default()
            };
            Ok((said, seen))
        }
    }
}

/// What the user has yet to do, for services that stand in a frontend of theirs.
fn not_routed_yet(seen: &Seen) -> Vec<String> {
    let doors = seen.unrouted.iter();
    doors
        .map(|(name, door)| {
            format!(
                "applied, but {door} does not go through turnout yet: put the lines of `turnout doctor` for {name} into its \
                 frontend, reload HAProxy, then run `turnout verify`"
            )
        })
        .collect()
}

/// The same files, shape and position: nothing to do but to prove it.
async fn already_served(
    haproxy: &Haproxy,
    change: &Change<'_>,
    before: &Before,
) -> Result<Applied, ApplyError> {
    let keys = haproxy_keys(change.desired);
    match prove(haproxy, change, before, &keys).await {
        Ok((_, seen)) => {
            // a process that died before this proof left it open
            if let Some((Ended::No, kept)) = LastGood::kept(&haproxy.state_dir)? {
                kept.settle()?;
            }
            let warnings = not_routed_yet(&seen);
            let evidence = std::iter::once("already in force".to_owned()).chain(seen.evidence);
            let generation = change.rendered.generation;
            Ok(Applied::new(generation, evidence.collect(), warnings).seen_through(seen.routed))
        }
        Err(message) => Err(ApplyError::Unchanged {
            message,
            source: None,
        }),
    }
}

/// True if traffic moves, and not only the generation.
fn moved(before: &Said, keys: &[(String, u64)]) -> bool {
    let now = HaproxyPosition::of_keys(keys);
    before.position.splits != now.splits || before.position.refused != now.refused
}

fn addresses(desired: &RoutingTable) -> BTreeSet<SocketAddr> {
    let shapes = desired.shapes();
    shapes.filter_map(|service| service.listen).collect()
}

pub(super) fn installed(targets: &[Target<'_>]) -> String {
    let paths: Vec<_> = targets
        .iter()
        .map(|target| target.path.display().to_string())
        .collect();
    if paths.is_empty() {
        "the files already stood there".to_owned()
    } else {
        paths.join(", ")
    }
}
