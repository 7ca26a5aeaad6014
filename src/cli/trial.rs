//! `turnout test`: a few requests through the router, as a client sends them: does a backend answer, does the router say what the
//! state says, does it count. Changes nothing.

use std::sync::Arc;

use comfy_table::Cell;
use serde::Serialize;
use serde_json::Value;

use super::output;
use super::status::look;
use super::table::{self, Tone};
use super::{CliError, Globals, ServiceArgs, subject, target, trial_alias};
use crate::balancer::{DoorAnswer, ask_door};
use crate::config::Config;
use crate::controller::ServiceStatus;
use crate::domain::{Color, Service, ServiceName};
use crate::exit::ExitCode;

pub(super) const HEALTH: &str = "/__router_health";
const FIGURES: &str = "/__router_metrics";

/// One test of one service.
#[derive(Debug, Serialize)]
pub(super) struct Tested<'a> {
    service: &'a str,
    test: &'static str,
    result: Verdict,
    detail: String,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Passed,
    Failed,
    /// Nobody could tell here, which is no failure.
    NotHere,
}

/// A verdict and why.
pub(super) type Found = (Verdict, String);

pub(super) async fn run(globals: &Globals, args: &ServiceArgs) -> Result<ExitCode, CliError> {
    let config = target::config(globals)?;
    subject::known(Some(&config), args.service.as_ref(), false)?;
    let status = look(globals, None).await?;
    let mut tested = Vec::new();
    let is_asked = |name: &ServiceName| args.service.as_ref().is_none_or(|asked| asked == name);
    let kind = status.balancer.as_str();
    for service in &status.services {
        if let Some(known) = config.services.get(&service.service)
            && is_asked(&service.service)
        {
            tested.extend(all(service, &known.shape, kind, &config).await);
        }
    }
    for alias in &status.aliases {
        if let Some(known) = config.aliases.get(&alias.service)
            && is_asked(&alias.service)
        {
            tested.extend(trial_alias::all(alias, known, kind).await);
        }
    }
    output::value(globals.format(), &tested, |tested| view(tested))?;
    let well = tested.iter().all(|one| one.result != Verdict::Failed);
    Ok(if well { ExitCode::Done } else { ExitCode::No })
}

async fn all<'a>(
    status: &'a ServiceStatus,
    shape: &Arc<Service>,
    kind: &str,
    config: &Config,
) -> Vec<Tested<'a>> {
    let is_embedded = kind == "embedded";
    let before = if is_embedded {
        counted(shape).await.ok()
    } else {
        None
    };
    let backend = backend(shape, config).await;
    let (router, metrics) = if is_embedded {
        (router(status, shape).await, metrics(shape, before).await)
    } else {
        (routed(status, backend.1, kind), uncounted(kind))
    };
    Tested::of(&status.service, [backend.0, router, metrics])
}

/// What nginx's and HAProxy's own counts say is theirs to show.
fn uncounted(kind: &str) -> Found {
    let text = format!("{kind} carries the traffic; what it tells of its requests is in /metrics");
    (Verdict::NotHere, text)
}

impl<'a> Tested<'a> {
    /// Backend, router and metrics of one service.
    pub(super) fn of(service: &'a ServiceName, found: [Found; 3]) -> Vec<Self> {
        let named = ["backend", "router", "metrics"].into_iter().zip(found);
        let tested = named.map(|(test, (result, detail))| Self {
            service: service.as_str(),
            test,
            result,
            detail,
        });
        tested.collect()
    }
}

