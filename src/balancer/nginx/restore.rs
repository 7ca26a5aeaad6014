//! The way back: after a change that nginx did not take, and to what an earlier one replaced.
//!
//! A silent master says nothing: one that still loads the failed configuration (a slow name in somebody's upstream) serves
//! the last good one meanwhile, and the failed one a moment later. So "restored" is never said of what is merely still
//! served: either the master was seen to be done with everything that it was told and its workers are those from before, or
//! it is told again and the generation is proved anew.

use std::path::Path;

use super::super::install::{Ended, InstallError, LastGood, generation_of};
use super::super::{Applied, ApplyError, Change, Foreign, Step};
use super::Nginx;
use super::apply::Before;
use super::instant::{self, Markers};
use super::process::Master;
use super::prove::{self, Expected, Unproved};
use super::tell::{Untold, tell, with_log};
use crate::domain::Generation;
use crate::render::Head;

/// The files go back; nginx was never told.
pub(super) fn undo_untold(last_good: LastGood, error: ApplyError) -> ApplyError {
    match last_good.restore() {
        Ok(()) => {
            settle_undone(last_good);
            error
        }
        Err(undo) => not_put_back(&last_good, error.to_string(), &undo),
    }
}

/// nginx was not told, and some files could not be put back.
pub(super) fn not_put_back(
    last_good: &LastGood,
    message: String,
    undo: &InstallError,
) -> ApplyError {
    ApplyError::NotRestored {
        message,
        undo: crate::domain::describe(undo),
        advice: format!(
            "nginx was not told. Put the files back: {}",
            last_good.by_hand()
        ),
    }
}

/// What stands on disk is the last good again.
pub(super) fn settle_undone(last_good: LastGood) {
    // without the mark the next change takes these same files for the last good ones, which they are
    drop(last_good.clear());
}

/// The way back after nginx was told: files, then the generation that is served.
pub(super) async fn restore(
    nginx: &Nginx,
    change: &Change<'_>,
    mut before: Before,
    last_good: LastGood,
    message: String,
) -> ApplyError {
    if let Err(error) = last_good.restore() {
        let undo = format!(
            "the last good files could not be put back: {}",
            crate::domain::describe(&error)
        );
        return not_brought_back(nginx, &last_good, message, undo);
    }
    change
        .progress
        .tell(Step::Restore, "the last good files are back");
    let markers = Markers::on_disk(nginx);
    let expected = match (
        &markers,
        super::intact_generation(&nginx.settings.config).or(before.served),
    ) {
        (Some(markers), _) => Expected::Shape(markers.shape.clone()),
        (None, Some(last)) => Expected::Served(last),
        (None, None) => Expected::Not(change.rendered.generation),
    };
    let stands = before.stands(nginx).await;
    let undone = if stands {
        Ok(Vec::new())
    } else {
        bring_back(nginx, &mut before, &expected).await
    };
    match with_markers(nginx, markers.as_ref(), undone).await {
        Ok(_evidence) => {
            let serves = match (expected, markers) {
                (Expected::Shape(_), Some(markers)) => markers.generation,
                (Expected::Served(last), _) if !stands => last,
                _ => before.served.unwrap_or_default(),
            };
            change
                .progress
                .tell(Step::Restore, &format!("generation {serves} serves"));
            settle_undone(last_good);
            ApplyError::Restored { message, serves }
        }
        Err(Unproved::Gone) => {
            settle_undone(last_good);
            ended(&message)
        }
        Err(Unproved::NotTaken(seen)) => {
            let undo = with_log(seen, before.log.as_ref(), nginx);
            not_brought_back(nginx, &last_good, message, undo)
        }
    }
}

/// The markers as the files on disk want them, once nginx has their shape: else none.
async fn with_markers(
    nginx: &Nginx,
    markers: Option<&Markers>,
    loaded: Result<Vec<String>, Unproved>,
) -> Result<Vec<String>, Unproved> {
    let mut evidence = loaded?;
    match markers {
        Some(markers) => match markers.again(nginx).await {
            Ok(seen) => evidence.extend(seen),
            Err(message) => return Err(Unproved::NotTaken(message)),
        },
        None => instant::forget(nginx),
    }
    Ok(evidence)
}

pub(super) fn not_brought_back(
    nginx: &Nginx,
    last_good: &LastGood,
    message: String,
    undo: String,
) -> ApplyError {
    ApplyError::NotRestored {
        message,
        undo,
        advice: format!(
            "By hand: {} && {} -t -c {} && kill -HUP $(cat {}); then look with `turnout verify`",
            last_good.by_hand(),
            nginx.settings.binary,
            nginx.settings.main.display(),
            nginx.settings.pid.display()
        ),
    }
}

impl Before {
    /// True if the failed change never reached the workers and cannot any more: the master has dealt with all it was told,
    /// those that accept are those from before, and they serve what they served.
    async fn stands(&self, nginx: &Nginx) -> bool {
        let Some(master) = &self.master else {
            return false;
        };
        if !master.lives() || !master.rests().await {
            return false;
        }
        let accepting = master.accepting();
        let now = prove::generation(nginx.settings.prove).await;
        !accepting.is_empty()
            && accepting.iter().all(|worker| self.old.contains(worker))
            && now.ok().map(|said| said.generation) == self.served
    }
}

/// nginx ended meanwhile, with its files as they were.
pub(super) fn ended(message: &str) -> ApplyError {
    ApplyError::Unreachable {
        message: format!(
            "{message}; its files are as before, and nginx does not run any more: start it (systemctl start nginx); workers \
             that it left behind may still serve, and hold its addresses"
        ),
    }
}

