//! What a request says, read strictly: the query, the body within its bounds, the service that is meant, who asks.
//!
//! Nothing here changes anything, and nothing of a request that is refused here reaches the controller.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::header;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;

use super::error::Problem;
use super::guard::Caller;
use super::wire::{self, Checked};
use crate::controller::{ChangeError, ServiceStatus, Status};
use crate::domain::{InvalidName, ServiceName};

/// The longest body, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// For a whole body to come. The bodies are a few hundred bytes; who needs longer holds a connection for nothing.
const BODY_TIME: Duration = Duration::from_secs(10);

/// `?service=NAME`, and nothing else.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Target {
    /// Which service; may be left out where there is only one.
    pub(super) service: Option<ServiceName>,
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

/// The service that the path names. A text that is no name at all is not there either.
pub(super) struct Named(pub(super) ServiceName);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::not_found(rejection.body_text()))?;
        text.parse()
            .map(Self)
            .map_err(|error: InvalidName| Problem::not_found(error.to_string()))
    }
}

/// A body, read within its bounds and strictly. It is JSON whatever its content type says: `curl -d` calls all a form, and the
/// forms of foreign pages are kept out by their Origin.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: Checked> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Self::Rejection> {
        wire::parse(&read(request).await?).map(Self)
    }
}

/// A whole body, within its bounds.
pub(super) async fn read(request: Request) -> Result<Bytes, Problem> {
    let (head, body) = request.into_parts();
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
    match tokio::time::timeout(BODY_TIME, reading).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large(MAX_BODY)),
        Ok(Err(error)) => Err(Problem::malformed(format!("the body broke off: {error}"))),
        Err(_elapsed) => Err(Problem::too_slow(format!(
            "the body did not come within {} s",
            BODY_TIME.as_secs()
        ))),
    }
}

/// The service that is meant.
pub(super) fn pick(
    status: &Status,
    target: Option<&ServiceName>,
) -> Result<ServiceStatus, ChangeError> {
    let known = || {
        let names: Vec<_> = status
            .services
            .iter()
            .map(|service| service.service.as_str())
            .chain(status.aliases.iter().map(|alias| alias.service.as_str()))
            .collect();
        names.join(", ")
    };
    let behind = |alias: &crate::controller::AliasStatus| ChangeError::BehindAlias {
        service: alias.service.clone(),
        target: alias.target.clone(),
    };
    if let Some(alias) = target.and_then(|name| status.alias(name)) {
        return Err(behind(alias));
    }
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

/// Whoever writes is known: the guard lets nobody else through.
pub(super) fn actor(caller: Caller) -> Result<String, Problem> {
    match caller {
        Caller::Known(name) => Ok(name),
        Caller::Stranger => Err(Problem::forbidden("only a known caller may write")),
    }
}
