//! The DNS servers that nginx asks for the names of aliases. It has no way to the C library's lookups: it asks servers itself,
//! reads neither `/etc/hosts` nor `resolv.conf`, and knows no search domains.
//!
//! Where `balancer.nginx.resolver` names none, those of this host's `resolv.conf` are taken: they answer every program here,
//! and in a Docker network they are Docker's own. An nginx in another container may have others, and then the key has to say so.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// As nginx's `resolver` has them, with a space between them; `None`: there is none.
pub(super) fn servers(configured: Option<&str>) -> Option<String> {
    match configured {
        Some(configured) => Some(joined(configured.split_whitespace())),
        None => of_file(Path::new(RESOLV_CONF)),
    }
}

fn of_file(path: &Path) -> Option<String> {
    // who has none is told which key names one
    let text = fs::read_to_string(path).ok()?;
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let server = words.next().filter(|word| *word == "nameserver");
        server.and(words.next())
    });
    // one with a scope, such as fe80::1%eth0, nginx cannot say
    let servers = servers.filter(|server| server.parse::<IpAddr>().is_ok());
    Some(joined(servers)).filter(|servers| !servers.is_empty())
}

fn joined<'a>(servers: impl Iterator<Item = &'a str>) -> String {
    let written = servers.map(|server| match server.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(_)) | Err(_) => server.to_owned(),
    });
    written.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_server_is_taken_as_nginx_writes_it() {
        assert_eq!(
            servers(Some("::1 10.0.0.2:53  [::1]:54")).as_deref(),
            Some("[::1] 10.0.0.2:53 [::1]:54")
        );
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
    fn else_those_of_the_host_but_for_one_with_a_scope() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let text = "# nameserver 9.9.9.9\nsearch lan\nnameserver 127.0.0.11\nnameserver fe80::1%eth0\nnameserver ::1\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(of_file(&path).as_deref(), Some("127.0.0.11 [::1]"));
        std::fs::write(&path, "search lan\n").unwrap();
        assert_eq!(of_file(&path), None);
    }
}
