//! One request, from its head to the head of its answer: strictness, route, color, and what the server gets and the client is
//! told. Which server takes it, and what is tried again, is `attempt`'s to decide.

use std::rc::Rc;

use http::uri::{Authority, PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;

use super::answer::Refusal;
use super::attempt::attempt;
use super::body::Answer;
use super::choose::{Choice, choose};
use super::client::{Connection, Order, Protocol};
use super::counters::TurnedAway;
use super::elsewhere;
use super::entry::{Course, Entry};
use super::gate;
use super::headers::{
    ROUTED_TO, Seen, UPSTREAM_URL, announce, client_ip, settle_length, strip_hop_by_hop,
};
use super::in_flight::InFlight;
use super::lane::Lane;
use super::own_paths;
use super::record::{Ended, Record};
use super::strict::Fault;
use super::thread::Thread;
use super::upgrade::{self, Tunnel};
use super::upload::Upload;
use super::view::LocalRoute;

/// Answers one request.
pub(super) async fn serve(
    thread: Rc<Thread>,
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Response<Answer> {
    let seen = connection.asked();
    connection.version.set(request.version());
    let admitted = seen
        .map_err(Refusal::Ambiguous)
        .and_then(|()| admit(&connection, &request));
    let answered = match admitted {
        Err(refusal) => Err(refusal),
        Ok(host) => match thread.local_service(request.uri().path()) {
            Some(local) => {
                let answer = local.call(request, connection.address).await;
                Ok(answer.map(|body| Answer::local(body, &connection)))
            }
            // in a box from here on: each of the futures below would hold it twice, as an argument and as what it works on
            None => route(&thread, &connection, Box::new(request), host).await,
        },
    };
    let mut response = answered.unwrap_or_else(|refusal| refused(&thread, &connection, refusal));
    // a 101 without `Connection: upgrade` is none to its client, and ends the HTTP on its connection anyway
    if connection.order() == Order::AnswerOnce
        && connection.protocol.get() == Protocol::Http1
        && response.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// The proxy's own answer, counted.
fn refused(thread: &Thread, connection: &Rc<Connection>, refusal: Refusal) -> Response<Answer> {
    if let Some(reason) = refusal.reason() {
        thread.refuse(reason);
    }
    refusal.answer(connection)
}

/// Refuses what is ambiguous before anything else looks at it; what is left has one host.
fn admit(connection: &Connection, request: &Request<Incoming>) -> Result<HeaderValue, Refusal> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) && !request.body().is_end_stream() {
        return Err(Refusal::Ambiguous(Fault::Body));
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) => return Err(Refusal::Host("The Host header is missing")),
        (Some(_), Some(_)) => return Err(Refusal::Host("There is more than one Host header")),
    };
    if !connection.host.is(host.as_bytes()) {
        Authority::try_from(host.as_bytes())
            .ok()
            .filter(|authority| !authority.as_str().contains('@'))
            .ok_or(Refusal::Host("The Host header is not a host"))?;
        connection.host.remember(host.as_bytes());
    }
    if let Some(target) = request.uri().authority()
        && !target
            .as_str()
            .as_bytes()
            .eq_ignore_ascii_case(host.as_bytes())
    {
        return Err(Refusal::Host(
            "The Host header and the request target differ",
        ));
    }
    Ok(host.clone())
}

async fn route(
    thread: &Thread,
    connection: &Rc<Connection>,
    request: Box<Request<Incoming>>,
    host: HeaderValue,
) -> Result<Response<Answer>, Refusal> {
    let view = thread.view();
    let find = || view.snapshot.find(connection.listener, host.to_str().ok()?);
    let place = connection.host.place(host.as_bytes(), view.number, find);
    let route = view.at(place.ok_or(Refusal::NoService)?);
    if let Some(page) = own_paths::of(request.uri().path())
        && let Some(answer) = own_paths::answer(page, thread, connection, &route.entry, &request)
    {
        return Ok(answer);
    }
    let mut record = route.entry.log.as_ref().map(|to| {
        let client = client_ip(request.headers(), &connection.peer, thread.trusted());
        Record::begin(thread.core(), to, &route.entry.name, client, &request)
    });
    let routed = dispatch(thread, connection, route, request, host, &mut record);
    let response = routed
        .await
        .unwrap_or_else(|refusal| refused(thread, connection, refusal));
    if let Some(record) = &mut record {
        record.head(response.status());
        if record.is_head() {
            record.end(Ended::Complete);
        }
    }
    Ok(response.map(|answer| answer.recorded(record)))
}

