//! The handlers that monitors and load balancers ask: healthy, alive, ready. What strangers learn is the one word.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use serde::Serialize;

use super::error::Problem;
use super::guard::{Caller, Place};
use super::openapi::{NotYet, OfAService};
use super::request::{Target, pick};
use super::routes::Api;
use crate::controller::{Proof, ServiceStatus};
use crate::domain::{Color, Colors, Strategy, Weight};

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

/// The answer of GET /health. Exactly these fields.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ServiceHealth)]
pub(super) struct HealthBody {
    pub(super) status: HealthWord,
    strategy: Strategy,
    active: Color,
    weights: Colors<Weight>,
    upstreams: Colors<UpstreamBody>,
}

/// The answer of GET /health to a stranger.
#[derive(Debug, Serialize)]
pub(super) struct HealthForStrangers {
    pub(super) status: HealthWord,
}

/// Whether any color can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum HealthWord {
    /// At least one.
    Healthy,
    /// None.
    Unhealthy,
}

/// The answer of GET /livez and GET /readyz.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Alive)]
pub(super) struct AliveBody {
    status: &'static str,
}

impl AliveBody {
    /// The process answers.
    pub(super) const ALIVE: Self = Self { status: "alive" };
    /// And has been seen to serve.
    pub(super) const READY: Self = Self { status: "ready" };
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Upstream)]
struct UpstreamBody {
    url: Option<String>,
    healthy: bool,
}

impl HealthBody {
    /// The health of one service. `url` is the color's first server.
    pub(super) fn of(service: &ServiceStatus) -> Self {
        // what was not probed often enough yet is routed to, so it can serve
        let status = if service.can_answer() {
            HealthWord::Healthy
        } else {
            HealthWord::Unhealthy
        };
        Self {
            status,
            strategy: service.strategy,
            active: service.active,
            weights: service.weights,
            upstreams: Colors::from_fn(|color| UpstreamBody {
                url: service.servers[color]
                    .first()
                    .map(|server| server.url.clone()),
                healthy: service.healthy(color),
            }),
        }
    }
}
