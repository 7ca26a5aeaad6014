//! `workload` and the other keys that bring a version to a service.

use std::collections::BTreeMap;

use super::Checker;
use super::policy::time;
use crate::config::document::At;
use crate::config::file::{self, Written};
use crate::config::quantity::{Refusal, duration, public_url, statuses, url_path};
use crate::config::shape::nearest;
use crate::config::valid::Workload;
use crate::domain::{Color, Colors, Server};

const PLACEHOLDERS: [&str; 4] = ["color", "port", "version", "turnout"];

pub(super) fn release(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: &file::Service,
    servers: &Colors<Vec<Server>>,
) -> Option<Workload> {
    let workload_at = at.key("workload");
    let workload =
        (given.workload.as_ref()).and_then(|given| workload(checker, workload_at, given, servers));
    let smoke_at = at.key("smoke");
    for (index, smoke) in given.smoke.iter().flatten().enumerate() {
        if let Some(smoke) = smoke {
            smoke_test(checker, smoke_at.item(index), smoke);
        }
    }
    let hooks_at = at.key("hooks");
    if let Some(hooks) = &given.hooks {
        for (key, programs) in [
            ("before_switch", &hooks.before_switch),
            ("after_switch", &hooks.after_switch),
            ("failed", &hooks.failed),
        ] {
            let list = hooks_at.key(key);
            for (index, program) in programs.iter().flatten().enumerate() {
                let program = program.as_deref();
                checker.path(list.item(index), program, program.unwrap_or_default());
            }
        }
    }
    let notify_at = at.key("notify");
    for (index, notify) in given.notify.iter().flatten().enumerate() {
        if let Some(notify) = notify {
            webhook(checker, notify_at.item(index), notify);
        }
    }
    for (key, text) in [("keep_old", &given.keep_old), ("bake", &given.bake)] {
        checker.report.read(at.key(key), text.as_deref(), duration);
    }
    let migrations_at = at.key("migrations");
    if let Some(migrations) = &given.migrations {
        checker.path(
            migrations_at.key("dir"),
            Some(&migrations.dir),
            &migrations.dir,
        );
        let database = migrations_at.key("database");
        checker
            .report
            .read(database, Some(&migrations.database), database_url);
    }
    for (key, set, consequence) in [
        ("smoke", given.smoke.is_some(), "no smoke test is run"),
        ("hooks", given.hooks.is_some(), "no hook is run"),
        ("notify", given.notify.is_some(), "no webhook is called"),
        (
            "keep_old",
            given.keep_old.is_some(),
            "the old color is never stopped",
        ),
        (
            "bake",
            given.bake.is_some(),
            "the new color is not watched after a switch",
        ),
        (
            "migrations",
            given.migrations.is_some(),
            "migrations are not run",
        ),
    ] {
        if set {
            checker.not_in_force(at.key(key), consequence);
        }
    }
    workload
}

fn workload(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: &file::Workload,
    servers: &Colors<Vec<Server>>,
) -> Option<Workload> {
    let ways = [
        ("command", given.command.is_some()),
        ("systemd", given.systemd.is_some()),
        ("exec", given.exec.is_some()),
    ];
    let chosen = ways.iter().filter(|(_, set)| *set).count();
    if chosen != 1 {
        let found = if chosen == 0 {
            "has none"
        } else {
            "has several"
        };
        checker.report.missing(
            at,
            format!(
                "{at} takes exactly one of `command`, `systemd` and `exec`, and {found} of them"
            ),
            "",
        );
    }
    if given.systemd.is_some() {
        checker.not_in_force(at.key("systemd"), "units are not started or stopped");
    }
    if let Some(exec) = &given.exec {
        let exec_at = at.key("exec");
        for (key, items) in [
            ("start", Some(&exec.start)),
            ("stop", Some(&exec.stop)),
            ("deploy", exec.deploy.as_ref()),
            ("status", exec.status.as_ref()),
        ] {
            if let Some(items) = items {
                command(checker, exec_at.key(key), items);
            }
        }
        checker.not_in_force(exec_at, "the commands are not run");
    }
    let dir = given.dir.as_deref().map(|dir| {
        placeholders(checker, at.key("dir"), dir);
        checker.path(at.key("dir"), Some(&dir.replace(['{', '}'], "")), dir);
        let folder = &at.document().folder;
        folder.join(dir).display().to_string()
    });
    let env_at = at.key("env");
    let mut env = BTreeMap::new();
    for (name, value) in given.env.iter().flatten() {
        let here = env_at.key(name);
        if name.is_empty() || name.contains(['=', '\0']) {
            checker.report.add(
                here,
                format!("{here}: this is not the name of a variable"),
                "",
            );
        }
        let value = value
            .as_ref()
            .map_or(String::new(), |value| value.0.clone());
        placeholders(checker, here, &value);
        env.insert(name.clone(), value);
    }
    let stop_grace = time(
        checker,
        at.key("stop_grace"),
        given.stop_grace.as_deref(),
        20,
    );
    let command = command(checker, at.key("command"), given.command.as_ref()?);
    let ports = match &given.ports {
        Some(ports) => Colors {
            blue: ports.blue,
            green: ports.green,
        },
        None => Colors::from_fn(|color| servers[color].first().map_or(0, Server::port)),
    };
    let ports_at = at.key("ports");
    if given.ports.is_none() && Color::BOTH.iter().any(|color| servers[*color].len() > 1) {
        checker.report.missing(
            ports_at,
            format!("{at} needs `ports`: a color has several servers, so its port does not follow from them"),
            "",
        );
    }
    let local = |server: &Server| {
        server.host() == "localhost" || server.socket_addr().is_some_and(|to| to.ip().is_loopback())
    };
    let same_host = Color::BOTH
        .iter()
        .all(|color| servers[*color].iter().all(local));
    if ports.blue == ports.green && ports.blue != 0 && same_host {
        checker.report.add(
            ports_at,
            format!(
                "{at}: blue and green both get port {}, and run on this host",
                ports.blue
            ),
            "",
        );
    }
    let versions = given.versions.as_ref();
    let version = |given: &Option<Written>| given.as_ref().map(|version| version.0.clone());
    Some(Workload {
        command,
        dir,
        env,
        ports,
        versions: Colors {
            blue: versions.and_then(|versions| version(&versions.blue)),
            green: versions.and_then(|versions| version(&versions.green)),
        },
        stop_grace,
    })
}

