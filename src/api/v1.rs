//! The handlers of `/v1`: what the command line asks, and one service's traffic. Thin: ask the controller, answer.

use std::path::PathBuf;

use axum::extract::State;
use axum::{Extension, Json};
use http::HeaderMap;
use serde::Serialize;

use super::actor::recorded;
use super::error::Problem;
use super::guard::Caller;
use super::openapi::{OfAChange, OfALook, OfAService};
use super::orchestration::write;
use super::request::{Body, Named, actor, pick};
use super::routes::Api;
use super::wire::{self, Identity};
use crate::controller::{
    AliasStatus, Outcome, Release, Request as Change, ServiceStatus, Status, Verb, Verification,
};
use crate::domain::ServiceName;

/// A service of either kind; one behind an alias has a `target` and no color.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum AnyService {
    Colored(Box<ServiceStatus>),
    Alias(Box<AliasStatus>),
}

/// Every service at a glance.
#[utoipa::path(get, path = "/v1/services", tag = "turnout",
    responses(
        (status = 200, description = "Those with two colors in the order of their names, then those behind an alias.",
            body = Vec<AnyService>),
    ),
)]
pub(super) async fn services(State(api): State<Api>) -> Json<Vec<AnyService>> {
    let status = api.handle.status();
    let colored = status.services.iter().cloned();
    let colored = colored.map(|service| AnyService::Colored(Box::new(service)));
    let aliases = api
        .handle
        .aliases_now()
        .into_iter()
        .map(|alias| AnyService::Alias(Box::new(alias)));
    Json(colored.chain(aliases).collect())
}

/// One service at a glance.
#[utoipa::path(get, path = "/v1/services/{service}", tag = "turnout",
    params(("service" = ServiceName, Path, description = "Its name.")),
    responses(
        (status = 200, description = "Its status: of one with two colors, or of one behind an alias.", body = AnyService),
        OfAService,
    ),
)]
pub(super) async fn service(
    State(api): State<Api>,
    Named(name): Named,
) -> Result<Json<AnyService>, Problem> {
    let status = api.handle.status();
    let mut aliases = api.handle.aliases_now().into_iter();
    Ok(Json(match aliases.find(|alias| alias.service == name) {
        Some(alias) => AnyService::Alias(Box::new(alias)),
        None => AnyService::Colored(Box::new(pick(&status, Some(&name))?)),
    }))
}

/// Requests of a service go on, wait, or get a page; the position stays.
#[utoipa::path(post, path = "/v1/services/{service}/traffic", tag = "turnout",
    params(("service" = ServiceName, Path, description = "Its name.")),
    request_body = wire::SetTraffic,
    responses(
        (status = 200, description = "The new status, proved to be served.", body = ServiceStatus),
        OfAChange,
    ),
)]
pub(super) async fn traffic(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(name): Named,
    Body(body): Body<wire::SetTraffic>,
) -> Result<Json<ServiceStatus>, Problem> {
    let verb = Verb::Traffic {
        service: Some(name),
        to: body.traffic()?,
    };
    write(&api, caller, verb, body.manner()).await
}

/// Everything at a glance.
///
/// Drift is looked for now, and so are the counts: the daemon's own looks are seconds apart.
#[utoipa::path(get, path = "/v1/status", tag = "turnout", responses(
    (status = 200, description = "The status.", body = Status),
    OfALook,
))]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<Status>, Problem> {
    Ok(Json(api.handle.status_now().await?))
}

/// State, disk and what is served, side by side.
#[utoipa::path(get, path = "/v1/drift", tag = "turnout",
    responses(
        (status = 200, description = "The three columns.", body = Verification),
        OfALook,
    ),
)]
pub(super) async fn drift(State(api): State<Api>) -> Result<Json<Verification>, Problem> {
    Ok(Json(api.handle.verify().await?))
}

/// Which daemon this is. Any token may ask.
#[utoipa::path(get, path = "/v1/identity", tag = "turnout",
    responses(
        (status = 200, description = "The daemon.", body = Identity),
    ),
)]
pub(super) async fn identity(State(api): State<Api>) -> Json<Identity> {
    Json(Identity {
        state_dir: PathBuf::from(&api.handle.status().state_dir),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Gives back what the proxy that stands in holds.
///
/// The proxy that stands in for a balancer gives its listeners back; they are closed with the answer.
#[utoipa::path(post, path = "/v1/fallback/release", tag = "turnout",
    params(("x-turnout-actor" = Option<String>, Header, description = "Who runs the command, for the audit log; never believed.")),
    responses(
        (status = 200, description = "What came of it.", body = Release),
        OfALook,
    ),
)]
pub(super) async fn release(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Json<Release>, Problem> {
    let actor = recorded(actor(caller)?, &headers);
    Ok(Json(api.handle.release(actor).await?))
}

/// Any change, with everything that the command line may say of it.
#[utoipa::path(post, path = "/v1/changes", tag = "turnout",
    params(("x-turnout-actor" = Option<String>, Header, description = "Who runs the command, for the audit log; never believed.")),
    request_body = Change,
    responses(
        (status = 200, description = "What was done, or would be.", body = Outcome),
        OfAChange,
    ),
)]
pub(super) async fn changes(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(mut request): Body<Change>,
) -> Result<Json<Outcome>, Problem> {
    request.actor = recorded(actor(caller)?, &headers);
    match request.change {
        // about what the files say now, and whoever asks may have written them a moment ago
        Verb::Apply | Verb::Reload => api.reread.now().await,
        Verb::Switch { .. }
        | Verb::Rollback { .. }
        | Verb::Strategy { .. }
        | Verb::Weights { .. }
        | Verb::Shift { .. }
        | Verb::Traffic { .. } => {}
    }
    Ok(Json(api.handle.change(request).await?))
}
