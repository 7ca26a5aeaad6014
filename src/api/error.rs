//! Errors as answers: RFC 9457 problem documents, and the only place with statuses.
//!
//! Every refusal of the API is a [`Problem`], made here; what the controller refused keeps its whole chain of causes in
//! `detail`. The exit code that goes along is never chosen here for a failed change: it is [`ExitCode`]'s own mapping, the
//! one that a command without a daemon ends with.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::wire::ProblemBody;
use crate::controller::{ApplyError, ChangeError, LockError, Passes, RenderError, RolloutError};
use crate::domain::{PositionError, describe};
use crate::exit::ExitCode;

/// The content type of RFC 9457.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request is not answered as it hoped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    exit: ExitCode,
    challenge: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl Problem {
    fn new(status: StatusCode, exit: ExitCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            exit,
            challenge: None,
            retry_after: None,
        }
    }

    /// 400: this is not a request that could be meant.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ExitCode::Usage, detail)
    }

    /// 422: well-formed, and not what this endpoint takes.
    pub(super) fn unfitting(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, ExitCode::Usage, detail)
    }

    /// 401 without a token.
    pub(super) fn token_missing(detail: impl Into<String>) -> Self {
        Self {
            challenge: Some(r#"Bearer realm="turnout""#),
            ..Self::new(StatusCode::UNAUTHORIZED, ExitCode::NotPermitted, detail)
        }
    }

    /// 401 with a token that fits none.
    pub(super) fn token_wrong() -> Self {
        Self {
            challenge: Some(r#"Bearer realm="turnout", error="invalid_token""#),
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                ExitCode::NotPermitted,
                "the token is not one of this API's",
            )
        }
    }

    /// 429: a token that fits none, after many others.
    pub(super) fn too_many_tokens(wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                ExitCode::NotPermitted,
                "the token is not one of this API's, and too many wrong ones came from this address: correct it before the next try",
            )
        }
    }

    /// 403: known, or not to be known, and not allowed.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, ExitCode::NotPermitted, detail)
    }

    /// 404: no such path.
    pub(super) fn no_such_path(path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            ExitCode::Usage,
            format!("there is nothing at {path}"),
        )
    }

    /// 404: no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ExitCode::Usage, detail)
    }

    /// 405. The router adds `Allow`.
    pub(super) fn wrong_method(method: &http::Method, path: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            ExitCode::Usage,
            format!("{path} does not take {method}; see the Allow header"),
        )
    }

    /// 408: the body did not come in time.
    pub(super) fn too_slow(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, ExitCode::Usage, detail)
    }

    /// 413.
    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ExitCode::Usage,
            format!("a body has at most {limit} bytes"),
        )
    }

    /// 500: the controller answered with less than a change needs.
    pub(super) fn incomplete(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ExitCode::NeedsPerson,
            detail,
        )
    }

    /// 503: not yet, or no longer.
    pub(super) fn not_ready(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            ExitCode::Unreachable,
            detail,
        )
    }
}

impl Problem {
    /// The status as a number.
    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The status in words.
    pub(super) fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    /// What, where, and what to do.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        Self::new(status(&error), ExitCode::from(&error), describe(&error))
    }
}

impl From<RolloutError> for Problem {
    fn from(error: RolloutError) -> Self {
        use StatusCode as S;
        let status = match &error {
            RolloutError::Unknown { .. } => S::NOT_FOUND,
            RolloutError::Terms(_)
            | RolloutError::NoPrometheus { .. }
            | RolloutError::NoTraffic { .. } => S::UNPROCESSABLE_ENTITY,
            RolloutError::Over { .. }
            | RolloutError::Returning { .. }
            | RolloutError::NotBegun { .. }
            | RolloutError::NotBackYet { .. }
            | RolloutError::NotAtRest { .. }
            | RolloutError::NotPushed { .. }
            | RolloutError::Otherwise { .. }
            | RolloutError::Superseded { .. } => S::CONFLICT,
            RolloutError::NoFigures { passes, .. } => match passes {
                Passes::Later => S::SERVICE_UNAVAILABLE,
                Passes::Never => S::UNPROCESSABLE_ENTITY,
            },
            RolloutError::GoesOn { .. } if ExitCode::from(&error) == ExitCode::Locked => S::LOCKED,
            RolloutError::GoesOn { .. } if ExitCode::from(&error) == ExitCode::NeedsPerson => {
                S::INTERNAL_SERVER_ERROR
            }
            RolloutError::GoesOn { .. } => S::GATEWAY_TIMEOUT,
            RolloutError::Change(error) => status(error),
            RolloutError::Store(_) => S::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, ExitCode::from(&error), describe(&error))
    }
}

/// The status of each way in which a change is not made.
fn status(error: &ChangeError) -> StatusCode {
    use StatusCode as S;
    match error {
        ChangeError::UnknownService { .. } => S::NOT_FOUND,
        ChangeError::WhichService { .. } => S::BAD_REQUEST,
        ChangeError::Position {
            source: PositionError::Split(_),
            ..
        } => S::UNPROCESSABLE_ENTITY,
        ChangeError::Position {
            source: PositionError::NoWeights,
            ..
        }
        | ChangeError::NothingToRollBack { .. }
        | ChangeError::Unhealthy { .. }
        | ChangeError::BehindAlias { .. }
        | ChangeError::Followed { .. }
        | ChangeError::NotHere { .. }
        | ChangeError::RolloutRuns { .. }
        | ChangeError::NoRollout { .. }
        | ChangeError::NothingStaged
        | ChangeError::StagedOutdated { .. }
        | ChangeError::Render(RenderError::NothingToRender)
        | ChangeError::Apply(ApplyError::Edited { .. }) => S::CONFLICT,
        ChangeError::Lock(LockError::Held { .. }) => S::LOCKED,
        ChangeError::Apply(ApplyError::Unreachable { .. }) | ChangeError::ShuttingDown => {
            S::SERVICE_UNAVAILABLE
        }
        ChangeError::Apply(ApplyError::Restored { .. }) => S::BAD_GATEWAY,
        ChangeError::NotDrained { .. } => S::GATEWAY_TIMEOUT,
        // ours to mend, not the caller's. Where the daemon lacks a right, 403 would send the caller after a better token
        ChangeError::Render(
            RenderError::Template { .. } | RenderError::Read { .. } | RenderError::Value { .. },
        )
        | ChangeError::Apply(
            ApplyError::Refused { .. }
            | ApplyError::NotPermitted { .. }
            | ApplyError::Unchanged { .. }
            | ApplyError::NotRestored { .. },
        )
        | ChangeError::Lock(LockError::Store(_))
        | ChangeError::Store(_)
        | ChangeError::NeedsPerson { .. } => S::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: "about:blank".to_owned(),
            title: self.title().to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            exit: Some(self.exit.code()),
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(challenge) = self.challenge {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        if let Some(wait) = self.retry_after {
            // whole seconds, and never a moment too early
            let seconds = wait.as_secs() + 1;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(
            self.status,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT
        ) {
            // the rest of the body would be read as the next request
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
