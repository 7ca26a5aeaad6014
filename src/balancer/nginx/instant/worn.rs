//! Markers that were lost: a folder that was wiped, or cleaned of what looked old and empty. Without them nginx routes as at its
//! last reload, and says so to nobody.
//!
//! What is missing or leads nowhere is set again, because nobody positions a service by that. A link that somebody has set
//! to another position is drift, which is told and stays. The file on disk says what they were, and must be the recorded one.

use super::super::super::Tended;
use super::super::Nginx;
use super::markers::{self, GENERATION, Link};
use super::{Markers, folder};
use crate::config::Switching;
use crate::domain::{Generation, describe};
use crate::render::Marker;

/// True if some are lost.
pub(in super::super) fn is_worn(nginx: &Nginx) -> bool {
    untouched(nginx).is_some_and(|markers| !markers.lost().is_empty())
}

/// Sets what is lost again, and proves what the workers read then. `recorded`: the generation that is in force.
pub(in super::super) async fn tend(nginx: &Nginx, recorded: Generation) -> Tended {
    let Some(markers) = untouched(nginx) else {
        return Tended::Nothing;
    };
    let lost = markers.lost();
    let Some((first, _)) = lost.first() else {
        return Tended::Nothing;
    };
    let what = format!(
        "{} of {} markers in {} were missing or led nowhere ({first} was the first): something removes files there, which nginx \
         reads for each request",
        lost.len(),
        markers.of.len() + 1,
        folder(nginx).display()
    );
    if markers.generation != recorded {
        return Tended::Failed(format!(
            "{what}; {} is of generation {} and {recorded} is recorded: run `turnout apply`",
            nginx.settings.config.display(),
            markers.generation
        ));
    }
    if let Err(error) = markers::set(&markers.folder, &lost) {
        let error = describe(&error);
        return Tended::Failed(format!("{what}; they could not be set again: {error}"));
    }
    let names = markers
        .of
        .keys()
        .filter(|name| lost.iter().any(|(lost, _)| lost == name.as_str()));
    match markers.prove(nginx, names).await {
        Ok(_) => Tended::PutRight(format!("{what}; they were set again")),
        Err(seen) => Tended::Failed(format!("{what}; they were set again, but {seen}")),
    }
}

/// What the file on disk wants, where it is as turnout wrote it.
fn untouched(nginx: &Nginx) -> Option<Markers> {
    if nginx.settings.switching != Switching::Instant {
        return None;
    }
    super::super::intact_generation(&nginx.settings.config)?;
    Markers::on_disk(nginx)
}

impl Markers {
    /// Those that say nothing, in their order.
    fn lost(&self) -> Vec<Link> {
        let mut links = self.links();
        links.retain(|(name, _)| match markers::read(&self.folder, name) {
            None => true,
            Some(said) if name == GENERATION => said.parse::<u64>().is_err(),
            Some(said) => said.parse::<Marker>().is_err(),
        });
        links
    }
}
