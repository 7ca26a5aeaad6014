//! The paths, and the guard before all of them. The handlers are thin: read the request strictly, ask the controller, answer.
//!
//! A write answers only after the controller has the proof. It goes on if the client hangs up: the change belongs to the
//! controller's task, not to the connection.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use http::{HeaderValue, Method, Uri, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::Problem;
use super::events::{self, Audience};
use super::guard::{Guard, Peer, Place};
use super::metrics::{self, Answered};
use super::openapi::{self, Published};
use super::page;
use super::reread::Reread;
use super::{health, history, orchestration, v1};
use crate::controller::Handle;
use crate::traffic::Book;

/// What the handlers need.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) handle: Handle,
    pub(super) place: Place,
    pub(super) reread: Reread,
    pub(super) audience: Audience,
    pub(super) figures: Book,
    pub(super) answered: Answered,
}

/// Every path of the API behind its guard.
pub(super) fn router(api: Api, guard: Arc<Guard>) -> Router {
    let answered = api.answered.clone();
    // the router's port belongs to the application, its `/` too
    let (page, own) = match api.place {
        Place::Control => (
            page::paths(api.clone(), Arc::clone(&guard)),
            OpenApiRouter::with_openapi(openapi::blank()).routes(routes!(events::events)),
        ),
        Place::Router => (Router::new(), OpenApiRouter::with_openapi(openapi::blank())),
    };
    let (paths, document) = own
        .routes(routes!(openapi::openapi))
        .routes(routes!(health::health))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(orchestration::status))
        .routes(routes!(orchestration::strategy))
        .routes(routes!(orchestration::activate))
        .routes(routes!(orchestration::weights))
        .routes(routes!(orchestration::shift))
        .routes(routes!(orchestration::rollback))
        .routes(routes!(v1::services))
        .routes(routes!(v1::service))
        .routes(routes!(v1::traffic))
        .routes(routes!(v1::status))
        .routes(routes!(v1::drift))
        .routes(routes!(history::history))
        .routes(routes!(v1::identity))
        .routes(routes!(v1::changes))
        .routes(routes!(v1::release))
        .routes(routes!(metrics::metrics))
        .with_state(api)
        .split_for_parts();
    let document = openapi::completed(document, &guard);
    let paths = paths.layer(Extension(Published(Arc::new(document))));
    guarded(paths.merge(page), guard).layer(axum::middleware::from_fn_with_state(
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
