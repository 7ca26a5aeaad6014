//! What the last change replaced and what by, in `exec.json` in the state directory: the router knows splits and no generation.
//!
//! Not the state: it only says what a generation's splits are, and a record that cannot be read says nothing.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::install::write_kept;
use super::Splits;
use crate::domain::{Color, Generation, ServiceName, Split, Weight};
use std::collections::BTreeMap;

/// A generation and its splits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) generation: Generation,
    pub(super) splits: Splits,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    before: Written,
    wanted: Written,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    generation: Generation,
    /// Blue's share in basis points.
    blue: BTreeMap<ServiceName, u16>,
}

#[derive(Debug)]
pub(super) struct Record(PathBuf);

impl Record {
    pub(super) fn in_state(state_dir: &Path) -> Self {
        Self(state_dir.join("exec.json"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, before: &Known, wanted: &Known) -> io::Result<()> {
        let file = File {
            version: 1,
            before: before.into(),
            wanted: wanted.into(),
        };
        let text = serde_json::to_vec_pretty(&file)?;
        write_kept(&self.0, &text).map_err(io::Error::other)
    }

    /// What was replaced, and what by.
    pub(super) fn read(&self) -> Option<(Known, Known)> {
        let bytes = std::fs::read(&self.0).ok()?;
        let file: File = serde_json::from_slice(&bytes).ok()?;
        (file.version == 1).then_some(())?;
        Some((file.before.known()?, file.wanted.known()?))
    }
}

impl From<&Known> for Written {
    fn from(known: &Known) -> Self {
        let splits = known.splits.iter();
        Self {
            generation: known.generation,
            blue: splits
                .map(|(name, split)| (name.clone(), split.weight(Color::Blue).basis_points()))
                .collect(),
        }
    }
}

impl Written {
    fn known(self) -> Option<Known> {
        let splits = self.blue.into_iter().map(|(name, points)| {
            let blue = Weight::from_basis_points(points)?;
            Some((name, Split::giving(Color::Blue, blue)))
        });
        Some(Known {
            generation: self.generation,
            splits: splits.collect::<Option<_>>()?,
        })
    }
}
