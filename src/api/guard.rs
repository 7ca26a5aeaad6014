//! Who may ask: the names this API is called by, tokens and scopes, and what is left to callers without one.
//!
//! A matter of a request's head and its [`Peer`], and of how many wrong tokens came before. The order is names (a browser that was lured here has no business with
//! tokens), then who it is, then what it may do. Without any token, loopback alone may write, and not through another proxy
//! (`X-Forwarded-For`): behind one, everybody comes from loopback. On the router's port that trust in loopback goes to those
//! alone who call it by an address or by a name of its own: a page whose name was rebound to 127.0.0.1 comes from there too.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method, header, request::Parts};

use super::attempts::{Attempts, Verdict};
use super::error::Problem;
use super::page::{self, Sessions};
use super::token::{Holder, Tokens};
use crate::config::Permission;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    /// Over TCP.
    Tcp {
        /// The client.
        remote: SocketAddr,
        /// Our end; `None` where another listener took the connection.
        local: Option<SocketAddr>,
    },
    /// Over the unix socket, whose permissions let this user in.
    Unix {
        /// The name, or `uid 1000`.
        user: String,
    },
}

/// Which port the API is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Its own.
    Control,
    /// The router's, which the whole world may reach and call by any name.
    Router,
}

/// Who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// A token's name, a user's name, or `loopback`.
    Known(String),
    /// Nobody in particular: open paths only, or reading where there is no token.
    Stranger,
}

/// Who comes from this host, as nobody in particular.
pub(super) const LOOPBACK: &str = "loopback";

/// Paths that need no token.
const OPEN: [&str; 5] = ["/health", "/livez", "/readyz", "/metrics", "/openapi.json"];

/// Which daemon this is. Every command asks it before it writes, so it is for whoever holds a token at all.
const IDENTITY: &str = "/v1/identity";

/// What other proxies add. Whoever comes through one is not who the connection says.
const FORWARDED: [&str; 3] = ["x-forwarded-for", "forwarded", "x-real-ip"];

/// What a token must permit for such a request; `None`: no token is needed.
pub(super) fn needs(method: &Method, path: &str) -> Option<Permission> {
    match *method {
        // samples of a rollout, at the path of what is open to read
        Method::POST if path == "/metrics" => Some(Permission::Write),
        // by whatever method: what such a path does not take is answered with 405, and not with a question for a token
        _ if OPEN.contains(&path) => None,
        Method::GET | Method::HEAD | Method::OPTIONS => Some(Permission::Read),
        _ => Some(Permission::Write),
    }
}

/// What the Host of a request makes of its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Called {
    /// By a name of this API's, or by any where the name says nothing about who calls.
    Own,
    /// On the router's port, by a name that may be anybody's.
    Foreign(String),
}

/// The door of one API.
#[derive(Debug)]
pub(super) struct Guard {
    place: Place,
    tokens: Tokens,
    names: Vec<String>,
    sessions: Sessions,
    attempts: Attempts,
}

impl Guard {
    /// A guard that lets in who calls one of `names` (host names, lower case), localhost, or the address of our end.
    pub(super) fn new(place: Place, tokens: Tokens, names: &[String]) -> Self {
        Self {
            place,
            tokens,
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            sessions: Sessions::default(),
            attempts: Attempts::new(Instant::now()),
        }
    }

