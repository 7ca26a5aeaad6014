//! The folder of the markers: a link for each service, whose target's name is its position, and one for the generation.
//!
//! ```text
//! /etc/nginx/turnout/position/shop        -> .blue
//!                             blog        -> .w2500-064-029
//!                             _generation -> .17
//! ```
//!
//! nginx follows a link to its end, so the empty file behind it has to be there; whoever reads one sees it whole, because it
//! is replaced by a rename. The generation comes last: who sees it sees all others. A target that is left behind stays for
//! [`KEPT`], since a worker may be between reading the link and looking at its target.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::super::install::{InstallError, temporary};

/// The link that says the generation. No service has such a name.
pub(super) const GENERATION: &str = "_generation";

/// How long the target of a link that was replaced stays: a million times what a request needs to follow it.
const KEPT: Duration = Duration::from_mins(10);

/// A link's name and what it says.
pub(super) type Link = (String, String);

/// What a link says; `None` if it is not there, or is no link of this kind.
pub(super) fn read(folder: &Path, name: &str) -> Option<String> {
    let target = fs::read_link(folder.join(name)).ok()?;
    let said = target.to_str()?.strip_prefix('.')?.to_owned();
    // without it nginx does not get to the end
    folder.join(&target).exists().then_some(said)
}

/// Sets these links in their order; those that say it already are left alone. The lines tell what was set.
pub(super) fn set(folder: &Path, links: &[Link]) -> Result<Vec<String>, InstallError> {
    let stale: Vec<&Link> = links
        .iter()
        .filter(|(name, said)| read(folder, name).as_ref() != Some(said))
        .collect();
    if stale.is_empty() {
        return Ok(Vec::new());
    }
    make(folder)?;
    sweep(folder);
    let mut lines = Vec::with_capacity(stale.len());
    for (name, said) in stale {
        if name == GENERATION {
            // not before all others are on the disk
            sync(folder)?;
        }
        set_one(folder, name, said)?;
        lines.push(format!("{name} {said}"));
    }
    sync(folder)?;
    Ok(lines)
}

fn set_one(folder: &Path, name: &str, said: &str) -> Result<(), InstallError> {
    let (link, target) = (folder.join(name), format!(".{said}"));
    let end = folder.join(&target);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&end);
    match made {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(InstallError::of("create", &end, source)),
    }
    if let Some(left) = read(folder, name) {
        touch(&folder.join(format!(".{left}")));
    }
    let new = temporary(&link);
    match fs::remove_file(&new) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(InstallError::of("remove", &new, source)),
    }
    symlink(&target, &new)
        .and_then(|()| fs::rename(&new, &link))
        .map_err(|source| {
            // the next change sweeps it; the first failure is the one to tell
            fs::remove_file(&new).ok();
            InstallError::of("replace", &link, source)
        })
}

/// From now on it is one that was left.
fn touch(end: &Path) {
    // an end that keeps its time goes a little early, long after any request that might be on its way there
    if let Ok(file) = OpenOptions::new().write(true).open(end) {
        file.set_modified(SystemTime::now()).ok();
    }
}

/// The folder and the one above it, where they are missing; the workers, of whatever user, may look into both.
fn make(folder: &Path) -> Result<(), InstallError> {
    let above = folder.parent().into_iter();
    for dir in above.chain([folder]) {
        match fs::create_dir(dir) {
            Ok(()) => fs::set_permissions(dir, Permissions::from_mode(0o755))
                .map_err(|source| InstallError::of("set the mode of", dir, source))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(InstallError::of("make the folder", dir, source)),
        }
    }
    Ok(())
}

fn sync(folder: &Path) -> Result<(), InstallError> {
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .map_err(|source| InstallError::of("sync", folder, source))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Removes targets that no link leads to and that were left long ago.
fn sweep(folder: &Path) {
    let entries = entries(folder);
    let used: BTreeSet<PathBuf> = entries
        .iter()
        .filter_map(|path| fs::read_link(path).ok())
        .collect();
    for path in &entries {
        let is_used = path
            .file_name()
            .is_none_or(|name| used.contains(Path::new(name)));
        let age = fs::symlink_metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|left| left.elapsed().ok());
        if is_ours(path) && !is_used && age.is_some_and(|age| age > KEPT) {
            // one that stays harms nobody
            fs::remove_file(path).ok();
        }
    }
}

/// Removes the links of services that are not among `names`, which nginx does not ask for any more.
pub(super) fn keep_only(folder: &Path, names: &BTreeSet<String>) {
    for path in entries(folder) {
        let is_link = path.is_symlink() && !is_ours(&path);
        let name = path.file_name().and_then(OsStr::to_str);
        if is_link && name.is_none_or(|name| name != GENERATION && !names.contains(name)) {
            // one that stays says something of nobody
            fs::remove_file(path).ok();
        }
    }
}

/// Removes everything, for a configuration that has no markers.
pub(super) fn clear(folder: &Path) {
    for path in entries(folder) {
        if path.is_symlink() || is_ours(&path) {
            // what stays is not read by anybody
            fs::remove_file(path).ok();
        }
    }
    // somebody else's file keeps it
    fs::remove_dir(folder).ok();
}

/// A target: its name begins with a dot and nothing is in it. So are links that a killed turnout left.
fn is_ours(path: &Path) -> bool {
    let is_hidden = path
        .file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| name.starts_with('.'));
    is_hidden
        && fs::symlink_metadata(path).is_ok_and(|metadata| {
            metadata.is_symlink() || (metadata.is_file() && metadata.len() == 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, said: &str) -> Link {
        (name.to_owned(), said.to_owned())
    }

    #[test]
    fn links_are_set_in_order_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("turnout/position");
        let links = [link("shop", "blue"), link(GENERATION, "17")];
        assert_eq!(
            set(&folder, &links).unwrap(),
            ["shop blue", "_generation 17"]
        );
        assert_eq!(read(&folder, "shop").as_deref(), Some("blue"));
        assert_eq!(set(&folder, &links).unwrap(), Vec::<String>::new());
        assert_eq!(
            set(&folder, &[link("shop", "green")]).unwrap(),
            ["shop green"]
        );
        assert!(folder.join(".blue").exists(), "a request may be on its way");
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);

        fs::remove_file(folder.join(".green")).unwrap();
        assert_eq!(read(&folder, "shop"), None);
        assert_eq!(
            set(&folder, &[link("shop", "green")]).unwrap(),
            ["shop green"]
        );
        clear(&folder);
        assert!(!folder.exists());
    }

    #[test]
    fn a_target_left_long_ago_goes_and_a_used_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("turnout/position");
        let old = SystemTime::now() - KEPT - KEPT;
        let age = |name: &str| {
            let file = OpenOptions::new()
                .write(true)
                .open(folder.join(name))
                .unwrap();
            file.set_modified(old).unwrap();
        };
        set(&folder, &[link("shop", "blue"), link("blog", "green")]).unwrap();
        age(".blue");
        age(".green");
        // left now
        set(&folder, &[link("shop", "green")]).unwrap();
        assert!(folder.join(".blue").exists());
        age(".blue");
        set(&folder, &[link("blog", "w2500-064-029")]).unwrap();
        assert!(!folder.join(".blue").exists());
        assert!(folder.join(".green").exists());
        keep_only(&folder, &BTreeSet::from(["shop".to_owned()]));
        assert_eq!(read(&folder, "blog"), None);
        assert_eq!(read(&folder, "shop").as_deref(), Some("green"));
    }
}
