//! The handlers of `/v1`: what the command line asks, and one service's traffic. Thin: ask the controller, answer.

use std::path::PathBuf;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::HeaderMap;
use serde::Serialize;

use super::actor::recorded;
use super::error::Problem;
use super::guard::Caller;
use super::orchestration::write;
use super::request::{Body, actor, pick};
use super::routes::Api;
use super::wire::{self, Identity};
use crate::controller::{
    AliasStatus, Outcome, Release, Request as Change, ServiceStatus, Status, Verb, Verification,
};
use crate::domain::ServiceName;

/// A service of either kind; one behind an alias has a `target` and no color.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum AnyService {
    Colored(Box<ServiceStatus>),
    Alias(AliasStatus),
}

pub(super) async fn services(State(api): State<Api>) -> Json<Vec<AnyService>> {
    let status = api.handle.status();
    let colored = status.services.iter().cloned();
    let colored = colored.map(|service| AnyService::Colored(Box::new(service)));
    let aliases = status.aliases.iter().cloned().map(AnyService::Alias);
    Json(colored.chain(aliases).collect())
}

pub(super) async fn service(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<AnyService>, Problem> {
    let status = api.handle.status();
    // a text that is no name at all is not there either
    let name: ServiceName = name
        .parse()
        .map_err(|error: crate::domain::InvalidName| Problem::not_found(error.to_string()))?;
    Ok(Json(match status.alias(&name) {
        Some(alias) => AnyService::Alias(alias.clone()),
        None => AnyService::Colored(Box::new(pick(&status, Some(&name))?)),
    }))
}

pub(super) async fn traffic(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Body(body): Body<wire::SetTraffic>,
) -> Result<Json<ServiceStatus>, Problem> {
    let name: ServiceName = name
        .parse()
        .map_err(|error: crate::domain::InvalidName| Problem::not_found(error.to_string()))?;
    let verb = Verb::Traffic {
        service: Some(name),
        to: body.traffic()?,
    };
    write(&api, caller, verb, body.manner()).await
}

/// Drift is looked for now, and so are the counts: the daemon's own looks are seconds apart.
pub(super) async fn status(State(api): State<Api>) -> Result<Json<Status>, Problem> {
    Ok(Json(api.handle.status_now().await?))
}

pub(super) async fn drift(State(api): State<Api>) -> Result<Json<Verification>, Problem> {
    Ok(Json(api.handle.verify().await?))
}

pub(super) async fn identity(State(api): State<Api>) -> Json<Identity> {
    Json(Identity {
        state_dir: PathBuf::from(&api.handle.status().state_dir),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The proxy that stands in for a balancer gives its listeners back; they are closed with the answer.
pub(super) async fn release(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Json<Release>, Problem> {
    let actor = recorded(actor(caller)?, &headers);
    Ok(Json(api.handle.release(actor).await?))
}

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
