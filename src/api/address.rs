//! Where a control API is reached: an HTTP address or a unix socket, as `--server` and `TURNOUT_SERVER` write it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::ControlListen;

/// Where a control API is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// `http://HOST:PORT` or `https://HOST:PORT`, without a slash at the end.
    Http(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// The text is not an address of a control API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the address of a control API: write http://HOST:PORT, HOST:PORT or unix:/PATH"
)]
pub struct InvalidAddress(pub String);

impl ServerAddress {
    /// The address of a listener as a client on the same host reaches it (`0.0.0.0` becomes `127.0.0.1`).
    pub fn of_socket(listen: SocketAddr) -> Self {
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        Self::Http(format!("http://{}", SocketAddr::new(ip, listen.port())))
    }

    /// The address of the API that `control.listen` describes; `None` where it is on the router's port, which the service's
    /// `listen` names.
    pub fn of_listen(listen: &ControlListen) -> Option<Self> {
        match listen {
            ControlListen::Tcp(address) => Some(Self::of_socket(*address)),
            ControlListen::Unix(path) => Some(Self::Unix(path.clone())),
            ControlListen::Router => None,
        }
    }
}

impl FromStr for ServerAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || InvalidAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(refuse())
            } else {
                Ok(Self::Unix(PathBuf::from(path)))
            };
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some(_) => return Err(refuse()),
            None => ("http", text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: http::uri::Authority = rest.parse().ok().ok_or_else(refuse)?;
        let without_port = scheme == "http" && authority.port().is_none() && !text.contains("://");
        // `user@host` would send a password in clear text, and a bare word is more likely a slip than a host
        if authority.as_str().contains('@') || authority.host().is_empty() || without_port {
            return Err(refuse());
        }
        Ok(Self::Http(format!("{scheme}://{authority}")))
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(url) => f.pad(url),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_write_an_address() {
        for (text, canonical) in [
            ("http://127.0.0.1:9180", "http://127.0.0.1:9180"),
            ("http://127.0.0.1:9180/", "http://127.0.0.1:9180"),
            ("127.0.0.1:9180", "http://127.0.0.1:9180"),
            ("[::1]:9180", "http://[::1]:9180"),
            ("https://turnout.example.com", "https://turnout.example.com"),
            ("unix:/run/t.sock", "unix:/run/t.sock"),
            ("unix:///run/t.sock", "unix:/run/t.sock"),
        ] {
            assert_eq!(
                text.parse::<ServerAddress>().unwrap().to_string(),
                canonical
            );
        }
        for bad in [
            "",
            "unix:",
            "localhost",
            "ftp://a:1",
            "http://",
            "http://u@h:1",
            "http://a:1/x",
            "a b:1",
        ] {
            assert_eq!(
                bad.parse::<ServerAddress>(),
                Err(InvalidAddress(bad.to_owned()))
            );
        }
    }

    #[test]
    fn an_unspecified_listener_is_reached_by_loopback() {
        let of = |text: &str| ServerAddress::of_socket(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:9180"), "http://127.0.0.1:9180");
        assert_eq!(of("[::]:9180"), "http://[::1]:9180");
        assert_eq!(of("10.0.0.1:9180"), "http://10.0.0.1:9180");
        assert_eq!(ServerAddress::of_listen(&ControlListen::Router), None);
    }
}
