//! What the running workers say on the private listener, and the wait until all of them say the new thing.
//!
//! A reload overlaps: for about 100 ms old and new workers accept side by side, so one right answer proves nothing. Proved
//! is: no old worker accepts any more, and a new connection is answered by another one with the new generation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::http::{self, AskError, Question};
use super::error_log::{ErrorLog, is_final};
use super::process::{Master, Worker, one_batch};
use crate::domain::{Generation, ServiceName, Split};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// For one question.
const ONE_QUESTION: Duration = Duration::from_secs(2);

/// How long nginx has after its log says that it gave up: the log is a hint, and may speak of another reload.
const AFTER_EMERGENCY: Duration = Duration::from_millis(300);

/// How long the new generation alone must have answered where the workers cannot be seen, or may be those of two reloads: four
/// times the overlap.
const STEADY: Duration = Duration::from_millis(400);

/// What the private listener says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// Where markers say it: the default one if the worker cannot read them.
    pub(super) generation: Generation,
    /// The shape, where markers say the positions.
    pub(super) shape: Option<String>,
    pub(super) pages: usize,
    /// The number of the worker that answered, in its own namespace.
    pub(super) worker: i32,
}

/// Why the private listener does not tell.
#[derive(Debug, thiserror::Error)]
pub(super) enum Silence {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("{0} did not answer within 2 s")]
    Late(SocketAddr),
    #[error("{0} is answered by somebody else")]
    Foreign(SocketAddr),
}

/// Why a generation is not proved.
#[derive(Debug)]
pub(super) enum Unproved {
    /// The master ended.
    Gone,
    /// The deadline passed, or nginx gave up: what was seen.
    NotTaken(String),
}

/// Asks which generation is served, on a new connection.
pub(super) async fn generation(prove: SocketAddr) -> Result<Said, Silence> {
    let body = page(prove, "/").await?;
    let field = |name: &str| -> Option<&str> {
        body.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    };
    let said = || {
        Some(Said {
            generation: Generation(field("generation")?.parse().ok()?),
            shape: field("shape").map(str::to_owned),
            pages: field("pages")?.parse().ok()?,
            worker: field("worker")?.parse().ok()?,
        })
    };
    said().ok_or(Silence::Foreign(prove))
}

/// Asks what each service is served with: its split, or for a route that is whole the color that the running
/// configuration really computes. `None` if the generation changed between two pages.
pub(super) async fn splits(
    prove: SocketAddr,
    said: &Said,
) -> Result<Option<BTreeMap<ServiceName, Split>>, Silence> {
    let mut splits = BTreeMap::new();
    for number in 0..said.pages {
        let body = page(prove, &format!("/{number}")).await?;
        let mut lines = body.lines();
        if lines.next() != Some(&format!("generation {}", said.generation)) {
            return Ok(None);
        }
        for line in lines {
            let (name, split) = read_line(line).ok_or(Silence::Foreign(prove))?;
            splits.insert(name, split);
        }
    }
    Ok(Some(splits))
}

fn read_line(line: &str) -> Option<(ServiceName, Split)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [name, _strategy, blue, green, color] = fields.as_slice() else {
        return None;
    };
    let written = Split::from_percents(blue.parse().ok()?, green.parse().ok()?).ok()?;
    let split = match written.whole() {
        Some(_) => Split::all(color.parse().ok()?),
        None => written,
    };
    Some((name.parse().ok()?, split))
}

pub(super) async fn page(prove: SocketAddr, path: &str) -> Result<String, Silence> {
    let question = Question {
        path,
        host: "turnout",
        header: None,
        proxy_protocol: false,
        tls: false,
    };
    let answer = timeout(ONE_QUESTION, http::ask(http::reachable(prove), question))
        .await
        .map_err(|_elapsed| Silence::Late(prove))??;
    if answer.status.is_success() {
        Ok(answer.body)
    } else {
        Err(Silence::Foreign(prove))
    }
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// This generation.
    Served(Generation),
    /// This shape, whatever the markers say.
    Shape(String),
    /// Whatever else there is, since nothing of turnout's was served before: but this one.
    Not(Generation),
}

impl Expected {
    fn is_met(&self, said: &Result<Said, Silence>) -> bool {
        match (self, said) {
            (Self::Served(wanted), Ok(said)) => said.generation == *wanted && said.shape.is_none(),
            (Self::Shape(wanted), Ok(said)) => said.shape.as_ref() == Some(wanted),
            (Self::Served(_) | Self::Shape(_), Err(_)) => false,
            (Self::Not(refused), Ok(said)) => said.generation != *refused,
            (Self::Not(_), Err(_)) => true,
        }
    }
}

/// What a wait for a generation needs to know.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    pub(super) prove: SocketAddr,
    /// `None` where the master lives out of sight.
    pub(super) master: Option<&'a Master>,
    /// The workers from before the reload.
    pub(super) old: &'a [Worker],
    pub(super) log: Option<&'a ErrorLog>,
    pub(super) within: Duration,
}

