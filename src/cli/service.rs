//! `turnout service set|remove|list`: services as fragments of the configuration, one file each, in the first folder of
//! `include`.
//!
//! A fragment is written only after the configuration as a whole was read with it in place and found good; what would make
//! it invalid changes nothing. It is put into force by an apply: by the daemon, which answers once that is proved, or here. Where
//! that is refused, the file is put back as it was.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::change::{self, Made};
use super::fragment::{MARK, Place, usage};
use super::output::{self, DIM, GOOD};
use super::table::{self, Page};
use super::{ChangeFlags, CliError, Globals, target};
use crate::config::Config;
use crate::controller::Outcome;
use crate::domain::{Service, ServiceName};
use crate::exit::ExitCode;

pub(super) async fn run(globals: &Globals, command: ServiceCommand) -> Result<ExitCode, CliError> {
    match command {
        ServiceCommand::Set(args) => set(globals, args).await,
        ServiceCommand::Remove { name, flags } => remove(globals, &name, flags).await,
        ServiceCommand::List => list(globals),
    }
}

/// What to do with services.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Add a service behind an alias, or replace it; returns once that is in force and proved
    Set(ServiceSetArgs),
    /// Remove a service that was added so
    Remove {
        /// Which
        #[arg(value_name = "NAME")]
        name: ServiceName,
        /// As everywhere.
        #[command(flatten)]
        flags: ChangeFlags,
    },
    /// List every service of the configuration, by project
    List,
}

/// Arguments of `service set`.
#[derive(Debug, Args)]
pub struct ServiceSetArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: ServiceName,
    /// A host that it answers to, such as blog.com or *.blog.com; may be given several times
    #[arg(long = "host", value_name = "HOST", required = true)]
    pub hosts: Vec<String>,
    /// The network alias that its requests go to
    #[arg(long, value_name = "NAME:PORT")]
    pub target: String,
    /// A label that groups services
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Where it listens; may be left out where there is only one listener
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// As everywhere.
    #[command(flatten)]
    pub flags: ChangeFlags,
}

/// What was done with a file.
#[derive(Debug, Serialize)]
struct Told<'a> {
    service: &'a ServiceName,
    file: &'a Path,
    /// What stands in it now; absent where it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    changed: bool,
    dry_run: bool,
    /// How it was put into force; absent where nobody serves yet, or nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

async fn set(globals: &Globals, args: ServiceSetArgs) -> Result<ExitCode, CliError> {
    let ServiceSetArgs { name, flags, .. } = &args;
    let place = Place::find(globals, name, flags.dry_run)?;
    let before = place.text()?;
    let known = place.config.services.contains_key(name) || place.config.aliases.contains_key(name);
    if known && before.is_none() {
        return Err(elsewhere(name, &place));
    }
    place.own(before.as_deref(), flags)?;
    let text = fragment(&args, &place.config)?;
    put_into_force(globals, &place, name, flags, before, Some(text)).await
}

async fn remove(
    globals: &Globals,
    name: &ServiceName,
    flags: ChangeFlags,
) -> Result<ExitCode, CliError> {
    let place = Place::find(globals, name, flags.dry_run)?;
    let before = place.text()?;
    let known = place.config.services.contains_key(name) || place.config.aliases.contains_key(name);
    if known && before.is_none() {
        return Err(elsewhere(name, &place));
    }
    place.own(before.as_deref(), &flags)?;
    put_into_force(globals, &place, name, &flags, before, None).await
}

fn elsewhere(name: &ServiceName, place: &Place) -> CliError {
    usage(format!(
        "the service {name} is not in {}, but in another file of the configuration: edit it there",
        place.file.display()
    ))
}

/// Reads the whole with the new text, writes it, and has it applied.
async fn put_into_force(
    globals: &Globals,
    place: &Place,
    name: &ServiceName,
    flags: &ChangeFlags,
    before: Option<String>,
    after: Option<String>,
) -> Result<ExitCode, CliError> {
    // found even where the file stays: somebody may have broken another one
    place.with(after.as_deref())?;
    let changed = before != after;
    let mut told = Told {
        service: name,
        file: &place.file,
        text: after.as_deref(),
        changed,
        dry_run: flags.dry_run,
        outcome: None,
    };
    if flags.dry_run {
        output::value(globals.format(), &told, view)?;
        return Ok(ExitCode::Done);
    }
    if changed {
        place.put(after.as_deref())?;
    }
    let mut apply = flags.clone();
    // that was about the fragment; a balancer's file that was edited by hand is another matter
    apply.force = false;
    let what = if after.is_some() { "set" } else { "remove" };
    apply
        .message
        .get_or_insert_with(|| format!("service {what} {name}"));
    match Box::pin(change::apply_quietly(globals, apply)).await {
        Ok(Made::Outcome(outcome)) => {
            for warning in &outcome.warnings {
                output::warn(warning);
            }
            told.changed |= outcome.changed;
            told.outcome = Some(*outcome);
        }
        Ok(Made::NobodyServes) => output::talk(
            "the embedded proxy runs inside `turnout serve`, which does not run: it takes the service up when it starts",
        ),
        Err(error) => {
            if changed && error.leaves_all_as_it_was() {
                place.put(before.as_deref())?;
            }
            return Err(error);
        }
    }
    output::value(globals.format(), &told, view)?;
    Ok(ExitCode::Done)
}