fn command(checker: &mut Checker<'_>, at: At<'_>, items: &[Option<Written>]) -> Vec<String> {
    let texts = items
        .iter()
        .map(|item| item.as_ref().map(|item| item.0.as_str()));
    let words = checker.command(at, texts);
    for (index, word) in words.iter().enumerate() {
        placeholders(checker, at.item(index), word);
    }
    words
}

/// A placeholder that is almost one of ours. Other braces are the program's own business.
fn placeholders(checker: &mut Checker<'_>, at: At<'_>, text: &str) {
    for part in text.split('{').skip(1) {
        let Some((word, _)) = part.split_once('}') else {
            continue;
        };
        if PLACEHOLDERS.contains(&word) {
            continue;
        }
        if let Some(near) = nearest(word, PLACEHOLDERS.to_vec()) {
            checker.report.add(
                at,
                format!("{at}: unknown placeholder `{{{word}}}`, did you mean `{{{near}}}`?"),
                "",
            );
        }
    }
}

fn smoke_test(checker: &mut Checker<'_>, at: At<'_>, given: &file::Smoke) {
    let methods = [
        ("get", &given.get),
        ("post", &given.post),
        ("put", &given.put),
        ("patch", &given.patch),
        ("delete", &given.delete),
        ("head", &given.head),
    ];
    let chosen = methods.iter().filter(|(_, path)| path.is_some()).count();
    if chosen != 1 {
        checker.report.missing(
            at,
            format!(
                "{at} takes exactly one method with its path, such as `get: /`, and has {chosen}"
            ),
            "",
        );
    }
    for (key, path) in methods {
        checker.report.read(at.key(key), path.as_deref(), url_path);
    }
    let headers_at = at.key("headers");
    for (name, value) in given.headers.iter().flatten() {
        let here = headers_at.key(name);
        let value = value.as_ref().map_or("", |value| value.0.as_str());
        let good = http::HeaderName::from_bytes(name.as_bytes()).is_ok()
            && http::HeaderValue::from_str(value).is_ok();
        if !good {
            checker
                .report
                .add(here, format!("{here}: this is not an HTTP header"), "");
        }
    }
    let expect = at.key("expect");
    let status = given
        .expect
        .as_ref()
        .and_then(|expect| expect.status.as_ref());
    checker.report.read(
        expect.key("status"),
        status.map(|status| status.0.as_str()),
        statuses,
    );
    time(checker, at.key("timeout"), given.timeout.as_deref(), 10);
}

fn webhook(checker: &mut Checker<'_>, at: At<'_>, given: &file::Notify) {
    checker
        .report
        .read(at.key("url"), Some(&given.url), hook_url);
    let events = at.key("events");
    for (index, event) in given.events.iter().flatten().enumerate() {
        checker
            .report
            .read(events.item(index), event.as_deref(), |text| {
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
                if !text.is_empty() && text.bytes().all(plain) {
                    return Ok(());
                }
                Err(Refusal(format!(
                    "`{}` is not an event such as switched, rolled_back or failed",
                    text.escape_debug()
                )))
            });
    }
}

/// A URL that turnout calls itself: secrets in its path and query are the rule there.
pub(super) fn hook_url(text: &str) -> Result<(), Refusal> {
    let base = text.split_once('?').map_or(text, |(base, _)| base);
    public_url(base).map(|_| ())
}

fn database_url(text: &str) -> Result<(), Refusal> {
    let known = ["sqlite:", "postgres://", "postgresql://"];
    if known.iter().any(|scheme| text.starts_with(scheme)) {
        Ok(())
    } else {
        // The text may hold a password, so it is not repeated.
        Err(Refusal(
            "a database is sqlite:PATH or postgres://USER@HOST/NAME".into(),
        ))
    }
}
