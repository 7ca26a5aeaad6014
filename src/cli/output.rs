//! The one door out: data on stdout in the form that was asked for, talk on stderr. Colour only on a terminal.
//!
//! Nothing else prints. A reader that has gone away ends the command quietly (`CliError::is_quiet`); a closed stderr is
//! ignored, since there is no third place to complain to.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::{CliError, Format};
use crate::domain::describe;
use crate::exit::Chain;

/// Something went well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Something is wrong.
pub(super) const BAD: Style = AnsiColor::Red.on_default();
/// Something wants to be looked at.
pub(super) const MIND: Style = AnsiColor::Yellow.on_default();
/// Less important.
pub(super) const DIM: Style = Style::new().dimmed();
/// More important.
pub(super) const BOLD: Style = Style::new().bold();

/// Turns colour off for the whole process. Without it `anstream` decides: on a terminal, and without `NO_COLOR`.
pub fn without_color() {
    anstream::ColorChoice::Never.write_global();
}

/// True if a person looks at what is printed on stdout.
pub(super) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// True if a person looks at what is printed on stderr.
pub(super) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Prints data as it is, without a line break of its own.
pub(super) fn raw(text: &str) -> Result<(), CliError> {
    let mut stdout = anstream::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(CliError::Stdout)
}

/// Prints a text as data and ends its last line.
pub(super) fn text(text: &str) -> Result<(), CliError> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    raw(&format!("{text}\n"))
}

/// Prints a value: as JSON or YAML, or as the table that `view` makes of it.
pub(super) fn value<T: Serialize>(
    format: Format,
    value: &T,
    view: impl FnOnce(&T) -> String,
) -> Result<(), CliError> {
    match format {
        Format::Table => text(&view(value)),
        Format::Json => text(&json(value)?),
        Format::Yaml => {
            let yaml = serde_yaml::to_string(value).map_err(|error| CliError::Form {
                form: "YAML",
                source: Box::new(error),
            })?;
            text(&yaml)
        }
    }
}

/// Prints a value as one of many: JSON on one line, YAML as a document of its own.
pub(super) fn one_of_many<T: Serialize>(
    format: Format,
    value: &T,
    view: impl FnOnce(&T) -> String,
) -> Result<(), CliError> {
    match format {
        Format::Json => {
            let line = serde_json::to_string(value).map_err(not_json)?;
            text(&line)
        }
        Format::Yaml => {
            text("---")?;
            self::value(format, value, view)
        }
        Format::Table => self::value(format, value, view),
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, CliError> {
    serde_json::to_string_pretty(value).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> CliError {
    CliError::Form {
        form: "JSON",
        source: Box::new(error),
    }
}

/// Says something to the person at the keyboard.
pub fn talk(message: impl fmt::Display) {
    let mut stderr = anstream::stderr().lock();
    if writeln!(stderr, "{message}").is_err() {
        // stderr is closed: there is nobody to tell, and the exit code still speaks
    }
}

/// What is printed in the place of a value that there is none of.
#[derive(Debug, Serialize)]
struct Failure {
    /// The whole chain, in one line.
    error: String,
    /// The exit code.
    exit: u8,
}

/// Says why a command failed: to people on stderr, and to who asked for JSON or YAML on stdout as well, where a program reads.
pub fn failure(format: Format, error: &CliError) {
    if error.is_quiet() {
        return;
    }
    talk(Chain(error));
    let told = Failure {
        error: describe(error),
        exit: error.exit().code(),
    };
    let printed = match format {
        Format::Table => Ok(()),
        Format::Json | Format::Yaml => one_of_many(format, &told, |_| String::new()),
    };
    if printed.is_err() {
        // nobody reads stdout; stderr and the exit code have said it
    }
}

/// Says what a person should know although it worked.
pub(super) fn warn(message: impl fmt::Display) {
    talk(format_args!("{MIND}warning:{MIND:#} {message}"));
}
