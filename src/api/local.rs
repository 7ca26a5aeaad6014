//! The API on the router's own port (environment mode): its paths are answered here, all others go to the application.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use bytes::Bytes;
use tower::Service;

use super::events::Audience;
use super::guard::{Guard, Peer, Place};
use super::metrics::Answered;
use super::reread::Reread;
use super::routes::{self, Api};
use super::server::{ApiError, answer};
use super::token::Tokens;
use crate::config::Control;
use crate::controller::Handle;
use crate::traffic::Book;

/// The API for a listener of somebody else's. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalApi {
    app: Router,
}

/// The API as a service on the router's port. Reads the tokens.
pub fn router_service(control: &Control, handle: Handle) -> Result<LocalApi, ApiError> {
    let guard = Guard::new(
        Place::Router,
        Tokens::load(&control.tokens)?,
        &control.hosts,
    );
    let api = Api {
        handle,
        place: Place::Router,
        // variables do not change under a process
        reread: Reread::never(),
        audience: Audience::none(),
        figures: Book::none(),
        answered: Answered::default(),
    };
    Ok(LocalApi {
        app: routes::router(api, Arc::new(guard)),
    })
}

impl LocalApi {
    /// True if `path` is the API's, so that the application never sees it.
    pub fn wants(&self, path: &str) -> bool {
        Self::owns(path)
    }

    /// True if `path` is any such API's.
    pub fn owns(path: &str) -> bool {
        matches!(
            path,
            "/health" | "/livez" | "/readyz" | "/v1" | "/orchestration"
        ) || path.starts_with("/v1/")
            || path.starts_with("/orchestration/")
    }

    /// Answers one request from `peer`.
    pub fn call<B>(
        &self,
        request: http::Request<B>,
        peer: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = Response> + Send>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let mut app = self.app.clone();
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Peer::Tcp {
            remote: peer,
            local: None,
        });
        Box::pin(async move { answer(app.call(request).await) })
    }
}
