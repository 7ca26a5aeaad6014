//! The way back to what the last change replaced, byte for byte, or to what stands on disk: for a change that could not be
//! recorded or was interrupted. Renders nothing, since the configuration may have been edited since.

use std::fs;

use super::super::install::{Ended, LastGood, generation_of};
use super::super::{Applied, ApplyError, Foreign};
use super::process::Master;
use super::reload::{self, Unproved};
use super::restore::{not_brought_back, settle_undone};
use super::socket::{Said, SocketError};
use super::{Haproxy, elders, position};
use crate::domain::{Generation, describe};
use crate::render::{HaproxyPosition, haproxy_shape};

/// [`super::super::Balancer::revert`]: `to` is whole on disk, or is what the last change replaced. The map tells which
/// generation the files are: it goes with every change, the configuration with a new shape alone.
pub(super) async fn revert(
    haproxy: &Haproxy,
    to: Generation,
    foreign: Foreign,
) -> Result<Option<Applied>, ApplyError> {
    let map = haproxy.map();
    let kept = LastGood::kept(&haproxy.state_dir)?;
    let said = haproxy.socket(&map).look().await;
    let mut left_open = None;
    if let Some((ended, kept)) = kept {
        let was = kept.generation(&map);
        if kept.replaced_by() != Some(to) && was == Some(to) {
            let put_back = put_back(haproxy, kept, to, foreign, said);
            return put_back.await.map(Some);
        }
        // the process that installed it may have died between two files
        let serves = said.as_ref().ok().and_then(|said| said.position.generation);
        if ended == Ended::No && serves != Some(to) {
            return Ok(None);
        }
        left_open = (ended == Ended::No).then_some(kept);
    }
    let stands = fs::read(&map).is_ok_and(|bytes| generation_of(&bytes) == to);
    if to == Generation::default() || !stands {
        return Ok(None);
    }
    let said = match said {
        Ok(said) => said,
        Err(error) => return Err(haproxy.unreachable(error).await),
    };
    match as_on_disk(haproxy, &said).await {
        Ok(Back { evidence, warnings }) => {
            // left open, the next change would take the files before `to` for the last good ones
            if let Some(kept) = left_open {
                kept.end(to)?;
            }
            Ok(Some(Applied::new(to, evidence, warnings)))
        }
        Err(message) => Err(ApplyError::Unchanged {
            message,
            source: None,
        }),
    }
}

/// The files that the last change replaced, and the shape and position in them.
async fn put_back(
    haproxy: &Haproxy,
    kept: LastGood,
    to: Generation,
    foreign: Foreign,
    said: Result<Said, SocketError>,
) -> Result<Applied, ApplyError> {
    let refused = kept.replaced_by().unwrap_or_default();
    let mut warnings = kept.spare(&haproxy.state_dir, refused, foreign)?;
    let message = || format!("generation {to} was to be brought back");
    if let Err(error) = kept.restore() {
        let undo = describe(&error);
        return Err(not_brought_back(haproxy, &kept, message(), undo));
    }
    let said = match said {
        Ok(said) => said,
        // it starts with these files
        Err(error) => return Err(haproxy.unreachable(error).await),
    };
    match as_on_disk(haproxy, &said).await {
        Ok(mut back) => {
            settle_undone(kept);
            back.evidence
                .insert(0, "the files are as before, byte for byte".to_owned());
            warnings.append(&mut back.warnings);
            Ok(Applied::new(to, back.evidence, warnings))
        }
        Err(undo) => Err(not_brought_back(haproxy, &kept, message(), undo)),
    }
}

/// What was seen on the way back.
struct Back {
    evidence: Vec<String>,
    warnings: Vec<String>,
}

/// Brings the running worker to what stands on disk, by a reload only where its shape is another one. The error says what was
/// seen.
async fn as_on_disk(haproxy: &Haproxy, said: &Said) -> Result<Back, String> {
    let map = fs::read_to_string(haproxy.map()).unwrap_or_default();
    let keys = HaproxyPosition::of(map.lines().filter(|line| !line.starts_with('#'))).to_keys();
    let config = fs::read_to_string(&haproxy.settings.config).unwrap_or_default();
    let shape = haproxy_shape(&config);
    let master = Master::find(&haproxy.settings.pid).await;
    let mut evidence = Vec::new();
    if said.shape.as_deref() != shape {
        let master = master.as_ref().map_err(ToString::to_string)?;
        match reload::into(haproxy, master, shape, reload::within(keys.len())).await {
            Ok((said, how)) => evidence.push(format!("{how}; worker {} has taken over", said.pid)),
            Err(Unproved::NotTaken(seen)) => return Err(seen),
            Err(Unproved::Untold(error)) => return Err(error.to_string()),
        }
    }
    let Some(shape) = shape else {
        evidence.push("HAProxy runs without turnout's configuration, as before".to_owned());
        return Ok(Back {
            evidence,
            warnings: Vec::new(),
        });
    };
    // without it workers from before a reload are not told, of which `put` warns
    let master = master.ok();
    let now = position::put(haproxy, master.as_ref(), &keys)
        .await
        .map_err(|error| describe(&error))?;
    evidence.push(format!(
        "runtime socket: worker {} has generation {} with the shape {shape}",
        now.pid,
        now.position.generation.unwrap_or_default()
    ));
    // they were told of what is taken back here
    let warnings = elders::follow(haproxy, master.as_ref(), &now, &keys).await;
    Ok(Back { evidence, warnings })
}
