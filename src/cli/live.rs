//! `turnout status -w`: the same truth, live. On a terminal in place, elsewhere one line for each change.
//!
//! A daemon that goes away is said and waited for: one watches because something happens. What was last known stays in view, and
//! is said to be old.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::alias_glance;
use super::glance;
use super::output::{self, BAD, DIM, MIND};
use super::screen::Screen;
use super::status::{Shown, chosen, look};
use super::table;
use super::{CliError, Format, Globals};
use crate::controller::Status;
use crate::domain::ServiceName;
use crate::exit::{Chain, ExitCode};

/// From one look to the next.
const LIVE: Duration = Duration::from_secs(1);

/// Shows the status until Ctrl-C.
pub(super) async fn watch(
    globals: &Globals,
    service: Option<&ServiceName>,
) -> Result<ExitCode, CliError> {
    // the first look fails like `status` does, so that a typing error does not wait for ever
    let first = look(globals, service).await?;
    chosen(&first, service)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Runtime)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(CliError::Runtime)?;
    let mut resized = signal(SignalKind::window_change()).map_err(CliError::Runtime)?;
    let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + LIVE, LIVE);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut view = if globals.format() == Format::Table && output::stdout_is_terminal() {
        View::Terminal(Screen::enter()?, Box::default())
    } else {
        View::Lines(Seen::default())
    };
    view.show(globals.format(), service, Ok(first))?;
    loop {
        let next = async {
            beat.tick().await;
            look(globals, service).await
        };
        tokio::select! {
            _ = interrupt.recv() => return Ok(ExitCode::Done),
            _ = terminate.recv() => return Ok(ExitCode::Done),
            _ = hang_up.recv() => return Ok(ExitCode::Done),
            _ = resized.recv() => view.redraw(service)?,
            looked = next => view.show(globals.format(), service, looked)?,
        }
    }
}

/// Where a live status goes.
enum View {
    Terminal(Screen, Box<Last>),
    Lines(Seen),
}

impl View {
    fn show(
        &mut self,
        format: Format,
        name: Option<&ServiceName>,
        looked: Result<Status, CliError>,
    ) -> Result<(), CliError> {
        match self {
            Self::Terminal(screen, last) => {
                last.take(looked);
                screen.draw(&last.page(name, Timestamp::now()))
            }
            Self::Lines(seen) => seen.show(format, name, looked),
        }
    }

    /// The same in a window of another size.
    fn redraw(&self, name: Option<&ServiceName>) -> Result<(), CliError> {
        match self {
            Self::Terminal(screen, last) => screen.draw(&last.page(name, Timestamp::now())),
            Self::Lines(_) => Ok(()),
        }
    }
}

/// What was last known.
#[derive(Default)]
struct Last {
    status: Option<(Status, Timestamp)>,
    /// Why nothing newer is known, and since when.
    failure: Option<(String, Timestamp)>,
    /// Since when there is no daemon, where there was one.
    gone: Option<Timestamp>,
}

impl Last {
    fn take(&mut self, looked: Result<Status, CliError>) {
        let now = Timestamp::now();
        match looked {
            Ok(status) => {
                let before = self.status.as_ref().and_then(|(status, _)| status.daemon);
                match (before, status.daemon) {
                    (_, Some(_)) => self.gone = None,
                    (Some(_), None) => self.gone = Some(now),
                    (None, None) => {}
                }
                self.status = Some((status, now));
                self.failure = None;
            }
            Err(error) => {
                let since = self.failure.take().map_or(now, |(_, since)| since);
                self.failure = Some((Chain(&error).to_string(), since));
            }
        }
    }

    fn page(&self, name: Option<&ServiceName>, now: Timestamp) -> String {
        let mut page = table::Page::default();
        page.line(format_args!(
            "{DIM}turnout status, live  {}  Ctrl-C ends{DIM:#}",
            table::second(now)
        ));
        if let Some((failure, since)) = &self.failure {
            let ago = table::ago(*since, now);
            page.line(format_args!(
                "{BAD}✖{BAD:#} {} (for {ago}; looking on)",
                failure.trim_end()
            ));
            if let Some((_, then)) = &self.status {
                let old = table::ago(*then, now);
                page.line(format_args!("{MIND}!{MIND:#} what follows is {old} old"));
            }
        } else if let Some(gone) = self.gone {
            let ago = table::ago(gone, now);
            page.line(format_args!(
                "{MIND}!{MIND:#} the daemon went away {ago} ago; this command looks for itself until it is back"
            ));
        }
        page.line("");
        if let Some((status, _)) = &self.status {
            page.add(&match chosen(status, name) {
                Ok(Shown::One(service)) => glance::one(status, service, now),
                Ok(Shown::Alias(alias)) => alias_glance::one(status, alias, now),
                Ok(Shown::All) => glance::all(status, now),
                Err(error) => Chain(&error).to_string(),
            });
        }
        page.finish()
    }
}

/// What was last said of each service.
#[derive(Default)]
struct Seen {
    services: BTreeMap<ServiceName, String>,
    failure: Option<String>,
    daemon: Option<u32>,
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
        let was_silent = self.failure.take().is_some();
        match (self.daemon, status.daemon) {
            (Some(before), None) => output::warn(format_args!(
                "the daemon (pid {before}) went away; looking without it"
            )),
            (before, Some(now)) if was_silent || before.is_some_and(|before| before != now) => {
                output::talk(format_args!("the daemon answers (pid {now})"));
            }
            (None, Some(now)) if !self.services.is_empty() => {
                output::talk(format_args!("the daemon answers (pid {now})"));
            }
            (_, Some(_)) | (None, None) => {}
        }
        self.daemon = status.daemon;
        for service in &status.services {
            if name.is_some_and(|name| name != &service.service) {
                continue;
            }
            let line = glance::line(service, &status);
            self.say(format, &service.service, service, &line)?;
        }
        for alias in &status.aliases {
            if name.is_none_or(|name| name == &alias.service) {
                self.say(
                    format,
                    &alias.service,
                    alias,
                    &alias_glance::line(alias, &status),
                )?;
            }
        }
        Ok(())
    }

    fn say(
        &mut self,
        format: Format,
        name: &ServiceName,
        service: &impl Serialize,
        line: &str,
    ) -> Result<(), CliError> {
        let before = self.services.insert(name.clone(), line.to_owned());
        if before.is_some_and(|before| before == line) {
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
