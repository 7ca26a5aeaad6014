//! From the mirror to the valid configuration: every value read, every rule between values held to, every problem kept.
//!
//! A check never stops at a problem: it reports, goes on with the default, and the result is thrown away at the end if
//! anything was reported. Reads no file but to see that a template is there.

mod across;
mod balancer;
mod canary;
mod control;
mod policy;
mod prometheus;
mod release;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use across::reaches;
pub(super) use control::listen_at;
pub(super) use service::split_refused;

use super::Env;
use super::document::{At, Document, Report};
use super::file;
use super::valid::{Config, Mode, NotInForce, ServiceConfig};
use super::whereabouts::Whereabouts;
use crate::domain::ServiceName;

/// A service as it was read, with the file it stands in.
#[derive(Debug)]
pub(super) struct Found<'d> {
    pub(super) name: String,
    pub(super) document: &'d Document,
    pub(super) service: file::Service,
}

/// Everything that was read.
#[derive(Debug)]
pub(super) struct Merged<'d> {
    pub(super) main: &'d Document,
    pub(super) root: file::Root,
    pub(super) services: Vec<Found<'d>>,
}

/// What the checks of one file share.
pub(super) struct Checker<'r> {
    report: &'r mut Report,
    not_in_force: Vec<NotInForce>,
}

impl Checker<'_> {
    fn not_in_force(&mut self, at: At<'_>, consequence: &str) {
        self.not_in_force.push(NotInForce {
            key: at.to_string(),
            consequence: consequence.to_owned(),
        });
    }

    /// A command: at least a program, and no item refused before.
    fn command<'t>(
        &mut self,
        at: At<'_>,
        items: impl IntoIterator<Item = Option<&'t str>>,
    ) -> Vec<String> {
        let items: Vec<String> = items
            .into_iter()
            .map(|item| item.unwrap_or_default().to_owned())
            .collect();
        if items
            .first()
            .is_none_or(|program| program.trim().is_empty())
        {
            self.report.missing(
                at,
                format!("{at} is a command: a list that begins with a program"),
                "",
            );
        }
        if items.iter().any(|item| item.contains('\0')) {
            self.report
                .add(at, format!("{at} holds a NUL character"), "");
        }
        items
    }

    /// A path, absolute.
    fn path(&mut self, at: At<'_>, text: Option<&str>, default: &str) -> std::path::PathBuf {
        let document = at.document();
        self.report
            .read(at, text, |text| {
                super::quantity::path(text).map(|path| document.absolute(path))
            })
            .unwrap_or_else(|| document.absolute(default))
    }

    /// A template: a path to a file that can be read.
    fn template(&mut self, at: At<'_>, text: Option<&str>) -> Option<std::path::PathBuf> {
        let text = text?;
        let path = self.path(at, Some(text), text);
        if let Err(error) = std::fs::File::open(&path) {
            self.report.add(
                at,
                format!(
                    "{at}: the template {} cannot be read: {error}",
                    path.display()
                ),
                "",
            );
        } else if path.is_dir() {
            self.report.add(
                at,
                format!("{at}: the template {} is a directory", path.display()),
                "",
            );
        }
        Some(path)
    }
}

/// Checks everything; `None` if anything was reported, now or before.
pub(super) fn checked(
    merged: &Merged<'_>,
    mode: Mode,
    env: &Env<'_>,
    report: &mut Report,
) -> Option<Config> {
    let mut checker = Checker {
        report,
        not_in_force: Vec::new(),
    };
    let root = &merged.root;
    let top = At::Top(merged.main);
    let balancer = balancer::balancer(&mut checker, top.key("balancer"), root.balancer.as_ref());
    let control = control::control(&mut checker, top.key("control"), root.control.as_ref(), env);
    let trusted_proxies = control::trusted(&mut checker, top.key("trusted_proxies"), root);
    let state = root.state.as_ref();
    let state_at = top.key("state");
    let state_dir = checker.path(
        state_at.key("dir"),
        state.and_then(|state| state.dir.as_deref()),
        Whereabouts::STATE_DIR,
    );

    let (mut services, mut aliases) = (BTreeMap::new(), BTreeMap::new());
    for found in &merged.services {
        match service::service(&mut checker, found, balancer.kind) {
            service::Checked::Colored(name, config) => {
                services.insert(name, *config);
            }
            service::Checked::Alias(name, config) => {
                aliases.insert(name, *config);
            }
            service::Checked::Refused => {}
        }
    }
    let colored = services
        .iter()
        .map(|(name, config): (&ServiceName, &ServiceConfig)| (name, &config.shape));
    let shapes = colored
        .chain(aliases.iter().map(|(name, config)| (name, &config.shape)))
        .map(|(name, shape)| (name.clone(), Arc::clone(shape)))
        .collect();
    across::names(&mut checker, merged);
    across::addresses(&mut checker, merged, &shapes, &balancer, &control);
    across::doors(&mut checker, merged, &shapes);
    across::hosts(&mut checker, merged, &shapes);
    let follow = control::follow(
        &mut checker,
        state_at.key("follow"),
        state.and_then(|state| state.follow.as_ref()),
        &services,
    );
    if merged.services.is_empty() {
        let at = top.key("services");
        checker.report.missing(
            at,
            "there is no service: add one under `services`, or a file with one to `include`",
            "",
        );
    }
    let not_in_force = std::mem::take(&mut checker.not_in_force);
    let config = Config {
        mode,
        files: Vec::new(),
        include: Vec::new(),
        state_dir,
        follow,
        balancer,
        control,
        trusted_proxies,
        services,
        aliases,
        not_in_force,
    };
    report.problems.is_empty().then_some(config)
}
