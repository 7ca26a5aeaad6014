//! The state directory, what is remembered there, and whether the clock fits it.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use jiff::{Timestamp, ToSpan};

use super::finding::{Finding, said};
use crate::cli::table;
use crate::store::{Origin, Store};

/// The state directory, or the nearest folder above it where it is yet to be made.
pub(super) fn directory(dir: &Path, findings: &mut Vec<Finding>) {
    let Some(existing) = dir.ancestors().find(|folder| folder.exists()) else {
        findings.push(Finding::wrong(
            "state",
            format_args!("{} has no folder above it", dir.display()),
            "set state.dir to a folder that can be made",
        ));
        return;
    };
    match std::fs::metadata(existing) {
        Ok(meta) if existing == dir && meta.permissions().mode() & 0o002 != 0 => {
            findings.push(Finding::wrong(
                "state",
                format_args!("everybody may write to {}", dir.display()),
                &format!("chmod o-w {}", dir.display()),
            ));
        }
        Ok(meta) if !meta.is_dir() => findings.push(Finding::wrong(
            "state",
            format_args!("{} is not a folder", existing.display()),
            "set state.dir to a folder",
        )),
        Ok(meta) => match tempfile::tempfile_in(existing) {
            Ok(_) if existing == dir => {
                findings.push(Finding::fine(
                    "state",
                    format_args!("{} can be written", dir.display()),
                ));
            }
            Ok(_) => findings.push(Finding::fine(
                "state",
                format_args!("{} will be made by the first change", dir.display()),
            )),
            Err(error) => findings.push(Finding::wrong(
                "state",
                format_args!("{} cannot be written: {error}", existing.display()),
                &format!(
                    "run turnout as the owner (uid {}), or give this user the folder",
                    meta.uid()
                ),
            )),
        },
        Err(error) => findings.push(Finding::wrong(
            "state",
            format_args!("{} cannot be looked at: {error}", existing.display()),
            "run turnout as its owner",
        )),
    }
}

/// True if it is the rights that are missing.
fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let is = |error: &(dyn std::error::Error + 'static)| {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        kind == Some(io::ErrorKind::PermissionDenied)
    };
    is(error) || error.source().is_some_and(is_denied)
}

/// What is remembered, and whether the clock fits it: times in the future make every "since" a lie.
pub(super) fn state(store: &Store, findings: &mut Vec<Finding>) {
    let loaded = match store.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            let advice = if is_denied(&error) {
                "run turnout as the owner of state.dir; nothing is wrong with the file as far as can be seen"
            } else {
                "restore state.json from a backup, or move it away to start from what is served"
            };
            findings.push(Finding::wrong("state", said(&error), advice));
            return;
        }
    };
    match &loaded.origin {
        Origin::Fresh => findings.push(Finding::fine("state", "nothing was applied yet")),
        Origin::File => findings.push(Finding::fine(
            "state",
            format_args!("generation {}", loaded.state.generation),
        )),
        Origin::Backup(reason) | Origin::Journal(reason) => findings.push(Finding::note(
            "state",
            format_args!("state.json is unreadable ({reason}); an older source was used"),
            "the next change writes it anew",
        )),
    }
    if let Some(intent) = &loaded.open {
        findings.push(Finding::note(
            "state",
            format_args!(
                "{} to generation {} by {} has no outcome: it is being made, or its process died",
                intent.action, intent.generation, intent.actor
            ),
            "the next change settles it",
        ));
    }
    let now = Timestamp::now();
    let soon = now.checked_add(1.minute()).unwrap_or(now);
    let ahead = loaded
        .state
        .services
        .values()
        .map(|service| service.since)
        .find(|since| *since > soon);
    findings.push(match ahead {
        Some(since) => Finding::wrong(
            "clock",
            format_args!("it is {now}, and the last change was at {since}"),
            "set the clock (timedatectl), then turn NTP on",
        ),
        None => Finding::fine("clock", table::second(now)),
    });
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn looked_at(dir: &Path) -> Vec<Finding> {
        let mut findings = Vec::new();
        directory(dir, &mut findings);
        findings
    }

    #[test]
    fn a_directory_that_everybody_may_write_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let found = looked_at(&open);
        assert_eq!(found[0].verdict, Verdict::Wrong);
        assert!(found[0].way_out.starts_with("chmod o-w "));
    }

    #[test]
    fn a_directory_that_is_yet_to_be_made_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        let found = looked_at(&folder.path().join("a/b"));
        assert_eq!(found[0].verdict, Verdict::Fine);
        assert!(found[0].found.ends_with("will be made by the first change"));
        assert!(!folder.path().join("a").exists());
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_wrong() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(looked_at(file.path())[0].verdict, Verdict::Wrong);
    }
}
