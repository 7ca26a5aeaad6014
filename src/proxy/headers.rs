//! What is removed from and added to a message on its way through (CONTRACT 6, point 5). Pure: works on header maps alone.
//!
//! Framing headers are not touched here: `forward` and hyper write them anew, so that a length that a client forged never
//! arrives.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;

pub(super) const ROUTED_TO: HeaderName = HeaderName::from_static("x-routed-to");
pub(super) const UPSTREAM_URL: HeaderName = HeaderName::from_static("x-upstream-url");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// What of all that may have to be removed is there: found in one walk, because looking each of them up in the map hashes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen(u16);

impl Seen {
    pub(super) const NOTHING: Self = Self(0);
    pub(super) const TRANSFER_ENCODING: Self = Self(1);
    pub(super) const EXPECT: Self = Self(2);
    const CONNECTION: Self = Self(4);
    const TE: Self = Self(8);
    const HOP_BY_HOP: Self = Self(16);
    const FORGEABLE: Self = Self(32);
    /// A name with `_` in it that begins like one of those with `-` that are written or removed here.
    const UNDERSCORE: Self = Self(64);
    const LENGTH: Self = Self(128);
    /// `Content-Length` is there more than once, or is more than one number.
    pub(super) const LENGTHS: Self = Self(256);

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Looks at the names. What is removed later on stays seen, which costs a look and changes nothing.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        headers.iter().fold(Self(0), |seen, (name, value)| {
            let here = Self::in_name(name.as_str().as_bytes());
            if here == Self::LENGTH && (seen.has(Self::LENGTH) || !is_number(value.as_bytes())) {
                seen.with(Self::LENGTHS)
            } else {
                seen.with(here)
            }
        })
    }

    /// What a name, in lower case, is. Most headers are told apart from all of these by their length or their first letter.
    fn in_name(name: &[u8]) -> Self {
        match name {
            b"te" => Self::TE,
            b"expect" => Self::EXPECT,
            b"connection" => Self::CONNECTION.with(Self::HOP_BY_HOP),
            b"upgrade" => Self::HOP_BY_HOP,
            b"forwarded" => Self::FORGEABLE,
            b"content-length" => Self::LENGTH,
            b"transfer-encoding" => Self::TRANSFER_ENCODING,
            // all others that matter are these, or are spelt like them
            [b'k' | b'p' | b'x', ..] if is_hop_by_hop(name) => Self::HOP_BY_HOP,
            [b'x', ..] if is_forgeable(name) => Self::FORGEABLE,
            [b'k' | b'p' | b'x', rest @ ..] if rest.contains(&b'_') => Self::UNDERSCORE,
            _ => Self(0),
        }
    }
}

/// Meant for one connection alone (RFC 9110, 7.6.1, with the older `Keep-Alive` and `Proxy-Connection`).
/// `Transfer-Encoding` and `TE` are treated apart.
pub(super) fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"upgrade"
            | b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"proxy-authenticate"
            | b"proxy-authorization"
    )
}

/// What a client that is not trusted cannot say, besides what is always written anew.
fn is_forgeable(name: &[u8]) -> bool {
    matches!(
        name,
        b"forwarded"
            | b"x-forwarded-by"
            | b"x-forwarded-ssl"
            | b"x-forwarded-port"
            | b"x-forwarded-prefix"
            | b"x-forwarded-server"
            | b"x-forwarded-scheme"
    )
}

/// Removes every header that `is` says, in one pass over those that are there: mostly none.
fn remove_all(headers: &mut HeaderMap, is: fn(&[u8]) -> bool) {
    let is = |name: &&HeaderName| is(name.as_str().as_bytes());
    while let Some(name) = headers.keys().find(is).cloned() {
        headers.remove(name);
    }
}

