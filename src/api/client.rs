//! The command line's end of the control API, over TCP or a unix socket.
//!
//! It never follows a redirect and never goes through a proxy: both would hand the token to somebody else.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;

use super::address::ServerAddress;
use super::wire::{Identity, ProblemBody};
use crate::controller::{AuditEntry, Outcome, Release, Request, Status, Verification};
use crate::domain::ServiceName;
use crate::exit::ExitCode;

/// To be connected. The daemon is on this host or near.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// For an answer that changes nothing. A daemon that is alive looks at its balancer for 3 s at most and answers.
const READ_TIME: Duration = Duration::from_secs(10);
/// For a look through every front door, and for listeners that are given back.
const LOOK_TIME: Duration = Duration::from_secs(30);
/// For a change, from the lock to the proof (nginx alone retries a busy port for 2.5 s; a restore may follow).
const CHANGE_TIME: Duration = Duration::from_mins(2);
/// For a change that waits until the old color has drained, which the configuration bounds and the client does not know.
const DRAIN_TIME: Duration = Duration::from_hours(1);

/// What to do where a question is not answered.
const READ_ADVICE: &str =
    "it is there and hangs: see its log, and look without it with `turnout status --local`";
/// What to do where a change is not answered.
const CHANGE_ADVICE: &str =
    "what was asked for may still be done: `turnout status` says where the traffic is";

/// Why a daemon did not answer as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there. Exit 69; a command may act itself instead.
    #[error("no turnout answers at {address}")]
    Unreachable {
        /// Where it was looked for.
        address: ServerAddress,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It answered "no". The exit code is the daemon's.
    #[error("{detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The status in words.
        title: String,
        /// What the daemon says, causes included.
        detail: String,
        /// The exit code it asks for.
        exit: Option<u8>,
    },
    /// No token, a wrong one, or one that may not. Exit 77.
    #[error("{detail} ({address})")]
    NotPermitted {
        /// Where.
        address: ServerAddress,
        /// What the daemon says.
        detail: String,
    },
    /// No answer in time. Exit 124.
    #[error("{address} did not answer within {} s; {advice}", after.as_secs())]
    TimedOut {
        /// Where.
        address: ServerAddress,
        /// How long it was waited for.
        after: Duration,
        /// What to do, which is not the same for a question and for a change that may still be done.
        advice: &'static str,
    },
    /// It was there and closed the connection without an answer, as one that is killed does; what was asked for may be done
    /// or not. Exit 69.
    #[error(
        "turnout at {address} ended before it answered, so what came of it is not known here: look with `turnout status`"
    )]
    Ended {
        /// Where.
        address: ServerAddress,
        /// How.
        #[source]
        source: reqwest::Error,
    },
    /// Something answered, and it does not speak like turnout. Exit 69.
    #[error("what answers at {address} is not this turnout's control API: {what}")]
    Protocol {
        /// Where.
        address: ServerAddress,
        /// What was seen.
        what: String,
    },
}

impl From<&ClientError> for ExitCode {
    /// The daemon says the code itself; a status alone (another version's) stands for the code that goes with it most.
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. }
            | ClientError::Ended { .. }
            | ClientError::Protocol { .. } => Self::Unreachable,
            ClientError::NotPermitted { .. } => Self::NotPermitted,
            ClientError::TimedOut { .. } => Self::TimedOut,
            ClientError::Refused { status, exit, .. } => {
                exit.and_then(Self::from_code).unwrap_or(match status {
                    400 | 404 | 413 | 422 => Self::Usage,
                    401 | 403 | 429 => Self::NotPermitted,
                    409 => Self::No,
                    423 => Self::Locked,
                    502 | 503 => Self::Unreachable,
                    504 => Self::TimedOut,
                    _ => Self::Failed,
                })
            }
        }
    }
}

/// A client of one control API.
pub struct Client {
    http: reqwest::Client,
    address: ServerAddress,
    base: String,
    token: Option<String>,
}

