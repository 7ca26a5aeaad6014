//! `turnout doctor`: what would keep turnout from working here, each with the way out. Looks, and changes nothing but a
//! probe file in the state directory that is gone again.

mod carrier;

use std::fmt::Display;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use jiff::{Timestamp, ToSpan};
use serde::Serialize;

use super::output::{self, BAD, DIM, GOOD, MIND};
use super::table::{self, Page};
use super::{CliError, Globals, target};
use crate::api::client::Client;
use crate::config::{Config, Mode};
use crate::exit::{Chain, ExitCode};
use crate::store::{Origin, Store};

/// How a finding is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Fine,
    /// Worth knowing.
    Note,
    /// Keeps turnout from working.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    verdict: Verdict,
    /// In a word: `configuration`, `state`, `balancer` …
    what: &'static str,
    /// What was found.
    found: String,
    /// What to do about it; empty where nothing is to be done.
    way_out: String,
}

pub(super) async fn run(globals: &Globals) -> Result<ExitCode, CliError> {
    let mut findings = Vec::new();
    match target::config(globals) {
        Err(error) => findings.push(Finding::wrong(
            "configuration",
            said(&error),
            "put that right; `turnout init` writes a first configuration",
        )),
        Ok(config) => {
            configuration(&config, &mut findings);
            let store = Store::new(config.state_dir.clone());
            directory(&config.state_dir, &mut findings);
            state(&store, &mut findings);
            let daemon = locks(globals, &config, &store, &mut findings).await;
            carrier::carrier(&config, &store, daemon, &mut findings).await;
        }
    }
    let wrong = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Wrong);
    output::value(globals.format(), &findings, |findings| view(findings))?;
    Ok(if wrong { ExitCode::No } else { ExitCode::Done })
}

impl Finding {
    fn fine(what: &'static str, found: impl Display) -> Self {
        Self {
            verdict: Verdict::Fine,
            what,
            found: found.to_string(),
            way_out: String::new(),
        }
    }

    fn note(what: &'static str, found: impl Display, way_out: &str) -> Self {
        Self {
            verdict: Verdict::Note,
            what,
            found: found.to_string(),
            way_out: way_out.to_owned(),
        }
    }

    fn wrong(what: &'static str, found: impl Display, way_out: &str) -> Self {
        Self {
            verdict: Verdict::Wrong,
            ..Self::note(what, found, way_out)
        }
    }
}

/// An error with its causes, on one line.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    format!("{:#}", Chain(error))
}

fn view(findings: &[Finding]) -> String {
    let mut page = Page::default();
    for finding in findings {
        let (ink, glyph) = match finding.verdict {
            Verdict::Fine => (GOOD, '✔'),
            Verdict::Note => (MIND, '!'),
            Verdict::Wrong => (BAD, '✖'),
        };
        let found = finding.found.replace('\n', "\n                  ");
        page.line(format_args!(
            "{ink}{glyph}{ink:#} {:<15} {found}",
            finding.what
        ));
        if !finding.way_out.is_empty() {
            page.line(format_args!("{DIM}{:<17} → {}{DIM:#}", "", finding.way_out));
        }
    }
    page.finish()
}

fn configuration(config: &Config, findings: &mut Vec<Finding>) {
    let from = match &config.mode {
        Mode::File(path) => path.display().to_string(),
        Mode::Environment => "the environment".to_owned(),
    };
    findings.push(Finding::fine(
        "configuration",
        format_args!("{from}: valid, services: {}", config.services.len()),
    ));
    for key in &config.not_in_force {
        findings.push(Finding::note(
            "configuration",
            format_args!("{} is not in force: {}", key.key, key.consequence),
            "",
        ));
    }
}

/// The state directory, or the nearest folder above it where it is yet to be made.
fn directory(dir: &Path, findings: &mut Vec<Finding>) {
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

/// What is remembered, and whether the clock fits it: times in the future make every "since" a lie.
fn state(store: &Store, findings: &mut Vec<Finding>) {
    let loaded = match store.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            findings.push(Finding::wrong(
                "state",
                said(&error),
                "restore state.json from a backup, or move it away to start from what is served",
            ));
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

/// Whether a daemon holds the state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Daemon {
    /// One does, or that cannot be told, which was said.
    Told,
    /// None does: what that means depends on the balancer.
    None,
}

async fn locks(
    globals: &Globals,
    config: &Config,
    store: &Store,
    findings: &mut Vec<Finding>,
) -> Daemon {
    let status = match store.lock_status() {
        Ok(status) => status,
        Err(error) => {
            findings.push(Finding::wrong(
                "locks",
                said(&error),
                "put that right; nothing can be changed before",
            ));
            return Daemon::Told;
        }
    };
    if let Some(holder) = &status.change {
        findings.push(Finding::note(
            "change lock",
            format_args!("held by {holder}"),
            "wait for it; a crashed holder's lock is free at once",
        ));
    }
    let Some(holder) = status.serve else {
        return Daemon::None;
    };
    match ask(globals, config).await {
        Ok(found) => findings.push(Finding::fine("daemon", format_args!("{holder}: {found}"))),
        Err(error) => findings.push(Finding::wrong(
            "daemon",
            format_args!("{holder} runs, but: {}", said(&error)),
            "look at its log, and at control.listen and the token",
        )),
    }
    Daemon::Told
}

/// Asks the daemon who it is.
async fn ask(globals: &Globals, config: &Config) -> Result<String, CliError> {
    let address = match globals.server()? {
        Some(address) => address,
        None => target::address_of(config)?,
    };
    let identity = Client::new(&address, globals.token()?)?.identity().await?;
    Ok(format!("turnout {} answers at {address}", identity.version))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn findings_are_a_list_with_the_way_out_below() {
        let text = view(&[
            Finding::fine("clock", "2026"),
            Finding::wrong("balancer", "nginx does not run", "start nginx"),
        ]);
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "✔ clock           2026\n✖ balancer        nginx does not run\n                  → start nginx"
        );
    }
}
