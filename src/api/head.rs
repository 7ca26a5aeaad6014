//! What the guard reads of a request's head: its origin, headers that may come once, and the token. Decides nothing.

use http::uri::Authority;
use http::{HeaderMap, HeaderName, header};

use super::error::Problem;

/// True if an origin is the page of this very host and port.
pub(super) fn same_port(scheme: &str, origin: &Authority, host: &Authority) -> bool {
    let default = if scheme == "https" { 443 } else { 80 };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
    origin.host().eq_ignore_ascii_case(host.host()) && port(origin) == port(host)
}

/// A header that may come once.
pub(super) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, Problem> {
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
pub(super) fn bearer(headers: &HeaderMap) -> Result<&[u8], Problem> {
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
