//! `balancer`: its settings, for every kind, whichever is used.

use std::path::PathBuf;
use std::time::Duration;

use super::Checker;
use crate::config::document::At;
use crate::config::file;
use crate::config::quantity::{Refusal, listener, positive};
use crate::config::valid::{
    BalancerKind, BalancerSettings, ExecSettings, HaproxySettings, NginxReload, NginxSettings,
    Switching,
};

pub(super) fn balancer(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: Option<&file::Balancer>,
) -> BalancerSettings {
    let kind = kind(given);
    let nginx = nginx(
        checker,
        at.key("nginx"),
        given.and_then(|given| given.nginx.as_ref()),
    );
    let haproxy = given.and_then(|given| given.haproxy.as_ref());
    let haproxy = self::haproxy(checker, at.key("haproxy"), haproxy);
    let exec_at = at.key("exec");
    let exec = given
        .and_then(|given| given.exec.as_ref())
        .map(|exec| ExecSettings {
            set: command(checker, exec_at.key("set"), &exec.set),
            get: command(checker, exec_at.key("get"), &exec.get),
            promote: (exec.promote.as_ref())
                .map(|items| command(checker, exec_at.key("promote"), items)),
            rollback: (exec.rollback.as_ref())
                .map(|items| command(checker, exec_at.key("rollback"), items)),
            timeout: checker
                .report
                .read(exec_at.key("timeout"), exec.timeout.as_deref(), positive)
                .unwrap_or(Duration::from_secs(30)),
        });
    if kind == BalancerKind::Exec && exec.is_none() {
        checker.report.missing(
            exec_at,
            "balancer.kind is exec, so balancer.exec must give the commands `set` and `get`",
            "",
        );
    }
    let fallback_at = at.key("fallback");
    let fallback = match given.and_then(|given| given.fallback.as_ref()) {
        None | Some(file::Fallback::Switch(false)) => None,
        Some(file::Fallback::Switch(true)) => Some(Vec::new()),
        Some(file::Fallback::Start(start)) => {
            Some(words(checker, fallback_at.key("start"), &start.start))
        }
    };
    match kind {
        BalancerKind::Embedded | BalancerKind::Exec if fallback.is_some() => checker.not_in_force(
            fallback_at,
            "there is no nginx or HAProxy that turnout could stand in for",
        ),
        BalancerKind::Auto
        | BalancerKind::Nginx
        | BalancerKind::Haproxy
        | BalancerKind::Embedded
        | BalancerKind::Exec => {}
    }
    BalancerSettings {
        kind,
        nginx,
        haproxy,
        exec,
        fallback,
        bucket: bucket(checker, at.key("counts"), given),
    }
}

/// Shorter ones would hold too few requests, longer ones would make every verdict late.
fn bucket(checker: &mut Checker<'_>, at: At<'_>, given: Option<&file::Balancer>) -> Duration {
    let given = given.and_then(|given| given.counts.as_ref()?.bucket.as_deref());
    let read = checker.report.read(at.key("bucket"), given, |text| {
        let bucket = positive(text)?;
        if (Duration::from_millis(100)..=Duration::from_mins(10)).contains(&bucket) {
            Ok(bucket)
        } else {
            Err(Refusal(format!("`{text}` is not between 100ms and 10m")))
        }
    });
    read.unwrap_or(Duration::from_secs(10))
}

fn kind(given: Option<&file::Balancer>) -> BalancerKind {
    match given.and_then(|given| given.kind) {
        None | Some(file::Kind::Auto) => BalancerKind::Auto,
        Some(file::Kind::Nginx) => BalancerKind::Nginx,
        Some(file::Kind::Haproxy) => BalancerKind::Haproxy,
        Some(file::Kind::Embedded) => BalancerKind::Embedded,
        Some(file::Kind::Exec) => BalancerKind::Exec,
    }
}

