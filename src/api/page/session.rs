//! Sessions of the page: who logged in, by a random id in a cookie.
//!
//! The cookie has nothing of the token in it. The server keeps the id's digest and the token's name, in memory and for at most
//! [`LONGEST`]: a restart logs everybody out. Browsers send a cookie to every port of a host, so another server on the same
//! host may see the id; that is one reason for its short life, and none to trust such a server. `HttpOnly` keeps it from
//! scripts, `SameSite=Strict` from requests that other sites begin, `Secure` is added where the page itself came over https.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Sessions at once; one more ends the oldest.
const MOST: usize = 256;
/// From the login on. A working day.
pub(super) const LONGEST: Duration = Duration::from_hours(12);
/// The cookie's name.
pub(super) const COOKIE: &str = "turnout_session";

#[derive(Debug)]
struct Session {
    digest: [u8; 32],
    /// The token's name.
    token: String,
    ends: Instant,
}

/// All sessions of one API.
#[derive(Debug, Default)]
pub(in crate::api) struct Sessions(Mutex<Vec<Session>>);

impl Sessions {
    /// Begins one; its id, for the cookie alone.
    pub(in crate::api) fn open(&self, token: &str) -> String {
        let id = format!("{:x}", Hexed(rand::random()));
        let now = Instant::now();
        let mut open = self.lock();
        open.retain(|session| session.ends > now);
        if open.len() == MOST {
            open.remove(0);
        }
        open.push(Session {
            digest: Sha256::digest(&id).into(),
            token: token.to_owned(),
            ends: now + LONGEST,
        });
        id
    }

    /// The name of the token that the session of these headers was begun with.
    pub(in crate::api) fn token(&self, headers: &HeaderMap) -> Option<String> {
        let digest: [u8; 32] = Sha256::digest(id_in(headers)?).into();
        let now = Instant::now();
        let open = self.lock();
        let session = open
            .iter()
            .find(|session| session.ends > now && session.digest.ct_eq(&digest).into())?;
        Some(session.token.clone())
    }

    /// Ends the session of these headers, if there is one.
    pub(super) fn close(&self, headers: &HeaderMap) {
        if let Some(id) = id_in(headers) {
            let digest: [u8; 32] = Sha256::digest(id).into();
            self.lock().retain(|session| session.digest != digest);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        // nothing panics while it is held
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes as hexadecimal digits.
struct Hexed([u8; 32]);

impl fmt::LowerHex for Hexed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The id in the cookie.
fn id_in(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookie.parse().unwrap());
        headers
    }

    #[test]
    fn a_session_is_found_by_its_id_alone_until_it_is_closed() {
        let sessions = Sessions::default();
        let (ci, ops) = (sessions.open("ci"), sessions.open("ops"));
        assert_eq!(ci.len(), 64);
        let mine = headers(&format!("a=b; {COOKIE}={ci}; c=d"));
        assert_eq!(sessions.token(&mine).as_deref(), Some("ci"));
        let theirs = headers(&format!("{COOKIE}={ops}"));
        assert_eq!(sessions.token(&theirs).as_deref(), Some("ops"));
        for wrong in [
            "",
            "turnout_session=",
            "turnout_session=ci",
            &format!("x{COOKIE}={ci}"),
        ] {
            assert_eq!(sessions.token(&headers(wrong)), None, "{wrong}");
        }
        sessions.close(&mine);
        assert_eq!(sessions.token(&mine), None);
        assert_eq!(sessions.token(&theirs).as_deref(), Some("ops"));
    }

    #[test]
    fn one_more_than_there_may_be_ends_the_oldest() {
        let sessions = Sessions::default();
        let first = sessions.open("first");
        for _ in 0..MOST {
            sessions.open("more");
        }
        assert_eq!(sessions.lock().len(), MOST);
        assert_eq!(sessions.token(&headers(&format!("{COOKIE}={first}"))), None);
    }
}
