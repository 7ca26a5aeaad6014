//! The log: where `tracing` events go. Text or JSON on stderr, or the journal where systemd reads stderr anyway.
//!
//! The log is talk for operators, never a command's answer (that is `cli::output`'s) and never the record of what was done
//! (that is `store`'s). Set up once, by `main`.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object on each line.
    Json,
    /// Fields of journald, without a detour over text.
    Journald,
}

/// What to log and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None`: journald where stderr is the journal, else text.
    pub format: Option<LogFormat>,
    /// The least level that is shown of turnout's own events; of libraries' only warnings, unless `filter` says more.
    pub level: Level,
    /// `TURNOUT_LOG` in the syntax of `tracing_subscriber::EnvFilter`; wins over `level`.
    pub filter: Option<String>,
    /// Whether text may be coloured, on a terminal.
    pub color: bool,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("TURNOUT_LOG is not a log filter such as `debug` or `turnout=trace,hyper=info`")]
    Filter(#[from] ParseError),
    /// journald was asked for and is not there.
    #[error("failed to reach journald; use --log-format text")]
    Journald(#[source] io::Error),
    /// Somebody has set up a log already.
    #[error("failed to set up the log")]
    Init(#[from] TryInitError),
}

/// The level for a number of `-v`: commands start at warnings, the daemon at info.
pub const fn level(daemon: bool, verbose: u8) -> Level {
    match (daemon, verbose) {
        (false, 0) => Level::WARN,
        (false, 1) | (true, 0) => Level::INFO,
        (false, 2) | (true, 1) => Level::DEBUG,
        (_, _) => Level::TRACE,
    }
}

/// Sets up the log of this process.
pub fn init(settings: &Settings) -> Result<(), TelemetryError> {
    let filter = match settings.filter.as_deref() {
        Some(text) if !text.trim().is_empty() => EnvFilter::try_new(text)?,
        _ => EnvFilter::try_new(format!("warn,turnout={}", settings.level))?,
    };
    let layer = match settings.format {
        Some(format) => layer(format, settings.color)?,
        // a container may have the variable and the stream, and no journald: its lines then go the way of all text
        None if stderr_is_the_journal() => match layer(LogFormat::Journald, settings.color) {
            Ok(journal) => journal,
            Err(_) => layer(LogFormat::Text, settings.color)?,
        },
        None => layer(LogFormat::Text, settings.color)?,
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()?;
    Ok(())
}

/// Fields have the same names in all three: those of the API. In the journal they are fields of their own, in capitals and without
/// a prefix: `journalctl SERVICE=shop ACTOR=ci`.
fn layer(
    format: LogFormat,
    color: bool,
) -> Result<Box<dyn Layer<Registry> + Send + Sync>, TelemetryError> {
    Ok(match format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(color && io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(io::stderr)
            .boxed(),
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(layer) => layer
                .with_syslog_identifier("turnout".to_owned())
                .with_field_prefix(None)
                .boxed(),
            Err(error) => return Err(TelemetryError::Journald(error)),
        },
    })
}

/// systemd puts device and inode of the journal's stream into `$JOURNAL_STREAM`; a child that redirected its stderr
/// inherits the variable but not the stream, so that both are compared.
fn stderr_is_the_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    nix::sys::stat::fstat(io::stderr())
        .is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quieter_than_the_daemon() {
        assert_eq!(level(false, 0), Level::WARN);
        assert_eq!(level(true, 0), Level::INFO);
        assert_eq!(level(false, 2), level(true, 1));
        assert_eq!(level(true, 9), Level::TRACE);
    }
}
