//! What carries the traffic: whether it runs, what it serves, and what stands in its file.

use std::sync::Arc;

use super::daemon::{self, Daemon};
use super::fallback;
use super::finding::{Finding, said};
use crate::balancer::{self, Balancer, Disk, Nginx, Served};
use crate::cli::CliError;
use crate::cli::chosen::{self, Chosen};
use crate::config::{BalancerKind, Config, ServiceConfig};
use crate::domain::{Route, RoutingTable};
use crate::store::Store;

/// Services named in one finding; of 2,000 nobody wants the list.
const NAMED: usize = 5;

pub(super) async fn carrier(
    config: &Config,
    store: &Store,
    daemon: Daemon,
    findings: &mut Vec<Finding>,
) {
    let chosen = chosen::balancer(config, store).await;
    if daemon == Daemon::None {
        findings.push(daemon::no_daemon(chosen.as_ref().ok()));
    }
    findings.extend(fallback::findings(config, store, chosen.as_ref().ok()));
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
            findings.extend(own_locations(config));
            findings.extend(own_counts(config, &nginx));
        }
        Ok(Chosen::Haproxy(haproxy)) => {
            let found = haproxy.doctor(&shape(config)).await;
            outside(&*haproxy, found, findings).await;
        }
        Ok(Chosen::Exec(exec)) => {
            let found = exec.doctor().await;
            outside(&*exec, found, findings).await;
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
        aliases: config.alias_routes(),
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

/// Where the user's own server block listens, turnout's snippet names no pages: `error_page` there would replace the user's.
fn own_locations(config: &Config) -> Option<Finding> {
    let own: Vec<_> = config
        .services
        .iter()
        .filter(|(_, service)| service.shape.listen.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    let (some, more) = own.split_at(own.len().min(NAMED));
    let more = match more.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    (!own.is_empty()).then(|| {
        Finding::note(
            "pages",
            format_args!(
                "{}{more}: in a server block of your own nginx answers a dead or slow server with its own 502 and 504 pages, \
                 not with turnout's",
                some.join(", ")
            ),
            "set error_page there if clients should see something else, or let turnout listen: services.NAME.listen",
        )
    })
}

/// What a user's own server block needs for its requests to be counted, which rollouts are judged by.
fn own_counts(config: &Config, nginx: &Nginx) -> Option<Finding> {
    let own = |service: &&ServiceConfig| service.shape.listen.is_none() && service.shape.metrics;
    config.services.values().find(own)?;
    let (always, with_own_log) = nginx.counts_lines();
    Some(Finding::note(
        "counts",
        format_args!(
            "requests through a server block of your own are counted by color once it has this line: {always}"
        ),
        &format!("where the block has an access_log of its own, add this one too: {with_own_log}"),
    ))
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
    use crate::config::{Env, Source};

    #[expect(
        clippy::disallowed_methods,
        reason = "a test's file need not survive a crash"
    )]
    fn config(services: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turnout.yaml");
        std::fs::write(&path, format!("version: 1\nservices:\n{services}")).unwrap();
        let env = Env::new(folder.path().to_owned(), |_| None);
        Config::load(&Source::file(&path, &env), &env).unwrap()
    }

    fn service(name: &str, listen: &str) -> String {
        format!(
            "  {name}:\n    hosts: [{name}.example.com]\n{listen}    blue: {{ servers: [\"http://127.0.0.1:1\"] }}\n    green: {{ servers: [\"http://127.0.0.1:2\"] }}\n"
        )
    }

    #[test]
    fn who_listens_in_a_server_block_of_their_own_is_told_whose_pages_clients_get() {
        let shop = service("shop", "    listen: 127.0.0.1:8080\n");
        assert!(own_locations(&config(&shop)).is_none());
        let more: String = (0..7).map(|n| service(&format!("blog-{n}"), "")).collect();
        let found = own_locations(&config(&(shop + &more))).unwrap();
        assert_eq!(
            found.found,
            "blog-0, blog-1, blog-2, blog-3, blog-4 and 2 more: in a server block of your own nginx answers a dead or slow \
             server with its own 502 and 504 pages, not with turnout's"
        );
        assert!(found.way_out.contains("error_page"));
    }
}
