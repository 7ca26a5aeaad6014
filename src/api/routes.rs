//! The paths and their handlers. Thin: read the request strictly, ask the controller, answer.
//!
//! A write answers only after the controller has the proof. It goes on if the client hangs up: the change belongs to the
//! controller's task, not to the connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;

use super::error::Problem;
use super::guard::{Caller, Guard, Peer, Place};
use super::reread::Reread;
use super::wire::{self, Checked, HealthBody, HealthForStrangers, HealthWord, Identity};
use crate::controller::{
    ChangeError, Handle, Outcome, Proof, Request as Change, ServiceStatus, Status, Verb,
    Verification,
};
use crate::domain::ServiceName;

/// The longest body, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// For a whole body to come. The bodies are a few hundred bytes; who needs longer holds a connection for nothing.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What the handlers need.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) handle: Handle,
    pub(super) place: Place,
    pub(super) reread: Reread,
}

/// Every path of the API behind its guard.
pub(super) fn router(api: Api, guard: Arc<Guard>) -> Router {
    let paths = Router::new()
        .route("/health", get(health))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/orchestration/status", get(orchestration_status))
        .route("/orchestration/strategy", post(strategy))
        .route("/orchestration/bluegreen/activate", post(activate))
        .route("/orchestration/canary/weights", post(weights))
        .route("/orchestration/canary/shift", post(shift))
        .route("/orchestration/rollback", post(rollback))
        .route("/v1/services", get(services))
        .route("/v1/services/{service}", get(service))
        .route("/v1/services/{service}/traffic", post(traffic))
        .route("/v1/status", get(status))
        .route("/v1/drift", get(drift))
        .route("/v1/identity", get(identity))
        .route("/v1/changes", post(changes))
        .with_state(api);
    guarded(paths, guard)
}

/// Puts the guard before `paths`, and problem documents behind everything that is not there.
pub(super) fn guarded(paths: Router, guard: Arc<Guard>) -> Router {
    paths
        .fallback(|uri: Uri| async move { Problem::no_such_path(uri.path()) })
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            Problem::wrong_method(&method, uri.path())
        })
        .layer(axum::middleware::from_fn_with_state(guard, admit))
        .layer(axum::middleware::map_response(plain_headers))
}

async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let Some(peer) = head.extensions.get::<Peer>().cloned() else {
        return Problem::incomplete("the connection has no peer").into_response();
    };
    match guard.admit(&head, &peer) {
        Ok(caller) => {
            head.extensions.insert(caller);
            next.run(Request::from_parts(head, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// What the API says about positions is true for a moment only, and never a page.
async fn plain_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// `?service=NAME`, and nothing else.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    service: Option<ServiceName>,
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Query::<Self>::try_from_uri(&parts.uri)
            .map(|query| query.0)
            .map_err(|rejection| {
                Problem::malformed(format!("the query: {}", rejection.body_text()))
            })
    }
}

/// A body, read within its bounds and strictly.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: Checked> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Self::Rejection> {
        let (head, body) = request.into_parts();
        require_json(&head)?;
        // hyper has refused a length that is none; a body without one is measured as it comes
        let announced = head
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<usize>().ok());
        if announced.is_some_and(|length| length > MAX_BODY) {
            return Err(Problem::too_large(MAX_BODY));
        }
        let reading = Limited::new(body, MAX_BODY).collect();
        let bytes = match tokio::time::timeout(BODY_TIME, reading).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(Problem::too_large(MAX_BODY));
            }
            Ok(Err(error)) => {
                return Err(Problem::malformed(format!("the body broke off: {error}")));
            }
            Err(_elapsed) => {
                return Err(Problem::too_slow(format!(
                    "the body did not come within {} s",
                    BODY_TIME.as_secs()
                )));
            }
        };
        wire::parse(&bytes).map(Self)
    }
}