    /// True if anyone may write who reaches it from loopback.
    pub(super) fn is_without_tokens(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Lets a request in, or says why not.
    pub(super) fn admit(&self, request: &Parts, peer: &Peer) -> Result<Caller, Problem> {
        let called = self.check_names(request, peer)?;
        let path = request.uri.path();
        let needs = match self.place {
            // the page shows a form in place of a refusal, and looks itself at who may press its buttons
            Place::Control if page::owns(path) => None,
            Place::Control | Place::Router => needs(&request.method, path),
        };
        match called {
            Called::Own => {}
            // a load balancer asks /health by the application's name, and learns what any stranger does
            Called::Foreign(_) if needs.is_none() => return Ok(Caller::Stranger),
            Called::Foreign(host) => {
                return Err(Problem::forbidden(format!(
                    "`{host}` may be anybody's name for this address: without a token the API answers to localhost and to IP addresses alone; set ORCH_TOKEN to ask by another name"
                )));
            }
        }
        let Some(needs) = needs else {
            return Ok(self.identify(request, peer).unwrap_or(Caller::Stranger));
        };
        if self.tokens.is_empty() {
            return self.admit_without_tokens(request, peer, needs);
        }
        if needs == Permission::Read
            && let Some(holder) = self.in_session(&request.headers)
            && holder.may.contains(&Permission::Read)
        {
            return Ok(Caller::Known(holder.name.to_owned()));
        }
        let secret = bearer(&request.headers)?;
        let Some(holder) = self.tokens.find(secret) else {
            return Err(self.wrong_token(peer));
        };
        let asks_who = needs == Permission::Read && request.uri.path() == IDENTITY;
        if holder.may.contains(&needs) || asks_who {
            Ok(Caller::Known(holder.name.to_owned()))
        } else {
            Err(Problem::forbidden(format!(
                "token `{}` may not {}",
                holder.name,
                match needs {
                    Permission::Read => "read",
                    Permission::Write => "write",
                }
            )))
        }
    }

    /// The answer to a token that is none.
    fn wrong_token(&self, peer: &Peer) -> Problem {
        match self.attempts.wrong(peer, Instant::now()) {
            Verdict::Wrong => Problem::token_wrong(),
            Verdict::WrongAgain => {
                let from = match peer {
                    Peer::Tcp { remote, .. } => remote.ip().to_canonical().to_string(),
                    Peer::Unix { user } => user.clone(),
                };
                tracing::warn!(
                    from,
                    "many wrong tokens came to the control API; the next ones are answered with 429"
                );
                Problem::token_wrong()
            }
            Verdict::TooMany(wait) => Problem::too_many_tokens(wait),
        }
    }

    fn admit_without_tokens(
        &self,
        request: &Parts,
        peer: &Peer,
        needs: Permission,
    ) -> Result<Caller, Problem> {
        match (self.identify(request, peer), needs, self.place) {
            (Some(caller), _, _) => Ok(caller),
            (None, Permission::Read, Place::Control) => Ok(Caller::Stranger),
            (None, Permission::Read, Place::Router) => Err(Problem::forbidden(
                "without a token only loopback may ask; set ORCH_TOKEN to let others in",
            )),
            (None, Permission::Write, _) => Err(Problem::forbidden(
                "without a token only loopback may write, and not through another proxy (X-Forwarded-For); configure a token to let others in",
            )),
        }
    }

    /// Who this is, if that is known; never refuses.
    fn identify(&self, request: &Parts, peer: &Peer) -> Option<Caller> {
        if !self.tokens.is_empty() {
            // on an open path a token that is no token makes a stranger, as none does
            let holder = match bearer(&request.headers) {
                Ok(secret) => self.tokens.find(secret),
                Err(_) => self.in_session(&request.headers),
            };
            return holder.map(|holder| Caller::Known(holder.name.to_owned()));
        }
        if FORWARDED
            .iter()
            .any(|name| request.headers.contains_key(*name))
        {
            return None;
        }
        match peer {
            Peer::Unix { user } => Some(Caller::Known(user.clone())),
            Peer::Tcp { remote, .. } if remote.ip().to_canonical().is_loopback() => {
                Some(Caller::Known(LOOPBACK.to_owned()))
            }
            Peer::Tcp { .. } => None,
        }
    }

    /// The token that somebody logged in with on the page.
    fn in_session(&self, headers: &HeaderMap) -> Option<Holder<'_>> {
        self.tokens.named(&self.sessions.token(headers)?)
    }

    /// What the page may show to a caller and let them do.
    pub(super) fn may(&self, caller: &Caller, needs: Permission) -> bool {
        match caller {
            Caller::Known(_) if self.tokens.is_empty() => true,
            Caller::Known(name) => self
                .tokens
                .named(name)
                .is_some_and(|holder| holder.may.contains(&needs)),
            Caller::Stranger => self.tokens.is_empty() && needs == Permission::Read,
        }
    }

    /// Opens a session of the page for whoever has this token.
    pub(super) fn log_in(&self, secret: &[u8], peer: &Peer) -> Result<String, Problem> {
        let found = self.tokens.find(secret);
        let holder = found.ok_or_else(|| self.wrong_token(peer))?;
        Ok(self.sessions.open(holder.name))
    }