/// From the gate to the head of the answer.
async fn dispatch(
    thread: &Thread,
    connection: &Rc<Connection>,
    route: Rc<LocalRoute>,
    request: Box<Request<Incoming>>,
    host: HeaderValue,
    record: &mut Option<Record>,
) -> Result<Response<Answer>, Refusal> {
    let name = host.to_str().unwrap_or_default();
    // what is not for every request is boxed, here and below: hyper moves the whole of a request's future for each request
    let route = if gate::is_open(&route) {
        route
    } else {
        let passed = Box::pin(gate::pass(thread, connection, route, &request, name));
        match passed.await {
            Ok(route) => route,
            Err(answer) => return Ok(answer),
        }
    };
    let entry = &route.entry;
    let Some(choice) = choose(entry, request.headers(), rand::random) else {
        let counters = &entry.counters;
        counters.turn_away(route.shard, TurnedAway::Unserved);
        return Err(Refusal::NoBackend);
    };
    if let Some(limit) = entry.body_limit
        && request.body().size_hint().lower() > limit
    {
        return Err(Refusal::BodyTooLarge);
    }
    let in_flight = InFlight::begin(Rc::clone(&route), choice.lane, connection);
    let wanted = upgrade::wanted(&request);
    let mut request = Box::new(outgoing(
        thread,
        connection,
        *request,
        &host,
        entry.body_limit,
    ));
    if let Some(protocol) = &wanted {
        upgrade::ask(request.headers_mut(), protocol.clone());
    }
    if let Some(record) = record {
        record.goes_to(choice.lane.color(), request.headers());
    }
    let early = &connection.early;
    let attempting = attempt(thread, &route, choice.lane, request, early, record);
    let attempted = in_flight.unless_cut(attempting);
    let mut attempted = attempted.await.unwrap_or(Err(Refusal::Drained.into()));
    if choice.lane == Lane::Alias
        && let Err(failed) = &mut attempted
        && let Some(request) = failed.unsent.take()
    {
        let again = Box::pin(elsewhere::attempt_again(
            thread, &route, request, early, record,
        ));
        if let Some(again) = in_flight.unless_cut(again).await.flatten() {
            attempted = again;
        }
    }
    let head = |(response, ..): &(Response<Incoming>, _, _)| Seen::of(response.headers());
    let seen = attempted.as_ref().map_or(Seen::NOTHING, head);
    if seen.has(Seen::TRANSFER_ENCODING)
        && let Ok((response, ..)) = &attempted
        && !is_plain(response)
    {
        attempted = Err(Refusal::BadGateway.into());
    }
    match attempted.map_err(|failed| failed.refusal) {
        Ok((response, lease, url)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let agreed = wanted.filter(|wanted| upgrade::is_agreed(wanted, response.headers()));
            let Some(protocol) = agreed else {
                in_flight.fail();
                in_flight.answered(StatusCode::BAD_GATEWAY);
                return Err(Refusal::BadGateway);
            };
            in_flight.answered(response.status());
            connection.will_tunnel(Tunnel { lease, in_flight });
            if let Some(record) = record {
                record.end(Ended::Tunnel);
            }
            let response = response.map(|_| Answer::nothing(connection));
            let mut response = incoming(response, seen, entry, &choice, url);
            upgrade::ask(response.headers_mut(), protocol);
            Ok(response)
        }
        Ok((response, lease, url)) => {
            in_flight.answered(response.status());
            let response = response.map(|body| Answer::server(body, lease, in_flight, connection));
            Ok(incoming(response, seen, entry, &choice, url))
        }
        Err(refusal) => {
            if !matches!(refusal, Refusal::SlowBody | Refusal::BodyTooLarge) {
                in_flight.fail();
            }
            if let Some(record) = record {
                record.end(
                    if matches!(refusal, Refusal::GatewayTimeout | Refusal::SlowBody) {
                        Ended::Timeout
                    } else if refusal == Refusal::Drained {
                        Ended::Cut
                    } else {
                        Ended::Complete
                    },
                );
            }
            let mut response = refused(thread, connection, refusal);
            in_flight.answered(response.status());
            routed_to(response.headers_mut(), choice.lane);
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
    limit: Option<u64>,
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
    // extensions hold what hyper keeps for upgrades; `upgrade` has its own way, which asks for no Send
    parts.extensions.clear();
    let headers = &mut parts.headers;
    let seen = Seen::of(headers);
    strip_hop_by_hop(headers, seen);
    // the 100 is the proxy's own: hyper sends it when the body is first asked for, which is when a server takes the request;
    // what is refused, or finds no server, is answered without it, and the body is never sent
    if seen.has(Seen::EXPECT) {
        headers.remove(header::EXPECT);
    }
    if seen.has(Seen::TRANSFER_ENCODING) {
        headers.remove(header::TRANSFER_ENCODING);
    }
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
        seen,
        &connection.peer,
        host,
        thread.trusted(),
        rand::random,
    );
    Request::from_parts(parts, Upload::new(body, limit))
}

/// False for a body in a coding that the client would not be told of: `Transfer-Encoding` is for one connection, and hyper undoes
/// `chunked` alone.
fn is_plain(response: &Response<Incoming>) -> bool {
    let mut codings = response
        .headers()
        .get_all(header::TRANSFER_ENCODING)
        .iter()
        .map(HeaderValue::as_bytes);
    response.body().is_end_stream()
        || matches!((codings.next(), codings.next()), (Some(only), None) if only.eq_ignore_ascii_case(b"chunked"))
}

/// The answer as the client gets it.
fn incoming(
    mut response: Response<Answer>,
    seen: Seen,
    entry: &Entry,
    choice: &Choice,
    url: HeaderValue,
) -> Response<Answer> {
    let headers = response.headers_mut();
    strip_hop_by_hop(headers, seen);
    if seen.has(Seen::TRANSFER_ENCODING) {
        headers.remove(header::TRANSFER_ENCODING);
        // it has no meaning beside it (RFC 9112, 6.3), and hyper would end the answer by it
        headers.remove(header::CONTENT_LENGTH);
    } else if seen.has(Seen::LENGTHS) {
        // hyper has taken them for one, and would pass them on as they came
        settle_length(headers);
    }
    routed_to(headers, choice.lane);
    headers.insert(UPSTREAM_URL, url);
    if let (Some(pin), Course::Colors(coloring)) = (&choice.pin, &entry.course)
        && let Some(sticky) = &coloring.sticky
    {
        let cookie = format!("{}={pin}; Path=/; HttpOnly; SameSite=Lax", sticky.cookie);
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    response
}

/// Says the color. What stands behind an alias has none that turnout knows, and what it says of itself is its own word.
fn routed_to(headers: &mut HeaderMap, lane: Lane) {
    match lane.color() {
        Some(color) => headers.insert(ROUTED_TO, HeaderValue::from_static(color.as_str())),
        None => headers.remove(ROUTED_TO),
    };
}