/// No content type is taken for JSON; another one is refused, which also keeps out the forms of foreign pages.
fn require_json(head: &Parts) -> Result<(), Problem> {
    let Some(value) = head.headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let text = value.to_str().unwrap_or("something that is not text");
    let essence = text.split(';').next().unwrap_or(text).trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Problem::not_json(essence))
    }
}

/// The service that is meant.
fn pick(status: &Status, target: Option<&ServiceName>) -> Result<ServiceStatus, ChangeError> {
    let known = || {
        let names: Vec<_> = status
            .services
            .iter()
            .map(|service| service.service.as_str())
            .collect();
        names.join(", ")
    };
    match (target, status.services.as_slice()) {
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(ChangeError::WhichService { known: known() }),
        (Some(name), services) => services
            .iter()
            .find(|service| service.service == *name)
            .cloned()
            .ok_or_else(|| ChangeError::UnknownService {
                name: name.clone(),
                known: known(),
            }),
    }
}

async fn health(
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

async fn livez() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "alive" }))
}

async fn readyz(State(api): State<Api>) -> Result<Json<serde_json::Value>, Problem> {
    let proof = *api.handle.proof().borrow();
    match proof {
        Proof::Seen => Ok(Json(serde_json::json!({ "status": "ready" }))),
        Proof::Pending => Err(Problem::not_ready("nothing is proved to be served yet")),
    }
}

async fn orchestration_status(
    State(api): State<Api>,
    target: Target,
) -> Result<Json<ServiceStatus>, Problem> {
    Ok(Json(pick(&api.handle.status(), target.service.as_ref())?))
}

async fn strategy(
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

async fn activate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Target { service }: Target,
    Body(body): Body<wire::Activate>,
) -> Result<Json<ServiceStatus>, Problem> {
    let to = Some(body.active);
    write(&api, caller, Verb::Switch { service, to }, body.manner()).await
}

async fn weights(
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

async fn shift(
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

async fn rollback(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Target { service }: Target,
    Body(body): Body<wire::Rollback>,
) -> Result<Json<ServiceStatus>, Problem> {
    write(&api, caller, Verb::Rollback { service }, body.manner()).await
}

async fn write(
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

/// Whoever writes is known: the guard lets nobody else through.
fn actor(caller: Caller) -> Result<String, Problem> {
    match caller {
        Caller::Known(name) => Ok(name),
        Caller::Stranger => Err(Problem::forbidden("only a known caller may write")),
    }
}

async fn services(State(api): State<Api>) -> Json<Vec<ServiceStatus>> {
    Json(api.handle.status().services.clone())
}

async fn service(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ServiceStatus>, Problem> {
    let status = api.handle.status();
    // a text that is no name at all is not there either
    let name: ServiceName = name
        .parse()
        .map_err(|error: crate::domain::InvalidName| Problem::not_found(error.to_string()))?;
    Ok(Json(pick(&status, Some(&name))?))
}

async fn traffic(
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
async fn status(State(api): State<Api>) -> Result<Json<Status>, Problem> {
    let verification = api.handle.verify().await?;
    let mut status = Status::clone(&api.handle.status());
    for service in &mut status.services {
        // both are in the order of their names
        let seen = &verification.services;
        let place = seen.binary_search_by(|seen| seen.service.cmp(&service.service));
        service.live = place.ok().and_then(|place| seen[place].live.clone());
    }
    status.refused = verification.refused;
    status.drift = verification.drift;
    Ok(Json(status))
}

async fn drift(State(api): State<Api>) -> Result<Json<Verification>, Problem> {
    Ok(Json(api.handle.verify().await?))
}

async fn identity(State(api): State<Api>) -> Json<Identity> {
    Json(Identity {
        state_dir: PathBuf::from(&api.handle.status().state_dir),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

async fn changes(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(mut request): Body<Change>,
) -> Result<Json<Outcome>, Problem> {
    request.actor = actor(caller)?;
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
