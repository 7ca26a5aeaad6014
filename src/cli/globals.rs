//! The flags that every verb understands, before or after it, each with its `TURNOUT_*` twin.
//!
//! A twin that is set but empty counts as unset, because CI systems cannot leave a variable out.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help that people read, where backticks are noise"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{FalseyValueParser, OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, ValueEnum};
use jiff::SignedDuration;

use super::CliError;
use crate::api::ServerAddress;
use crate::telemetry::{self, LogFormat};

/// The form of what is printed on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// The flags that every verb understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Configuration file [default: ./turnout.yaml, then /etc/turnout/turnout.yaml]
    #[arg(short, long, global = true, hide_env_values = true, env = "TURNOUT_CONFIG", value_name = "FILE", value_parser = path())]
    config: Option<PathBuf>,
    /// The daemon's API, HOST:PORT or unix:PATH [default: found by the state directory]
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        env = "TURNOUT_SERVER",
        value_name = "URL"
    )]
    server: Option<String>,
    /// File with the API token; TURNOUT_TOKEN (or ORCH_TOKEN) holds the token itself
    #[arg(long, global = true, hide_env_values = true, env = "TURNOUT_TOKEN_FILE", value_name = "FILE", value_parser = path())]
    token_file: Option<PathBuf>,
    /// Form of the output on stdout
    #[arg(short, long, global = true, hide_env_values = true, env = "TURNOUT_OUTPUT", value_name = "table|json|yaml", default_value = "table", value_parser = format())]
    output: Format,
    /// Act here under the lock, even if a daemon runs
    #[arg(long, global = true, hide_env_values = true, env = "TURNOUT_LOCAL", value_parser = FalseyValueParser::new())]
    local: bool,
    /// Log more; twice: debug. TURNOUT_LOG takes a filter such as turnout=trace
    #[arg(short, long, global = true, action = ArgAction::Count, hide_env_values = true, env = "TURNOUT_VERBOSE", value_parser = count())]
    verbose: u8,
    /// Form of the log on stderr [default: journald under systemd, else text]
    #[arg(long, global = true, hide_env_values = true, env = "TURNOUT_LOG_FORMAT", value_name = "text|json|journald", value_parser = or_empty::<LogFormat>())]
    log_format: Option<OrEmpty<LogFormat>>,
    /// No colour, even on a terminal (NO_COLOR does the same)
    #[arg(long, global = true, hide_env_values = true, env = "TURNOUT_NO_COLOR", value_parser = FalseyValueParser::new())]
    no_color: bool,
}

impl Globals {
    /// `--config`.
    pub fn config(&self) -> Option<&Path> {
        self.config
            .as_deref()
            .filter(|path| !path.as_os_str().is_empty())
    }

    /// `--server`.
    pub(super) fn server(&self) -> Result<Option<ServerAddress>, CliError> {
        let Some(text) = self.server.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        // not left to clap, for which an empty variable is a value
        if self.local {
            return Err(CliError::Usage {
                message: "--server asks a daemon and --local asks none: leave one of them out"
                    .to_owned(),
            });
        }
        Ok(Some(text.parse()?))
    }

    /// `--local`.
    pub(super) const fn local(&self) -> bool {
        self.local
    }

    /// `--output`.
    pub const fn format(&self) -> Format {
        self.output
    }

    /// `--no-color`. `NO_COLOR` is looked at by what prints.
    pub const fn no_color(&self) -> bool {
        self.no_color
    }

