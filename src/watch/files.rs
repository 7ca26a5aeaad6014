//! What is watched, where that stands, and whether it changed.
//!
//! A change is told by stat (device, inode, size, times) and not by the name in an event: a rename over the file, a symbolic
//! link that is pointed elsewhere, and a folder that is replaced as a whole all look alike then.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Config;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Changed {
    /// The configuration file or one of its fragments; one may be new or gone.
    Config,
    /// A template.
    Template,
    /// The file that `state.follow` names.
    Followed,
    /// The state file.
    State,
    /// A certificate or a key.
    Certificate,
}

/// The files that are watched. All absolute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watched {
    /// The configuration file and the fragments that were read.
    pub config: Vec<PathBuf>,
    /// Folders and patterns whose files are fragments.
    pub include: Vec<PathBuf>,
    /// The templates in use.
    pub templates: Vec<PathBuf>,
    /// The followed file.
    pub followed: Option<PathBuf>,
    /// The state file; `None` where nobody else could write it.
    pub state: Option<PathBuf>,
    /// Certificates and keys of the embedded proxy.
    pub certificates: Vec<PathBuf>,
}

impl From<&Config> for Watched {
    fn from(config: &Config) -> Self {
        let nginx = config.balancer.nginx.template.iter();
        let haproxy = config.balancer.haproxy.template.iter();
        let shapes = config.shapes();
        Self {
            certificates: shapes
                .values()
                .filter_map(|shape| shape.tls.as_ref())
                .flat_map(|files| [files.cert.clone(), files.key.clone()])
                .collect(),
            config: config.files.clone(),
            include: config.include.clone(),
            templates: nginx.chain(haproxy).cloned().collect(),
            followed: config.follow.as_ref().map(|follow| follow.file.clone()),
            state: Some(config.state_dir.join("state.json")),
        }
    }
}

/// How one file stands; two that are equal are the same file with the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Print {
    Absent,
    There {
        device: u64,
        inode: u64,
        size: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
}

impl Print {
    fn of(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(meta) => Self::There {
                device: meta.dev(),
                inode: meta.ino(),
                size: meta.size(),
                modified: (meta.mtime(), meta.mtime_nsec()),
                changed: (meta.ctime(), meta.ctime_nsec()),
            },
            // a file that may not be looked at is as good as none until it may
            Err(_) => Self::Absent,
        }
    }
}

/// How all watched files stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prints(BTreeMap<Changed, BTreeMap<PathBuf, Print>>);

impl Prints {
    pub(super) fn of(watched: &Watched) -> Self {
        let print = |paths: &mut dyn Iterator<Item = PathBuf>| -> BTreeMap<PathBuf, Print> {
            paths.map(|path| (path.clone(), Print::of(&path))).collect()
        };
        let fragments = watched
            .include
            .iter()
            .flat_map(|include| fragments(include));
        Self(BTreeMap::from([
            (
                Changed::Config,
                print(&mut watched.config.iter().cloned().chain(fragments)),
            ),
            (
                Changed::Template,
                print(&mut watched.templates.iter().cloned()),
            ),
            (
                Changed::Followed,
                print(&mut watched.followed.iter().cloned()),
            ),
            (Changed::State, print(&mut watched.state.iter().cloned())),
            (
                Changed::Certificate,
                print(&mut watched.certificates.iter().cloned()),
            ),
        ]))
    }

    /// With what `before` says of the files that it knows.
    pub(super) fn known_from(mut self, before: &Self) -> Self {
        for (kind, prints) in &mut self.0 {
            for (path, print) in prints {
                if let Some(known) = before.0.get(kind).and_then(|known| known.get(path)) {
                    print.clone_from(known);
                }
            }
        }
        self
    }

    /// What stands otherwise than in `before`.
    pub(super) fn since(&self, before: &Self) -> Vec<Changed> {
        self.0
            .iter()
            .filter(|(kind, prints)| before.0.get(kind) != Some(prints))
            .map(|(kind, _)| *kind)
            .collect()
    }
}

/// The files that an entry of `include` may mean: those in its folder with its extension. Some more do no harm, since a
/// configuration that reads the same as before changes nothing.
fn fragments(include: &Path) -> Vec<PathBuf> {
    let extension = include.extension().filter(|_| !include.is_dir());
    let Ok(entries) = std::fs::read_dir(folder_of(include)) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| extension.is_none() || path.extension() == extension)
        .collect()
}

/// The folder of a pattern: what stands before the first part with a wildcard.
fn folder_of(include: &Path) -> PathBuf {
    if include.is_dir() {
        return include.to_owned();
    }
    let mut folder: PathBuf = include
        .components()
        .take_while(|part| {
            !part
                .as_os_str()
                .as_encoded_bytes()
                .iter()
                .any(|byte| matches!(byte, b'*' | b'?' | b'['))
        })
        .collect();
    if folder == include {
        folder.pop();
    }
    folder
}

/// The folders that must be watched so that every change of `watched` is noticed, with their inodes (a folder that was
/// replaced has another). Of one that does not exist yet, the nearest that does.
pub(super) fn folders(watched: &Watched) -> BTreeMap<PathBuf, (u64, u64)> {
    let files = watched
        .config
        .iter()
        .chain(&watched.templates)
        .chain(&watched.followed)
        .chain(&watched.state)
        .chain(&watched.certificates);
    let mut wanted: BTreeSet<PathBuf> =
        watched.include.iter().map(|path| folder_of(path)).collect();
    for file in files {
        wanted.extend(file.parent().map(Path::to_owned));
        // where a symbolic link leads to
        if let Ok(real) = file.canonicalize() {
            wanted.extend(real.parent().map(Path::to_owned));
        }
    }
    wanted
        .iter()
        .filter_map(|folder| {
            folder.ancestors().find_map(|ancestor| {
                let meta = std::fs::metadata(ancestor).ok()?;
                meta.is_dir()
                    .then(|| (ancestor.to_owned(), (meta.dev(), meta.ino())))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_pattern_ends_before_its_wildcard() {
        for (include, folder) in [
            ("/etc/turnout/services.d/*.yaml", "/etc/turnout/services.d"),
            ("/nonexistent/one.yaml", "/nonexistent"),
            ("/etc/turnout-?/x.yaml", "/etc"),
            ("/", "/"),
        ] {
            assert_eq!(
                folder_of(Path::new(include)),
                Path::new(folder),
                "{include}"
            );
        }
    }

    #[test]
    fn a_missing_folder_is_watched_from_the_nearest_that_exists() {
        let root = tempfile::tempdir().unwrap();
        let watched = Watched {
            followed: Some(root.path().join("a/b/c.json")),
            ..Watched::default()
        };
        let seen: Vec<_> = folders(&watched).into_keys().collect();
        assert_eq!(seen, [root.path()]);
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        let seen: Vec<_> = folders(&watched).into_keys().collect();
        assert_eq!(seen, [root.path().join("a/b")]);
    }
}
