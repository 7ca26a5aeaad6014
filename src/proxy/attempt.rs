//! The servers of a color or of an alias, in turn, until one takes the request. What is tried again is decided here and nowhere
//! else: what never went out, always; what went out on a kept-alive connection that died without a byte, only if it is
//! idempotent and has no body.

use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;

use super::answer::Refusal;
use super::early::Early;
use super::elsewhere;
use super::lane::Lane;
use super::record::Record;
use super::thread::Thread;
use super::tries::Tries;
use super::upload::Upload;
use super::upstream::{ExchangeError, Keeping, Lease};
use super::view::LocalRoute;

/// An answer with the connection it came on and the URL that the client is told.
pub(super) type Attempted = Result<(Response<Incoming>, Lease, HeaderValue), Failed>;

/// Why no server answered.
pub(super) struct Failed {
    pub(super) refusal: Refusal,
    /// The request, where not a byte of it went out.
    pub(super) unsent: Option<Box<Request<Upload>>>,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            unsent: None,
        }
    }
}

/// Tries the servers of a color (or of the alias), in turn, until one takes the request.
pub(super) async fn attempt(
    thread: &Thread,
    route: &LocalRoute,
    lane: Lane,
    request: Box<Request<Upload>>,
    early: &Early,
    record: &mut Option<Record>,
) -> Attempted {
    let timeouts = &route.entry.timeouts;
    let repeatable = request.body().is_empty()
        && matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        );
    let mut unsent = request;
    let mut tries = Tries::new(route, lane);
    for (target, pool, standing) in route.in_turn(lane) {
        let mut fresh = false;
        loop {
            let kept = if fresh {
                None
            } else {
                pool.take(!repeatable).await
            };
            let mut lease = match kept {
                Some(lease) => lease,
                None => match Box::pin(pool.connect(timeouts.connect)).await {
                    Ok(lease) => lease,
                    Err(error) => {
                        tries.unreached(target, standing, &error);
                        if lane == Lane::Alias {
                            elsewhere::look(thread, route);
                        }
                        break;
                    }
                },
            };
            let keeping = if lease.reused && repeatable {
                Keeping::Head
            } else {
                Keeping::Nothing
            };
            tries.again();
            let exchanged = lease
                .exchange(unsent, keeping, (timeouts.response, timeouts.idle), early)
                .await;
            match exchanged {
                Ok(response) => {
                    tries.answered(target);
                    if let Some(record) = record {
                        record.answered_by(&target.url);
                        record.retried(tries.retries());
                    }
                    return Ok((response, lease, target.url.clone()));
                }
                Err(ExchangeError::Unsent(request)) => {
                    unsent = request;
                    if !lease.reused {
                        tries.failed(target, standing);
                        break;
                    }
                }
                Err(ExchangeError::Silent) => {
                    let Some(request) = lease.sent() else {
                        tries.failed(target, standing);
                        return Err(Refusal::BadGateway.into());
                    };
                    unsent = Box::new(request);
                }
                Err(ExchangeError::Broken) => {
                    tries.failed(target, standing);
                    return Err(Refusal::BadGateway.into());
                }
                Err(ExchangeError::Timeout) => {
                    tries.failed(target, standing);
                    return Err(Refusal::GatewayTimeout.into());
                }
                Err(ExchangeError::SlowBody) => return Err(Refusal::SlowBody.into()),
                Err(ExchangeError::LargeBody) => return Err(Refusal::BodyTooLarge.into()),
            }
            fresh = true;
        }
    }
    // nobody was asked: every circuit is open
    Err(Failed {
        refusal: tries.refusal(),
        unsent: Some(unsent),
    })
}
