//! What is wrong with a configuration, as values: each problem with its place, its line and a way out.
//!
//! Problems are collected, never returned one by one: a person who fixes a file wants all of them at once. Printing is left
//! to `annotate-snippets`, so that the form is the one people know from rustc. Nothing here decides what a problem is.

use std::fmt;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Where in a file a problem is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The text of that line.
    snippet: String,
    /// The bytes of the line that are meant.
    marked: std::ops::Range<usize>,
}

impl Place {
    /// A place from byte offsets into the whole text of a file. Clamps what is out of bounds, and marks one line at most.
    pub(super) fn new(file: &Path, text: &str, span: std::ops::Range<usize>) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |newline| start + newline);
        let snippet = text[line_start..line_end].trim_end_matches('\r').to_owned();
        let from = (start - line_start).min(snippet.len());
        let mut to = span
            .end
            .saturating_sub(line_start)
            .clamp(from, snippet.len());
        while !snippet.is_char_boundary(to) {
            to += 1;
        }
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            snippet,
            marked: from..to,
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` for the environment and for what is wrong with a file as a whole.
    pub place: Option<Place>,
    /// What is wrong, and where in the configuration, in one line.
    pub message: String,
    /// What was expected, printed under the marked text. May be empty.
    pub label: String,
    /// The path of keys, such as `services.shop.blue`.
    pub(super) key: String,
}

impl Problem {
    /// A problem without a place in a file.
    pub(super) fn of_whole(message: impl Into<String>) -> Self {
        Self {
            place: None,
            message: message.into(),
            label: String::new(),
            key: String::new(),
        }
    }

    /// The order in which problems are printed: as they stand in their file.
    pub(super) fn position(&self) -> (usize, usize) {
        self.place
            .as_ref()
            .map_or((0, 0), |place| (place.line, place.column))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            return write!(f, "error: {}", self.message);
        };
        let mark = AnnotationKind::Primary.span(place.marked.clone());
        let mark = if self.label.is_empty() {
            mark
        } else {
            mark.label(&self.label)
        };
        let path = place.file.display().to_string();
        let snippet = Snippet::source(&place.snippet)
            .line_start(place.line)
            .path(path)
            .annotation(mark);
        let title = Level::ERROR.primary_title(&self.message);
        f.write_str(&Renderer::plain().render(&[title.element(snippet)]))
    }
}

/// Why there is no configuration. Its text names every file and every problem; exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nothing to read.
    #[error(
        "no configuration: looked for {}, and neither BLUE_URL nor GREEN_URL is set. Name one with --config, or let \
         `turnout init` write a first one",
        looked_for(.looked)
    )]
    NotFound {
        /// Where it was looked for, in that order.
        looked: Vec<PathBuf>,
    },
    /// A file cannot be read.
    #[error("failed to read the configuration {}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It was read and is wrong.
    #[error("{}", listed(.problems))]
    Invalid {
        /// All that is wrong, in the order of files and lines. Never empty.
        problems: Vec<Problem>,
    },
}

fn looked_for(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn listed(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        text.push_str(&problem.to_string());
        text.push_str("\n\n");
    }
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        several => format!("{several} problems"),
    };
    text + &format!("the configuration has {count}; nothing was changed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_prints_with_its_line_and_carets() {
        let text = "services:\r\n  shöp:\r\n    severs: 1\r\n";
        let start = text.find("severs").unwrap();
        let problem = Problem {
            place: Some(Place::new(
                Path::new("turnout.yaml"),
                text,
                start..start + "severs".len(),
            )),
            message: "unknown field `severs`".into(),
            label: "expected `servers`".into(),
            key: String::new(),
        };
        assert_eq!(
            problem.to_string(),
            "error: unknown field `severs`\n --> turnout.yaml:3:5\n  |\n3 |     severs: 1\n  |     ^^^^^^ expected `servers`"
        );
    }

    #[test]
    fn offsets_outside_of_the_text_or_inside_a_character_do_not_panic() {
        let text = "a: ö\nb";
        for start in 0..10 {
            for end in 0..10 {
                let place = Place::new(Path::new("f"), text, start..end);
                assert!(place.marked.end <= place.snippet.len());
            }
        }
    }
}