fn nginx(checker: &mut Checker<'_>, at: At<'_>, given: Option<&file::Nginx>) -> NginxSettings {
    let default = file::Nginx::default();
    let given = given.unwrap_or(&default);
    let switching = match given.switching {
        None | Some(file::Switching::Reload) => Switching::Reload,
        Some(file::Switching::Instant) => Switching::Instant,
    };
    let reload = match &given.reload {
        None | Some(file::Reload::Word(file::ReloadWord::Signal)) => NginxReload::Signal,
        Some(file::Reload::Command(items)) => {
            NginxReload::Command(words(checker, at.key("reload"), items))
        }
    };
    let prove = checker
        .report
        .read(at.key("prove"), given.prove.as_deref(), listener)
        .unwrap_or_else(|| ([127, 0, 0, 1], 9181).into());
    let resolver = checker
        .report
        .read(at.key("resolver"), given.resolver.as_deref(), resolver);
    let config = given.config.as_deref();
    NginxSettings {
        config: checker.path(at.key("config"), config, "/etc/nginx/conf.d/turnout.conf"),
        main: checker.path(
            at.key("main"),
            given.main.as_deref(),
            "/etc/nginx/nginx.conf",
        ),
        binary: binary(checker, at.key("binary"), given.binary.as_deref(), "nginx"),
        pid: checker.path(at.key("pid"), given.pid.as_deref(), "/run/nginx.pid"),
        template: checker.template(at.key("template"), given.template.as_deref()),
        prove,
        switching,
        snippets: checker.path(
            at.key("snippets"),
            given.snippets.as_deref(),
            "/etc/nginx/turnout",
        ),
        reload,
        resolver,
    }
}

fn haproxy(
    checker: &mut Checker<'_>,
    at: At<'_>,
    given: Option<&file::Haproxy>,
) -> HaproxySettings {
    let default = file::Haproxy::default();
    let given = given.unwrap_or(&default);
    let files_at = at.key("files");
    let files: Vec<PathBuf> = given
        .files
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, file)| {
            let file = file.as_deref()?;
            Some(checker.path(files_at.item(index), Some(file), file))
        })
        .collect();
    let config = checker.path(
        at.key("config"),
        given.config.as_deref(),
        "/etc/haproxy/turnout.cfg",
    );
    // a folder stands for the files in it
    let reads = |file: &PathBuf| *file == config || config.parent() == Some(file);
    if !files.is_empty() && !files.iter().any(reads) {
        checker.report.missing(
            files_at,
            format!(
                "HAProxy would not read turnout's own file: {} is not among the files",
                config.display()
            ),
            "add it behind the one with `global` and `defaults`",
        );
    }
    HaproxySettings {
        config,
        files,
        maps: checker.path(
            at.key("maps"),
            given.maps.as_deref(),
            "/etc/haproxy/turnout",
        ),
        binary: binary(
            checker,
            at.key("binary"),
            given.binary.as_deref(),
            "haproxy",
        ),
        socket: checker.path(
            at.key("socket"),
            given.socket.as_deref(),
            "/run/haproxy/admin.sock",
        ),
        master_socket: given
            .master_socket
            .as_deref()
            .map(|path| checker.path(at.key("master_socket"), Some(path), path)),
        pid: checker.path(at.key("pid"), given.pid.as_deref(), "/run/haproxy.pid"),
        template: checker.template(at.key("template"), given.template.as_deref()),
    }
}

/// A command whose program, where it has a slash, starts from the file.
fn command(checker: &mut Checker<'_>, at: At<'_>, items: &[Option<String>]) -> Vec<String> {
    let mut words = words(checker, at, items);
    if let Some(program) = words.first_mut().filter(|program| program.contains('/')) {
        *program = at.document().absolute(program).display().to_string();
    }
    words
}

fn words(checker: &mut Checker<'_>, at: At<'_>, items: &[Option<String>]) -> Vec<String> {
    checker.command(at, items.iter().map(Option::as_deref))
}

/// A program: a name for `PATH`, or a path. A relative path with a slash starts from the file.
fn binary(checker: &mut Checker<'_>, at: At<'_>, given: Option<&str>, default: &str) -> String {
    let document = at.document();
    let read = checker.report.read(at, given, |text| {
        let path = crate::config::quantity::path(text)?;
        Ok::<_, Refusal>(if path.contains('/') {
            document.absolute(path).display().to_string()
        } else {
            path.to_owned()
        })
    });
    read.unwrap_or_else(|| default.to_owned())
}

fn resolver(text: &str) -> Result<String, Refusal> {
    let address = |word: &str| {
        word.parse::<std::net::IpAddr>().is_ok() || word.parse::<std::net::SocketAddr>().is_ok()
    };
    if !text.trim().is_empty() && text.split_whitespace().all(address) {
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    } else {
        Err(Refusal(format!(
            "`{}` is not an address such as 127.0.0.53 or 10.0.0.2:53, or several with spaces between them",
            text.escape_debug()
        )))
    }
}
