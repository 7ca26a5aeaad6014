//! The folder of the snippets, which is turnout's own and so is made by the first apply that needs it. Any other folder
//! that is missing is a mistake in the configuration, and a message.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::install::{InstallError, parent};
use super::super::{ApplyError, RenderError, Rendered, RenderedFile};
use crate::domain::{RoutingTable, ServiceName};
use crate::render::{self, Head, NginxContext};

/// What the users' own server blocks include, for each service without a `listen`.
pub(super) fn snippets(
    folder: &Path,
    table: &RoutingTable,
    context: &NginxContext,
) -> Result<Vec<RenderedFile>, RenderError> {
    let file = |name: &ServiceName, text| RenderedFile {
        path: folder.join(format!("{name}.conf")),
        text,
    };
    let mut files = Vec::new();
    for (name, route) in &table.routes {
        if route.service.listen.is_none() {
            files.push(file(name, render::nginx_snippet(route, context)?));
        }
    }
    for (name, route) in &table.aliases {
        if route.service.listen.is_none() {
            files.push(file(name, render::nginx_alias_snippet(route, context)?));
        }
    }
    Ok(files)
}

/// The snippets that cannot be written yet for want of their folder. Nothing can include them by name before.
pub(super) fn waits_for_its_folder(file: &RenderedFile, snippets: &Path) -> bool {
    parent(&file.path) == snippets && !snippets.exists() && parent(snippets).is_dir()
}

/// The snippets of services that need none any more: turnout's, and not among what was rendered. What others put there is
/// left alone.
pub(super) fn forsaken(rendered: &Rendered, snippets: &Path) -> Vec<PathBuf> {
    // a folder that cannot be read holds nothing that could be removed
    let entries = fs::read_dir(snippets).into_iter().flatten().flatten();
    let wanted: BTreeSet<&Path> = rendered.files.iter().map(|file| &*file.path).collect();
    let mut forsaken: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| !wanted.contains(&**path) && is_named_as_ours(path))
        .filter(|path| {
            matches!(
                super::head(path),
                Ok(Head::Intact {
                    generation: None,
                    ..
                } | Head::Edited { generation: None })
            )
        })
        .collect();
    forsaken.sort();
    forsaken
}

fn is_named_as_ours(path: &Path) -> bool {
    let stem = path.file_stem().and_then(OsStr::to_str);
    path.extension() == Some(OsStr::new("conf"))
        && stem.is_some_and(|stem| stem.parse::<ServiceName>().is_ok())
}

/// The folder, made for one apply: gone again with it unless that [keeps](Made::keep) it.
#[derive(Debug)]
pub(super) struct Made(Option<PathBuf>);

impl Made {
    /// Makes the folder if `rendered` needs it and it is not there.
    pub(super) fn for_the_snippets_of(
        rendered: &Rendered,
        snippets: &Path,
    ) -> Result<Self, ApplyError> {
        let needed = rendered
            .files
            .iter()
            .any(|file| waits_for_its_folder(file, snippets));
        if !needed {
            return Ok(Self(None));
        }
        match fs::create_dir(snippets) {
            Ok(()) => Ok(Self(Some(snippets.to_owned()))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Self(None)),
            Err(error) => Err(InstallError::of("make the folder", snippets, error).into()),
        }
    }

    /// What was made stays.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // one that is not empty is in use after all
            fs::remove_dir(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Generation;

    fn rendered(path: PathBuf) -> Rendered {
        Rendered {
            generation: Generation::default(),
            files: vec![RenderedFile {
                path,
                text: String::new(),
            }],
        }
    }

    #[test]
    fn the_folder_is_made_when_it_is_needed_and_goes_with_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let snippets = dir.path().join("turnout");
        let other = rendered(dir.path().join("turnout.conf"));
        Made::for_the_snippets_of(&other, &snippets).unwrap().keep();
        assert!(!snippets.exists());

        let needs_it = rendered(snippets.join("shop.conf"));
        let made = Made::for_the_snippets_of(&needs_it, &snippets).unwrap();
        assert!(snippets.is_dir());
        drop(made);
        assert!(!snippets.exists());

        Made::for_the_snippets_of(&needs_it, &snippets)
            .unwrap()
            .keep();
        assert!(snippets.is_dir());
        // one that was there before is left alone
        drop(Made::for_the_snippets_of(&needs_it, &snippets).unwrap());
        assert!(snippets.is_dir());
    }

    #[test]
    fn a_whole_missing_tree_is_a_mistake_and_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let snippets = dir.path().join("a/b");
        let needs_it = rendered(snippets.join("shop.conf"));
        Made::for_the_snippets_of(&needs_it, &snippets)
            .unwrap()
            .keep();
        assert!(!dir.path().join("a").exists());
    }
}
