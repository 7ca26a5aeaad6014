//! The verbs that move traffic: switch, rollback, strategy, weights, shift, apply, reload.

use std::path::Path;
use std::time::Duration;

use nix::unistd::{Uid, User, gethostname};
use tokio::signal::unix::{SignalKind, signal};

use super::output::{self, BOLD, DIM, GOOD, MIND};
use super::steps::Steps;
use super::subject;
use super::table::{self, Page};
use super::target::{self, Needs, Target};
use super::{
    ChangeFlags, CliError, Globals, RollbackArgs, ShiftArgs, StrategyArgs, SwitchArgs, TrafficArgs,
    WeightsArgs,
};
use crate::api::client::ClientError;
use crate::balancer::Progress;
use crate::controller::{Outcome, Provided, Request, Verb};
use crate::domain::{Maintenance, ServiceName, Traffic, TrafficMode};
use crate::exit::ExitCode;

pub(super) async fn switch(globals: &Globals, args: SwitchArgs) -> Result<ExitCode, CliError> {
    let alone = args.subject.second.is_none();
    let (service, to) = subject::service_and_color(&args.subject)?;
    let named = Named {
        service: service.clone(),
        alone,
    };
    let mut request = request(Verb::Switch { service, to }, args.flags);
    request.wait_drained = args.wait_drained;
    change(globals, &request, &named).await
}

pub(super) async fn rollback(globals: &Globals, args: RollbackArgs) -> Result<ExitCode, CliError> {
    let named = Named::service(args.service.as_ref());
    let verb = Verb::Rollback {
        service: args.service,
    };
    change(globals, &request(verb, args.flags), &named).await
}

/// The end of a rollout where no daemon has it: everything back to the stable color, and nothing where none has the traffic.
pub(super) async fn abort(
    globals: &Globals,
    service: Option<ServiceName>,
    flags: ChangeFlags,
) -> Result<ExitCode, CliError> {
    let named = Named::service(service.as_ref());
    let request = Request {
        provided: Provided::RolloutRuns,
        ..request(Verb::Rollback { service }, flags)
    };
    change(globals, &request, &named).await
}

pub(super) async fn strategy(globals: &Globals, args: StrategyArgs) -> Result<ExitCode, CliError> {
    let (service, strategy) = subject::service_and_strategy(&args.words)?;
    let named = Named::service(service.as_ref());
    let verb = Verb::Strategy { service, strategy };
    change(globals, &request(verb, args.flags), &named).await
}

pub(super) async fn weights(globals: &Globals, args: WeightsArgs) -> Result<ExitCode, CliError> {
    let (service, weights) = subject::service_and_weights(&args.words, args.normalize)?;
    let named = Named::service(service.as_ref());
    let verb = Verb::Weights { service, weights };
    change(globals, &request(verb, args.flags), &named).await
}

pub(super) async fn shift(globals: &Globals, args: ShiftArgs) -> Result<ExitCode, CliError> {
    let named = Named::service(args.service.as_ref());
    let verb = Verb::Shift {
        service: args.service,
        by: args.by,
        towards: args.towards,
    };
    change(globals, &request(verb, args.flags), &named).await
}

pub(super) async fn traffic(globals: &Globals, args: TrafficArgs) -> Result<ExitCode, CliError> {
    let named = Named::service(args.service.as_ref());
    let verb = Verb::Traffic {
        to: meant(args.mode, args.page.as_deref(), args.retry_after)?,
        service: args.service,
    };
    change(globals, &request(verb, args.flags), &named).await
}

/// The page is read here and not by the daemon: it is a file of who types, perhaps on another machine.
fn meant(
    mode: TrafficMode,
    page: Option<&Path>,
    retry_after: Option<Duration>,
) -> Result<Traffic, CliError> {
    let usage = |message: String| Err(CliError::Usage { message });
    let traffic = match mode {
        TrafficMode::Open => Traffic::Open,
        TrafficMode::Hold => Traffic::Hold,
        TrafficMode::Maintenance => {
            let page = match page.map(|path| (path, std::fs::read_to_string(path))) {
                None => None,
                Some((_, Ok(text))) if text.len() <= Maintenance::LONGEST_PAGE => Some(text),
                Some((path, Ok(text))) => {
                    return usage(format!(
                        "{} has {} bytes, and a page has at most {}: put images and styles elsewhere",
                        path.display(),
                        text.len(),
                        Maintenance::LONGEST_PAGE
                    ));
                }
                Some((path, Err(error))) => {
                    return usage(format!("failed to read {}: {error}", path.display()));
                }
            };
            let seconds = retry_after.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
            return Ok(Traffic::Maintenance(Maintenance {
                retry_after: seconds.unwrap_or(Maintenance::RETRY_AFTER),
                page,
            }));
        }
    };
    if page.is_some() || retry_after.is_some() {
        return usage("--page and --retry-after are for `turnout traffic maintenance`".to_owned());
    }
    Ok(traffic)
}