/// Tells nginx to load what stands on disk again, and proves that it did. A master that was started anew meanwhile counts.
async fn bring_back(
    nginx: &Nginx,
    before: &mut Before,
    expected: &Expected,
) -> Result<Vec<String>, Unproved> {
    if !before.master.as_ref().is_none_or(Master::lives) {
        before.master = nginx.master().await.map_err(|_ended| Unproved::Gone)?;
    }
    before.old = before
        .master
        .as_ref()
        .map(Master::workers)
        .unwrap_or_default();
    match tell(nginx, before.master.as_ref()).await {
        Err(Untold::Gone) => return Err(Unproved::Gone),
        // what is served decides: a command can fail after it has done its work
        Ok(_) | Err(Untold::Command(_)) => {}
    }
    before.wait(nginx).until(expected).await
}

/// [`super::super::Balancer::revert`]: `to` is served and whole on disk, or is what the last change replaced.
pub(super) async fn revert(
    nginx: &Nginx,
    to: Generation,
    foreign: Foreign,
) -> Result<Option<Applied>, ApplyError> {
    let config = &nginx.settings.config;
    let kept = LastGood::kept(&nginx.state_dir)?;
    let (master, unreachable) = match nginx.master().await {
        Ok(master) => (master, None),
        Err(ended @ ApplyError::Unreachable { .. }) => (None, Some(ended)),
        Err(error) => return Err(error),
    };
    let mut before = Before::now(nginx, master, services(config)).await;
    let mut left_open = None;
    if let Some((ended, kept)) = kept {
        let was = kept.generation(config);
        if kept.replaced_by() != Some(to) && was == Some(to) {
            let put_back = put_back(nginx, before, kept, to, foreign, unreachable);
            return put_back.await.map(Some);
        }
        // the process that installed it may have died between two files
        if ended == Ended::No && before.served != Some(to) {
            return Ok(None);
        }
        left_open = (ended == Ended::No).then_some(kept);
    }
    let stands = std::fs::read(config).is_ok_and(|bytes| generation_of(&bytes) == to);
    if to == Generation::default() || !stands {
        return Ok(None);
    }
    if let Some(ended) = unreachable {
        return Err(ended);
    }
    let markers = Markers::on_disk(nginx);
    let is_loaded = match &markers {
        Some(markers) => before.shape.as_ref() == Some(&markers.shape),
        None => before.shape.is_none() && before.served == Some(to),
    };
    let expected = expected(markers.as_ref(), to);
    let loaded = if is_loaded {
        before.wait(nginx).until(&expected).await
    } else {
        bring_back(nginx, &mut before, &expected).await
    };
    match with_markers(nginx, markers.as_ref(), loaded).await {
        Ok(evidence) => {
            // left open, the next change would take the files before `to` for the last good ones
            if let Some(kept) = left_open {
                kept.end(to)?;
            }
            Ok(Some(Applied::new(to, evidence, Vec::new())))
        }
        Err(unproved) => Err(ApplyError::Unchanged {
            message: unproved.told(&before, nginx),
            source: None,
        }),
    }
}

/// The files that the last change replaced, and the generation in them.
async fn put_back(
    nginx: &Nginx,
    mut before: Before,
    kept: LastGood,
    to: Generation,
    foreign: Foreign,
    unreachable: Option<ApplyError>,
) -> Result<Applied, ApplyError> {
    let refused = kept.replaced_by().unwrap_or_default();
    let warnings = kept.spare(&nginx.state_dir, refused, foreign)?;
    let message = || format!("generation {to} was to be brought back");
    if let Err(error) = kept.restore() {
        let undo = crate::domain::describe(&error);
        return Err(not_brought_back(nginx, &kept, message(), undo));
    }
    let markers = Markers::on_disk(nginx);
    if let Some(ended) = unreachable {
        // it starts with these files
        if let Some(markers) = &markers {
            markers.put()?;
        }
        return Err(ended);
    }
    let loaded = match &markers {
        // it was the position alone
        Some(markers) if before.shape.as_ref() == Some(&markers.shape) => Ok(Vec::new()),
        _ if to == Generation::default() => {
            bring_back(nginx, &mut before, &Expected::Not(refused)).await
        }
        _ => bring_back(nginx, &mut before, &expected(markers.as_ref(), to)).await,
    };
    match with_markers(nginx, markers.as_ref(), loaded).await {
        Ok(mut evidence) => {
            settle_undone(kept);
            evidence.insert(0, "the files are as before, byte for byte".to_owned());
            Ok(Applied::new(to, evidence, warnings))
        }
        Err(unproved) => {
            let undo = unproved.told(&before, nginx);
            Err(not_brought_back(nginx, &kept, message(), undo))
        }
    }
}

/// What nginx shows once it has loaded what stands on disk, which is `to`.
fn expected(markers: Option<&Markers>, to: Generation) -> Expected {
    match markers {
        Some(markers) => Expected::Shape(markers.shape.clone()),
        None => Expected::Served(to),
    }
}

/// How many services the file on disk routes, for the deadline.
fn services(config: &Path) -> usize {
    match super::head(config) {
        Ok(Head::Intact { splits, .. }) => splits.len(),
        Ok(Head::Edited { .. } | Head::Foreign) | Err(_) => 0,
    }
}

impl Unproved {
    fn told(self, before: &Before, nginx: &Nginx) -> String {
        match self {
            Self::Gone => "nginx does not run any more".to_owned(),
            Self::NotTaken(seen) => with_log(seen, before.log.as_ref(), nginx),
        }
    }
}
