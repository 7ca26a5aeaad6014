//! The handlers that monitors and load balancers ask: healthy, alive, ready. What strangers learn is the one word.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;

use super::error::Problem;
use super::guard::{Caller, Place};
use super::openapi::{NotYet, OfAService};
use super::request::{Target, pick};
use super::routes::Api;
use super::wire::{AliveBody, HealthBody, HealthForStrangers, HealthWord};
use crate::controller::Proof;

/// Whether any color can serve.
///
/// On the router's port strangers get `status` alone.
#[utoipa::path(get, path = "/health", tag = "health", params(Target), responses(
    (status = 200, description = "At least one color can serve.", body = HealthBody),
    (status = 503, description = "None can.", body = HealthBody),
    OfAService,
))]
pub(super) async fn health(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    target: Target,
) -> Result<Response, Problem> {
    let body = HealthBody::of(&pick(&api.handle.status(), target.service.as_ref())?);
    let code = match body.status {
        HealthWord::Healthy => StatusCode::OK,
        HealthWord::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok(match (api.place, caller) {
        (Place::Router, Caller::Stranger) => {
            let status = body.status;
            (code, Json(HealthForStrangers { status })).into_response()
        }
        (Place::Control, Caller::Stranger) | (_, Caller::Known(_)) => {
            (code, Json(body)).into_response()
        }
    })
}

/// Whether the daemon is there.
#[utoipa::path(get, path = "/livez", tag = "health", responses(
    (status = 200, description = "It is.", body = AliveBody),
))]
pub(super) async fn livez() -> Json<AliveBody> {
    Json(AliveBody::ALIVE)
}

/// Whether what the state says has been seen served since the start.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "It has.", body = AliveBody),
    NotYet,
))]
pub(super) async fn readyz(State(api): State<Api>) -> Result<Json<AliveBody>, Problem> {
    let proof = *api.handle.proof().borrow();
    match proof {
        Proof::Seen => Ok(Json(AliveBody::READY)),
        Proof::Pending => Err(Problem::not_ready("nothing is proved to be served yet")),
    }
}