pub(super) async fn apply(globals: &Globals, flags: ChangeFlags) -> Result<ExitCode, CliError> {
    change(globals, &request(Verb::Apply, flags), &Named::service(None)).await
}

/// What came of an apply that somebody else tells of.
pub(super) enum Made {
    /// This.
    Outcome(Box<Outcome>),
    /// Nothing: the embedded proxy has no daemon.
    NobodyServes,
}

/// Has the configuration applied, by the daemon or here, and prints nothing.
pub(super) async fn apply_quietly(globals: &Globals, flags: ChangeFlags) -> Result<Made, CliError> {
    let request = request(Verb::Apply, flags);
    let (target, _) = Box::pin(target::to_write(globals, Needs::Whole)).await?;
    let outcome = match target {
        Target::Daemon(daemon) => daemon.client.change(&request).await?,
        Target::Local(local) if local.is_absent() => return Ok(Made::NobodyServes),
        Target::Local(mut local) => {
            let steps = Steps::new();
            let tell = |step, detail: &str| steps.tell(step, detail);
            let change = local.controller().change(&request, Progress::new(&tell));
            uninterrupted(change, &steps).await?
        }
    };
    Ok(Made::Outcome(Box::new(outcome)))
}

pub(super) async fn reload(globals: &Globals, flags: ChangeFlags) -> Result<ExitCode, CliError> {
    let verb = request(Verb::Reload, flags);
    change(globals, &verb, &Named::service(None)).await
}

/// The service as it was written, for a better message than "unknown".
struct Named {
    service: Option<ServiceName>,
    /// It stood alone where a color may stand.
    alone: bool,
}

impl Named {
    fn service(service: Option<&ServiceName>) -> Self {
        Self {
            service: service.cloned(),
            alone: false,
        }
    }

    /// A daemon's refusal. It knows its services, and not that the word stood where a color may stand.
    fn explain(&self, error: ClientError) -> CliError {
        match (&self.service, error) {
            (
                Some(word),
                ClientError::Refused {
                    status: 404,
                    detail,
                    ..
                },
            ) if self.alone => CliError::Usage {
                message: format!("{detail}; nor is `{word}` a color: those are blue and green"),
            },
            (_, error) => error.into(),
        }
    }
}

fn request(verb: Verb, flags: ChangeFlags) -> Request {
    Request {
        force: flags.force,
        dry_run: flags.dry_run,
        message: flags.message,
        lock_wait: flags.lock_wait,
        ..Request::new(verb, actor())
    }
}

/// `USER@HOST (cli)`. Behind sudo the person, not root; a user without a name is a number.
pub(super) fn actor() -> String {
    let named = |name: &str| std::env::var(name).ok().filter(|name| !name.is_empty());
    let uid = Uid::current();
    let user = named("SUDO_USER")
        .filter(|_| uid.is_root())
        .or_else(|| Some(User::from_uid(uid).ok().flatten()?.name))
        .unwrap_or_else(|| uid.to_string());
    let host = gethostname().ok().map_or_else(
        || "localhost".to_owned(),
        |host| host.to_string_lossy().into_owned(),
    );
    format!("{user}@{host} (cli)")
}

async fn change(globals: &Globals, request: &Request, named: &Named) -> Result<ExitCode, CliError> {
    let needs = match request.change {
        Verb::Apply | Verb::Reload => Needs::Whole,
        Verb::Switch { .. }
        | Verb::Rollback { .. }
        | Verb::Strategy { .. }
        | Verb::Weights { .. }
        | Verb::Shift { .. }
        | Verb::Traffic { .. } => Needs::Daemon,
    };
    let (target, config) = target::to_write(globals, needs).await?;
    let service = named.service.as_ref();
    let (outcome, facts) = match target {
        Target::Daemon(daemon) => {
            let outcome = daemon.client.change(request).await;
            (outcome.map_err(|error| named.explain(error))?, Facts::New)
        }
        Target::Local(mut local) => {
            subject::known(config.as_deref(), service, named.alone)?;
            if local.is_absent() && !request.dry_run {
                if let Some(holder) = local.daemon()? {
                    let holder = Box::new(holder);
                    return Err(CliError::InsideDaemon { holder });
                }
                return Err(CliError::NoDaemon {
                    state_dir: local.state_dir().to_owned(),
                });
            }
            let steps = Steps::new();
            let tell = |step, detail: &str| steps.tell(step, detail);
            let change = local.controller().change(request, Progress::new(&tell));
            (uninterrupted(change, &steps).await?, Facts::Told)
        }
    };
    for warning in &outcome.warnings {
        output::warn(warning);
    }
    output::value(globals.format(), &outcome, |outcome| view(outcome, facts))?;
    Ok(ExitCode::Done)
}

