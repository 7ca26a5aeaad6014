//! Errors as answers: RFC 9457 problem documents, and the only place with statuses.
//!
//! Every refusal of the API is a [`Problem`], made here; what the controller refused keeps its whole chain of causes in
//! `detail`, and carries the exit code that the command line would have ended with.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::wire::ProblemBody;
use crate::controller::{ApplyError, ChangeError, LockError, RenderError};
use crate::domain::{PositionError, describe};

/// Exit codes of CONTRACT 4, as `exit` in a problem document.
mod exit {
    pub(super) const NO: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    pub(super) const AS_BEFORE: u8 = 3;
    pub(super) const NEEDS_PERSON: u8 = 4;
    pub(super) const REFUSED: u8 = 65;
    pub(super) const UNREACHABLE: u8 = 69;
    pub(super) const LOCKED: u8 = 75;
    pub(super) const NOT_PERMITTED: u8 = 77;
    pub(super) const TIMED_OUT: u8 = 124;
}

/// The content type of RFC 9457.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request is not answered as it hoped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    exit: u8,
    challenge: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, exit: u8, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            exit,
            challenge: None,
        }
    }

    /// 400: this is not a request that could be meant.
    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, exit::USAGE, detail)
    }

    /// 422: well-formed, and not what this endpoint takes.
    pub(super) fn unfitting(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, exit::USAGE, detail)
    }

    /// 401 without a token.
    pub(super) fn token_missing(detail: impl Into<String>) -> Self {
        Self {
            challenge: Some(r#"Bearer realm="turnout""#),
            ..Self::new(StatusCode::UNAUTHORIZED, exit::NOT_PERMITTED, detail)
        }
    }

    /// 401 with a token that fits none.
    pub(super) fn token_wrong() -> Self {
        Self {
            challenge: Some(r#"Bearer realm="turnout", error="invalid_token""#),
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                exit::NOT_PERMITTED,
                "the token is not one of this API's",
            )
        }
    }

    /// 403: known, or not to be known, and not allowed.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, exit::NOT_PERMITTED, detail)
    }

    /// 404: no such path.
    pub(super) fn no_such_path(path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            exit::USAGE,
            format!("there is nothing at {path}"),
        )
    }

    /// 404: no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, exit::USAGE, detail)
    }

    /// 405. The router adds `Allow`.
    pub(super) fn wrong_method(method: &http::Method, path: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            exit::USAGE,
            format!("{path} does not take {method}; see the Allow header"),
        )
    }

    /// 408: the body did not come in time.
    pub(super) fn too_slow(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, exit::USAGE, detail)
    }

    /// 413.
    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            exit::USAGE,
            format!("a body has at most {limit} bytes"),
        )
    }

    /// 415: the content type says that it is not JSON.
    pub(super) fn not_json(found: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            exit::USAGE,
            format!("the body is to be application/json, not {found}"),
        )
    }

    /// 500: the controller answered with less than a change needs.
    pub(super) fn incomplete(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            exit::NEEDS_PERSON,
            detail,
        )
    }

    /// 503: not yet, or no longer.
    pub(super) fn not_ready(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, exit::UNREACHABLE, detail)
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let (status, exit) = verdict(&error);
        Self::new(status, exit, describe(&error))
    }
}

