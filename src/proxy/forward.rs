//! One request, from its head to the head of its answer: strictness, route, color, server, retry. What it may repeat is
//! decided here and nowhere else: what never went out, always; what went out on a kept-alive connection that died without
//! a byte, only if it is idempotent and has no body.

use std::rc::Rc;

use http::uri::{Authority, PathAndQuery, Uri};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;

use super::answer::Refusal;
use super::body::{Answer, InFlight, Upload};
use super::choose::{Choice, choose};
use super::client::{Connection, Framing, Order};
use super::headers::{ROUTED_TO, UPSTREAM_URL, announce, strip_hop_by_hop};
use super::snapshot::Entry;
use super::thread::Thread;
use super::upstream::{ExchangeError, Lease};
use super::view::LocalRoute;
use crate::domain::Color;

/// Answers one request.
pub(super) async fn serve(
    thread: Rc<Thread>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Response<Answer> {
    connection.asked();
    match admit(&connection, &request) {
        Err(refusal) => refusal.answer(&connection),
        Ok(admitted) => {
            let mut response = match thread.local_service(request.uri().path()) {
                Some(local) => {
                    let answer = local.call(request, connection.address).await;
                    answer.map(|body| Answer::local(body, &connection))
                }
                None => route(&thread, &connection, request, admitted.host)
                    .await
                    .unwrap_or_else(|refusal| refusal.answer(&connection)),
            };
            if admitted.close_after || connection.order() == Order::AnswerOnce {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }
}

struct Admitted {
    host: HeaderValue,
    close_after: bool,
}

/// Refuses what is ambiguous before anything else looks at it.
fn admit(connection: &Connection, request: &Request<Incoming>) -> Result<Admitted, Refusal> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    let mut close_after = false;
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        match connection.framing() {
            Framing::Plain => {}
            Framing::Ambiguous => return Err(Refusal::Framing),
            // hyper has resolved it to chunked, and chunked it goes on: one form, and no next request behind it
            Framing::Unseen => close_after = true,
        }
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) => return Err(Refusal::Host("The Host header is missing")),
        (Some(_), Some(_)) => return Err(Refusal::Host("There is more than one Host header")),
    };
    let authority = Authority::try_from(host.as_bytes())
        .ok()
        .filter(|authority| !authority.as_str().contains('@'))
        .ok_or(Refusal::Host("The Host header is not a host"))?;
    if let Some(target) = request.uri().authority()
        && !target.as_str().eq_ignore_ascii_case(authority.as_str())
    {
        return Err(Refusal::Host(
            "The Host header and the request target differ",
        ));
    }
    Ok(Admitted {
        host: host.clone(),
        close_after,
    })
}

async fn route(
    thread: &Thread,
    connection: &Rc<Connection>,
    request: Request<Incoming>,
    host: HeaderValue,
) -> Result<Response<Answer>, Refusal> {
    let view = thread.view();
    let route = host
        .to_str()
        .ok()
        .and_then(|host| view.find(connection.listener, host))
        .ok_or(Refusal::NoService)?;
    let entry = &route.entry;
    let choice = choose(entry, request.headers(), rand::random).ok_or(Refusal::NoBackend)?;
    let in_flight = InFlight::begin(Rc::clone(&route), choice.color);
    let request = outgoing(thread, connection, request, &host);
    match attempt(&route, choice.color, request).await {
        Ok((response, lease, url)) => {
            let response = response.map(|body| Answer::server(body, lease, in_flight, connection));
            Ok(incoming(response, entry, &choice, url))
        }
        Err(refusal) => {
            if refusal != Refusal::SlowBody {
                in_flight.fail();
            }
            let mut response = refusal.answer(connection);
            response
                .headers_mut()
                .insert(ROUTED_TO, HeaderValue::from_static(choice.color.as_str()));
            Ok(response)
        }
    }
}

/// The request as the server gets it: HTTP/1.1, origin form, one framing.
fn outgoing(
    thread: &Thread,
    connection: &Connection,
    request: Request<Incoming>,
    host: &HeaderValue,
) -> Request<Upload> {
    let (mut parts, body) = request.into_parts();
    parts.version = Version::HTTP_11;
    if parts.uri.authority().is_some() {
        let path = parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        parts.uri = Uri::from(path);
    }
    // extensions hold what hyper keeps for upgrades, which nobody takes
    parts.extensions.clear();
    let headers = &mut parts.headers;
    strip_hop_by_hop(headers);
    // hyper has answered it with 100 by the time it reads the body
    headers.remove(header::EXPECT);
    headers.remove(header::TRANSFER_ENCODING);
    let body = if body.is_end_stream() {
        None
    } else {
        headers.remove(header::CONTENT_LENGTH);
        if body.size_hint().exact().is_none() {
            // said aloud, because hyper takes a GET without a length for one without a body
            headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        }
        Some(body)
    };
    announce(
        headers,
        &connection.peer,
        host,
        thread.trusted(),
        rand::random,
    );
    Request::from_parts(parts, Upload::new(body))
}

/// The answer as the client gets it.
fn incoming(
    mut response: Response<Answer>,
    entry: &Entry,
    choice: &Choice,
    url: HeaderValue,
) -> Response<Answer> {
    let headers = response.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(header::TRANSFER_ENCODING);
    headers.insert(ROUTED_TO, HeaderValue::from_static(choice.color.as_str()));
    headers.insert(UPSTREAM_URL, url);
    if let (Some(pin), Some(sticky)) = (&choice.pin, &entry.sticky) {
        let cookie = format!("{}={pin}; Path=/; HttpOnly; SameSite=Lax", sticky.cookie);
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// Tries the servers of a color, in turn, until one takes the request.
async fn attempt(
    route: &LocalRoute,
    color: Color,
    request: Request<Upload>,
) -> Result<(Response<Incoming>, Lease, HeaderValue), Refusal> {
    let timeouts = &route.entry.timeouts;
    let repeatable = request.body().is_empty()
        && matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        );
    let mut unsent = request;
    for (target, pool) in route.in_turn(color) {
        let mut fresh = false;
        loop {
            let kept = if fresh {
                None
            } else {
                pool.take(!repeatable).await
            };
            let mut lease = match kept {
                Some(lease) => lease,
                None => match pool.connect(timeouts.connect).await {
                    Ok(lease) => lease,
                    Err(error) => {
                        tracing::debug!(service = %route.entry.name, %color, server = %target.server, error = &error as &dyn std::error::Error, "next server");
                        break;
                    }
                },
            };
            let spare = (lease.reused && repeatable).then(|| again(&unsent));
            let exchanged = lease
                .exchange(unsent, timeouts.response, timeouts.idle)
                .await;
            match exchanged {
                Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    // nobody asked for it: Upgrade was removed
                    return Err(Refusal::BadGateway);
                }
                Ok(response) => return Ok((response, lease, target.url.clone())),
                Err(ExchangeError::Unsent(request)) => {
                    unsent = *request;
                    if !lease.reused {
                        break;
                    }
                }
                Err(ExchangeError::Silent) => match spare {
                    Some(request) => unsent = request,
                    None => return Err(Refusal::BadGateway),
                },
                Err(ExchangeError::Broken) => return Err(Refusal::BadGateway),
                Err(ExchangeError::Timeout) => return Err(Refusal::GatewayTimeout),
                Err(ExchangeError::SlowBody) => return Err(Refusal::SlowBody),
            }
            fresh = true;
        }
    }
    Err(Refusal::BadGateway)
}

/// A request without a body, once more.
fn again(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::new(None));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
