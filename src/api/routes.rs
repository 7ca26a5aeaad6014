//! The paths, and the guard before all of them. The handlers are thin: read the request strictly, ask the controller, answer.
//!
//! A write answers only after the controller has the proof. It goes on if the client hangs up: the change belongs to the
//! controller's task, not to the connection.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderValue, Method, Uri, header};

use super::error::Problem;
use super::guard::{Guard, Peer, Place};
use super::history;
use super::metrics::{self, Answered};
use super::reread::Reread;
use super::{health, orchestration, v1};
use crate::controller::Handle;

/// What the handlers need.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) handle: Handle,
    pub(super) place: Place,
    pub(super) reread: Reread,
    pub(super) answered: Answered,
}

/// Every path of the API behind its guard.
pub(super) fn router(api: Api, guard: Arc<Guard>) -> Router {
    let answered = api.answered.clone();
    let paths = Router::new()
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/orchestration/status", get(orchestration::status))
        .route("/orchestration/strategy", post(orchestration::strategy))
        .route(
            "/orchestration/bluegreen/activate",
            post(orchestration::activate),
        )
        .route(
            "/orchestration/canary/weights",
            post(orchestration::weights),
        )
        .route("/orchestration/canary/shift", post(orchestration::shift))
        .route("/orchestration/rollback", post(orchestration::rollback))
        .route("/v1/services", get(v1::services))
        .route("/v1/services/{service}", get(v1::service))
        .route("/v1/services/{service}/traffic", post(v1::traffic))
        .route("/v1/status", get(v1::status))
        .route("/v1/drift", get(v1::drift))
        .route("/v1/history", get(history::history))
        .route("/v1/identity", get(v1::identity))
        .route("/v1/changes", post(v1::changes))
        .route("/v1/fallback/release", post(v1::release))
        .with_state(api);
    guarded(paths, guard).layer(axum::middleware::from_fn_with_state(
        answered,
        metrics::count,
    ))
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