/// Status and exit code of each way in which a change is not made.
fn verdict(error: &ChangeError) -> (StatusCode, u8) {
    use StatusCode as S;
    match error {
        ChangeError::UnknownService { .. } => (S::NOT_FOUND, exit::USAGE),
        ChangeError::WhichService { .. } => (S::BAD_REQUEST, exit::USAGE),
        ChangeError::Position {
            source: PositionError::Split(_),
            ..
        } => (S::UNPROCESSABLE_ENTITY, exit::USAGE),
        ChangeError::Position {
            source: PositionError::NoWeights,
            ..
        }
        | ChangeError::NothingToRollBack { .. }
        | ChangeError::Unhealthy { .. }
        | ChangeError::Followed { .. }
        | ChangeError::NotHere { .. }
        | ChangeError::NothingStaged
        | ChangeError::StagedOutdated { .. } => (S::CONFLICT, exit::NO),
        ChangeError::Lock(LockError::Held { .. }) => (S::LOCKED, exit::LOCKED),
        ChangeError::Render(RenderError::NothingToRender) => (S::CONFLICT, exit::REFUSED),
        ChangeError::Render(
            RenderError::Template { .. } | RenderError::Read { .. } | RenderError::Value { .. },
        ) => (S::INTERNAL_SERVER_ERROR, exit::REFUSED),
        ChangeError::Apply(error) => apply_verdict(error),
        ChangeError::Lock(LockError::Store(_)) | ChangeError::Store(_) => {
            (S::INTERNAL_SERVER_ERROR, exit::AS_BEFORE)
        }
        ChangeError::NeedsPerson { .. } => (S::INTERNAL_SERVER_ERROR, exit::NEEDS_PERSON),
        ChangeError::NotDrained { .. } => (S::GATEWAY_TIMEOUT, exit::TIMED_OUT),
        ChangeError::ShuttingDown => (S::SERVICE_UNAVAILABLE, exit::UNREACHABLE),
    }
}

/// The balancer's part of [`verdict`].
fn apply_verdict(error: &ApplyError) -> (StatusCode, u8) {
    use StatusCode as S;
    match error {
        ApplyError::Refused { .. } => (S::INTERNAL_SERVER_ERROR, exit::REFUSED),
        ApplyError::Unreachable { .. } => (S::SERVICE_UNAVAILABLE, exit::UNREACHABLE),
        // the daemon lacks a right, not the caller: 403 would send the caller after a better token
        ApplyError::NotPermitted { .. } => (S::INTERNAL_SERVER_ERROR, exit::NOT_PERMITTED),
        ApplyError::Edited { .. } => (S::CONFLICT, exit::NO),
        ApplyError::Unchanged { .. } => (S::INTERNAL_SERVER_ERROR, exit::AS_BEFORE),
        ApplyError::Restored { .. } => (S::BAD_GATEWAY, exit::AS_BEFORE),
        ApplyError::NotRestored { .. } => (S::INTERNAL_SERVER_ERROR, exit::NEEDS_PERSON),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            exit: Some(self.exit),
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
impl Problem {
    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Generation;

    fn of(error: impl Into<ChangeError>) -> (u16, u8) {
        let problem = Problem::from(error.into());
        (problem.status.as_u16(), problem.exit)
    }

    #[test]
    fn each_refusal_has_the_status_and_the_exit_code_of_the_contract() {
        let shop: crate::domain::ServiceName = "shop".parse().unwrap();
        let conflict = ChangeError::Position {
            service: shop.clone(),
            source: PositionError::NoWeights,
        };
        assert_eq!(of(conflict), (409, 1));
        let unknown = ChangeError::UnknownService {
            name: shop,
            known: "blog".to_owned(),
        };
        assert_eq!(of(unknown), (404, 2));
        let held = LockError::Held {
            path: "/x/change.lock".into(),
            holder: None,
        };
        assert_eq!(of(held), (423, 75));
        let restored = ApplyError::Restored {
            message: "nginx did not take it".to_owned(),
            serves: Generation(3),
        };
        assert_eq!(of(restored), (502, 3));
        assert_eq!(of(ChangeError::ShuttingDown), (503, 69));
    }

    #[test]
    fn the_detail_has_the_causes() {
        let problem = Problem::from(ChangeError::Position {
            service: "shop".parse().unwrap(),
            source: PositionError::NoWeights,
        });
        assert_eq!(
            problem.detail(),
            "failed to move shop: the strategy is blue_green, which has no weights: use `switch`, or set the strategy to canary first"
        );
    }

    #[test]
    fn a_refused_token_is_challenged() {
        let response = Problem::token_wrong().into_response();
        assert_eq!(
            response.headers()[header::WWW_AUTHENTICATE],
            r#"Bearer realm="turnout", error="invalid_token""#
        );
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
    }
}
