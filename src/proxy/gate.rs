//! What stands before the choice of a color: maintenance, rate limits, hold; in this order, so that what is held has passed
//! its limits. A service without any of them costs a request two comparisons.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::answer::{Refusal, TURNOUT_ERROR};
use super::body::Answer;
use super::client::Connection;
use super::counters::TurnedAway;
use super::headers::client_ip;
use super::hold::Waited;
use super::thread::Thread;
use super::view::LocalRoute;
use crate::domain::{Maintenance, Traffic};

const PAGE: &str = include_str!("../../templates/maintenance.html");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
/// What a held request is told that waited in vain: the operator is at work, and nobody knows for how long.
const TRY_AGAIN: HeaderValue = HeaderValue::from_static("5");

/// Whether a service's requests go on, ready to be answered.
#[derive(Debug)]
pub(super) enum Gate {
    Open,
    Hold,
    Closed(Notice),
}

/// The answer of a service in maintenance.
#[derive(Debug)]
pub(super) struct Notice {
    page: Bytes,
    retry_after: HeaderValue,
}

impl Gate {
    pub(super) fn new(traffic: &Traffic) -> Self {
        match traffic {
            Traffic::Open => Self::Open,
            Traffic::Hold => Self::Hold,
            Traffic::Maintenance(Maintenance { retry_after, page }) => Self::Closed(Notice {
                page: page.as_ref().map_or_else(
                    || Bytes::from_static(PAGE.as_bytes()),
                    |page| Bytes::from(page.clone()),
                ),
                retry_after: HeaderValue::from(*retry_after),
            }),
        }
    }
}

impl Notice {
    fn answer(&self, connection: &Rc<Connection>) -> Response<Answer> {
        let mut response = Response::new(Answer::text(self.page.clone(), connection));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let headers = response.headers_mut();
        headers.insert(TURNOUT_ERROR, HeaderValue::from_static("In maintenance"));
        headers.insert(header::RETRY_AFTER, self.retry_after.clone());
        headers.insert(header::CONTENT_TYPE, HTML);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// True if there is nothing to [`pass`].
pub(super) fn is_open(route: &LocalRoute) -> bool {
    matches!(route.entry.gate, Gate::Open) && route.entry.limiters.is_empty()
}

/// Lets a request pass, at once or later, with the route that is in force by then; or answers it.
pub(super) async fn pass(
    thread: &Thread,
    connection: &Rc<Connection>,
    mut route: Rc<LocalRoute>,
    request: &Request<Incoming>,
    host: &str,
) -> Result<Rc<LocalRoute>, Response<Answer>> {
    let turn_away = |route: &LocalRoute, why| {
        route.entry.counters.turn_away(route.shard, why);
    };
    if let Gate::Closed(notice) = &route.entry.gate {
        turn_away(&route, TurnedAway::Closed);
        return Err(notice.answer(connection));
    }
    if !route.entry.limiters.is_empty() {
        let client = client_ip(request.headers(), &connection.peer, thread.trusted());
        for limiter in &route.entry.limiters {
            if let Err(wait) = limiter.take(client, request.uri().path()) {
                turn_away(&route, TurnedAway::Limited);
                return Err(later(
                    Refusal::TooMany.answer(connection),
                    &retry_after(wait),
                ));
            }
        }
    }
    let deadline = Instant::now() + route.entry.hold;
    loop {
        match &route.entry.gate {
            Gate::Open => return Ok(route),
            Gate::Closed(notice) => {
                turn_away(&route, TurnedAway::Closed);
                return Err(notice.answer(connection));
            }
            Gate::Hold => {}
        }
        if thread.holding().wait(&route.entry, deadline).await == Waited::Tired {
            turn_away(&route, TurnedAway::Tired);
            return Err(later(Refusal::Held.answer(connection), &TRY_AGAIN));
        }
        route = thread
            .view()
            .find(connection.listener, host)
            .ok_or_else(|| Refusal::NoService.answer(connection))?;
    }
}

/// Whole seconds, at least one, as the header has it.
fn retry_after(wait: Duration) -> HeaderValue {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(seconds.max(1))
}

fn later(mut response: Response<Answer>, when: &HeaderValue) -> Response<Answer> {
    const NAME: HeaderName = header::RETRY_AFTER;
    response.headers_mut().insert(NAME, when.clone());
    response
}
