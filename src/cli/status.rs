//! `turnout status`, once. `live` has the rest.

use jiff::Timestamp;

use super::alias_glance;
use super::glance;
use super::live;
use super::output;
use super::target::{self, Target};
use super::{CliError, Globals, StatusArgs};
use crate::controller::{AliasStatus, ChangeError, ServiceStatus, Standing, Status};
use crate::domain::ServiceName;
use crate::exit::ExitCode;

pub(super) async fn run(globals: &Globals, args: &StatusArgs) -> Result<ExitCode, CliError> {
    if args.watch {
        return live::watch(globals, args.service.as_ref()).await;
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
            !Standing::of_alias(alias, &status.drift).needs_person()
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
pub(super) enum Shown<'a> {
    One(&'a ServiceStatus),
    Alias(&'a AliasStatus),
    All,
}

pub(super) fn chosen<'a>(
    status: &'a Status,
    service: Option<&ServiceName>,
) -> Result<Shown<'a>, CliError> {
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

pub(super) async fn look(
    globals: &Globals,
    service: Option<&ServiceName>,
) -> Result<Status, CliError> {
    Ok(match target::to_read(globals).await? {
        Target::Daemon(daemon) => daemon.client.status().await?,
        Target::Local(mut local) => local.controller().status(service).await?,
    })
}