/// The text of a fragment.
fn fragment(args: &ServiceSetArgs, config: &Config) -> Result<String, CliError> {
    use std::fmt::Write as _;

    // what JSON quotes, YAML reads as the same text
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let hosts: Vec<_> = args.hosts.iter().map(|host| quoted(host)).collect();
    let mut text = format!("{MARK}services:\n  {}:\n", quoted(args.name.as_str()));
    let mut line = |key: &str, value: &str| {
        // writing to a String cannot fail
        writeln!(text, "    {key}: {value}").ok();
    };
    line("hosts", &format!("[{}]", hosts.join(", ")));
    if let Some(listen) = listener(args, config)? {
        line("listen", &quoted(&listen.to_string()));
    }
    if let Some(project) = &args.project {
        line("project", &quoted(project));
    }
    line("target", &quoted(&args.target));
    Ok(text)
}

/// The listener that is named, or the only one there is; `None`: there is none, and the balancer's own configuration listens.
fn listener(args: &ServiceSetArgs, config: &Config) -> Result<Option<SocketAddr>, CliError> {
    if args.listen.is_some() {
        return Ok(args.listen);
    }
    let shapes = config.shapes();
    let others = shapes.values().filter(|shape| shape.name != args.name);
    let mut listens: Vec<SocketAddr> = others.filter_map(|shape| shape.listen).collect();
    listens.sort_unstable();
    listens.dedup();
    match listens.as_slice() {
        [] => Ok(shapes.get(&args.name).and_then(|shape| shape.listen)),
        [only] => Ok(Some(*only)),
        several => {
            let several: Vec<_> = several.iter().map(ToString::to_string).collect();
            Err(usage(format!(
                "there are several listeners: name one with --listen, such as {}",
                several.join(" or ")
            )))
        }
    }
}

fn view(told: &Told<'_>) -> String {
    let mut page = Page::default();
    let file = told.file.display();
    let name = told.service;
    match (told.changed, told.dry_run, told.text) {
        (false, _, Some(_)) => page.line(format_args!(
            "nothing to do: {name} is so already {DIM}({file}){DIM:#}"
        )),
        (false, _, None) => page.line(format_args!("nothing to do: there is no service {name}")),
        (true, true, Some(text)) => {
            page.line(format_args!("dry run: would write {file}:"));
            page.add(text);
        }
        (true, true, None) => page.line(format_args!("dry run: would remove {file}")),
        (true, false, text) => {
            let done = if text.is_some() { "set" } else { "removed" };
            let proof = told.outcome.as_ref().map_or_else(String::new, |outcome| {
                format!(", proved as generation {}", outcome.generation)
            });
            page.line(format_args!(
                "{GOOD}✔{GOOD:#} {name} {done}{proof} {DIM}({file}){DIM:#}"
            ));
        }
    }
    page.finish()
}

/// One configured service.
#[derive(Debug, Serialize)]
struct Listed {
    service: ServiceName,
    project: Option<String>,
    hosts: Vec<String>,
    listen: Option<SocketAddr>,
    /// The alias; absent where it has colors.
    target: Option<String>,
}

fn list(globals: &Globals) -> Result<ExitCode, CliError> {
    let config = target::config(globals)?;
    let mut listed: Vec<Listed> = config.shapes().values().map(listed).collect();
    listed
        .sort_by(|one, other| (&one.project, &one.service).cmp(&(&other.project, &other.service)));
    output::value(globals.format(), &listed, |listed| {
        let mut table = table::new(&["PROJECT", "SERVICE", "HOSTS", "LISTEN", "TARGET"]);
        for service in listed {
            let hosts = match service.hosts.as_slice() {
                [] => "any".to_owned(),
                hosts => hosts.join(" "),
            };
            table.add_row([
                table::or_dash(service.project.as_ref()),
                service.service.to_string(),
                hosts,
                table::or_dash(service.listen),
                service
                    .target
                    .clone()
                    .unwrap_or_else(|| "blue and green".to_owned()),
            ]);
        }
        table::render(table)
    })?;
    Ok(ExitCode::Done)
}

fn listed(shape: &Arc<Service>) -> Listed {
    Listed {
        service: shape.name.clone(),
        project: shape.project.clone(),
        hosts: shape.hosts.iter().map(ToString::to_string).collect(),
        listen: shape.listen,
        target: shape.alias().map(crate::domain::Server::authority),
    }
}
