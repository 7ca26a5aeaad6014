//! The handlers of `/deployments` and `POST /metrics`: rollouts, begun, looked at, steered and fed. Thin: ask the controller,
//! answer.

use axum::extract::{FromRequestParts, Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::actor::recorded;
use super::error::Problem;
use super::guard::Caller;
use super::openapi::{OfAChange, OfARollout};
use super::request::{Body, actor};
use super::routes::Api;
use super::samples::{Pushed, Taken};
use super::wire_rollouts::{BeginBody, Why};
use crate::controller::{InvalidId, RolloutId, RolloutRequest, RolloutStatus, RolloutVerb};

/// The rollout that the path names. A text that is no id at all is not there either.
pub(super) struct Ident(RolloutId);

impl<S: Send + Sync> FromRequestParts<S> for Ident {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::not_found(rejection.body_text()))?;
        text.parse()
            .map(Self)
            .map_err(|error: InvalidId| Problem::not_found(error.to_string()))
    }
}

/// Begins a rollout.
///
/// Answers once the first weight is proved to be in force. What the body leaves out is the configuration's (`canary`), and
/// built in.
#[utoipa::path(post, path = "/deployments", operation_id = "deployments_begin", tag = "rollouts",
    params(("x-turnout-actor" = Option<String>, Header, description = "Who runs the command, for the audit log; never believed.")),
    request_body = BeginBody,
    responses(
        (status = 201, description = "It has begun.", body = RolloutStatus,
         headers(("Location" = String, description = "Its path."))),
        OfAChange,
    ),
)]
pub(super) async fn begin(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(body): Body<BeginBody>,
) -> Result<Response, Problem> {
    let actor = recorded(actor(caller)?, &headers);
    let (message, lock_wait) = (body.message.clone(), body.lock_wait());
    let what = RolloutVerb::Begin(Box::new(body.into()));
    let request = RolloutRequest {
        message,
        lock_wait,
        ..RolloutRequest::new(what, actor)
    };
    let rollout = api.handle.rollout(request).await?;
    let location = HeaderValue::from_str(&format!("/deployments/{}", rollout.id))
        .map_err(|error| Problem::incomplete(error.to_string()))?;
    let body = Json(RolloutStatus::clone(&rollout));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

/// The rollouts that are kept, newest first.
///
/// Each with its last ten verdicts and moves, and without its counts.
#[utoipa::path(get, path = "/deployments", operation_id = "deployments_list", tag = "rollouts",
    responses((status = 200, description = "All that run, and the last that are over.", body = Vec<RolloutStatus>)),
)]
pub(super) async fn list(State(api): State<Api>) -> Json<Vec<RolloutStatus>> {
    let all = api.handle.rollouts();
    Json(all.iter().map(|one| one.brief()).collect())
}

/// One rollout.
#[utoipa::path(get, path = "/deployments/{id}", operation_id = "deployments_show", tag = "rollouts",
    params(("id" = RolloutId, Path, description = "Its name.")),
    responses(
        (status = 200, description = "As it is now.", body = RolloutStatus),
        OfARollout,
    ),
)]
pub(super) async fn show(
    State(api): State<Api>,
    Ident(id): Ident,
) -> Result<Json<RolloutStatus>, Problem> {
    Ok(Json(RolloutStatus::clone(&*api.handle.rollout_of(&id)?)))
}

/// Takes everything back to the stable color.
///
/// Answers once that is proved to be so.
#[utoipa::path(post, path = "/deployments/{id}/cancel", operation_id = "deployments_cancel", tag = "rollouts",
    params(("id" = RolloutId, Path, description = "Its name."),
           ("x-turnout-actor" = Option<String>, Header, description = "Who runs the command, for the audit log; never believed.")),
    request_body = Option<Why>,
    responses(
        (status = 200, description = "It is over, and everything is on the stable color.", body = RolloutStatus),
        OfAChange,
    ),
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Ident(id): Ident,
    Body(why): Body<Why>,
) -> Result<Json<RolloutStatus>, Problem> {
    steer(&api, caller, &headers, RolloutVerb::Cancel(id), why).await
}

/// Stops a rollout where it is.
///
/// It is judged all the same, and a bad verdict still takes it back.
#[utoipa::path(post, path = "/deployments/{id}/pause", operation_id = "deployments_pause", tag = "rollouts",
    params(("id" = RolloutId, Path, description = "Its name."),
           ("x-turnout-actor" = Option<String>, Header, description = "Who runs the command, for the audit log; never believed.")),
    request_body = Option<Why>,
    responses(
        (status = 200, description = "It is paused.", body = RolloutStatus),
        OfAChange,
    ),
)]
pub(super) async fn pause(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Ident(id): Ident,
    Body(why): Body<Why>,
) -> Result<Json<RolloutStatus>, Problem> {
    steer(&api, caller, &headers, RolloutVerb::Pause(id), why).await
}

/// Lets a paused rollout go on.
#[utoipa::path(post, path = "/deployments/{id}/resume", operation_id = "deployments_resume", tag = "rollouts",
    params(("id" = RolloutId, Path, description = "Its name."),
           ("x-turnout-actor" = Option<String>, Header, description = "Who runs the command, for the audit log; never believed.")),
    request_body = Option<Why>,
    responses(
        (status = 200, description = "It goes on.", body = RolloutStatus),
        OfAChange,
    ),
)]
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Ident(id): Ident,
    Body(why): Body<Why>,
) -> Result<Json<RolloutStatus>, Problem> {
    steer(&api, caller, &headers, RolloutVerb::Resume(id), why).await
}

/// Makes the candidate active now.
#[utoipa::path(post, path = "/deployments/{id}/promote", operation_id = "deployments_promote", tag = "rollouts",
    params(("id" = RolloutId, Path, description = "Its name."),
           ("x-turnout-actor" = Option<String>, Header, description = "Who runs the command, for the audit log; never believed.")),
    request_body = Option<Why>,
    responses(
        (status = 200, description = "The candidate is active, which is proved.", body = RolloutStatus),
        OfAChange,
    ),
)]
pub(super) async fn promote(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Ident(id): Ident,
    Body(why): Body<Why>,
) -> Result<Json<RolloutStatus>, Problem> {
    steer(&api, caller, &headers, RolloutVerb::Promote(id), why).await
}

async fn steer(
    api: &Api,
    caller: Caller,
    headers: &HeaderMap,
    what: RolloutVerb,
    why: Why,
) -> Result<Json<RolloutStatus>, Problem> {
    let lock_wait = why.lock_wait();
    let request = RolloutRequest {
        message: why.message,
        lock_wait,
        ..RolloutRequest::new(what, recorded(actor(caller)?, headers))
    };
    Ok(Json(RolloutStatus::clone(
        &*api.handle.rollout(request).await?,
    )))
}

/// What somebody saw of a candidate.
#[utoipa::path(post, path = "/metrics", operation_id = "metrics_push", tag = "rollouts",
    request_body = Pushed,
    responses(
        (status = 202, description = "It is written down, and counts at the next verdict.", body = Taken),
        OfAChange,
    ),
)]
pub(super) async fn push(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(body): Body<Pushed>,
) -> Result<(StatusCode, Json<Taken>), Problem> {
    let (id, sample) = body.sample()?;
    let request = RolloutRequest::new(RolloutVerb::Push(id, sample), actor(caller)?);
    let rollout = api.handle.rollout(request).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(Taken {
            deployment_id: rollout.id.clone(),
            status: rollout.status,
        }),
    ))
}
