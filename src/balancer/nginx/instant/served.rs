//! What the workers say that the markers say, asked through the private listener: a link that they cannot read is as good as
//! none, whatever root sees.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::super::super::Served;
use super::super::prove::{self, Said, Silence};
use super::super::{Nginx, intact_generation};
use super::{Markers, folder};
use crate::domain::{Generation, ServiceName, Split, describe};
use crate::render::Marker;

/// Ends what is said of a marker that was not found.
const LOST: &str = "-lost";

/// What a worker says of one service.
#[derive(Debug)]
pub(super) struct At {
    /// The marker as it is read, or what stands for it where there is none: see [`LOST`].
    pub(super) marker: String,
    /// The color that a request without a key gets.
    color: String,
}

pub(super) async fn ask(prove: SocketAddr, name: &ServiceName) -> Result<At, Silence> {
    let body = prove::page(prove, &format!("/at/{name}")).await?;
    let mut words = body.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(said), Some(marker), Some(color)) if said == name.as_str() => Ok(At {
            marker: marker.to_owned(),
            color: color.to_owned(),
        }),
        _ => Err(Silence::Foreign(prove)),
    }
}

/// What is served, where `said` names a shape.
pub(in super::super) async fn served(nginx: &Nginx, said: &Said) -> Served {
    match splits(nginx, said).await {
        Ok(splits) => Served::Generation {
            generation: said.generation,
            splits,
        },
        Err(reason) => Served::Foreign { reason },
    }
}

async fn splits(nginx: &Nginx, said: &Said) -> Result<BTreeMap<ServiceName, Split>, String> {
    let folder = folder(nginx);
    if said.generation == Generation::default() {
        return Err(unreadable(&folder));
    }
    let address = nginx.settings.prove;
    let told = |silence: Silence| describe(&silence);
    // held against the file, where that is of the same generation: a split does not say which colors are refused
    let on_disk = (intact_generation(&nginx.settings.config) == Some(said.generation))
        .then(|| Markers::on_disk(nginx))
        .flatten();
    let mut splits = BTreeMap::new();
    for number in 0..said.pages {
        let names = prove::page(address, &format!("/{number}"))
            .await
            .map_err(told)?;
        for name in names.lines() {
            let name: ServiceName = name
                .parse()
                .map_err(|_no_name| describe(&Silence::Foreign(address)))?;
            let at = ask(address, &name).await.map_err(told)?;
            let wanted = on_disk.as_ref().and_then(|markers| markers.of.get(&name));
            splits.insert(name.clone(), split(&folder, &name, &at, wanted)?);
        }
    }
    let again = prove::generation(address).await.map_err(told)?;
    if again.generation == said.generation && again.shape == said.shape {
        Ok(splits)
    } else {
        Err("a change is under way".to_owned())
    }
}

fn split(
    folder: &Path,
    name: &ServiceName,
    at: &At,
    wanted: Option<&Marker>,
) -> Result<Split, String> {
    let path = folder.join(name.as_str());
    let path = path.display();
    if let Some(standing) = at.marker.strip_suffix(LOST) {
        return Err(format!(
            "nginx finds no position at {path}, which was removed or broken by hand, and routes {name} as at its last start or \
             reload ({standing})"
        ));
    }
    let marker: Marker = at
        .marker
        .parse()
        .map_err(|error| format!("{path} says {}: {error}", at.marker))?;
    let split = match marker.split.whole() {
        // what the running routing makes of it
        Some(_) => Split::all(
            at.color
                .parse()
                .map_err(|error| format!("nginx routes {name} to {:?}: {error}", at.color))?,
        ),
        None => marker.split,
    };
    match wanted {
        Some(wanted) if wanted.split == split && *wanted != marker => Err(format!(
            "{path} says {marker}, and {wanted} was set: it was changed by hand"
        )),
        Some(_) | None => Ok(split),
    }
}

/// What to do where the workers do not find the markers.
pub(super) fn unreadable(folder: &Path) -> String {
    match closed(folder) {
        Some(dir) => format!(
            "nginx's workers do not find the positions in {}: {} is closed to other users, and the workers are not root. Open \
             it (chmod o+x {}), or set balancer.nginx.snippets to a folder that they can reach",
            folder.display(),
            dir.display(),
            dir.display()
        ),
        None => format!(
            "nginx's workers do not find the positions in {}: the folder was removed or changed by hand, or nginx sees \
             another one there (a container without it, a chroot)",
            folder.display()
        ),
    }
}

/// The nearest folder on the way to `folder` that other users may not look into.
pub(super) fn closed(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|dir| {
        std::fs::metadata(dir).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 == 0)
    })
}