/// Removes what is meant for one connection alone, and what `Connection` names. `Host` and the framing headers stay even if
/// `Connection` names them: their absence would change what the message means.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap, seen: Seen) {
    if seen.has(Seen::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
            .filter(|name| {
                ![
                    header::HOST,
                    header::CONTENT_LENGTH,
                    header::TRANSFER_ENCODING,
                    header::TE,
                ]
                .contains(name)
            })
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    if seen.has(Seen::HOP_BY_HOP) {
        remove_all(headers, is_hop_by_hop);
    }
    if seen.has(Seen::TE) && headers.contains_key(header::TE) {
        // the one coding of TE that a proxy may pass on
        let wants_trailers = headers
            .get_all(header::TE)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        headers.remove(header::TE);
        if wants_trailers {
            headers.insert(header::TE, TRAILERS);
        }
    }
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// Writes `Content-Length` as one number where it was several equal ones (RFC 9110, 8.6), and leaves it away where they differ,
/// which only an answer without a body can have come with.
pub(super) fn settle_length(headers: &mut HeaderMap) {
    let mut numbers = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let first = numbers.next().unwrap_or_default();
    let settled = if is_number(first) && numbers.all(|number| number == first) {
        HeaderValue::from_bytes(first).ok()
    } else {
        None
    };
    match settled {
        Some(length) => headers.insert(header::CONTENT_LENGTH, length),
        None => headers.remove(header::CONTENT_LENGTH),
    };
}

/// Who sent a request, and whether it may speak for others.
#[derive(Debug)]
pub(super) struct Peer {
    ip: IpAddr,
    text: HeaderValue,
    trusted: bool,
    scheme: Scheme,
}

/// How a client came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

impl Peer {
    /// `None` never happens: an address is always a header value.
    pub(super) fn new(ip: IpAddr, trusted: &[IpNet]) -> Option<Self> {
        let ip = ip.to_canonical();
        Some(Self {
            ip,
            text: HeaderValue::try_from(ip.to_string()).ok()?,
            trusted: trusted.iter().any(|net| net.contains(&ip)),
            scheme: Scheme::Http,
        })
    }

    pub(super) const fn over(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    pub(super) const fn scheme(&self) -> Scheme {
        self.scheme
    }

    pub(super) const fn is_trusted(&self) -> bool {
        self.trusted
    }
}

/// Says who asks, how and for which host. A trusted peer's word is kept and added to; anybody else's is replaced.
pub(super) fn announce(
    headers: &mut HeaderMap,
    seen: Seen,
    peer: &Peer,
    host: &HeaderValue,
    trusted: &[IpNet],
    random: impl FnOnce() -> u128,
) {
    if seen.has(Seen::UNDERSCORE) {
        remove_lookalikes(headers);
    }
    if peer.trusted {
        let chain = chain(headers);
        let client = client_of(&chain, peer, trusted);
        let joined = if chain.is_empty() {
            peer.text.clone()
        } else {
            HeaderValue::try_from(format!("{chain}, {}", peer.ip))
                .unwrap_or_else(|_| peer.text.clone())
        };
        headers.insert(FORWARDED_FOR, joined);
        headers
            .entry(FORWARDED_PROTO)
            .or_insert(peer.scheme.value());
        headers.entry(FORWARDED_HOST).or_insert(host.clone());
        let client =
            HeaderValue::try_from(client.to_string()).unwrap_or_else(|_| peer.text.clone());
        headers.entry(REAL_IP).or_insert(client);
    } else {
        if seen.has(Seen::FORGEABLE) {
            remove_all(headers, is_forgeable);
        }
        headers.insert(FORWARDED_FOR, peer.text.clone());
        headers.insert(FORWARDED_PROTO, peer.scheme.value());
        headers.insert(FORWARDED_HOST, host.clone());
        headers.insert(REAL_IP, peer.text.clone());
    }
    if headers.get(REQUEST_ID).is_none_or(HeaderValue::is_empty)
        && let Ok(id) = HeaderValue::from_bytes(&hex(random()))
    {
        headers.insert(REQUEST_ID, id);
    }
}

/// 32 digits. `format!` takes ten times as long, for every request.
fn hex(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}

/// CGI and its heirs read `X_Real_IP` as `X-Real-IP`, so what is spelt like a header that is written here goes.
fn remove_lookalikes(headers: &mut HeaderMap) {
    let written = [FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST, REAL_IP];
    let lookalikes: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .filter(|name| {
            let meant = name.as_str().replace('_', "-");
            let is_written = written
                .iter()
                .chain(&[header::HOST, header::TE])
                .any(|written| written.as_str() == meant);
            let meant = meant.as_bytes();
            is_written || is_forgeable(meant) || is_hop_by_hop(meant)
        })
        .cloned()
        .collect();
    for name in lookalikes {
        headers.remove(name);
    }
}

/// `X-Forwarded-For` as one line; a value that is not text ends it, since nobody could read past it.
fn chain(headers: &HeaderMap) -> String {
    let lines: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .map_while(|line| line.to_str().ok())
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join(", ")
}

/// Who is to be held responsible for a request: the peer, or the client that a trusted peer vouches for.
pub(super) fn client_ip(headers: &HeaderMap, peer: &Peer, trusted: &[IpNet]) -> IpAddr {
    if peer.trusted {
        client_of(&chain(headers), peer, trusted)
    } else {
        peer.ip
    }
}

/// The last address of the chain that is not itself a trusted proxy: what is left of it anybody could have written.
fn client_of(chain: &str, peer: &Peer, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.ip;
    for hop in chain.rsplit(',') {
        let Ok(ip) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        client = ip.to_canonical();
        if !trusted.iter().any(|net| net.contains(&client)) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_is_meant_for_one_connection_does_not_pass() {
        type Lines = &'static [(&'static str, &'static str)];
        let cases: &[(Lines, &[&str])] = &[
            (
                &[("connection", "keep-alive"), ("keep-alive", "timeout=5")],
                &[],
            ),
            (
                &[("connection", "X-One, x-two"), ("connection", "X-Three")],
                &[],
            ),
            (
                &[
                    ("connection", "x-one,,  ,x-two"),
                    ("x-one", "1"),
                    ("x-one", "again"),
                    ("x-two", "2"),
                    ("x-kept", "3"),
                ],
                &["x-kept: 3"],
            ),
            (&[("connection", ""), ("x-kept", "1")], &["x-kept: 1"]),
            (
                &[
                    ("connection", "host, content-length"),
                    ("host", "a"),
                    ("content-length", "3"),
                ],
                &["content-length: 3", "host: a"],
            ),
            (
                &[
                    ("proxy-connection", "keep-alive"),
                    ("proxy-authenticate", "Basic"),
                    ("proxy-authorization", "Basic eA=="),
                    ("upgrade", "websocket"),
                    ("authorization", "Bearer x"),
                ],
                &["authorization: Bearer x"],
            ),
            (&[("te", "gzip;q=0.5, Trailers")], &["te: trailers"]),
            (&[("te", "gzip"), ("te", "x, trailers")], &["te: trailers"]),
            (&[("te", "gzip"), ("connection", "TE")], &[]),
        ];
        for (given, expected) in cases {
            let mut headers = map(given);
            let seen = Seen::of(&headers);
            strip_hop_by_hop(&mut headers, seen);
            assert_eq!(lines(&headers), *expected, "{given:?}");
        }
    }

    #[test]
    fn several_lengths_become_one_or_none() {
        let settled = |given: &[(&str, &str)]| {
            let mut headers = map(given);
            let several = Seen::of(&headers).has(Seen::LENGTHS);
            settle_length(&mut headers);
            (several, lines(&headers))
        };
        let length = |number| vec![format!("content-length: {number}")];
        let one = ("content-length", "5");
        assert_eq!(settled(&[one]), (false, length(5)));
        assert_eq!(settled(&[one, one]), (true, length(5)));
        assert_eq!(settled(&[("content-length", "5, 5")]), (true, length(5)));
        for odd in ["5, 6", "5,", "+5", "0x5", ""] {
            assert_eq!(settled(&[("content-length", odd)]), (true, vec![]), "{odd}");
        }
        assert_eq!(settled(&[one, ("content-length", "6")]), (true, vec![]));
    }

    fn announced(peer: &str, trusted: &[IpNet], given: &[(&str, &str)]) -> Vec<String> {
        let mut headers = map(given);
        let peer = Peer::new(peer.parse().unwrap(), trusted).unwrap();
        let host = HeaderValue::from_static("shop.example.com");
        let seen = Seen::of(&headers);
        announce(&mut headers, seen, &peer, &host, trusted, || 0xabc);
        lines(&headers)
    }

    #[test]
    fn what_a_stranger_forged_is_replaced() {
        let forged = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "443"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("x_real-ip", "1.1.1.1"),
            ("x_forwarded_for", "1.1.1.1"),
            ("x-request-id", "mine"),
        ];
        assert_eq!(
            announced("192.0.2.7", &[], &forged),
            [
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: shop.example.com",
                "x-forwarded-proto: http",
                "x-real-ip: 192.0.2.7",
                "x-request-id: mine",
            ]
        );
    }

    #[test]
    fn a_trusted_proxy_is_believed_up_to_the_last_hop_it_vouches_for() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let given = [
            ("x-forwarded-for", "6.6.6.6, 203.0.113.9"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "public.example.com"),
        ];
        assert_eq!(
            announced("10.0.0.1", &trusted, &given),
            [
                "x-forwarded-for: 6.6.6.6, 203.0.113.9, 10.0.0.2, 10.0.0.1",
                "x-forwarded-host: public.example.com",
                "x-forwarded-proto: https",
                "x-real-ip: 203.0.113.9",
                "x-request-id: 00000000000000000000000000000abc",
            ]
        );
    }

    #[test]
    fn an_ipv4_peer_on_an_ipv6_socket_is_named_and_trusted_as_ipv4() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let peer = Peer::new("::ffff:10.0.0.1".parse().unwrap(), &trusted).unwrap();
        assert!(peer.trusted);
        assert_eq!(peer.text, "10.0.0.1");
    }
}
