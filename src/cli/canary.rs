//! The verbs of rollouts. They run in the daemon and nowhere else, so all but a look and the way back need one.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::args_rollout::{CanaryCommand, ListArgs, ShowArgs, StartArgs, SteerArgs, SteerFlags};
use super::change::{self, actor};
use super::output;
use super::target::{self, Daemon, Needs, Recall, Target};
use super::{ChangeFlags, CliError, Format, Globals};
use super::{replay, rollout_report, rollout_view};
use crate::controller::{RolloutId, RolloutStanding, RolloutStatus};
use crate::domain::{PolicyAsk, ServiceName, WalkAsk};
use crate::exit::ExitCode;
use crate::store::Store;

/// From one look to the next.
const BEAT: Duration = Duration::from_millis(500);

/// `turnout canary …`
pub(super) async fn run(globals: &Globals, command: CanaryCommand) -> Result<ExitCode, CliError> {
    match command {
        CanaryCommand::Start(args) => start(globals, *args).await,
        CanaryCommand::List(args) => list(globals, &args).await,
        CanaryCommand::Show(args) => show(globals, &args).await,
        CanaryCommand::Report(args) => rollout_report::run(globals, &args).await,
        CanaryCommand::Replay(args) => replay::run(globals, &args),
    }
}

/// Where a running rollout is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steer {
    Promote,
    Pause,
    Resume,
    Abort,
}

impl Steer {
    /// The last part of its path in the API.
    const fn path(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "cancel",
        }
    }

    const fn would(self) -> &'static str {
        match self {
            Self::Promote => "become active, with all the traffic",
            Self::Pause => "stay at its weight",
            Self::Resume => "go on",
            Self::Abort => "lose all its traffic to the stable color",
        }
    }
}

/// `turnout promote`, `pause`, `resume`, `abort`.
pub(super) async fn steer(
    globals: &Globals,
    args: SteerArgs,
    steer: Steer,
) -> Result<ExitCode, CliError> {
    let Some(daemon) = daemon(globals).await? else {
        if steer == Steer::Abort {
            // the way back needs no daemon, and ends a rollout
            let flags = ChangeFlags {
                dry_run: args.flags.dry_run,
                message: args.flags.message,
                lock_wait: args.flags.lock_wait,
                force: false,
            };
            return change::abort(globals, args.service, flags).await;
        }
        return Err(nobody(globals));
    };
    let all = daemon.client.rollouts().await?;
    let running = the_running(&all, args.service.as_ref())?;
    if args.flags.dry_run {
        output::talk(format_args!(
            "dry run: nothing was done; {} of {} would {}",
            running.candidate,
            running.service_name,
            steer.would()
        ));
        return Ok(ExitCode::Done);
    }
    let path = format!("/deployments/{}/{}", running.id, steer.path());
    let body = manner(&args.flags);
    let lock_wait = args.flags.lock_wait;
    let rollout = daemon
        .client
        .rollout_post(&path, &Value::Object(body), lock_wait, &actor())
        .await?;
    output::value(globals.format(), &rollout, rollout_view::brief)?;
    Ok(ExitCode::Done)
}

fn manner(flags: &SteerFlags) -> serde_json::Map<String, Value> {
    let mut body = serde_json::Map::new();
    if let Some(message) = &flags.message {
        body.insert("message".to_owned(), json!(message));
    }
    let wait = u64::try_from(flags.lock_wait.as_millis()).unwrap_or(u64::MAX);
    body.insert("lock_wait".to_owned(), json!(wait));
    body
}

async fn start(globals: &Globals, args: StartArgs) -> Result<ExitCode, CliError> {
    let seconds =
        |time: Option<Duration>| time.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
    let strategy = WalkAsk {
        initial_weight: args.initial_weight,
        step_weight: args.step_weight,
        interval_sec: seconds(args.interval),
        max_steps: args.max_steps,
    };
    let policy = PolicyAsk {
        max_error_rate: args.max_error_rate,
        max_latency_p95_ms: args.max_latency_p95_ms,
        min_availability: args.min_availability,
        max_cpu_utilization: args.max_cpu_utilization,
        min_requests: args.min_requests,
        min_samples: args.min_samples,
        sample_window_sec: seconds(args.sample_window),
        max_consecutive_failures: args.max_consecutive_failures,
        ..PolicyAsk::default()
    };
    let mut body = manner(&args.flags);
    for (key, value) in [
        ("service_name", json!(args.service)),
        ("new_version", json!(args.version)),
        ("baseline_version", json!(args.baseline)),
        ("strategy", json!(strategy)),
        ("policy", json!(policy)),
        ("source", json!(args.source)),
        ("judge", json!(args.judge)),
        ("supersede", json!(args.supersede)),
    ] {
        body.insert(key.to_owned(), value);
    }
    let Some(daemon) = daemon(globals).await? else {
        return Err(nobody(globals));
    };
    if args.flags.dry_run {
        output::talk("dry run: nothing was done; this would be asked for");
        return output::value(globals.format(), &Value::Object(body), |body| {
            serde_json::to_string_pretty(body).unwrap_or_default()
        })
        .map(|()| ExitCode::Done);
    }
    let body = Value::Object(body);
    let lock_wait = args.flags.lock_wait;
    let rollout = daemon
        .client
        .rollout_post("/deployments", &body, lock_wait, &actor())
        .await?;
    if args.wait {
        return follow(globals, &daemon, rollout.id.clone()).await;
    }
    output::value(globals.format(), &rollout, rollout_view::brief)?;
    Ok(ExitCode::Done)
}

