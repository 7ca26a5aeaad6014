//! What a report is made of: plain, and the same for a rollout that ran and for one that is replayed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Color, Paired, Verdict};
use crate::rollout::judge::replay::Look;

/// One rollout, as far as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which rollout; of a replay, the name of what was replayed.
    pub id: String,
    /// Whose traffic.
    pub service: String,
    /// The color that was tried; the other one is the stable one. `None` where it is not known.
    pub candidate: Option<Color>,
    /// What the candidate runs, if known.
    pub new_version: Option<String>,
    /// What the stable color runs, if known.
    pub baseline_version: Option<String>,
    /// `thresholds` or `sequential`.
    pub judge: String,
    /// How it stands: `progressing`, `holding`, `promoted`, …
    pub status: String,
    /// Why it stands so.
    pub reason: String,
    /// When it began.
    pub began: Timestamp,
    /// When it was over; `None` while it runs.
    pub ended: Option<Timestamp>,
    /// The weights it was at, oldest first.
    pub steps: Vec<Step>,
    /// What the judge said, oldest first.
    pub verdicts: Vec<Verdict>,
    /// What both colors did, oldest first. Empty where figures were pushed: then there are no rates to draw.
    pub counts: Vec<Paired>,
    /// The evidence over time, oldest first. Empty where it is not told apart from what the judge said: then that is drawn.
    #[serde(default)]
    pub looks: Vec<Look>,
}

/// The candidate's weight from a time on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// From when on.
    pub at: Timestamp,
    /// Percent, 0 to 100.
    pub weight: f64,
}

impl Record {
    /// Begin and end of what there is to show: the rollout's, and whatever was counted or said beyond.
    pub(super) fn span(&self) -> (Timestamp, Timestamp) {
        let from = self.counts.first().map_or(self.began, |first| first.from);
        let ends = [
            self.ended,
            self.counts.last().map(|last| last.to),
            self.verdicts.last().map(|last| last.at),
            self.steps.last().map(|last| last.at),
        ];
        let to = ends.into_iter().flatten().max().unwrap_or(self.began);
        (from.min(self.began), to.max(self.began))
    }

    /// How the two colors are called, stable first.
    pub(super) fn names(&self) -> [String; 2] {
        let name = |role: &str, color: Option<Color>, version: &Option<String>| {
            let color = color.map(|color| format!(" ({color})"));
            let version = version.as_ref().map(|version| format!(" {version}"));
            [Some(role.to_owned()), color, version]
                .into_iter()
                .flatten()
                .collect()
        };
        [
            name(
                "stable",
                self.candidate.map(|color| !color),
                &self.baseline_version,
            ),
            name("candidate", self.candidate, &self.new_version),
        ]
    }
}
