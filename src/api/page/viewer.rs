//! Who looks at the page, what they may do on it, and whether a form was sent by the page itself.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{HeaderMap, header};
use serde::Serialize;

use super::super::error::Problem;
use super::super::guard::{Caller, same_port};
use super::Desk;
use crate::config::Permission;

/// Who looks. Only a caller that may read is one; others are sent to the login.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Viewer {
    /// The token's or user's name; `None`: nobody in particular, who may look where there is no token.
    pub(super) name: Option<String>,
    /// Whether buttons are shown, and taken.
    pub(super) may_write: bool,
    /// Whether there is a session to log out of.
    pub(super) has_session: bool,
}

impl FromRequestParts<Desk> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, desk: &Desk) -> Result<Self, Response> {
        let caller = parts
            .extensions
            .get::<Caller>()
            .cloned()
            .unwrap_or(Caller::Stranger);
        if !desk.guard.may(&caller, Permission::Read) {
            return Err(match caller {
                Caller::Stranger => Redirect::to("/page/login").into_response(),
                Caller::Known(name) => {
                    Problem::forbidden(format!("token `{name}` may not read")).into_response()
                }
            });
        }
        Ok(Self {
            may_write: desk.guard.may(&caller, Permission::Write),
            has_session: desk.guard.sessions().token(&parts.headers).is_some(),
            name: match caller {
                Caller::Known(name) => Some(name),
                Caller::Stranger => None,
            },
        })
    }
}

/// How the page of a form was fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// In the clear; on loopback, usually.
    Http,
    /// Through something that ends TLS before turnout.
    Https,
}

/// Refuses a form that another page sent, or nobody knows who.
pub(super) fn own_page(headers: &HeaderMap) -> Result<Scheme, Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let foreign = |who: &str| {
        Problem::forbidden(format!(
            "this form is taken from the page of this very address alone, and it came from {who}; programs use /orchestration and /v1/changes"
        ))
    };
    let site = text("sec-fetch-site");
    if let Some(site) = site
        && site != "same-origin"
    {
        return Err(foreign("another site"));
    }
    let Some(origin) = text(header::ORIGIN.as_str()) else {
        return match site {
            Some(_) => Ok(Scheme::Http),
            None => Err(foreign("nobody knows where (no Origin header)")),
        };
    };
    let (scheme, authority) = origin.split_once("://").ok_or_else(|| foreign(origin))?;
    let authority = authority.parse().ok().ok_or_else(|| foreign(origin))?;
    let host = text(header::HOST.as_str()).and_then(|host| host.parse().ok());
    match (scheme, host) {
        ("http", Some(host)) if same_port(scheme, &authority, &host) => Ok(Scheme::Http),
        ("https", Some(host)) if same_port(scheme, &authority, &host) => Ok(Scheme::Https),
        _ => Err(foreign(origin)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pairs: &[(&'static str, &str)]) -> Result<Scheme, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        own_page(&headers).map_err(|problem| problem.status())
    }

    #[test]
    fn a_form_comes_from_this_very_address_or_not_at_all() {
        let host = ("host", "127.0.0.1:9180");
        let own = ("origin", "http://127.0.0.1:9180");
        assert_eq!(seen(&[host, own]), Ok(Scheme::Http));
        let site = ("sec-fetch-site", "same-origin");
        assert_eq!(seen(&[host, site]), Ok(Scheme::Http));
        let https = ("origin", "https://t.example.com");
        assert_eq!(seen(&[("host", "t.example.com"), https]), Ok(Scheme::Https));
        for bad in [
            &[host][..],
            &[host, ("origin", "http://127.0.0.1:8080")],
            &[host, ("origin", "null")],
            &[host, ("origin", "https://127.0.0.1")],
            &[host, own, ("sec-fetch-site", "same-site")],
            &[host, ("sec-fetch-site", "none")],
            &[
                ("host", "t.example.com"),
                ("origin", "http://evil.example.com"),
            ],
            &[own],
        ] {
            assert_eq!(seen(bad), Err(403), "{bad:?}");
        }
    }
}
