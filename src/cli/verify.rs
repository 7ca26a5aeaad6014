//! `turnout verify` (state, disk and served side by side) and `turnout check` (a probe of each server, now).

use comfy_table::Cell;

use super::output::{BAD, GOOD, MIND};
use super::table::{self, Page, Tone};
use super::target::{self, Prober, Target};
use super::{CliError, Globals, Subject, local, output, subject};
use crate::controller::{Columns, DriftKind, ServiceStatus, Verification};
use crate::domain::{Color, Health, ServiceName, Split};
use crate::exit::ExitCode;

pub(super) async fn verify(globals: &Globals) -> Result<ExitCode, CliError> {
    let (verification, repair) = match target::to_read(globals).await? {
        Target::Daemon(daemon) => (daemon.client.verify().await?, Repair::Apply),
        Target::Local(mut local) => {
            let repair = if local.is_absent() {
                Repair::Serve
            } else {
                Repair::Apply
            };
            (local.controller().verify().await?, repair)
        }
    };
    let repair = if repair == Repair::Apply && is_down(&verification) {
        Repair::Start
    } else {
        repair
    };
    output::value(globals.format(), &verification, |verification| {
        columns(verification, repair)
    })?;
    Ok(if verification.drift.is_empty() {
        ExitCode::Done
    } else {
        ExitCode::No
    })
}

/// What brings state, disk and served together again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    /// An apply.
    Apply,
    /// The daemon: the embedded proxy lives in it, and it is not there.
    Serve,
    /// The balancer, which does not answer: there is nothing that could take an apply.
    Start,
}

/// True if what should be served is served by nobody.
fn is_down(verification: &Verification) -> bool {
    verification.generation.served.is_none()
        && verification
            .drift
            .iter()
            .any(|drift| drift.kind == DriftKind::Served && drift.service.is_none())
}

/// The three columns, and below them what does not agree.
fn columns(verification: &Verification, repair: Repair) -> String {
    let served = format!("served by {}", verification.balancer);
    let mut table = table::new(&["", "state file", "on disk", &served]);
    let generation = &verification.generation;
    table.add_row(row("generation", generation, |generation| {
        generation.to_string()
    }));
    for service in &verification.services {
        table.add_row(row(service.service.as_str(), &service.split, split));
    }
    let mut page = Page::default();
    page.add(&table::render(table));
    for note in &verification.notes {
        page.line(format_args!("{MIND}!{MIND:#} {note}"));
    }
    for drift in &verification.drift {
        page.line(format_args!("{BAD}✖{BAD:#} {}", drift.message));
    }
    for door in &verification.doors {
        page.line(format_args!("{GOOD}✔{GOOD:#} front door of {door}"));
    }
    let advice = match (verification.drift.is_empty(), repair) {
        (_, Repair::Apply | Repair::Start) if verification.generation.state.is_none() => {
            "  nothing to compare before the first apply".to_owned()
        }
        (true, Repair::Apply) => format!("{GOOD}✔{GOOD:#} no drift"),
        // what does not run can neither drift nor be as it should
        (true, Repair::Serve) => {
            "  nothing runs that could drift   next: turnout serve (the embedded proxy is inside it)"
                .to_owned()
        }
        (false, Repair::Apply) => {
            "  look: turnout diff   repair: turnout apply   (--force replaces what was edited by hand)"
                .to_owned()
        }
        (false, Repair::Serve) => "  repair: turnout serve (or systemctl start turnout)".to_owned(),
        (_, Repair::Start) => format!(
            "  repair: start {0} (systemctl start {0}), then turnout verify",
            verification.balancer
        ),
    };
    page.line(advice);
    page.finish()
}

/// One row; what is not as the state says is marked. What cannot be seen is a dash and no disagreement.
fn row<T: PartialEq + Copy>(
    name: &str,
    columns: &Columns<Option<T>>,
    show: impl Fn(T) -> String,
) -> Vec<Cell> {
    let cell = |value: Option<T>| match value {
        None => table::toned("-", Tone::Dim),
        Some(shown) if value == columns.state => Cell::new(show(shown)),
        Some(shown) => table::toned(&format!("✖ {}", show(shown)), Tone::Bad),
    };
    vec![
        Cell::new(name),
        cell(columns.state),
        cell(columns.disk),
        cell(columns.served),
    ]
}

fn split(split: Split) -> String {
    split.whole().map_or_else(
        || {
            format!(
                "blue {}% green {}%",
                split.weight(Color::Blue),
                split.weight(Color::Green)
            )
        },
        |color| color.to_string(),
    )
}