/// A server answers the health path through the router. Also who did.
async fn backend(shape: &Arc<Service>, config: &Config) -> (Found, Option<Color>) {
    let health = shape.health.path.as_str();
    // on the router's own port the API has /health, as the application's front page has not
    let path =
        if crate::api::LocalApi::owns(health) && config.mode == crate::config::Mode::Environment {
            "/"
        } else {
            health
        };
    let answer = match ask_door(shape, path).await {
        Ok(answer) => answer,
        Err(reason) => return ((Verdict::Failed, reason), None),
    };
    let DoorAnswer {
        door,
        status,
        color,
        error,
        ..
    } = answer;
    let expected = shape.health.expect.status;
    let fits = if path == health {
        (expected.low..=expected.high).contains(&status)
    } else {
        status < 500
    };
    let found = match (color, error) {
        (Some(color), None) if fits => (
            Verdict::Passed,
            format!("{color} answers {path} with {status} at {door}"),
        ),
        (Some(color), _) => (
            Verdict::Failed,
            format!("{color} answers {path} with {status} at {door}"),
        ),
        (None, Some(error)) => (Verdict::Failed, format!("{status}: {error} ({door})")),
        (None, None) => (
            Verdict::Failed,
            format!("{door} answers {status} without X-Routed-To: that is not turnout's route"),
        ),
    };
    (found, color)
}

/// The router's own word.
async fn router(status: &ServiceStatus, shape: &Arc<Service>) -> Found {
    if !shape.router_endpoints {
        return (Verdict::NotHere, "router_endpoints is false".to_owned());
    }
    let said = match asked(shape, HEALTH).await {
        Ok(said) => said,
        Err(reason) => return (Verdict::Failed, reason),
    };
    let (word, active) = (said["status"].as_str(), said["active_version"].as_str());
    let port = said["active_port"].to_string();
    let text = format!(
        "{}, active {} on port {port}",
        word.unwrap_or("?"),
        active.unwrap_or("?")
    );
    if word == Some("healthy") && active == Some(status.active.as_str()) {
        (Verdict::Passed, text)
    } else {
        (
            Verdict::Failed,
            format!("{text}; the state says {}", status.active),
        )
    }
}

/// What an answer of nginx's or HAProxy's says of the route, in place of the router's own word.
fn routed(status: &ServiceStatus, seen: Option<Color>, kind: &str) -> Found {
    let Some(color) = seen else {
        return (
            Verdict::Failed,
            format!("{kind} showed no color of {}", status.service),
        );
    };
    let weight = status.split().weight(color);
    if weight.basis_points() > 0 {
        (
            Verdict::Passed,
            format!("{kind} routes to {color}, which gets {weight}%"),
        )
    } else {
        (
            Verdict::Failed,
            format!(
                "{kind} routes to {color}, which is to get nothing: look with `turnout verify`"
            ),
        )
    }
}

/// The request of the first test is in the router's figures.
pub(super) async fn metrics(shape: &Arc<Service>, before: Option<u64>) -> Found {
    if !shape.metrics {
        return (Verdict::NotHere, "metrics is false".to_owned());
    }
    if !shape.router_endpoints {
        return (Verdict::NotHere, "router_endpoints is false".to_owned());
    }
    match (before, counted(shape).await) {
        (Some(before), Ok(after)) if after > before => (
            Verdict::Passed,
            format!("{after} requests, {} of them now", after - before),
        ),
        (_, Ok(after)) => (
            Verdict::Failed,
            format!("{after} requests, and the one of a moment ago is not counted"),
        ),
        (_, Err(reason)) => (Verdict::Failed, reason),
    }
}

pub(super) async fn counted(shape: &Arc<Service>) -> Result<u64, String> {
    let figures = asked(shape, FIGURES).await?;
    figures["total_requests"]
        .as_u64()
        .ok_or_else(|| format!("{FIGURES} has no total_requests"))
}

pub(super) async fn asked(shape: &Arc<Service>, path: &str) -> Result<Value, String> {
    let answer = ask_door(shape, path).await?;
    serde_json::from_str(&answer.body)
        .map_err(|_not_json| format!("{path} answers {} and no JSON", answer.status))
}

fn view(tested: &[Tested<'_>]) -> String {
    let mut table = table::new(&["SERVICE", "TEST", "RESULT", "DETAIL"]);
    for one in tested {
        table.add_row(vec![
            Cell::new(one.service),
            Cell::new(one.test),
            match one.result {
                Verdict::Passed => table::toned("✔ Passed", Tone::Good),
                Verdict::Failed => table::toned("✖ Failed", Tone::Bad),
                Verdict::NotHere => table::toned("- Not here", Tone::Dim),
            },
            Cell::new(&one.detail),
        ]);
    }
    table::render(table)
}
