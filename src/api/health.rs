//! The handlers that monitors and load balancers ask: healthy, alive, ready. What strangers learn is the one word.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;

use super::error::Problem;
use super::guard::{Caller, Place};
use super::request::{Target, pick};
use super::routes::Api;
use super::wire::{HealthBody, HealthForStrangers, HealthWord};
use crate::controller::Proof;

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

pub(super) async fn livez() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "alive" }))
}

pub(super) async fn readyz(State(api): State<Api>) -> Result<Json<serde_json::Value>, Problem> {
    let proof = *api.handle.proof().borrow();
    match proof {
        Proof::Seen => Ok(Json(serde_json::json!({ "status": "ready" }))),
        Proof::Pending => Err(Problem::not_ready("nothing is proved to be served yet")),
    }
}
