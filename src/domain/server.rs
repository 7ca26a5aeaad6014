//! One upstream address of a color: a host that is an IP address or a DNS name, and a port.
//!
//! Harmless by construction, as every text that reaches a balancer's configuration; it never resolves a name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidName;
use super::names::is_dns_name;

/// One upstream address of a color. Written `http://HOST:PORT`; the host is an IP address or a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Server {
    host: String,
    port: u16,
}

impl Server {
    /// The host: an IPv4 address, an IPv6 address without brackets, or a DNS name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The server at an address.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }

    /// `HOST:PORT`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The socket address, where the host is an IP address.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.host
            .parse::<IpAddr>()
            .ok()
            .map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl FromStr for Server {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |rule| InvalidName {
            what: "server",
            text: text.to_owned(),
            rule,
        };
        if text.starts_with("https://") {
            return Err(refuse(
                "turnout speaks HTTP/1.1 in clear text to servers; write http://HOST:PORT",
            ));
        }
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| refuse("it is written http://HOST:PORT"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(v6) => {
                let (host, tail) = v6
                    .split_once(']')
                    .ok_or_else(|| refuse("the bracket is not closed"))?;
                let _: std::net::Ipv6Addr = host
                    .parse()
                    .ok()
                    .ok_or_else(|| refuse("an address in brackets is IPv6"))?;
                (host, tail.strip_prefix(':'))
            }
            None => rest
                .split_once(':')
                .map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        if host.parse::<IpAddr>().is_err() && !is_dns_name(host) {
            return Err(refuse(
                "the host is an IP address or a DNS name, without a path behind the port",
            ));
        }
        let port = match port {
            None => 80,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| refuse("the port is from 1 to 65535"))?,
            Some(_) => return Err(refuse("the port is a number, with nothing behind it")),
        };
        Ok(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

impl TryFrom<String> for Server {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Server> for String {
    fn from(server: Server) -> Self {
        server.to_string()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_plain_http_with_host_and_port() {
        for (text, authority) in [
            ("http://10.0.1.10:8080", "10.0.1.10:8080"),
            ("http://app-1.internal", "app-1.internal:80"),
            ("http://[::1]:5001/", "[::1]:5001"),
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!(server.authority(), authority);
            assert_eq!(server.to_string().parse::<Server>().unwrap(), server);
        }
        for bad in [
            "10.0.0.1:80",
            "https://a:1",
            "http://a:0",
            "http://a:70000",
            "http://a:80 80",
            "http://a:+80",
            "http://a:80/x",
            "http://a b:80",
            "http://a;:80",
            "http://:80",
            "http://[::1:80",
            "http://[a]:80",
            "http://a:80\n",
            "http://user@a:80",
        ] {
            assert!(bad.parse::<Server>().is_err(), "{bad:?}");
        }
    }
}
