//! The command line: one file for each family of verbs, each thin: it asks the daemon, or the controller when none runs.
//!
//! What a verb finds goes to stdout as data (`output::value`), what it says on the way to stderr; its failure is a
//! [`CliError`], which knows its exit code and is printed once, by `main`. Commands run on one thread. Nothing here decides
//! where traffic goes.

mod alias_glance;
mod args;
mod args_rollout;
mod balancers_here;
mod canary;
mod carrier;
mod change;
mod chosen;
mod descriptors;
mod doctor;
mod ending;
mod error;
mod facts;
mod fallback;
mod figures;
mod flags;
mod fragment;
mod glance;
mod globals;
mod greeting;
mod handover;
mod haproxy_init;
mod haproxy_proposal;
mod haproxy_text;
mod heartbeat;
mod history;
mod init;
mod judged;
mod leaving;
mod live;
mod local;
mod lock;
mod nginx_text;
mod nginx_tree;
mod output;
mod proposal;
mod render;
mod replay;
mod rollout_report;
mod rollout_view;
mod sample_app;
mod screen;
mod serve;
mod service;
mod setup;
mod sockets;
mod status;
mod steps;
mod subject;
mod succession;
mod table;
mod target;
mod trial;
mod trial_alias;
mod verify;
mod workloads;

pub use args::{
    Action, ChangeFlags, Cli, Command, FallbackCommand, HistoryArgs, InitArgs, LockCommand,
    RenderArgs, RollbackArgs, ServiceArgs, ShiftArgs, StatusArgs, StrategyArgs, Subject,
    SwitchArgs, TrafficArgs, WeightsArgs,
};
pub use args_rollout::{
    CanaryCommand, ListArgs, ReportArgs, ShowArgs, StartArgs, SteerArgs, SteerFlags,
};
pub use error::CliError;
pub use globals::{Format, Globals};
pub use init::InitError;
pub use output::{failure, talk, without_color};
pub use replay::{ReplayArgs, ReplayError};
pub use sample_app::{SampleApp, SampleAppError};
pub use serve::{ServeArgs, ServeError};
pub use service::{ServiceCommand, ServiceSetArgs};

use crate::exit::ExitCode;

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<ExitCode, CliError> {
    let Cli { globals, command } = cli;
    match command {
        Command::Serve(args) => serve::run(args, &globals).map(|()| ExitCode::Done),
        Command::SampleApp(args) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(CliError::Runtime)?;
            runtime.block_on(sample_app::run(args))?;
            Ok(ExitCode::Done)
        }
        Command::Act(action) => {
            // one thread: fault tests count the system calls of a command in their order
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(CliError::Runtime)?;
            runtime.block_on(act(*action, &globals))
        }
    }
}

/// The verbs that act and answer.
async fn act(action: Action, globals: &Globals) -> Result<ExitCode, CliError> {
    match action {
        Action::Switch(args) => change::switch(globals, args).await,
        Action::Rollback(args) => change::rollback(globals, args).await,
        Action::Strategy(args) => change::strategy(globals, args).await,
        Action::Weights(args) => change::weights(globals, args).await,
        Action::Shift(args) => change::shift(globals, args).await,
        Action::Traffic(args) => change::traffic(globals, args).await,
        Action::Canary(command) => canary::run(globals, command).await,
        Action::Promote(args) => canary::steer(globals, args, canary::Steer::Promote).await,
        Action::Pause(args) => canary::steer(globals, args, canary::Steer::Pause).await,
        Action::Resume(args) => canary::steer(globals, args, canary::Steer::Resume).await,
        Action::Abort(args) => canary::steer(globals, args, canary::Steer::Abort).await,
        Action::Apply(flags) => change::apply(globals, flags).await,
        Action::Reload(flags) => change::reload(globals, flags).await,
        Action::Render(args) => render::render(globals, &args).await,
        Action::Diff => render::diff(globals).await,
        Action::Status(args) => status::run(globals, &args).await,
        Action::Verify => verify::verify(globals).await,
        Action::Check(subject) => verify::check(globals, subject).await,
        Action::Test(args) => trial::run(globals, &args).await,
        Action::Metrics(args) => figures::run(globals, &args).await,
        Action::Doctor => doctor::run(globals).await,
        Action::History(args) => history::run(globals, &args).await,
        Action::Lock { command } => match command.unwrap_or(LockCommand::Status) {
            LockCommand::Status => lock::status(globals),
            LockCommand::Release => lock::release(globals),
        },
        Action::Fallback(FallbackCommand::Release) => fallback::release(globals).await,
        Action::Fallback(FallbackCommand::Status) => fallback::status(globals).await,
        Action::Service(command) => Box::pin(service::run(globals, command)).await,
        Action::Init(args) => setup::init(globals, &args),
        Action::Schema => setup::schema(globals),
        Action::Completion { shell } => setup::completion(shell),
        Action::Man { to } => setup::man(to.as_deref()),
    }
}
