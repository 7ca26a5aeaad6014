//! The handlers of `/orchestration`: one service's position, read and moved. Thin: ask the controller, answer.

use axum::extract::State;
use axum::{Extension, Json};

use super::error::Problem;
use super::guard::Caller;
use super::openapi::{OfAChange, OfAService};
use super::request::{Body, Target, actor, pick};
use super::routes::Api;
use super::wire;
use crate::controller::{Request as Change, ServiceStatus, Verb};

/// Where the traffic of a service is.
#[utoipa::path(get, path = "/orchestration/status", operation_id = "orchestration_status", tag = "orchestration", params(Target),
    responses(
        (status = 200, description = "The position.", body = ServiceStatus),
        OfAService,
    ),
)]
pub(super) async fn status(
    State(api): State<Api>,
    target: Target,
) -> Result<Json<ServiceStatus>, Problem> {
    Ok(Json(pick(&api.handle.status(), target.service.as_ref())?))
}

/// Another strategy. canary starts from where the traffic is; `blue_green` puts everything on the active color.
#[utoipa::path(post, path = "/orchestration/strategy", operation_id = "orchestration_strategy", tag = "orchestration", params(Target),
    request_body = wire::SetStrategy,
    responses(
        (status = 200, description = "The new position, proved to be served.", body = ServiceStatus),
        OfAChange,
    ),
)]
pub(super) async fn strategy(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Target { service }: Target,
    Body(body): Body<wire::SetStrategy>,
) -> Result<Json<ServiceStatus>, Problem> {
    let strategy = body.strategy;
    write(
        &api,
        caller,
        Verb::Strategy { service, strategy },
        body.manner(),
    )
    .await
}

/// All traffic to one color.
#[utoipa::path(post, path = "/orchestration/bluegreen/activate", operation_id = "orchestration_activate", tag = "orchestration", params(Target),
    request_body = wire::Activate,
    responses(
        (status = 200, description = "The new position, proved to be served.", body = ServiceStatus),
        OfAChange,
    ),
)]
pub(super) async fn activate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Target { service }: Target,
    Body(body): Body<wire::Activate>,
) -> Result<Json<ServiceStatus>, Problem> {
    let to = Some(body.active);
    write(&api, caller, Verb::Switch { service, to }, body.manner()).await
}

/// Another split, under canary.
#[utoipa::path(post, path = "/orchestration/canary/weights", operation_id = "orchestration_weights", tag = "orchestration", params(Target),
    request_body = wire::Weights,
    responses(
        (status = 200, description = "The new position, proved to be served.", body = ServiceStatus),
        OfAChange,
    ),
)]
pub(super) async fn weights(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Target { service }: Target,
    Body(body): Body<wire::Weights>,
) -> Result<Json<ServiceStatus>, Problem> {
    let weights = body.split()?;
    write(
        &api,
        caller,
        Verb::Weights { service, weights },
        body.manner(),
    )
    .await
}

/// Percent points more for one color, under canary.
#[utoipa::path(post, path = "/orchestration/canary/shift", operation_id = "orchestration_shift", tag = "orchestration", params(Target),
    request_body = wire::Shift,
    responses(
        (status = 200, description = "The new position, proved to be served.", body = ServiceStatus),
        OfAChange,
    ),
)]
pub(super) async fn shift(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Target { service }: Target,
    Body(body): Body<wire::Shift>,
) -> Result<Json<ServiceStatus>, Problem> {
    let verb = Verb::Shift {
        service,
        by: body.delta,
        towards: body.towards,
    };
    write(&api, caller, verb, body.manner()).await
}

/// Back to the color active before the last switch.
#[utoipa::path(post, path = "/orchestration/rollback", operation_id = "orchestration_rollback", tag = "orchestration", params(Target),
    request_body = Option<wire::Rollback>,
    responses(
        (status = 200, description = "The new position, proved to be served.", body = ServiceStatus),
        OfAChange,
    ),
)]
pub(super) async fn rollback(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Target { service }: Target,
    Body(body): Body<wire::Rollback>,
) -> Result<Json<ServiceStatus>, Problem> {
    write(&api, caller, Verb::Rollback { service }, body.manner()).await
}

/// One change that leaves a service somewhere; answered with where.
pub(super) async fn write(
    api: &Api,
    caller: Caller,
    verb: Verb,
    manner: wire::Manner,
) -> Result<Json<ServiceStatus>, Problem> {
    let mut request = Change::new(verb, actor(caller)?);
    request.force = manner.force;
    request.message = manner.message;
    let outcome = api.handle.change(request).await?;
    outcome
        .service
        .map(Json)
        .ok_or_else(|| Problem::incomplete("it was done, but the status did not come with it"))
}
