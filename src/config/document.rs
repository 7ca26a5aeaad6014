//! One file that was read: its text, its tree, and the way from a path of keys back to the place where it stands.
//!
//! The checks work on values without places; when they find something they name the path, and the place is looked up here.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::problem::{Place, Problem};
use super::yaml::{self, Node, Value};

/// A file as text and tree.
#[derive(Debug)]
pub(super) struct Document {
    /// As it is named in messages.
    pub(super) shown: PathBuf,
    /// The folder that relative paths in it start from, absolute.
    pub(super) folder: PathBuf,
    text: String,
    /// The tree, `${VAR}` replaced.
    pub(super) root: Node,
}

impl Document {
    /// Reads bytes into a document. `Err` is a problem that nothing can be read after.
    pub(super) fn parse(
        shown: &Path,
        folder: &Path,
        bytes: &[u8],
        problems: &mut Vec<Problem>,
    ) -> Result<Self, Box<Problem>> {
        let (text, root) = yaml::parse(shown, bytes, problems)?;
        Ok(Self {
            shown: shown.to_owned(),
            folder: folder.to_owned(),
            text,
            root,
        })
    }

    /// A document that says nothing, for what comes from the environment.
    pub(super) fn empty(folder: &Path) -> Self {
        Self {
            shown: PathBuf::from("the environment"),
            folder: folder.to_owned(),
            text: String::new(),
            root: Node {
                span: 0..0,
                value: Value::Map(Vec::new()),
            },
        }
    }

    /// The place of bytes in this file.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::new(&self.shown, &self.text, span)
    }

    /// A path of the user's, made absolute.
    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        normal(&self.folder.join(path))
    }
}

/// The path without `.` and `a/..`, as text: the file need not exist, and links are not followed.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::Prefix(_)
            | std::path::Component::RootDir
            | std::path::Component::Normal(_) => out.push(part),
        }
    }
    out
}

/// A path of keys and indexes into a document.
#[derive(Debug, Clone, Copy)]
pub(super) enum At<'a> {
    /// The top.
    Top(&'a Document),
    /// The value of a key.
    Key(&'a At<'a>, &'a str),
    /// An item of a list.
    Item(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    /// The value of `key` in here.
    pub(super) const fn key(&'a self, key: &'a str) -> Self {
        Self::Key(self, key)
    }

    /// The item `index` of this list.
    pub(super) const fn item(&'a self, index: usize) -> Self {
        Self::Item(self, index)
    }

    /// The document it leads into.
    pub(super) fn document(&self) -> &'a Document {
        match self {
            Self::Top(document) => document,
            Self::Key(parent, _) | Self::Item(parent, _) => parent.document(),
        }
    }

    /// The node, if the file has it.
    pub(super) fn node(&self) -> Option<&'a Node> {
        match self {
            Self::Top(document) => Some(&document.root),
            Self::Key(parent, key) => match &parent.node()?.value {
                Value::Map(entries) => entries
                    .iter()
                    .find(|entry| entry.key == *key)
                    .map(|entry| &entry.value),
                Value::List(_) | Value::Scalar { .. } => None,
            },
            Self::Item(parent, index) => match &parent.node()?.value {
                Value::List(items) => items.get(*index),
                Value::Map(_) | Value::Scalar { .. } => None,
            },
        }
    }

    /// The key it is reached by, with its place.
    pub(super) fn key_span(&self) -> Option<Range<usize>> {
        let Self::Key(parent, key) = self else {
            return None;
        };
        match &parent.node()?.value {
            Value::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == *key)
                .map(|entry| entry.key_span.clone()),
            Value::List(_) | Value::Scalar { .. } => None,
        }
    }

    /// Where to point: at the value if it is a text, else at its key, else at what holds it.
    pub(super) fn span(&self) -> Range<usize> {
        let scalar = self
            .node()
            .filter(|node| matches!(&node.value, Value::Scalar { .. }) && !node.span.is_empty());
        if let Some(node) = scalar {
            return node.span.clone();
        }
        if let Some(span) = self.key_span() {
            return span;
        }
        match self {
            Self::Top(_) => 0..0,
            Self::Item(..) if self.node().is_some() => {
                self.node().map_or(0..0, |node| node.span.clone())
            }
            Self::Key(parent, _) | Self::Item(parent, _) => parent.span(),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(_) => Ok(()),
            Self::Key(Self::Top(_), key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Collects problems with their places.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// In the order they were found.
    pub(super) problems: Vec<Problem>,
}

impl Report {
    /// Something is wrong at a path.
    pub(super) fn add(&mut self, at: At<'_>, message: impl Into<String>, label: impl Into<String>) {
        self.mark(at, at.span(), message, label);
    }

    /// Something is wrong at these bytes, under this path.
    pub(super) fn mark(
        &mut self,
        at: At<'_>,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        self.problems.push(Problem {
            place: Some(at.document().place(span)),
            message: message.into(),
            label: label.into(),
            key: at.to_string(),
        });
    }

    /// Something is missing at a path: not said if something there was refused already, since it may be what is missing.
    pub(super) fn missing(
        &mut self,
        at: At<'_>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        let key = at.to_string();
        let file = &at.document().shown;
        let refused = self.problems.iter().any(|problem| {
            problem
                .place
                .as_ref()
                .is_some_and(|place| place.file == *file)
                && problem
                    .key
                    .strip_prefix(&key)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        if !refused {
            self.add(at, message, label);
        }
    }

    /// Reads an optional text; what is wrong with it is reported.
    pub(super) fn read<T, E: fmt::Display>(
        &mut self,
        at: At<'_>,
        text: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(at, format!("{at}: {error}"), "");
                None
            }
        }
    }
}
