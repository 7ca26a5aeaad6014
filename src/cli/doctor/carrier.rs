//! The part of `doctor` that looks at the balancer: what it lacks, its file, and what it serves.

use std::sync::Arc;

use super::super::CliError;
use super::super::chosen::{self, Chosen};
use super::{Daemon, Finding, said};
use crate::balancer::{self, Balancer, Disk, Served};
use crate::config::{BalancerKind, Config};
use crate::domain::{Route, RoutingTable};
use crate::store::Store;

/// No daemon: by choice beside nginx, and nothing at all without the proxy that is inside it.
fn no_daemon(chosen: Option<&Chosen>) -> Finding {
    if matches!(chosen, Some(Chosen::Embedded)) {
        Finding::note(
            "daemon",
            "none runs on this state directory, and the embedded proxy is inside it: nothing is served",
            "start it: turnout serve (or systemctl start turnout)",
        )
    } else {
        Finding::note(
            "daemon",
            "none runs on this state directory",
            "turnout serve, if failover, health and the API are wanted",
        )
    }
}

/// The balancer that the configuration means.
pub(super) async fn carrier(
    config: &Config,
    store: &Store,
    daemon: Daemon,
    findings: &mut Vec<Finding>,
) {
    let chosen = chosen::balancer(config, store).await;
    if daemon == Daemon::None {
        findings.push(no_daemon(chosen.as_ref().ok()));
    }
    match chosen {
        Err(error) => {
            let error = said(&CliError::from(error));
            findings.push(Finding::wrong("balancer", error, "set balancer.kind"));
        }
        Ok(Chosen::Embedded) => {
            findings.push(embedded(config));
        }
        Ok(Chosen::Nginx(nginx)) => {
            let found = nginx.doctor().await;
            outside(&*nginx, found, findings).await;
        }
        Ok(Chosen::Haproxy(haproxy)) => {
            let found = haproxy.doctor(&shape(config)).await;
            outside(&*haproxy, found, findings).await;
        }
    }
}

/// The services as they start, for what depends on their shape alone.
fn shape(config: &Config) -> RoutingTable {
    let routes = config.services.iter().map(|(name, service)| {
        let route = Route::new(Arc::clone(&service.shape), service.initial);
        (name.clone(), route)
    });
    RoutingTable {
        routes: routes.collect(),
        ..RoutingTable::default()
    }
}

/// A balancer that is a program of its own: what it found, its file, and what it serves.
async fn outside<B: Balancer>(
    balancer: &B,
    found: Vec<balancer::Finding>,
    findings: &mut Vec<Finding>,
) {
    let kind = balancer.kind();
    findings.extend(found.into_iter().map(|found| match found {
        balancer::Finding::Fine(found) => Finding::fine(kind, found),
        balancer::Finding::Advice(found) => Finding::note(kind, found, ""),
        balancer::Finding::Problem(found) => Finding::wrong(kind, found, ""),
    }));
    let observed = balancer.observe().await;
    findings.push(match &observed.disk {
        None => Finding::fine("balancer", format_args!("{kind} keeps no file")),
        Some(Disk::Absent) => Finding::note(
            "file",
            "turnout's file is not there yet",
            "turnout apply writes it",
        ),
        Some(Disk::Intact { generation, .. }) => Finding::fine(
            "file",
            format_args!("generation {generation}, as turnout wrote it"),
        ),
        Some(Disk::Edited { generation, path }) => Finding::wrong(
            "file",
            format_args!(
                "{} was edited by hand since generation {generation}",
                path.display()
            ),
            "turnout diff, then turnout apply --force keeps a copy and replaces it",
        ),
        Some(Disk::Foreign) => Finding::wrong(
            "file",
            "it was not written by turnout",
            "name another file in the configuration, or turnout apply --force",
        ),
        Some(Disk::Unreadable { reason }) => {
            Finding::wrong("file", reason, "run turnout as a user who may read it")
        }
    });
    findings.push(match &observed.served {
        Served::Generation { generation, .. } => Finding::fine(
            "balancer",
            format_args!("{kind} serves generation {generation}"),
        ),
        Served::Foreign { reason } => Finding::note(
            "balancer",
            format_args!("{kind} runs, but not with turnout's file: {reason}"),
            "turnout apply; if it stays so, include the file in the main configuration",
        ),
        Served::Unreachable { reason } => {
            Finding::wrong("balancer", reason, &format!("start {kind}"))
        }
    });
}

/// Who left the choice to turnout is told how it was made.
fn embedded(config: &Config) -> Finding {
    let inside = "embedded: it runs inside `turnout serve`";
    match config.balancer.kind {
        BalancerKind::Auto => Finding::note(
            "balancer",
            format_args!(
                "{inside}; `auto` chose it, because no running nginx loads {}, no running HAProxy {}, or because it was used before",
                config.balancer.nginx.config.display(),
                config.balancer.haproxy.config.display()
            ),
            "set balancer.kind to embedded, or to nginx or haproxy to be told what it lacks",
        ),
        BalancerKind::Nginx
        | BalancerKind::Haproxy
        | BalancerKind::Embedded
        | BalancerKind::Exec => Finding::fine("balancer", inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_daemon_the_embedded_proxy_is_to_be_started() {
        let embedded = no_daemon(Some(&Chosen::Embedded));
        assert!(embedded.found.ends_with("nothing is served"));
        assert!(embedded.way_out.starts_with("start it: turnout serve"));
        assert!(no_daemon(None).way_out.contains("if failover"));
    }
}
