//! Color and weights without a reload: the order of such a change, and its proof.
//!
//! ```text
//! file on disk: positions, and what a missing marker falls back to ─► markers, the generation last ─► workers asked ─► front door
//! ```
//!
//! The file goes first and last: a restart reads it and finds the markers as they were answered, and what a killed turnout
//! left is put right from it. A new shape still goes by a reload (`apply`), which meets markers that are there before the
//! first worker reads them; the positions move once no old worker accepts any more, so that no old worker sends traffic
//! where only the new shape has servers.

mod markers;
mod served;
mod worn;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::super::install::{
    self, Ended, InstallError, LastGood, NotInstalled, Target, generation_of,
};
use super::super::{Applied, ApplyError, Change, Finding, Presence, Rendered, Step};
use super::apply::{Before, installed, not_routed_yet, through_front_doors};
use super::restore::{ended, not_brought_back, not_put_back, settle_undone};
use super::{Nginx, absent, prove};
use crate::config::Switching;
use crate::domain::{Generation, ServiceName, describe};
use crate::render::{self, Head, Marker};
use markers::{GENERATION, Link};
pub(super) use served::served;
pub(super) use worn::{is_worn, tend};

/// The folder of the markers.
pub(super) fn folder(nginx: &Nginx) -> PathBuf {
    nginx.settings.snippets.join("position")
}

/// Whether the workers can read them.
pub(super) async fn examine(nginx: &Nginx) -> Option<Finding> {
    if nginx.settings.switching != Switching::Instant {
        return None;
    }
    let folder = folder(nginx);
    Some(match prove::generation(nginx.settings.prove).await {
        Ok(said) if said.shape.is_some() && said.generation == Generation::default() => {
            Finding::Problem(served::unreadable(&folder))
        }
        Ok(said) if said.shape.is_some() => Finding::Fine(format!(
            "nginx's workers read the positions in {}",
            folder.display()
        )),
        Ok(_) | Err(_) => match served::closed(&folder) {
            Some(dir) => Finding::Advice(format!(
                "{} is closed to other users: nginx's workers could not read the positions in {} (chmod o+x {})",
                dir.display(),
                folder.display(),
                dir.display()
            )),
            None => Finding::Fine(format!(
                "nginx's workers will find the positions in {}",
                folder.display()
            )),
        },
    })
}

/// Nobody reads them any more.
pub(super) fn forget(nginx: &Nginx) {
    markers::clear(&folder(nginx));
}

/// What a configuration wants of the markers.
#[derive(Debug)]
pub(super) struct Markers {
    folder: PathBuf,
    config: PathBuf,
    pub(super) shape: String,
    pub(super) generation: Generation,
    of: BTreeMap<ServiceName, Marker>,
}

impl Markers {
    /// Those of what is rendered; `None` if it goes by reloads alone.
    pub(super) fn of(nginx: &Nginx, rendered: &Rendered) -> Option<Self> {
        let mut files = rendered.files.iter();
        let config = files.find(|file| file.path == nginx.settings.config)?;
        Self::of_text(nginx, &config.text)
    }

    /// Those of the file on disk.
    pub(super) fn on_disk(nginx: &Nginx) -> Option<Self> {
        let text = std::fs::read_to_string(&nginx.settings.config).ok()?;
        Self::of_text(nginx, &text)
    }

    fn of_text(nginx: &Nginx, text: &str) -> Option<Self> {
        Some(Self {
            folder: folder(nginx),
            config: nginx.settings.config.clone(),
            shape: render::nginx_shape(text)?.to_owned(),
            generation: generation_of(text.as_bytes()),
            of: render::nginx_markers(text),
        })
    }

