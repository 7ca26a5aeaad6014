//! What stands on disk and what is served. Looks, and changes nothing.

use std::fs;
use std::io;
use std::path::Path;

use super::super::{Disk, Served};
use super::Haproxy;
use crate::render::{self, Head};

/// The map tells where the traffic is, the configuration only whether it was touched.
pub(super) fn disk(haproxy: &Haproxy) -> Disk {
    let map = haproxy.map();
    let (generation, splits) = match head(&map) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Disk::Absent,
        Err(error) => return unreadable(&map, &error),
        Ok(Head::Intact {
            generation: Some(generation),
            splits,
        }) => (generation, splits),
        Ok(Head::Edited { generation }) => {
            return Disk::Edited {
                generation: generation.unwrap_or_default(),
                path: map,
            };
        }
        Ok(Head::Foreign | Head::Intact { .. }) => return Disk::Foreign,
    };
    match head(&haproxy.settings.config) {
        Ok(Head::Intact { .. }) => Disk::Intact { generation, splits },
        Ok(Head::Edited { .. }) => Disk::Edited {
            generation,
            path: haproxy.settings.config.clone(),
        },
        Ok(Head::Foreign) if is_blank(&haproxy.settings.config) => Disk::Absent,
        Ok(Head::Foreign) => Disk::Foreign,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Disk::Absent,
        Err(error) => unreadable(&haproxy.settings.config, &error),
    }
}

/// What the running worker says, if its shape is the one on disk: with another one its position means another thing.
pub(super) async fn served(haproxy: &Haproxy) -> Served {
    let map = haproxy.map();
    let said = match haproxy.socket(&map).look().await {
        Ok(said) => said,
        Err(error) => {
            return Served::Unreachable {
                reason: haproxy.unreachable(error).await.to_string(),
            };
        }
    };
    let foreign = |reason: String| Served::Foreign { reason };
    let config = haproxy.settings.config.display();
    match (&said.shape, said.position.generation) {
        (None, _) | (Some(_), None) => foreign(format!(
            "HAProxy runs without {config}, or was not reloaded since that was written"
        )),
        (Some(shape), Some(generation)) => {
            let on_disk = fs::read_to_string(&haproxy.settings.config).unwrap_or_default();
            if render::haproxy_shape(&on_disk) == Some(shape) {
                Served::Generation {
                    generation,
                    splits: said.position.splits,
                }
            } else {
                foreign(format!(
                    "HAProxy runs with the shape {shape} and {config} has another one: it was not reloaded since"
                ))
            }
        }
    }
}

fn head(path: &Path) -> io::Result<Head> {
    let bytes = fs::read(path)?;
    Ok(std::str::from_utf8(&bytes).map_or(Head::Foreign, Head::of))
}

fn is_blank(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.trim_ascii().is_empty())
}

fn unreadable(path: &Path, error: &io::Error) -> Disk {
    Disk::Unreadable {
        reason: format!("{}: {error}", path.display()),
    }
}
