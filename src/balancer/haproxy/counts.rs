//! The log by which HAProxy tells of each request: where it goes, and whether it can.
//!
//! A frontend has one format for all of its logs, so turnout's log takes the format that the user's have, `option httplog`, which
//! names backend, status and time before anything that a client wrote. With a format of the user's own there is no log of
//! turnout's: theirs would come out otherwise. Workers in a chroot know no path outside of it.

use std::fs;
use std::path::PathBuf;

use super::super::counts::CountsSocket;
use super::Haproxy;

/// What the user's own files say that matters here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Users {
    chroot: Option<PathBuf>,
    /// A line that gives logs another format.
    format: Option<String>,
}

/// Why HAProxy cannot tell of each request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{line}` gives HAProxy's logs a format of its own, and a frontend has one format for all of them: leave it out, or write `option httplog`"
)]
pub struct OwnFormat {
    /// The line of the user's.
    pub line: String,
}

pub(super) fn socket(haproxy: &Haproxy) -> Result<CountsSocket, OwnFormat> {
    let users = Users::of(&texts(haproxy));
    if let Some(line) = users.format {
        return Err(OwnFormat { line });
    }
    Ok(match users.chroot {
        Some(root) => CountsSocket::in_root(&root, &haproxy.state_dir),
        None => CountsSocket::in_state(&haproxy.state_dir),
    })
}

/// The line that a frontend of the user's needs.
pub(super) fn line(haproxy: &Haproxy) -> Option<String> {
    let told = socket(haproxy).ok()?.told;
    Some(format!(
        "    log {} len 256 format raw local0 info",
        told.display()
    ))
}

fn texts(haproxy: &Haproxy) -> String {
    haproxy
        .files()
        .into_iter()
        .filter(|file| *file != haproxy.settings.config)
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect()
}

impl Users {
    fn of(text: &str) -> Self {
        let mut users = Self::default();
        for line in text.lines().map(str::trim) {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("chroot"), Some(root), _) => users.chroot = Some(root.into()),
                (Some("log-format"), ..) | (Some("option"), Some("httplog"), Some("clf")) => {
                    users.format = Some(line.to_owned());
                }
                _ => {}
            }
        }
        users
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chroot_and_a_format_of_the_user_s_are_seen() {
        let debian =
            "global\n\tchroot /var/lib/haproxy\ndefaults\n\tlog global\n\toption\thttplog\n";
        let users = Users::of(debian);
        assert_eq!(users.chroot, Some("/var/lib/haproxy".into()));
        assert_eq!(users.format, None);
        let own = Users::of("defaults\n  log-format \"%ci %ST\"\n");
        assert_eq!(own.format.as_deref(), Some("log-format \"%ci %ST\""));
    }
}
