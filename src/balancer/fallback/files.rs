//! The principal's files while it is gone: put for its next start, settled once the proxy that serves has taken the same, and
//! put back otherwise. Tells nobody.

use std::fs;
use std::path::Path;

use super::super::install::{Ended, LastGood, generation_of};
use super::super::{ApplyError, Foreign};
use crate::domain::{Generation, describe};

/// Files that stand on disk for a principal that is gone, not yet settled.
#[derive(Debug)]
#[must_use = "what was put is settled or taken back"]
pub struct Put {
    pub(in crate::balancer) last_good: LastGood,
    /// What a person should know although it worked.
    pub(in crate::balancer) warnings: Vec<String>,
    /// What was seen, such as `nginx.conf was checked through a copy of the main file`.
    pub(in crate::balancer) evidence: String,
}

impl Put {
    /// The same is served: the files stay. Returns what is to be told.
    pub(super) fn settle(self) -> (Vec<String>, String) {
        let mut warnings = self.warnings;
        if let Err(error) = self.last_good.settle() {
            warnings.push(format!("the change is in force, but: {error}"));
        }
        (warnings, self.evidence)
    }

    /// It is not served, because of `error`: the files go back.
    pub(super) fn take_back(self, error: ApplyError) -> ApplyError {
        match self.last_good.restore() {
            Ok(()) => {
                // without the mark the next change takes these same files for the last good ones, which they are
                drop(self.last_good.clear());
                error
            }
            Err(undo) => ApplyError::NotRestored {
                message: describe(&error),
                undo: describe(&undo),
                advice: format!("Put the files back: {}", self.last_good.by_hand()),
            },
        }
    }
}

/// Brings the files to generation `to`: they stand so, or are what the last change replaced. The lines are warnings; `None`:
/// nothing of `to` is left, and nothing was touched.
pub(super) fn bring_to(
    to: Generation,
    leading: &Path,
    state_dir: &Path,
    foreign: Foreign,
) -> Result<Option<Vec<String>>, ApplyError> {
    if let Some((ended, kept)) = LastGood::kept(state_dir)? {
        if kept.replaced_by() != Some(to) && kept.generation(leading) == Some(to) {
            let refused = kept.replaced_by().unwrap_or_default();
            let warnings = kept.spare(state_dir, refused, foreign)?;
            kept.restore()?;
            kept.clear()?;
            return Ok(Some(warnings));
        }
        // the process that installed it may have died between two files
        if ended == Ended::No {
            return Ok(None);
        }
    }
    let stands = fs::read(leading).is_ok_and(|bytes| generation_of(&bytes) == to);
    Ok((to != Generation::default() && stands).then(Vec::new))
}
