//! Upgrades (RFC 9110, 7.8): WebSockets and whatever else a server agrees to speak. Both sides stay in HTTP framing until the
//! server's 101; only then bytes pass as they are, both ways, each end's close passed on by itself.
//!
//! What a client may not upgrade to through a proxy: HTTP and TLS. The server would take requests that were never routed.

use http::{HeaderMap, HeaderValue, Request, Version, header};
use http_body::Body;
use tokio::io::AsyncWriteExt as _;

use super::in_flight::InFlight;
use super::transport::ClientIo;
use super::upstream::Lease;

/// Bytes on the way in each direction; a WebSocket's frames are small, and an idle one should cost little.
const BUFFER: usize = 8 * 1024;

/// The two sides of what is no longer HTTP, and its place in the counters.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) lease: Lease,
    pub(super) in_flight: InFlight,
}

/// The protocol that a request asks for, if the server may be asked for it: exactly one, named by `Connection`, without a
/// body in front of it. A request that may not is served as if it had not asked.
pub(super) fn wanted<B: Body>(request: &Request<B>) -> Option<HeaderValue> {
    let headers = request.headers();
    let mut protocols = headers.get_all(header::UPGRADE).iter();
    let (protocol, None) = (protocols.next()?, protocols.next()) else {
        return None;
    };
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte);
    let is_barred = |barred: &&[u8]| {
        protocol
            .as_bytes()
            .get(..barred.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(barred))
    };
    let may_be = request.version() == Version::HTTP_11
        && request.body().is_end_stream()
        && names_upgrade(headers)
        && !protocol.is_empty()
        && protocol.as_bytes().iter().all(is_token)
        && ![&b"h2"[..], b"http", b"tls"].iter().any(is_barred);
    may_be.then(|| protocol.clone())
}

/// Asks for it in the name of the client, once what was meant for the client's own connection is gone.
pub(super) fn ask(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// True if the server switches to what was asked for and to nothing else.
pub(super) fn is_agreed(wanted: &HeaderValue, answer: &HeaderMap) -> bool {
    let mut protocols = answer.get_all(header::UPGRADE).iter();
    let (Some(protocol), None) = (protocols.next(), protocols.next()) else {
        return false;
    };
    names_upgrade(answer) && protocol.as_bytes().eq_ignore_ascii_case(wanted.as_bytes())
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Passes bytes until both sides have ended, or one broke.
pub(super) async fn run(mut client: ClientIo, ahead: &[u8], tunnel: Tunnel) {
    let Tunnel { lease, in_flight } = tunnel;
    let Some((mut server, first)) = lease.into_stream().await else {
        return;
    };
    let passing = async {
        // what came behind the heads, before anybody knew that this is a tunnel
        server.write_all(ahead).await?;
        client.write_all(&first).await?;
        client.flush().await?;
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await
    };
    if let Err(error) = passing.await {
        tracing::debug!(error = &error as &dyn std::error::Error, "a tunnel broke");
    }
    drop(in_flight);
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn asks(version: Version, lines: &[(&str, &str)], body: &'static str) -> Option<HeaderValue> {
        let mut request = Request::builder().version(version);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        wanted(&request.body(Full::new(body.as_bytes())).unwrap())
    }

    #[test]
    fn one_protocol_that_connection_names_may_be_asked_for() {
        let asked = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(asks(Version::HTTP_11, &asked, "").unwrap(), "websocket");
        assert_eq!(asks(Version::HTTP_10, &asked, ""), None);
        assert_eq!(asks(Version::HTTP_11, &asked, "body"), None);
        for lines in [
            &[("upgrade", "websocket")][..],
            &[("connection", "upgrade")],
            &[("connection", "upgrade"), ("upgrade", "")],
            &[("connection", "upgrade"), ("upgrade", "websocket, x")],
            &[
                ("connection", "upgrade"),
                ("upgrade", "x"),
                ("upgrade", "y"),
            ],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            &[("connection", "upgrade"), ("upgrade", "HTTP/2.0")],
            &[("connection", "upgrade"), ("upgrade", "TLS/1.2")],
        ] {
            assert_eq!(asks(Version::HTTP_11, lines, ""), None, "{lines:?}");
        }
    }

    #[test]
    fn the_server_must_switch_to_what_was_asked_for() {
        let wanted = HeaderValue::from_static("websocket");
        let mut answer = HeaderMap::new();
        assert!(!is_agreed(&wanted, &answer));
        ask(&mut answer, HeaderValue::from_static("WebSocket"));
        assert!(is_agreed(&wanted, &answer));
        answer.insert(header::UPGRADE, HeaderValue::from_static("other"));
        assert!(!is_agreed(&wanted, &answer));
    }
}
