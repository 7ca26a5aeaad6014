//! One request's line in the access log, from its head to its end: filled in on the way, handed over when it is dropped. A
//! request that is dropped without an end has lost its client.

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::access::Destination;
use super::thread::Core;
use crate::domain::{Color, ServiceName};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// One line. Durations are milliseconds with three decimals.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    /// When the head was complete.
    time: Timestamp,
    service: ServiceName,
    /// `None`: it came to no color.
    color: Option<Color>,
    /// The server that answered.
    #[serde(serialize_with = "text")]
    server: Option<HeaderValue>,
    client: IpAddr,
    #[serde(serialize_with = "method")]
    method: Method,
    #[serde(serialize_with = "text")]
    host: Option<HeaderValue>,
    /// Path and query, as they came.
    path: String,
    /// `None`: the client went away before there was one.
    status: Option<u16>,
    /// Of the answer's body.
    bytes: u64,
    #[serde(serialize_with = "milliseconds")]
    duration_ms: Duration,
    /// Until the head of the answer.
    #[serde(serialize_with = "some_milliseconds")]
    upstream_ms: Option<Duration>,
    retries: u32,
    #[serde(serialize_with = "text")]
    request_id: Option<HeaderValue>,
    #[serde(serialize_with = "text")]
    user_agent: Option<HeaderValue>,
    ended: Ended,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    /// With its answer, whole.
    Complete,
    /// The client went away.
    ClientGone,
    /// The answer broke off at the server.
    Broken,
    /// No answer, or no request body, in time.
    Timeout,
    /// Turnout closed the connection: the color was left and the drain was over, the client did not read, or turnout ended.
    Cut,
    /// The connection is no longer HTTP; its bytes are not counted.
    Tunnel,
}

impl Line {
    /// Writes the line with its end.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *to, self)?;
        to.write_all(b"\n")
    }

    #[cfg(test)]
    pub(super) fn example(path: &str) -> Self {
        Self {
            time: Timestamp::UNIX_EPOCH,
            service: "shop".parse().unwrap(),
            color: Some(Color::Blue),
            server: None,
            client: IpAddr::from([127, 0, 0, 1]),
            method: Method::GET,
            host: None,
            path: path.to_owned(),
            status: Some(200),
            bytes: 0,
            duration_ms: Duration::from_micros(1_500),
            upstream_ms: None,
            retries: 0,
            request_id: None,
            user_agent: None,
            ended: Ended::Complete,
        }
    }
}

/// A line that is being filled in.
pub(super) struct Record {
    core: Arc<Core>,
    to: Arc<Destination>,
    began: Instant,
    line: Option<Box<Line>>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl Record {
    pub(super) fn begin<B>(
        core: &Arc<Core>,
        to: &Arc<Destination>,
        service: &ServiceName,
        client: IpAddr,
        request: &Request<B>,
    ) -> Self {
        let headers: &HeaderMap = request.headers();
        let line = Line {
            time: Timestamp::now(),
            service: service.clone(),
            color: None,
            server: None,
            client,
            method: request.method().clone(),
            host: headers.get(header::HOST).cloned(),
            path: request
                .uri()
                .path_and_query()
                .map_or_else(String::new, |path| path.as_str().to_owned()),
            status: None,
            bytes: 0,
            duration_ms: Duration::ZERO,
            upstream_ms: None,
            retries: 0,
            request_id: headers.get(REQUEST_ID).cloned(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            ended: Ended::ClientGone,
        };
        Self {
            core: Arc::clone(core),
            to: Arc::clone(to),
            began: Instant::now(),
            line: Some(Box::new(line)),
        }
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Line)) {
        if let Some(line) = &mut self.line {
            edit(line);
        }
    }

    /// It goes to `color` (`None`: to an alias), with the headers that its server gets.
    pub(super) fn goes_to(&mut self, color: Option<Color>, headers: &HeaderMap) {
        self.edit(|line| {
            line.color = color;
            line.request_id = headers.get(REQUEST_ID).cloned();
        });
    }

    /// A server answered, after `retries` attempts that came to nothing.
    pub(super) fn answered_by(&mut self, url: &HeaderValue) {
        let upstream = self.began.elapsed();
        self.edit(|line| {
            line.server = Some(url.clone());
            line.upstream_ms = Some(upstream);
        });
    }

    pub(super) fn retried(&mut self, retries: u32) {
        self.edit(|line| line.retries = retries);
    }

    /// The head of the answer, whoever made it.
    pub(super) fn head(&mut self, status: StatusCode) {
        self.edit(|line| line.status = Some(status.as_u16()));
    }

    pub(super) fn count(&mut self, bytes: usize) {
        self.edit(|line| line.bytes += bytes as u64);
    }

    /// True if no body follows the head, whatever the answer has.
    pub(super) fn is_head(&self) -> bool {
        self.line
            .as_ref()
            .is_some_and(|line| line.method == Method::HEAD)
    }

    /// How it ends; the first word counts.
    pub(super) fn end(&mut self, ended: Ended) {
        self.edit(|line| {
            if line.ended == Ended::ClientGone {
                line.ended = ended;
            }
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(mut line) = self.line.take() {
            line.duration_ms = self.began.elapsed();
            self.core.access.write(&self.to, line);
        }
    }
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn text<S: Serializer>(value: &Option<HeaderValue>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.serialize_some(&String::from_utf8_lossy(value.as_bytes())),
        None => to.serialize_none(),
    }
}

fn method<S: Serializer>(method: &Method, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(method.as_str())
}

/// As a number with microseconds for decimals.
fn in_milliseconds(duration: Duration) -> f64 {
    // exact up to 285 years
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 microseconds")]
    let microseconds = duration.as_micros() as f64;
    microseconds / 1e3
}

fn milliseconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(in_milliseconds(*duration))
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn some_milliseconds<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => to.serialize_some(&in_milliseconds(*duration)),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_with_a_fixed_set_of_keys() {
        let mut bytes = Vec::new();
        Line::example("/a?b=c").write(&mut bytes).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "{\"time\":\"1970-01-01T00:00:00Z\",\"service\":\"shop\",\"color\":\"blue\",\"server\":null,\
             \"client\":\"127.0.0.1\",\"method\":\"GET\",\"host\":null,\"path\":\"/a?b=c\",\"status\":200,\
             \"bytes\":0,\"duration_ms\":1.5,\"upstream_ms\":null,\"retries\":0,\"request_id\":null,\
             \"user_agent\":null,\"ended\":\"complete\"}\n"
        );
    }
}