    /// The sessions of the page.
    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Refuses requests that a browser was lured into: DNS rebinding shows in Host, a foreign page in Origin.
    fn check_names(&self, request: &Parts, peer: &Peer) -> Result<Called, Problem> {
        let host = single(&request.headers, &header::HOST)?;
        let origin = single(&request.headers, &header::ORIGIN)?;
        let Peer::Tcp { local, .. } = peer else {
            // no browser reaches a unix socket
            return Ok(Called::Own);
        };
        let host: Authority = match host {
            Some(text) => text.parse().map_err(|_invalid: http::uri::InvalidUri| {
                Problem::malformed(format!("`{text}` is not a host"))
            })?,
            None if request.version < http::Version::HTTP_11 => return Ok(Called::Own),
            None => return Err(Problem::malformed("the Host header is missing")),
        };
        let own = |authority: &Authority| {
            self.is_own(authority.host(), local.map(|address| address.ip()))
        };
        let target = request.uri.authority();
        let is_own = own(&host) && target.is_none_or(own);
        let called = match self.place {
            Place::Control if is_own => Called::Own,
            Place::Control => {
                return Err(Problem::forbidden(format!(
                    "`{host}` is not a name of this API; add it to control.hosts if it is"
                )));
            }
            // the applications' names are the user's business where a token says who calls: a rebound page has none
            Place::Router if is_own || !self.tokens.is_empty() => Called::Own,
            Place::Router => Called::Foreign(host.to_string()),
        };
        let Some(origin) = origin else {
            return Ok(called);
        };
        let foreign = || {
            Problem::forbidden(format!(
                "a page of {origin} may not call this API; add its host to control.hosts if it may"
            ))
        };
        let (scheme, authority) = origin.split_once("://").ok_or_else(foreign)?;
        let authority: Authority = authority.parse().ok().ok_or_else(foreign)?;
        let allowed = match self.place {
            Place::Control => {
                same_port(scheme, &authority, &host) || self.is_listed(authority.host())
            }
            // a rebound name has equal Host and Origin, so without a token the name itself must be ours
            Place::Router => {
                same_port(scheme, &authority, &host) && (!self.tokens.is_empty() || own(&host))
            }
        };
        if allowed { Ok(called) } else { Err(foreign()) }
    }

    fn is_listed(&self, host: &str) -> bool {
        self.names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(host))
    }

    fn is_own(&self, host: &str, local: Option<IpAddr>) -> bool {
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        match bare.parse::<IpAddr>() {
            // an address cannot be rebound, and the router's may be translated on the way to it
            Ok(_) if self.place == Place::Router => true,
            Ok(ip) => {
                let ip = ip.to_canonical();
                ip.is_loopback()
                    || local.is_some_and(|local| local.to_canonical() == ip)
                    || self.is_listed(bare)
            }
            Err(_) => bare.eq_ignore_ascii_case("localhost") || self.is_listed(bare),
        }
    }
}

/// True if an origin is the page of this very host and port.
pub(super) fn same_port(scheme: &str, origin: &Authority, host: &Authority) -> bool {
    let default = if scheme == "https" { 443 } else { 80 };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
    origin.host().eq_ignore_ascii_case(host.host()) && port(origin) == port(host)
}

/// A header that may come once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::malformed(format!("there are two {name} headers")));
    }
    value
        .to_str()
        .map(Some)
        .map_err(|_not_text| Problem::malformed(format!("the {name} header is not text")))
}

/// The secret of `Authorization: Bearer SECRET`.
fn bearer(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, more) = (values.next(), values.next());
    let value = match (value, more) {
        (None, _) => {
            return Err(Problem::token_missing(
                "this API wants a token: send `Authorization: Bearer TOKEN`",
            ));
        }
        (Some(value), None) => value.as_bytes(),
        (Some(_), Some(_)) => {
            return Err(Problem::token_missing(
                "there are two Authorization headers",
            ));
        }
    };
    let unfit =
        || Problem::token_missing("the Authorization header is not of the form `Bearer TOKEN`");
    let (scheme, secret) = value
        .iter()
        .position(|byte| *byte == b' ')
        .map(|space| value.split_at(space))
        .ok_or_else(unfit)?;
    let secret = secret.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") && !secret.is_empty() {
        Ok(secret)
    } else {
        Err(unfit())
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