impl fmt::Debug for Client {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the API at `address`. Connects to nothing yet.
    pub fn new(address: &ServerAddress, token: Option<String>) -> Result<Self, ClientError> {
        // Fails where a provider was installed before, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("turnout/", env!("CARGO_PKG_VERSION")));
        let (builder, base) = match address {
            ServerAddress::Http(url) => (builder, url.clone()),
            ServerAddress::Unix(path) => (
                builder.unix_socket(path.as_path()),
                "http://localhost".to_owned(),
            ),
        };
        let http = builder.build().map_err(|source| ClientError::Unreachable {
            address: address.clone(),
            source,
        })?;
        Ok(Self {
            http,
            address: address.clone(),
            base,
            token,
        })
    }

    /// Asks for a change and waits for its proof.
    pub async fn change(&self, request: &Request) -> Result<Outcome, ClientError> {
        let work = if request.wait_drained {
            DRAIN_TIME
        } else {
            CHANGE_TIME
        };
        let within = request.lock_wait.saturating_add(work);
        let mut post = self.request(Method::POST, "/v1/changes").json(request);
        if let Some((name, value)) = super::actor::claim(&request.actor) {
            post = post.header(name, value);
        }
        self.answer(post, "/v1/changes", within, CHANGE_ADVICE)
            .await
    }

    /// Has the proxy that stands in for a balancer give its listeners back, on behalf of `actor`.
    pub async fn release(&self, actor: &str) -> Result<Release, ClientError> {
        let mut post = self.request(Method::POST, "/v1/fallback/release");
        if let Some((name, value)) = super::actor::claim(actor) {
            post = post.header(name, value);
        }
        self.answer(post, "/v1/fallback/release", LOOK_TIME, CHANGE_ADVICE)
            .await
    }

    /// Everything at a glance.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// State, disk and served.
    pub async fn verify(&self) -> Result<Verification, ClientError> {
        let path = "/v1/drift";
        self.answer(
            self.request(Method::GET, path),
            path,
            LOOK_TIME,
            READ_ADVICE,
        )
        .await
    }

    /// The last `limit` entries of the audit log (10,000 at most), newest first: those of one service, or every one.
    pub async fn history(
        &self,
        service: Option<&ServiceName>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, ClientError> {
        let service = service.map_or_else(String::new, |name| format!("service={name}&"));
        let limit = limit.min(super::history::LONGEST);
        self.get(&format!("/v1/history?{service}limit={limit}"))
            .await
    }

    /// Which daemon it is.
    pub async fn identity(&self) -> Result<Identity, ClientError> {
        self.get("/v1/identity").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(
            self.request(Method::GET, path),
            path,
            READ_TIME,
            READ_ADVICE,
        )
        .await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        path: &str,
        within: Duration,
        advice: &'static str,
    ) -> Result<T, ClientError> {
        let request = request.timeout(within);
        let failed = |source: reqwest::Error| {
            if source.is_timeout() && !source.is_connect() {
                ClientError::TimedOut {
                    address: self.address.clone(),
                    after: within,
                    advice,
                }
            } else if source.is_connect() {
                ClientError::Unreachable {
                    address: self.address.clone(),
                    source,
                }
            } else if is_cut(&source) {
                ClientError::Ended {
                    address: self.address.clone(),
                    source,
                }
            } else {
                self.protocol(crate::domain::describe(&source))
            }
        };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let is_problem = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == super::error::PROBLEM_JSON);
        let bytes = response.bytes().await.map_err(failed)?;
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|error| self.protocol(format!("{path} answered {status}: {error}")));
        }
        let problem = if is_problem {
            serde_json::from_slice::<ProblemBody>(&bytes)
                .map_err(|error| self.protocol(format!("{path} answered {status}: {error}")))?
        } else {
            return Err(self.protocol(format!("{path} answered {status}")));
        };
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                ClientError::NotPermitted {
                    address: self.address.clone(),
                    detail: problem.detail,
                }
            }
            _ => ClientError::Refused {
                status: status.as_u16(),
                title: problem.title,
                detail: problem.detail,
                exit: problem.exit,
            },
        })
    }

    fn protocol(&self, what: String) -> ClientError {
        ClientError::Protocol {
            address: self.address.clone(),
            what,
        }
    }
}

/// True if the connection was there and ended before the whole answer.
fn is_cut(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let is_end = error
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_incomplete_message);
        let is_reset = error.downcast_ref::<std::io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset
                    | std::io::ErrorKind::BrokenPipe
                    | std::io::ErrorKind::UnexpectedEof
            )
        });
        if is_end || is_reset {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
