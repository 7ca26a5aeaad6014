//! `turnout metrics`: the figures of the router, as far as it counts.

use comfy_table::Cell;
use serde::Serialize;

use super::output;
use super::status::look;
use super::table;
use super::{CliError, Globals, ServiceArgs, subject};
use crate::controller::{AliasStatus, ServiceStatus, Status};
use crate::domain::{Color, Colors, RouterFigures, ServiceName};
use crate::exit::ExitCode;

/// The figures of one service; those of `/__router_metrics` lie beside its name.
#[derive(Debug, Serialize)]
struct Figures<'a> {
    service: &'a ServiceName,
    balancer: &'a str,
    /// By color; of one behind an alias, all together.
    in_flight: Option<InFlight>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<&'static str>,
    #[serde(flatten)]
    router: Option<&'a RouterFigures>,
}

/// Requests that have not ended.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
enum InFlight {
    Colors(Colors<u64>),
    Alias(u64),
}

pub(super) async fn run(globals: &Globals, args: &ServiceArgs) -> Result<ExitCode, CliError> {
    let status = look(globals, None).await?;
    let colored = status.services.iter().map(|service| of(service, &status));
    let aliases = status.aliases.iter().map(|alias| behind(alias, &status));
    let mut all: Vec<_> = colored.chain(aliases).collect();
    let names: Vec<&ServiceName> = all.iter().map(|one| one.service).collect();
    subject::among(&names, args.service.as_ref(), false)?;
    all.retain(|one| args.service.as_ref().is_none_or(|name| name == one.service));
    match (&args.service, all.as_slice()) {
        (Some(_), [one]) => output::value(globals.format(), one, |one| view(&[one]))?,
        _ => output::value(globals.format(), &all, |all| {
            view(&all.iter().collect::<Vec<_>>())
        })?,
    }
    if let Some(unknown) = all.iter().find_map(|one| one.unknown) {
        output::talk(unknown);
    }
    Ok(ExitCode::Done)
}

const UNCOUNTED: &str = "nothing is counted of a service with `metrics: false`";

/// Why nobody has counted.
/// A line of a balancer is of a service and a color.
const BEHIND: &str = "this balancer carries the traffic itself, and turnout does not count its requests behind an alias";

fn nobody(status: &Status) -> &'static str {
    if status.balancer == "embedded" {
        "the router runs inside `turnout serve`, and there is no daemon that could be asked: start it"
    } else {
        "this balancer carries the traffic itself. What it tells of its requests is counted while a daemon runs, and shown on its \
         page and in /metrics"
    }
}

fn behind<'a>(alias: &'a AliasStatus, status: &'a Status) -> Figures<'a> {
    let live = alias.live.as_ref();
    let is_told = status.balancer == "embedded" && status.daemon.is_some();
    Figures {
        service: &alias.service,
        balancer: &status.balancer,
        in_flight: live.map(|live| InFlight::Alias(live.in_flight)),
        unknown: match live {
            Some(_) => None,
            None if is_told => Some(UNCOUNTED),
            None if status.balancer == "embedded" => Some(nobody(status)),
            None => Some(BEHIND),
        },
        router: live.map(|live| &live.router),
    }
}

fn of<'a>(service: &'a ServiceStatus, status: &'a Status) -> Figures<'a> {
    let live = service.live.as_ref();
    let figures = live.and_then(|live| live.router.as_ref());
    let unknown = match (figures, live) {
        (Some(_), _) => None,
        (None, Some(_)) => Some(UNCOUNTED),
        (None, None) => Some(nobody(status)),
    };
    Figures {
        service: &service.service,
        balancer: &status.balancer,
        in_flight: live.map(|live| InFlight::Colors(live.in_flight)),
        unknown,
        router: figures,
    }
}

fn view(all: &[&Figures<'_>]) -> String {
    let mut table = table::new(&[
        "SERVICE",
        "REQUESTS",
        "SUCCESSFUL",
        "FAILED",
        "RATE",
        "BYTES",
        "AVERAGE",
        "BLUE",
        "GREEN",
        "IN FLIGHT",
    ]);
    for one in all {
        let figures = one.router;
        let cell =
            |part: fn(&RouterFigures) -> String| Cell::new(table::or_dash(figures.map(part)));
        let in_flight = one.in_flight.map(|in_flight| match in_flight {
            InFlight::Colors(Colors { blue, green }) => blue + green,
            InFlight::Alias(all) => all,
        });
        // what stands behind an alias has no color that turnout knows
        let by_color = figures.filter(|_| !matches!(one.in_flight, Some(InFlight::Alias(_))));
        let of = |color| {
            let count = by_color.map(|figures| figures.version_requests[color]);
            Cell::new(table::or_dash(count))
        };
        table.add_row(vec![
            Cell::new(one.service),
            cell(|figures| figures.total_requests.to_string()),
            cell(|figures| figures.successful_requests.to_string()),
            cell(|figures| figures.failed_requests.to_string()),
            cell(|figures| format!("{:.1}%", figures.success_rate)),
            cell(|figures| figures.bytes_proxied.to_string()),
            cell(|figures| format!("{:.1}ms", figures.avg_request_time_ms)),
            of(Color::Blue),
            of(Color::Green),
            Cell::new(table::or_dash(in_flight)),
        ]);
    }
    table::render(table)
}
