//! One front door and one question through it. What the answer proves is decided elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::super::http::{self, Answer, AskError, Question};
use super::super::tls;
use super::FrontDoorError;
use crate::domain::{Color, HostPattern, Service};

/// Beyond the service's own time-outs, for what stands between.
const SLACK: Duration = Duration::from_secs(1);

/// The text that a balancer of turnout's has in `X-Turnout-Error` when nobody who may serve is healthy.
const NOBODY: &str = "No active backend available";

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// This color, well or not.
    Color(Color),
    /// Turnout itself: no server that may serve is healthy.
    Nobody,
}

/// The front door of one service.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) service: Arc<Service>,
    /// For messages: the address and host, or the URL.
    pub(super) name: String,
    way: Way,
    host: String,
}

#[derive(Debug, Clone)]
enum Way {
    Listener(SocketAddr),
    Url(PublicWay),
}

/// A public URL, and the address that is asked in place of what its name resolves to.
#[derive(Debug, Clone)]
struct PublicWay {
    url: String,
    at: Option<(String, SocketAddr)>,
}

impl PublicWay {
    /// A URL that names an address is asked as clients ask: by the service's host name.
    fn of(public: &str, example: Option<&str>) -> Self {
        let named = example.and_then(|host| {
            let mut url = reqwest::Url::parse(public).ok()?;
            let ip: IpAddr = url.host_str()?.trim_matches(['[', ']']).parse().ok()?;
            let port = url.port_or_known_default()?;
            url.set_host(Some(host)).ok()?;
            Some((
                url.to_string(),
                (host.to_owned(), SocketAddr::from((ip, port))),
            ))
        });
        match named {
            Some((url, at)) => Self { url, at: Some(at) },
            None => Self {
                url: public.to_owned(),
                at: None,
            },
        }
    }
}

impl Door {
    /// `None`: neither `listen` nor `public` is configured.
    pub(super) fn of(service: &Arc<Service>) -> Option<Self> {
        let example = service.hosts.first().map(HostPattern::example);
        if let Some(listen) = service.listen {
            let address = http::reachable(listen);
            let (name, host) = match example {
                Some(host) => (format!("{address} (Host {host})"), host),
                None => (address.to_string(), address.to_string()),
            };
            return Some(Self {
                service: Arc::clone(service),
                name,
                way: Way::Listener(address),
                host,
            });
        }
        let public = service.public.as_ref()?;
        let way = PublicWay::of(&public.0, example.as_deref());
        Some(Self {
            service: Arc::clone(service),
            name: match &way.at {
                Some((host, _)) => format!("{public} (Host {host})"),
                None => public.to_string(),
            },
            way: Way::Url(way),
            host: example.unwrap_or_default(),
        })
    }

    /// How long one question may take: a balancer in front of a hanging server answers within the service's own time-outs.
    pub(super) fn patience(&self) -> Duration {
        self.service.timeouts.connect + self.service.timeouts.response + SLACK
    }

    /// One question of at most `within`. The health path is asked first, since it costs an application least; where somebody
    /// else answers that (the control API on the router's port, a `location` of the user's own), the front page is asked
    /// before that counts.
    pub(super) async fn once(
        &self,
        header: Option<(&str, &str)>,
        within: Duration,
    ) -> Result<Said, FrontDoorError> {
        let health = self.service.health.path.as_str();
        let answer = self.ask(health, header, within).await;
        match (&self.way, &answer) {
            (Way::Listener(_), Err(FrontDoorError::NotTurnout { .. })) if health != "/" => {
                self.ask("/", header, within).await
            }
            (Way::Listener(_) | Way::Url(_), _) => answer,
        }
    }

    /// What comes back from `path` (a public URL has its own, and its body is not read).
    pub(super) async fn plainly(
        &self,
        path: &str,
        header: Option<(&str, &str)>,
        within: Duration,
    ) -> Result<Answer, String> {
        let asked = tokio::time::timeout(within, async {
            match &self.way {
                Way::Listener(address) => {
                    let question = Question {
                        path,
                        host: &self.host,
                        header,
                        proxy_protocol: self.service.proxy_protocol,
                        tls: self.service.tls.is_some(),
                    };
                    let asked = http::ask(*address, question).await;
                    asked.map_err(|error| with_cause(&error))
                }
                Way::Url(way) => {
                    let (status, headers) = over_the_public_url(way, header).await?;
                    Ok(Answer {
                        status,
                        headers,
                        body: String::new(),
                    })
                }
            }
        });
        match asked.await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(format!("nothing came within {} s", within.as_secs())),
        }
    }

    /// Who answers at `path`.
    async fn ask(
        &self,
        path: &str,
        header: Option<(&str, &str)>,
        within: Duration,
    ) -> Result<Said, FrontDoorError> {
        let asked = self.plainly(path, header, within).await;
        let Answer {
            status, headers, ..
        } = asked.map_err(|reason| FrontDoorError::NoAnswer {
            service: self.service.name.clone(),
            door: self.name.clone(),
            reason,
        })?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        match (text("x-routed-to").map(str::parse), text("x-turnout-error")) {
            (Some(Ok(color)), _) => Ok(Said::Color(color)),
            (_, Some(NOBODY)) => Ok(Said::Nobody),
            (_, _) => Err(FrontDoorError::NotTurnout {
                service: self.service.name.clone(),
                door: self.name.clone(),
                status: status.as_u16(),
            }),
        }
    }
}

fn with_cause(error: &AskError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

async fn over_the_public_url(
    way: &PublicWay,
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
    let client = tls::client(way.at.as_ref()).map_err(chain)?;
    let mut request = client.get(&way.url);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(|error| {
        let text = chain(error);
        if text.contains("dns error") {
            format!("{text}; `public` may name an address of this host, and `hosts` the name to ask it for")
        } else {
            text
        }
    })?;
    Ok((response.status(), response.headers().clone()))
}
