//! One thing that doctor looked at: how it stands, and the way out; and the list of them for people.

use std::fmt::Display;

use serde::Serialize;

use crate::cli::output::{BAD, DIM, GOOD, MIND};
use crate::cli::table::Page;
use crate::exit::Chain;

/// How a finding is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Fine,
    /// Worth knowing.
    Note,
    /// Keeps turnout from working.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    /// In a word: `configuration`, `state`, `balancer` …
    pub(super) what: &'static str,
    /// What was found.
    pub(super) found: String,
    /// What to do about it; empty where nothing is to be done.
    pub(super) way_out: String,
}

impl Finding {
    pub(super) fn fine(what: &'static str, found: impl Display) -> Self {
        Self {
            verdict: Verdict::Fine,
            what,
            found: found.to_string(),
            way_out: String::new(),
        }
    }

    pub(super) fn note(what: &'static str, found: impl Display, way_out: &str) -> Self {
        Self {
            verdict: Verdict::Note,
            what,
            found: found.to_string(),
            way_out: way_out.to_owned(),
        }
    }

    pub(super) fn wrong(what: &'static str, found: impl Display, way_out: &str) -> Self {
        Self {
            verdict: Verdict::Wrong,
            ..Self::note(what, found, way_out)
        }
    }
}

/// An error with its causes, on one line.
pub(super) fn said(error: &(dyn std::error::Error + 'static)) -> String {
    format!("{:#}", Chain(error))
}

pub(super) fn view(findings: &[Finding]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
