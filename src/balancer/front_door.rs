//! The last part of a proof: a request through the door that clients use comes back from the color that it should.
//!
//! The listener of a service is asked directly; where the user's own server block listens, its `public` URL. The
//! certificate there is not checked, because the own front door is asked a question, not trusted with anything. A wrong
//! color is asked again until the time is over, since the answer of an old worker may still be under way. Nothing here
//! looks at a status: a failing server behind the right door is a matter of health.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::http::{self, AskError, Question};
use crate::domain::{Color, Hashing, Route, ServiceName, sample_key};

/// Between two questions. An answer costs well under a millisecond, so this is what a proof waits at most in excess.
const PAUSE: Duration = Duration::from_millis(10);

/// For one question; a server that hangs must not use up the time of the next try.
const ONE_QUESTION: Duration = Duration::from_secs(2);

/// Questions at once, over all services.
const AT_ONCE: usize = 32;

/// Requests without a key that are made to see both colors of a split.
const KEYLESS_TRIES: usize = 50;

/// Why the front door does not prove a route.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrontDoorError {
    #[error("the front door {door} of {service} routes to {seen}, not to {expected}")]
    WrongColor {
        service: ServiceName,
        door: String,
        seen: String,
        expected: Color,
    },
    #[error(
        "the front door {door} of {service} answers {status} without X-Routed-To: another server block takes that host, or \
         the snippet is not included there"
    )]
    NotTurnout {
        service: ServiceName,
        door: String,
        status: u16,
    },
    #[error("the front door {door} of {service} does not answer: {reason}")]
    NoAnswer {
        service: ServiceName,
        door: String,
        reason: String,
    },
}

/// Asks the front door of one service for each color with a share, until the answers are right or the time is over. The
/// lines are the evidence.
pub(super) async fn ask(
    route: &Route,
    hashing: Hashing,
    within: Duration,
) -> Result<Vec<String>, FrontDoorError> {
    let Some(door) = Door::of(route) else {
        return Ok(vec![format!(
            "{}: no front door configured; proved by the private listener",
            route.service.name
        )]);
    };
    let deadline = Instant::now() + within;
    let split = route.split();
    let mut evidence = Vec::new();
    match (&route.service.sticky, split.whole()) {
        (Some(sticky), _) => {
            for color in Color::BOTH {
                let Some(key) = sample_key(hashing, &route.service.name, split, color) else {
                    continue;
                };
                let header = Some((sticky.header.as_str(), key.as_str()));
                door.until(deadline, header, color).await?;
                evidence.push(format!("front door {}: {color}", door.name));
            }
        }
        (None, Some(color)) => {
            door.until(deadline, None, color).await?;
            evidence.push(format!("front door {}: {color}", door.name));
        }
        (None, None) => {
            // every color that a keyless request can get is right; both are looked for within reason
            let mut seen = BTreeSet::new();
            for _ in 0..KEYLESS_TRIES {
                match door.once(None).await {
                    Ok(color) => {
                        seen.insert(color);
                    }
                    Err(error) if Instant::now() >= deadline => return Err(error),
                    Err(_not_yet) => tokio::time::sleep(PAUSE).await,
                }
                if seen.len() == Color::BOTH.len() {
                    break;
                }
            }
            if seen.is_empty() {
                door.once(None).await?;
            }
            let seen: Vec<_> = seen.iter().map(|color| color.as_str()).collect();
            evidence.push(format!("front door {}: {}", door.name, seen.join(" and ")));
        }
    }
    Ok(evidence)
}

/// Asks the front doors of many services, some at a time. The first failure ends it.
pub(super) async fn ask_all<'a>(
    routes: impl Iterator<Item = &'a Route>,
    hashing: Hashing,
    within: Duration,
) -> Result<Vec<String>, FrontDoorError> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    for route in routes {
        let (route, permits) = (route.clone(), Arc::clone(&permits));
        asking.spawn(async move {
            // never closed, so this is only ever a wait
            let _permit = permits.acquire_owned().await.ok();
            ask(&route, hashing, within).await
        });
    }
    let mut evidence = Vec::new();
    while let Some(asked) = asking.join_next().await {
        match asked {
            Ok(lines) => evidence.extend(lines?),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    evidence.sort();
    Ok(evidence)
}

/// The door of one service.
struct Door<'a> {
    route: &'a Route,
    name: String,
    way: Way,
    host: String,
}

