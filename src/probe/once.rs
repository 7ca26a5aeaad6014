//! One probe: connect, ask, read a bounded answer, judge it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::domain::{Color, HealthPolicy, ProbeFailure, ProbeOutcome, Server};

/// Bytes of an answer's head, and again of its body, that are read.
const BOUND: usize = 64 * 1024;

/// Probes one server once, on a new connection. Ends within `policy.timeout`; follows no redirect.
pub async fn probe(server: &Server, color: Color, policy: &HealthPolicy) -> ProbeOutcome {
    let connected = async { connect(&resolved(server).await?).await };
    within(connected, server, Some(color), policy).await
}

/// Probes what an alias resolves to: the first of `addresses` that takes the connection.
pub(super) async fn probe_at(
    addresses: &[SocketAddr],
    target: &Server,
    color: Option<Color>,
    policy: &HealthPolicy,
) -> ProbeOutcome {
    within(connect(addresses), target, color, policy).await
}

async fn within(
    connected: impl Future<Output = Result<TcpStream, ProbeFailure>>,
    server: &Server,
    color: Option<Color>,
    policy: &HealthPolicy,
) -> ProbeOutcome {
    let judged = async {
        let answer = ask(connected.await?, server, policy).await?;
        judge(&answer, color, policy)
    };
    match tokio::time::timeout(policy.timeout, judged).await {
        Ok(Ok(version)) => ProbeOutcome::Pass { version },
        Ok(Err(failure)) => ProbeOutcome::Fail(failure),
        Err(_elapsed) => ProbeOutcome::Fail(ProbeFailure::Timeout {
            after_ms: u64::try_from(policy.timeout.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

async fn ask(
    stream: TcpStream,
    server: &Server,
    policy: &HealthPolicy,
) -> Result<Answer, ProbeFailure> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(BOUND)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let request = Request::get(policy.path.as_str())
        .header(header::HOST, server.authority())
        .header(
            header::USER_AGENT,
            concat!("turnout/", env!("CARGO_PKG_VERSION"), " (probe)"),
        )
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        let status = response.status();
        if !passes(status, policy) {
            // the verdict is clear, and a failing server may take its time with the body
            return Ok(Answer {
                status,
                body: Bytes::new(),
            });
        }
        match Limited::new(response.into_body(), BOUND).collect().await {
            Ok(body) => Ok(Answer {
                status,
                body: body.to_bytes(),
            }),
            Err(error) if error.is::<LengthLimitError>() => Err(ProbeFailure::Broken {
                message: format!("the body is longer than {BOUND} bytes: probe a smaller page"),
            }),
            Err(error) => Err(broken(error.as_ref())),
        }
    };
    // both in this task, so that nothing of a probe outlives it; the exchange tells the connection's error as well
    tokio::pin!(exchange, connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _ended = &mut connection => exchange.await,
    }
}

async fn resolved(server: &Server) -> Result<Vec<SocketAddr>, ProbeFailure> {
    Ok(match server.socket_addr() {
        Some(address) => vec![address],
        None => tokio::net::lookup_host((server.host(), server.port()))
            .await
            .map_err(|error| ProbeFailure::Unresolved {
                message: error.to_string(),
            })?
            .collect(),
    })
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, ProbeFailure> {
    if addresses.is_empty() {
        return Err(ProbeFailure::Unresolved {
            message: "the name has no address".to_owned(),
        });
    }
    TcpStream::connect(addresses).await.map_err(|error| {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            ProbeFailure::Refused
        } else {
            broken(&error)
        }
    })
}

/// The error with its causes, as the report keeps it.
fn broken(error: &(dyn std::error::Error + 'static)) -> ProbeFailure {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    ProbeFailure::Broken {
        message: chain
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": "),
    }
}

fn passes(status: StatusCode, policy: &HealthPolicy) -> bool {
    let range = policy.expect.status;
    (range.low..=range.high).contains(&status.as_u16())
}

/// The reported version, or what was not as expected.
fn judge(
    answer: &Answer,
    color: Option<Color>,
    policy: &HealthPolicy,
) -> Result<Option<String>, ProbeFailure> {
    if !passes(answer.status, policy) {
        return Err(ProbeFailure::Status {
            status: answer.status.as_u16(),
        });
    }
    let document: Result<Value, _> = serde_json::from_slice(&answer.body);
    let text = |key: &str| document.as_ref().ok()?.get(key)?.as_str();
    // what is behind an alias may be either color
    if let (Some(color), Some(reported)) = (color, text("environment"))
        && reported.eq_ignore_ascii_case((!color).as_str())
    {
        return Err(ProbeFailure::WrongColor {
            reported: reported.to_owned(),
        });
    }
    if !policy.expect.json.is_empty() {
        let document = document.as_ref().map_err(|error| ProbeFailure::NotJson {
            message: error.to_string(),
        })?;
        for (key, expected) in &policy.expect.json {
            let found = document.get(key);
            if found != Some(expected) {
                return Err(ProbeFailure::Field {
                    key: key.clone(),
                    expected: expected.to_string(),
                    found: found.map(ToString::to_string),
                });
            }
        }
    }
    Ok(text("version").map(str::to_owned))
}