/// Runs a change to its end although Ctrl-C is pressed: an apply has its own deadline, and ends with a proof or restored.
/// Before its first step it is dropped at once; a second Ctrl-C drops it anywhere, and the journal says where it was.
async fn uninterrupted(
    change: impl Future<Output = Result<Outcome, crate::controller::ChangeError>>,
    steps: &Steps,
) -> Result<Outcome, CliError> {
    tokio::pin!(change);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    let mut warned = false;
    loop {
        tokio::select! {
            outcome = &mut change => return Ok(outcome?),
            _ = interrupt.recv() => {
                if steps.count() == 0 {
                    return Err(CliError::Cancelled);
                }
                if warned {
                    return Err(CliError::Interrupted);
                }
                warned = true;
                output::talk("finishing what was begun, so that nothing is left half done; Ctrl-C again stops here");
            }
        }
    }
}

/// Whether the facts that prove a change were told as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Facts {
    /// By the live steps of a change that was made here.
    Told,
    /// Not yet: the daemon saw them.
    New,
}

/// What was done, for people.
fn view(outcome: &Outcome, facts: Facts) -> String {
    let took = table::took(Duration::from_millis(outcome.duration_ms));
    let mut page = Page::default();
    for step in &outcome.plan.steps {
        page.line(step);
    }
    if outcome.dry_run && outcome.plan.is_empty() {
        page.line("nothing would change");
    } else if outcome.dry_run {
        page.line(format_args!(
            "{MIND}dry run:{MIND:#} nothing was done; it would become generation {}",
            outcome.plan.to
        ));
    } else if outcome.changed {
        page.line(format_args!(
            "{GOOD}✔{GOOD:#} {} proved as generation {BOLD}{}{BOLD:#} in {took}",
            outcome.action, outcome.generation
        ));
        for fact in outcome.evidence.iter().filter(|_| facts == Facts::New) {
            page.line(format_args!("  {DIM}{fact}{DIM:#}"));
        }
    } else {
        let so = outcome.service.as_ref().map_or_else(
            || "all is already so".to_owned(),
            |status| {
                format!(
                    "{} is already at {} {}",
                    status.service, status.strategy, status.active
                )
            },
        );
        page.line(format_args!(
            "nothing to do: {so} {DIM}(generation {}){DIM:#}",
            outcome.generation
        ));
    }
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Color, Generation, Position};
    use crate::plan::{Change, ChangeKind, Plan};

    fn outcome(changed: bool, dry_run: bool) -> Outcome {
        let position = |active| Position::BlueGreen { active };
        Outcome {
            action: "switch".to_owned(),
            changed,
            dry_run,
            generation: Generation(if changed { 8 } else { 7 }),
            plan: Plan {
                from: Generation(7),
                to: Generation(8),
                steps: vec![Change {
                    service: "shop".parse().unwrap(),
                    kind: ChangeKind::Moved {
                        from: position(Color::Blue),
                        to: position(Color::Green),
                    },
                }],
            },
            service: None,
            evidence: vec!["the private listener shows generation 8".to_owned()],
            warnings: Vec::new(),
            duration_ms: 412,
        }
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_change_shows_plan_proof_and_evidence() {
        assert_eq!(
            plain(&view(&outcome(true, false), Facts::New)),
            "shop: blue_green blue → blue_green green\n\
             ✔ switch proved as generation 8 in 412ms\n  the private listener shows generation 8"
        );
    }

    #[test]
    fn facts_that_were_told_as_they_came_are_not_said_twice() {
        let text = plain(&view(&outcome(true, false), Facts::Told));
        assert!(text.ends_with("proved as generation 8 in 412ms"), "{text}");
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_done() {
        let text = plain(&view(&outcome(false, true), Facts::New));
        assert!(text.ends_with("dry run: nothing was done; it would become generation 8"));
    }

    #[test]
    fn a_word_that_is_neither_color_nor_service_is_told_both() {
        let refused = || ClientError::Refused {
            status: 404,
            title: "Not Found".to_owned(),
            detail: "there is no service `purple`; there is shop".to_owned(),
            exit: Some(2),
        };
        let service = "purple".parse().ok();
        let mut named = Named {
            service,
            alone: true,
        };
        let error = named.explain(refused());
        assert_eq!(
            error.to_string(),
            "there is no service `purple`; there is shop; nor is `purple` a color: those are blue and green"
        );
        assert_eq!(error.exit(), ExitCode::Usage);
        named.alone = false;
        assert!(matches!(named.explain(refused()), CliError::Client(_)));
    }

    #[test]
    fn the_actor_names_user_and_host() {
        let actor = actor();
        assert!(actor.contains('@') && actor.ends_with(" (cli)"), "{actor}");
    }
}
