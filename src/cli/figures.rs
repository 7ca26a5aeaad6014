//! `turnout metrics`: the figures of the router, as far as it counts.

use comfy_table::Cell;
use serde::Serialize;

use super::output;
use super::status::look;
use super::table;
use super::{CliError, Globals, ServiceArgs, subject};
use crate::controller::{ServiceStatus, Status};
use crate::domain::{Colors, RouterFigures, ServiceName};
use crate::exit::ExitCode;

/// The figures of one service; those of `/__router_metrics` lie beside its name.
#[derive(Debug, Serialize)]
struct Figures<'a> {
    service: &'a ServiceName,
    balancer: &'a str,
    in_flight: Option<Colors<u64>>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<&'static str>,
    #[serde(flatten)]
    router: Option<&'a RouterFigures>,
}

pub(super) async fn run(globals: &Globals, args: &ServiceArgs) -> Result<ExitCode, CliError> {
    let status = look(globals, None).await?;
    let names: Vec<&ServiceName> = status.services.iter().map(|one| &one.service).collect();
    subject::among(&names, args.service.as_ref(), false)?;
    let asked = |one: &&ServiceStatus| {
        args.service
            .as_ref()
            .is_none_or(|name| name == &one.service)
    };
    let all: Vec<_> = status
        .services
        .iter()
        .filter(asked)
        .map(|service| figures(service, &status))
        .collect();
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

fn figures<'a>(service: &'a ServiceStatus, status: &'a Status) -> Figures<'a> {
    let live = service.live.as_ref();
    let figures = live.and_then(|live| live.router.as_ref());
    let unknown = match (figures, live, status.balancer.as_str()) {
        (Some(_), ..) => None,
        (None, Some(_), _) => Some("nothing is counted of a service with `metrics: false`"),
        (None, None, "embedded") => Some(
            "the router runs inside `turnout serve`, and there is no daemon that could be asked: start it",
        ),
        (None, None, _) => Some(
            "this balancer carries the traffic itself, and turnout does not count its requests yet: its own log and status page have \
             them. What turnout knows is in `turnout status` and `turnout test`",
        ),
    };
    Figures {
        service: &service.service,
        balancer: &status.balancer,
        in_flight: live.map(|live| live.in_flight),
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
        let in_flight = one.in_flight.map(|Colors { blue, green }| blue + green);
        table.add_row(vec![
            Cell::new(one.service),
            cell(|figures| figures.total_requests.to_string()),
            cell(|figures| figures.successful_requests.to_string()),
            cell(|figures| figures.failed_requests.to_string()),
            cell(|figures| format!("{:.1}%", figures.success_rate)),
            cell(|figures| figures.bytes_proxied.to_string()),
            cell(|figures| format!("{:.1}ms", figures.avg_request_time_ms)),
            cell(|figures| figures.version_requests.blue.to_string()),
            cell(|figures| figures.version_requests.green.to_string()),
            Cell::new(table::or_dash(in_flight)),
        ]);
    }
    table::render(table)
}