    /// The token for the API: `--token-file`, `TURNOUT_TOKEN`, `ORCH_TOKEN`. Never an argument, which `ps` would show.
    pub(super) fn token(&self) -> Result<Option<String>, CliError> {
        if let Some(path) = self
            .token_file
            .as_deref()
            .filter(|path| !path.as_os_str().is_empty())
        {
            let text = std::fs::read_to_string(path).map_err(|source| CliError::TokenFile {
                path: path.to_owned(),
                source,
            })?;
            return Ok(Some(text.trim().to_owned()));
        }
        Ok(["TURNOUT_TOKEN", "ORCH_TOKEN"]
            .into_iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|token| !token.is_empty()))
    }

    /// What the log is to be like. `daemon`: for `serve`, which says more by itself.
    pub fn telemetry(&self, daemon: bool) -> telemetry::Settings {
        telemetry::Settings {
            format: self.log_format.and_then(|given| given.0),
            level: telemetry::level(daemon, self.verbose),
            filter: std::env::var("TURNOUT_LOG").ok(),
            color: !self.no_color,
        }
    }
}

/// A path that may be empty, unlike clap's own.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(|text: OsString| PathBuf::from(text))
}

/// How often `--verbose` is given, as its twin says it.
fn count() -> impl TypedValueParser<Value = u8> {
    clap::builder::StringValueParser::new().try_map(|text| {
        if text.is_empty() {
            return Ok(0);
        }
        text.parse::<u8>()
            .map_err(|_not_a_number| "it is a number: 1 logs more, 2 is debug")
    })
}

fn format() -> impl TypedValueParser<Value = Format> {
    or_empty::<Format>().map(|given| given.0.unwrap_or_default())
}

/// A value, or an empty text for none.
#[derive(Debug, Clone, Copy)]
struct OrEmpty<T>(Option<T>);

/// One of the values of `T`, or an empty text.
fn or_empty<T: ValueEnum + Send + Sync + 'static>() -> impl TypedValueParser<Value = OrEmpty<T>> {
    clap::builder::StringValueParser::new().try_map(|text| {
        if text.is_empty() {
            return Ok(OrEmpty(None));
        }
        T::from_str(&text, false)
            .map(|value| OrEmpty(Some(value)))
            .map_err(|_text| {
                let known: Vec<String> = T::value_variants()
                    .iter()
                    .filter_map(|value| Some(value.to_possible_value()?.get_name().to_owned()))
                    .collect();
                format!("it is one of {}", known.join(", "))
            })
    })
}

/// A duration as configuration and command line write it: `500ms`, `10s`, `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || "it is a duration such as 500ms, 10s or 1m 30s".to_owned();
    let signed: SignedDuration = text.parse().map_err(|_error: jiff::Error| refuse())?;
    Duration::try_from(signed).map_err(|_negative| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[test]
    fn every_global_flag_has_its_twin() {
        let command = super::super::Cli::command();
        let globals: Vec<_> = command
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .collect();
        assert!(globals.len() >= 8, "{globals:?}");
        for arg in globals {
            let name = arg.get_long().unwrap().replace('-', "_").to_uppercase();
            let twin = arg.get_env().and_then(|twin| twin.to_str());
            assert_eq!(twin, Some(format!("TURNOUT_{name}").as_str()));
        }
    }

    #[test]
    fn verbose_is_counted_and_its_twin_is_a_number() {
        let verbose = |args: &[&str]| {
            let all = ["turnout"].iter().chain(args).chain(&["status"]);
            super::super::Cli::try_parse_from(all).map(|cli| cli.globals.verbose)
        };
        assert_eq!(verbose(&[]).unwrap(), 0);
        assert_eq!(verbose(&["-vv"]).unwrap(), 2);
        let read = |text: &str| {
            let command = super::super::Cli::command();
            count().parse_ref(&command, None, std::ffi::OsStr::new(text))
        };
        assert_eq!(read("2").unwrap(), 2);
        assert_eq!(read("").unwrap(), 0);
        assert!(read("much").is_err());
    }

    #[test]
    fn durations_are_written_as_in_the_configuration() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m 30s", 90_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for bad in ["", "10", "-1s", "soon", "1 fortnight"] {
            assert!(duration(bad).unwrap_err().contains("500ms"), "{bad:?}");
        }
    }
}
