//! Where a balancer sends a line for each request, for turnout to count: the socket as it stands in the balancer's text.
//!
//! A path that a configuration could not hold as one plain word, or that is longer than a socket's name may be, gives no lines at
//! all and no error: traffic is never refused because it could not be counted.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// The longest name of a unix socket, without the zero behind it (`sun_path` has 108 bytes).
const LONGEST_NAME: usize = 107;

/// Where nginx sends its lines, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxCounts {
    /// The datagram socket.
    pub socket: PathBuf,
    /// Is there while somebody reads it. nginx writes an alert for each request to a socket that is gone, so it looks here first.
    pub reader: PathBuf,
    /// In which block the log stands.
    pub place: NginxLog,
    /// Whether this nginx knows `stub_status`, its own total.
    pub total: bool,
}

/// The block of an access log. nginx takes logs from the innermost block that has any, so one more must stand beside the
/// user's own ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NginxLog {
    /// At http level, beside the user's.
    Http,
    /// In each server block of turnout's, because the user has no log at http level or has switched it off there.
    Server,
}

/// As the template sees it.
#[derive(Debug, Serialize)]
pub(super) struct Counts {
    socket: String,
    reader: String,
    http: bool,
    total: bool,
}

impl Counts {
    pub(super) fn of(counts: &NginxCounts) -> Option<Self> {
        Some(Self {
            socket: word(&counts.socket)?,
            reader: word(&counts.reader)?,
            http: counts.place == NginxLog::Http,
            total: counts.total,
        })
    }
}

/// A socket's path as one plain word; `None` if a configuration could not hold it.
pub(super) fn word(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    (text.len() <= LONGEST_NAME && text.bytes().all(plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_short_path_is_a_word() {
        assert_eq!(
            word(Path::new("/run/t/a-b_c.d")).as_deref(),
            Some("/run/t/a-b_c.d")
        );
        for odd in ["/run/a b", "/run/a;b", "/run/$a", "/run/a,b"] {
            assert_eq!(word(Path::new(odd)), None, "{odd}");
        }
        assert_eq!(word(Path::new(&format!("/{}", "x".repeat(107)))), None);
    }
}