/// Probes from here, whether a daemon runs or not: what this host can reach is the question. Where this host does not know
/// what to probe (`--server`, a configuration broken at the moment), the daemon's own probes are shown.
pub(super) async fn check(globals: &Globals, asked: Subject) -> Result<ExitCode, CliError> {
    let (service, color) = subject::service_and_color(&asked)?;
    let alone = asked.second.is_none();
    let mut services = match target::to_probe(globals).await? {
        Prober::Here(config) => {
            subject::known(Some(&config), service.as_ref(), alone)?;
            let mut local = local::controller(&config).await?;
            local.controller().check(service.as_ref(), color).await?
        }
        Prober::Daemon(daemon) => {
            let mut services = daemon.client.status().await?.services;
            let names: Vec<&ServiceName> = services.iter().map(|status| &status.service).collect();
            subject::among(&names, service.as_ref(), alone)?;
            services.retain(|status| service.as_ref().is_none_or(|name| name == &status.service));
            output::talk("shown is what the daemon's own probes last found");
            services
        }
    };
    if let Some(color) = color {
        for status in &mut services {
            status.servers[!color].clear();
        }
    }
    output::value(globals.format(), &services, |services| probes(services))?;
    let well = services
        .iter()
        .flat_map(|service| service.servers.iter())
        .flat_map(|(_, servers)| servers)
        .all(|server| server.health == Health::Healthy && server.reason.is_none());
    Ok(if well { ExitCode::Done } else { ExitCode::No })
}

fn probes(services: &[ServiceStatus]) -> String {
    let mut table = table::new(&["SERVICE", "COLOR", "SERVER", "STATUS", "VERSION", "REASON"]);
    for service in services {
        for (color, servers) in service.servers.iter() {
            for server in servers {
                let status = if server.reason.is_some() {
                    table::toned("✖ Failed", Tone::Bad)
                } else {
                    table::health(server.health)
                };
                table.add_row(vec![
                    Cell::new(&service.service),
                    table::color(color),
                    Cell::new(server.url.strip_prefix("http://").unwrap_or(&server.url)),
                    status,
                    Cell::new(table::or_dash(server.version.as_ref())),
                    Cell::new(server.reason.as_deref().unwrap_or_default()),
                ]);
            }
        }
    }
    table::render(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{Drift, VerifiedService};
    use crate::domain::Generation;

    #[test]
    fn what_is_not_as_the_state_says_is_marked() {
        let green = Some(Split::all(Color::Green));
        let verification = Verification {
            refused: std::collections::BTreeMap::new(),
            balancer: "nginx".to_owned(),
            generation: Columns {
                state: Some(Generation(42)),
                disk: Some(Generation(42)),
                served: Some(Generation(41)),
            },
            notes: Vec::new(),
            doors: Vec::new(),
            services: vec![VerifiedService {
                service: "billing".parse().unwrap(),
                traffic: crate::domain::TrafficMode::Open,
                live: None,
                split: Columns {
                    state: green,
                    disk: None,
                    served: Some(Split::from_percents(99.5, 0.5).unwrap()),
                },
            }],
            drift: vec![Drift {
                kind: DriftKind::Served,
                service: None,
                message: "nginx did not take the last configuration".to_owned(),
            }],
        };
        insta::assert_snapshot!(anstream::adapter::strip_str(&columns(&verification, Repair::Apply)), @r#"
                    state file  on disk  served by nginx
        generation  42          42       ✖ 41
        billing     green       -        ✖ blue 99.5% green 0.5%
        ✖ nginx did not take the last configuration
          look: turnout diff   repair: turnout apply   (--force replaces what was edited by hand)
        "#);
    }

    #[test]
    fn an_embedded_proxy_that_does_not_run_is_to_be_started_and_not_applied() {
        let mut verification = Verification {
            refused: std::collections::BTreeMap::new(),
            balancer: "embedded".to_owned(),
            generation: Columns {
                state: None,
                disk: None,
                served: None,
            },
            notes: Vec::new(),
            doors: Vec::new(),
            services: Vec::new(),
            drift: Vec::new(),
        };
        let fresh = columns(&verification, Repair::Serve);
        assert!(fresh.contains("next: turnout serve"), "{fresh}");
        assert!(!fresh.contains("no drift"), "{fresh}");
        verification.drift.push(Drift {
            kind: DriftKind::Served,
            service: None,
            message: "it does not run".to_owned(),
        });
        let down = columns(&verification, Repair::Serve);
        assert!(down.contains("repair: turnout serve"), "{down}");
        assert!(!down.contains("turnout apply"), "{down}");
    }

    #[test]
    fn before_the_first_apply_nothing_is_called_drift_or_its_absence() {
        let verification = Verification {
            refused: std::collections::BTreeMap::new(),
            balancer: "nginx".to_owned(),
            generation: Columns {
                state: None,
                disk: None,
                served: None,
            },
            notes: vec!["nothing was applied yet: run `turnout apply`".to_owned()],
            doors: Vec::new(),
            services: Vec::new(),
            drift: Vec::new(),
        };
        let text = anstream::adapter::strip_str(&columns(&verification, Repair::Apply)).to_string();
        assert!(text.contains("! nothing was applied yet"), "{text}");
        assert!(!text.contains('✖') && !text.contains('✔'), "{text}");
    }
}
