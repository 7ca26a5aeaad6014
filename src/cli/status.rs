//! `turnout status`, once or live.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::alias_glance;
use super::glance;
use super::output::{self, BAD};
use super::table;
use super::target::{self, Target};
use super::{CliError, Format, Globals, StatusArgs};
use crate::controller::{AliasStatus, ChangeError, ServiceStatus, Status};
use crate::domain::ServiceName;
use crate::exit::{Chain, ExitCode};

/// From one look to the next, live.
const LIVE: Duration = Duration::from_secs(1);

pub(super) async fn run(globals: &Globals, args: &StatusArgs) -> Result<ExitCode, CliError> {
    if args.watch {
        return watch(globals, args.service.as_ref()).await;
    }
    let status = look(globals, args.service.as_ref()).await?;
    let now = Timestamp::now();
    let well = match chosen(&status, args.service.as_ref())? {
        Shown::One(service) => {
            output::value(globals.format(), service, |service| {
                glance::one(&status, service, now)
            })?;
            glance::is_well(&Status {
                services: vec![service.clone()],
                ..status.clone()
            })
        }
        Shown::Alias(alias) => {
            output::value(globals.format(), alias, |alias| {
                alias_glance::one(&status, alias, now)
            })?;
            !alias_glance::needs_person(alias)
        }
        Shown::All => {
            output::value(globals.format(), &status, |status| glance::all(status, now))?;
            glance::is_well(&status)
        }
    };
    Ok(if args.exit_code && !well {
        ExitCode::No
    } else {
        ExitCode::Done
    })
}

/// What is shown of a status.
enum Shown<'a> {
    One(&'a ServiceStatus),
    Alias(&'a AliasStatus),
    All,
}

fn chosen<'a>(status: &'a Status, service: Option<&ServiceName>) -> Result<Shown<'a>, CliError> {
    let Some(name) = service else {
        return Ok(Shown::All);
    };
    if let Some(alias) = status.alias(name) {
        return Ok(Shown::Alias(alias));
    }
    status
        .services
        .iter()
        .find(|service| &service.service == name)
        .map(Shown::One)
        .ok_or_else(|| {
            let known: Vec<&str> = status
                .services
                .iter()
                .map(|service| service.service.as_str())
                .collect();
            CliError::Change(ChangeError::UnknownService {
                name: name.clone(),
                known: known.join(", "),
            })
        })
}

async fn look(globals: &Globals, service: Option<&ServiceName>) -> Result<Status, CliError> {
    Ok(match target::to_read(globals).await? {
        Target::Daemon(daemon) => daemon.client.status().await?,
        Target::Local(mut local) => local.controller().status(service).await?,
    })
}

/// Shows the status until Ctrl-C. A daemon that goes away is said and waited for: one watches because something happens.
async fn watch(globals: &Globals, service: Option<&ServiceName>) -> Result<ExitCode, CliError> {
    // the first look fails like `status` does, so that a typing error does not wait for ever
    chosen(&look(globals, service).await?, service)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Runtime)?;
    let mut beat = tokio::time::interval(LIVE);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut screen = if globals.format() == Format::Table && output::stdout_is_terminal() {
        Screen::Terminal(Alternate::enter()?)
    } else {
        Screen::Lines(Seen::default())
    };
    loop {
        let next = async {
            beat.tick().await;
            look(globals, service).await
        };
        tokio::select! {
            _ = interrupt.recv() => return Ok(ExitCode::Done),
            _ = terminate.recv() => return Ok(ExitCode::Done),
            looked = next => screen.show(globals, service, looked)?,
        }
    }
}

/// Where a live status goes.
enum Screen {
    Terminal(Alternate),
    Lines(Seen),
}

impl Screen {
    fn show(
        &mut self,
        globals: &Globals,
        name: Option<&ServiceName>,
        looked: Result<Status, CliError>,
    ) -> Result<(), CliError> {
        match self {
            Self::Terminal(_) => {
                let now = Timestamp::now();
                Alternate::draw(&match looked {
                    Err(error) => format!("{BAD}✖{BAD:#} {}", Chain(&error)),
                    Ok(status) => match chosen(&status, name) {
                        Ok(Shown::One(service)) => glance::one(&status, service, now),
                        Ok(Shown::Alias(alias)) => alias_glance::one(&status, alias, now),
                        Ok(Shown::All) => glance::all(&status, now),
                        Err(error) => Chain(&error).to_string(),
                    },
                })
            }
            Self::Lines(seen) => seen.show(globals.format(), name, looked),
        }
    }
}

/// The terminal's second screen, left again when dropped, so that what stood there before is not lost.
struct Alternate(());

impl Alternate {
    fn enter() -> Result<Self, CliError> {
        output::raw("\x1b[?1049h\x1b[?25l")?;
        Ok(Self(()))
    }

    /// Draws over what is there, line by line, so that nothing flickers.
    fn draw(text: &str) -> Result<(), CliError> {
        let lines = text.replace('\n', "\x1b[K\n");
        output::raw(&format!("\x1b[H{lines}\x1b[K\n\x1b[J"))
    }
}

impl Drop for Alternate {
    fn drop(&mut self) {
        if output::raw("\x1b[?25h\x1b[?1049l").is_err() {
            // the terminal has gone away, and its second screen with it
        }
    }
}

/// What was last said of each service.
#[derive(Default)]
struct Seen {
    services: BTreeMap<ServiceName, String>,
    failure: Option<String>,
}

/// A change that is said, with its time.
#[derive(Serialize)]
struct Event<'a, T> {
    timestamp: Timestamp,
    #[serde(flatten)]
    service: &'a T,
}

impl Seen {
    /// Says what is not as it was said last.
    fn show(
        &mut self,
        format: Format,
        name: Option<&ServiceName>,
        looked: Result<Status, CliError>,
    ) -> Result<(), CliError> {
        let status = match looked {
            Ok(status) => status,
            Err(error) => {
                let said = format!("{:#}", Chain(&error));
                if self.failure.as_ref() != Some(&said) {
                    output::warn(&said);
                    self.failure = Some(said);
                }
                return Ok(());
            }
        };
        self.failure = None;
        for service in &status.services {
            if name.is_some_and(|name| name != &service.service) {
                continue;
            }
            let line = glance::line(service, &status);
            self.say(format, &service.service, service, line)?;
        }
        for alias in &status.aliases {
            if name.is_none_or(|name| name == &alias.service) {
                self.say(format, &alias.service, alias, alias_glance::line(alias))?;
            }
        }
        Ok(())
    }

    fn say(
        &mut self,
        format: Format,
        name: &ServiceName,
        service: &impl Serialize,
        line: String,
    ) -> Result<(), CliError> {
        let before = self.services.insert(name.clone(), line.clone());
        if before.as_ref() == Some(&line) {
            return Ok(());
        }
        let event = Event {
            timestamp: Timestamp::now(),
            service,
        };
        output::one_of_many(format, &event, |event| {
            format!("{} {line}", table::second(event.timestamp))
        })
    }
}
