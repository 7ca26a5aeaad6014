//! The answers that are the proxy's own. Each carries `X-Turnout-Error`, so that nobody takes one for the application's.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::Answer;
use super::client::{Connection, Farewell};
use super::refused::Reason;
use super::strict::Fault;

pub(super) const TURNOUT_ERROR: HeaderName = HeaderName::from_static("x-turnout-error");

/// Why a request was not forwarded, or its answer did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// CONNECT or TRACE.
    Method,
    /// No `Host`, two of them, or one that is not a host.
    Host(&'static str),
    /// What it says, or where it ends, is ambiguous.
    Ambiguous(Fault),
    /// More header lines than `limits.headers`.
    HeadTooLarge,
    /// A body of more than `limits.body`.
    BodyTooLarge,
    /// No service answers to the host on this listener.
    NoService,
    /// Nobody who may serve it is healthy.
    NoBackend,
    /// The traffic is held, and this request waited in vain.
    Held,
    /// A rate limit.
    TooMany,
    /// Its color was left, and the drain is over.
    Drained,
    /// No server could be reached, or what came was not an answer.
    BadGateway,
    /// No answer in time.
    GatewayTimeout,
    /// The client stopped sending its body.
    SlowBody,
}

impl Refusal {
    const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host(_) | Self::Ambiguous(_) => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoService => StatusCode::NOT_FOUND,
            Self::NoBackend | Self::Held => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::GatewayTimeout | Self::Drained => StatusCode::GATEWAY_TIMEOUT,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Method => "Method not allowed",
            Self::Host(why) => why,
            Self::Ambiguous(fault) => fault.text(),
            Self::HeadTooLarge => "The request head is too large",
            Self::BodyTooLarge => "The request body is too large",
            Self::NoService => "No service answers to this host here",
            Self::NoBackend => "No active backend available",
            Self::Held => "The traffic is held",
            Self::TooMany => "Too many requests",
            Self::Drained => "No answer before the drain deadline",
            Self::BadGateway => "Bad gateway",
            Self::GatewayTimeout => "Gateway timeout",
            Self::SlowBody => "The request body did not come",
        }
    }

    /// After these it is unclear where the next request would begin, or whether the client means well.
    const fn closes(self) -> bool {
        match self {
            Self::Method
            | Self::Host(_)
            | Self::Ambiguous(_)
            | Self::BodyTooLarge
            | Self::SlowBody => true,
            Self::HeadTooLarge
            | Self::NoService
            | Self::NoBackend
            | Self::Held
            | Self::TooMany
            | Self::Drained
            | Self::BadGateway
            | Self::GatewayTimeout => false,
        }
    }

    /// The counter of refusals that it belongs to; an upstream's failure is the color's and what the gate turns away is the
    /// service's, and counted there.
    pub(super) const fn reason(self) -> Option<Reason> {
        match self {
            Self::Method => Some(Reason::Method),
            Self::Host(_) | Self::Ambiguous(_) => Some(Reason::Ambiguous),
            Self::HeadTooLarge => Some(Reason::HeadTooLarge),
            Self::BodyTooLarge => Some(Reason::BodyTooLarge),
            Self::SlowBody => Some(Reason::BodyTimeout),
            Self::NoService
            | Self::NoBackend
            | Self::Held
            | Self::TooMany
            | Self::Drained
            | Self::BadGateway
            | Self::GatewayTimeout => None,
        }
    }

    pub(super) fn answer(self, connection: &Rc<Connection>) -> Response<Answer> {
        let text = self.text();
        let body = Answer::text(Bytes::from_static(text.as_bytes()), connection);
        let mut response = Response::new(body);
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(TURNOUT_ERROR, HeaderValue::from_static(text));
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if self.closes() {
            connection.farewell.set(Farewell::Linger);
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