    /// True if the running nginx has this shape, so that no reload is needed. A file that somebody edited may have been loaded
    /// since, and names the shape that it was written with.
    pub(super) fn fit(&self, before: &Before, targets: &[Target<'_>]) -> bool {
        let is_edited = matches!(
            super::head(&self.config),
            Ok(Head::Edited { .. } | Head::Foreign)
        );
        before.shape.as_ref() == Some(&self.shape)
            && !is_edited
            && targets.iter().all(|target| target.path == self.config)
    }

    /// In their order: the generation last.
    fn links(&self) -> Vec<Link> {
        let of = self.of.iter();
        of.map(|(name, marker)| (name.to_string(), marker.to_string()))
            .chain([(GENERATION.to_owned(), self.generation.to_string())])
            .collect()
    }

    /// True if every link says what it should.
    fn stand(&self) -> bool {
        self.links()
            .iter()
            .all(|(name, said)| markers::read(&self.folder, name).as_ref() == Some(said))
    }

    /// Sets all of them. The lines tell which were set.
    pub(super) fn put(&self) -> Result<Vec<String>, InstallError> {
        let lines = markers::set(&self.folder, &self.links())?;
        let names = self.of.keys().map(ToString::to_string).collect();
        markers::keep_only(&self.folder, &names);
        Ok(lines)
    }

    /// Before a reload: sets those that the workers of the new shape would miss. The others are still read by those that run
    /// with the shape `running`, and move after them.
    pub(super) fn prepare(&self, running: Option<&str>) -> Result<(), InstallError> {
        let mut links = self.links();
        if running.is_some() {
            links.retain(|(name, _)| markers::read(&self.folder, name).is_none());
        }
        markers::set(&self.folder, &links).map(drop)
    }

    /// After a reload. The error says what was seen.
    pub(super) async fn put_and_prove(
        &self,
        nginx: &Nginx,
        change: &Change<'_>,
    ) -> Result<Vec<String>, String> {
        self.put().map_err(|error| describe(&error))?;
        let moved = change.desired.changed_since(change.previous);
        self.prove(nginx, moved.map(|(name, _)| name)).await
    }

    /// On the way back: as the file on disk says. The error says what was seen.
    pub(super) async fn again(&self, nginx: &Nginx) -> Result<Vec<String>, String> {
        self.put().map_err(|error| describe(&error))?;
        self.prove(nginx, self.of.keys()).await
    }

    /// The workers say the generation, and of these services what their markers should say. They all read the same links, so
    /// one answer is everybody's.
    async fn prove(
        &self,
        nginx: &Nginx,
        names: impl Iterator<Item = &ServiceName>,
    ) -> Result<Vec<String>, String> {
        let address = nginx.settings.prove;
        let said = prove::generation(address)
            .await
            .map_err(|silence| describe(&silence))?;
        if said.shape.as_ref() != Some(&self.shape) {
            return Err(format!(
                "nginx was reloaded by somebody else meanwhile: it does not run with the shape {} any more",
                self.shape
            ));
        }
        if said.generation != self.generation {
            return Err(self.unread(&said));
        }
        let mut asked = 0_usize;
        for name in names {
            let Some(wanted) = self.of.get(name) else {
                continue;
            };
            let at = served::ask(address, name)
                .await
                .map_err(|silence| describe(&silence))?;
            if at.marker != wanted.to_string() {
                return Err(format!(
                    "nginx reads {} at {} for {name}, not {wanted}",
                    at.marker,
                    self.folder.join(name.as_str()).display()
                ));
            }
            asked += 1;
        }
        Ok(vec![format!(
            "private listener {address}: worker {} reads generation {} and the markers of {asked} services",
            said.worker, said.generation
        )])
    }

    /// Why the workers do not see the generation that was set.
    fn unread(&self, said: &prove::Said) -> String {
        if said.generation == Generation::default() {
            served::unreadable(&self.folder)
        } else {
            format!(
                "nginx reads generation {} at {}, not {}",
                said.generation,
                self.folder.join(GENERATION).display(),
                self.generation
            )
        }
    }

    /// What somebody else has made of the markers since they were set.
    fn by_hand(&self) -> Vec<String> {
        let of = self.of.iter().filter_map(|(name, marker)| {
            let wanted = marker.to_string();
            let said = markers::read(&self.folder, name.as_str());
            (said.as_ref() != Some(&wanted)).then(|| {
                let path = self.folder.join(name.as_str());
                format!(
                    "{} {}, and said {wanted} for turnout; it was put right",
                    path.display(),
                    said.map_or_else(
                        || "had been removed or broken by hand".to_owned(),
                        |said| format!("had been set to {said} by hand")
                    )
                )
            })
        });
        of.collect()
    }
}

/// A change of positions alone.
pub(super) async fn apply(
    nginx: &Nginx,
    change: &Change<'_>,
    markers: &Markers,
    targets: &[Target<'_>],
) -> Result<Applied, ApplyError> {
    let generation = change.rendered.generation;
    if targets.is_empty() && markers.stand() {
        return already_served(nginx, change, markers).await;
    }
    let mut warnings = Markers::on_disk(nginx)
        .map(|on_disk| on_disk.by_hand())
        .unwrap_or_default();
    let last_good = LastGood::keep(&nginx.state_dir, generation, change.previous, targets)?;
    match install::install(&nginx.state_dir, generation, targets, &last_good) {
        Ok(replaced) => warnings.extend(replaced),
        Err(NotInstalled::Undone(failure)) => {
            settle_undone(last_good);
            return Err(failure.into());
        }
        Err(NotInstalled::Halfway { failure, undo }) => {
            return Err(not_put_back(&last_good, describe(&failure), &undo));
        }
    }
    change.progress.tell(
        Step::Install,
        &format!(
            "{}; no reload: the markers in {} move",
            installed(targets),
            markers.folder.display()
        ),
    );
    let proved = match markers.put_and_prove(nginx, change).await {
        Ok(evidence) => through_front_doors(change, evidence).await,
        Err(seen) => Err(seen),
    };
    match proved {
        Ok(seen) => {
            if let Err(error) = last_good.settle() {
                warnings.push(format!("the change is in force, but: {error}"));
            }
            for line in &seen.evidence {
                change.progress.tell(Step::Prove, line);
            }
            warnings.extend(not_routed_yet(nginx, &seen));
            Ok(Applied::new(generation, seen.evidence, warnings).seen_through(seen.routed))
        }
        Err(message) => Err(restore(nginx, change, last_good, message).await),
    }
}

/// The same file and the same markers: nothing to do but to prove it.
async fn already_served(
    nginx: &Nginx,
    change: &Change<'_>,
    markers: &Markers,
) -> Result<Applied, ApplyError> {
    let unchanged = |message: String| ApplyError::Unchanged {
        message,
        source: None,
    };
    let all: BTreeSet<&ServiceName> = markers.of.keys().collect();
    let proved = markers.prove(nginx, all.into_iter()).await;
    let seen = through_front_doors(change, proved.map_err(unchanged)?)
        .await
        .map_err(unchanged)?;
    // a process that died before this proof left it open
    if let Some((Ended::No, kept)) = LastGood::kept(&nginx.state_dir)? {
        kept.settle()?;
    }
    let warnings = not_routed_yet(nginx, &seen);
    let evidence = std::iter::once("already in force: no reload".to_owned()).chain(seen.evidence);
    let generation = change.rendered.generation;
    Ok(Applied::new(generation, evidence.collect(), warnings).seen_through(seen.routed))
}

/// The way back: the last good file, and the markers that it wants.
async fn restore(
    nginx: &Nginx,
    change: &Change<'_>,
    last_good: LastGood,
    message: String,
) -> ApplyError {
    if let Err(error) = last_good.restore() {
        let undo = format!(
            "the last good files could not be put back: {}",
            describe(&error)
        );
        return not_brought_back(nginx, &last_good, message, undo);
    }
    change
        .progress
        .tell(Step::Restore, "the last good files are back");
    let undone = match Markers::on_disk(nginx) {
        Some(markers) => {
            let presence = absent::answering(nginx).await;
            match (markers.again(nginx).await, presence) {
                (Ok(_), _) => Ok(markers.generation),
                // the markers stand for its next start
                (Err(_silence), Presence::Gone(_)) if markers.stand() => {
                    settle_undone(last_good);
                    return ended(&message);
                }
                (Err(seen), _) => Err(seen),
            }
        }
        None => Err(format!(
            "{} does not say a position any more",
            nginx.settings.config.display()
        )),
    };
    match undone {
        Ok(serves) => {
            change
                .progress
                .tell(Step::Restore, &format!("generation {serves} serves"));
            settle_undone(last_good);
            ApplyError::Restored { message, serves }
        }
        Err(undo) => not_brought_back(nginx, &last_good, message, undo),
    }
}