enum Way {
    Listener(std::net::SocketAddr),
    Url(String),
}

impl<'a> Door<'a> {
    fn of(route: &'a Route) -> Option<Self> {
        let service = &route.service;
        let example = service
            .hosts
            .first()
            .map(crate::domain::HostPattern::example);
        if let Some(listen) = service.listen {
            let address = http::reachable(listen);
            let host = example.unwrap_or_else(|| address.to_string());
            return Some(Self {
                route,
                name: format!("{address} (Host {host})"),
                way: Way::Listener(address),
                host,
            });
        }
        let public = service.public.as_ref()?;
        Some(Self {
            route,
            name: public.to_string(),
            way: Way::Url(public.0.clone()),
            host: example.unwrap_or_default(),
        })
    }

    async fn until(
        &self,
        deadline: Instant,
        header: Option<(&str, &str)>,
        expected: Color,
    ) -> Result<(), FrontDoorError> {
        loop {
            let failure = match self.once(header).await {
                Ok(color) if color == expected => return Ok(()),
                Ok(color) => FrontDoorError::WrongColor {
                    service: self.route.service.name.clone(),
                    door: self.name.clone(),
                    seen: color.to_string(),
                    expected,
                },
                Err(failure) => failure,
            };
            if Instant::now() >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One question. The health path is asked first, since it costs an application least; where somebody else answers that
    /// (the control API on the router's port, a `location` of the user's own), the front page is asked before that counts.
    async fn once(&self, header: Option<(&str, &str)>) -> Result<Color, FrontDoorError> {
        let health = self.route.service.health.path.as_str();
        let answer = self.routed_to(health, header).await;
        match (&self.way, &answer) {
            (Way::Listener(_), Err(FrontDoorError::NotTurnout { .. })) if health != "/" => {
                self.routed_to("/", header).await
            }
            (Way::Listener(_) | Way::Url(_), _) => answer,
        }
    }

    /// The color that says it answered at `path` (a public URL has its own).
    async fn routed_to(
        &self,
        path: &str,
        header: Option<(&str, &str)>,
    ) -> Result<Color, FrontDoorError> {
        let no_answer = |reason: String| FrontDoorError::NoAnswer {
            service: self.route.service.name.clone(),
            door: self.name.clone(),
            reason,
        };
        let asked = tokio::time::timeout(ONE_QUESTION, async {
            match &self.way {
                Way::Listener(address) => {
                    let question = Question {
                        path,
                        host: &self.host,
                        header,
                        proxy_protocol: self.route.service.proxy_protocol,
                    };
                    let answer = http::ask(*address, question)
                        .await
                        .map_err(|error| with_cause(&error))?;
                    Ok((answer.status, answer.headers))
                }
                Way::Url(url) => over_the_public_url(url, header).await,
            }
        })
        .await;
        let (status, headers) = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => return Err(no_answer(reason)),
            Err(_elapsed) => {
                return Err(no_answer(format!(
                    "nothing came within {} s",
                    ONE_QUESTION.as_secs()
                )));
            }
        };
        headers
            .get("x-routed-to")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| FrontDoorError::NotTurnout {
                service: self.route.service.name.clone(),
                door: self.name.clone(),
                status: status.as_u16(),
            })
    }
}

fn with_cause(error: &AskError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

async fn over_the_public_url(
    url: &str,
    header: Option<(&str, &str)>,
) -> Result<(::http::StatusCode, ::http::HeaderMap), String> {
    let chain = |error: reqwest::Error| {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    };
    // a client for each question: its pool would keep a connection to the worker that is to go
    let client = tls::client().map_err(chain)?;
    let mut request = client.get(url);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(chain)?;
    Ok((response.status(), response.headers().clone()))
}

/// TLS to turnout's own front door.
mod tls {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, ring};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

    pub(super) fn client() -> reqwest::Result<reqwest::Client> {
        let provider = Arc::new(ring::default_provider());
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .no_proxy();
        match ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
        {
            Ok(config) => {
                let config = config
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
                    .with_no_client_auth();
                builder.tls_backend_preconfigured(config).build()
            }
            // ring has both protocol versions; without them only clear text is asked
            Err(_unsupported) => builder.build(),
        }
    }

    /// Takes any certificate: see the module's documentation. The handshake itself is still verified.
    #[derive(Debug)]
    struct AnyCertificate(Arc<CryptoProvider>);

    impl ServerCertVerifier for AnyCertificate {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