async fn list(globals: &Globals, args: &ListArgs) -> Result<ExitCode, CliError> {
    let (mut all, _) = all(globals).await?;
    if let Some(service) = &args.service {
        all.retain(|rollout| rollout.service_name == *service);
    }
    if all.is_empty() && globals.format() == Format::Table {
        output::talk("there was no rollout here: begin one with `turnout canary start VERSION`");
        return Ok(ExitCode::Done);
    }
    output::value(globals.format(), &all, |all| rollout_view::list(all))?;
    Ok(ExitCode::Done)
}

async fn show(globals: &Globals, args: &ShowArgs) -> Result<ExitCode, CliError> {
    let chosen = chosen(globals, args.which.as_deref()).await?;
    if args.watch {
        let Some(daemon) = daemon(globals).await? else {
            return Err(nobody(globals));
        };
        return follow(globals, &daemon, chosen.id).await;
    }
    output::value(globals.format(), &chosen, rollout_view::whole)?;
    Ok(ExitCode::Done)
}

/// The rollout that a word means: an id, or the newest of a service; no word: the newest of all.
pub(super) async fn chosen(
    globals: &Globals,
    which: Option<&str>,
) -> Result<RolloutStatus, CliError> {
    let (all, daemon) = all(globals).await?;
    let found = match which {
        None => all.into_iter().next(),
        Some(word) => match word.parse::<RolloutId>() {
            Ok(id) => all.into_iter().find(|rollout| rollout.id == id),
            Err(_) => all
                .into_iter()
                .find(|rollout| rollout.service_name.as_str() == word),
        },
    };
    let Some(found) = found else {
        return Err(CliError::NoRollout {
            which: which.map_or_else(
                || "there was no rollout here".to_owned(),
                |word| format!("there is no rollout `{word}`, nor one of a service of that name"),
            ),
        });
    };
    match daemon {
        // a list has no counts
        Some(daemon) => Ok(daemon.client.rollout(&found.id).await?),
        None => Ok(found),
    }
}

/// A line for each change until it is over. Ctrl-C ends the looking and not the rollout.
async fn follow(globals: &Globals, daemon: &Daemon, id: RolloutId) -> Result<ExitCode, CliError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before: Option<RolloutStatus> = None;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {
                output::talk(format_args!("the rollout goes on: `turnout canary show {id} -w` looks again, `turnout abort` ends it"));
                return Err(CliError::Cancelled);
            }
            _ = beat.tick() => {}
        }
        let now = match daemon.client.rollout(&id).await {
            Ok(now) => now,
            // a daemon that is started anew goes on with it
            Err(error) if before.is_some() && ExitCode::from(&error) == ExitCode::Unreachable => {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let is_news = before.as_ref().is_none_or(|before| {
            (before.status, before.weight, &before.reason) != (now.status, now.weight, &now.reason)
        });
        if is_news {
            output::one_of_many(globals.format(), &now, rollout_view::line)?;
        }
        match now.status {
            RolloutStanding::Promoted => return Ok(ExitCode::Done),
            RolloutStanding::RolledBack => return Ok(ExitCode::Failed),
            RolloutStanding::Cancelled => return Ok(ExitCode::No),
            RolloutStanding::Progressing | RolloutStanding::Paused | RolloutStanding::Holding => {}
        }
        before = Some(now);
    }
}

/// The daemon, if one runs.
async fn daemon(globals: &Globals) -> Result<Option<Daemon>, CliError> {
    match target::to_write(globals, Needs::Daemon).await?.0 {
        Target::Daemon(daemon) => Ok(Some(daemon)),
        Target::Local(_) => Ok(None),
    }
}

fn nobody(globals: &Globals) -> CliError {
    match target::state_dir(globals) {
        Ok(state_dir) => CliError::NoRollouts { state_dir },
        Err(error) => error,
    }
}

/// All that are kept: by the daemon where one is named or the files may not be read, else from the files.
async fn all(globals: &Globals) -> Result<(Vec<RolloutStatus>, Option<Daemon>), CliError> {
    match target::to_recall(globals).await? {
        Recall::Daemon(daemon) => Ok((daemon.client.rollouts().await?, Some(daemon))),
        Recall::Here(state_dir) => {
            let found = Store::new(state_dir).load_rollouts()?;
            for problem in &found.problems {
                output::warn(problem);
            }
            let all = found.records.iter().map(RolloutStatus::of);
            Ok((all.collect(), None))
        }
    }
}

/// The rollout that is meant: the only one that runs, or that of the service.
fn the_running<'a>(
    all: &'a [RolloutStatus],
    service: Option<&ServiceName>,
) -> Result<&'a RolloutStatus, CliError> {
    let fits = |rollout: &&RolloutStatus| {
        !rollout.status.is_over() && service.is_none_or(|service| rollout.service_name == *service)
    };
    let mut running = all.iter().filter(fits);
    match (running.next(), running.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(CliError::Usage {
            message: "several services have a rollout: name one".to_owned(),
        }),
        (None, _) => Err(CliError::NoRollout {
            which: service.map_or_else(
                || "no rollout runs: `turnout canary list` has those that are over".to_owned(),
                |service| {
                    format!(
                        "no rollout runs on {service}: `turnout canary list {service}` has those that are over"
                    )
                },
            ),
        }),
    }
}