/// Since when the same workers accept, and every answer was right.
#[derive(Default)]
struct Steady(Option<(Instant, Vec<Worker>)>);

impl Steady {
    fn since(&mut self, accepting: Vec<Worker>) -> Instant {
        match &self.0 {
            Some((since, same)) if *same == accepting => *since,
            Some(_) | None => {
                let now = Instant::now();
                self.0 = Some((now, accepting));
                now
            }
        }
    }
}

impl Wait<'_> {
    /// Waits until `expected` is proved. The lines are the evidence.
    ///
    /// Besides the old workers there may be some of a reload that a stranger began before ours: as long as those that accept
    /// can have been started by two reloads, they have to stay the same for four times the overlap.
    pub(super) async fn until(&self, expected: &Expected) -> Result<Vec<String>, Unproved> {
        let started = Instant::now();
        let mut steady = Steady::default();
        let mut emergency: Option<Instant> = None;
        let mut last_look = started;
        loop {
            if self.master.is_some_and(|master| !master.lives()) {
                return Err(Unproved::Gone);
            }
            let still = self.old.iter().filter(|worker| worker.accepts()).count();
            let said = generation(self.prove).await;
            let by_old = said
                .as_ref()
                .is_ok_and(|said| self.old.iter().any(|worker| worker.pid == said.worker));
            if expected.is_met(&said) && !by_old && still == 0 {
                // looked for after the answer, so that who gave it is among them
                let accepting = self.master.map(Master::accepting);
                let alone = accepting.as_deref().is_some_and(one_batch);
                let since = steady.since(accepting.unwrap_or_default());
                if alone || since.elapsed() >= STEADY {
                    return Ok(self.evidence(expected));
                }
            } else {
                steady = Steady::default();
            }
            if emergency.is_none() && last_look.elapsed() >= Duration::from_millis(50) {
                last_look = Instant::now();
                let final_line =
                    |log: &ErrorLog| log.emergencies().iter().any(|line| is_final(line));
                if self.log.is_some_and(final_line) {
                    emergency = Some(Instant::now());
                }
            }
            // a line about another reload is no reason to give up while the master is still at ours
            let gave_up = emergency.is_some_and(|since| since.elapsed() >= AFTER_EMERGENCY)
                && self.master.is_none_or(Master::idles);
            if gave_up || started.elapsed() >= self.within {
                return Err(Unproved::NotTaken(seen(&said, expected, still, started)));
            }
            sleep(PAUSE).await;
        }
    }

    fn evidence(&self, expected: &Expected) -> Vec<String> {
        let mut lines = vec![match expected {
            Expected::Served(generation) => format!(
                "private listener {}: generation {generation}, on a new connection",
                self.prove
            ),
            Expected::Shape(shape) => format!(
                "private listener {}: shape {shape}, on a new connection",
                self.prove
            ),
            Expected::Not(refused) => format!("generation {refused} is not served any more"),
        }];
        lines.push(if self.master.is_some() {
            format!("none of {} old workers accepts any more", self.old.len())
        } else {
            format!("and for {} ms no other one", STEADY.as_millis())
        });
        lines
    }
}

fn seen(
    said: &Result<Said, Silence>,
    expected: &Expected,
    still: usize,
    started: Instant,
) -> String {
    let within = started.elapsed().as_secs_f64();
    let after = match expected {
        Expected::Served(generation) => {
            format!("nginx did not take generation {generation} within {within:.1} s")
        }
        Expected::Shape(shape) => {
            format!("nginx did not take the shape {shape} within {within:.1} s")
        }
        Expected::Not(refused) => {
            format!("nginx did not leave generation {refused} within {within:.1} s")
        }
    };
    match said {
        said if expected.is_met(said) => format!("{after}: {still} old workers still accept"),
        Ok(said) => format!("{after}: it still serves generation {}", said.generation),
        Err(silence) => match std::error::Error::source(silence) {
            Some(cause) => format!("{after}: {silence}: {cause}"),
            None => format!("{after}: {silence}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Color;

    #[test]
    fn a_whole_route_is_what_the_running_routing_computes() {
        let shop: ServiceName = "shop".parse().unwrap();
        for (line, split) in [
            ("shop blue_green 100 0 blue", Some(Split::all(Color::Blue))),
            (
                "shop blue_green 100 0 green",
                Some(Split::all(Color::Green)),
            ),
            (
                "shop canary 90.5 9.5 green",
                Some(Split::from_percents(90.5, 9.5).unwrap()),
            ),
            ("shop canary 90.5 green", None),
            ("shop blue_green 100 0 red", None),
        ] {
            assert_eq!(
                read_line(line),
                split.map(|split| (shop.clone(), split)),
                "{line}"
            );
        }
    }
}
