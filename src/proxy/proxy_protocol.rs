//! The PROXY protocol (haproxy.org, `proxy-protocol.txt`, versions 1 and 2): who the client is, said by the balancer in front
//! before the first byte of the client's own.
//!
//! Reads exactly the head and not a byte more, because TLS or HTTP follows on the same socket. Parsing is the crate `ppp`'s.
//! How long it may take is the caller's business.

use std::io;
use std::net::SocketAddr;

use ppp::{v1, v2};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The longest line of version 1, its line end included.
const LINE: usize = 107;
/// Both versions are longer than this, so so much can be read before it is known which one it is.
const FIRST: usize = 12;
/// Version 2 up to its addresses.
const FIXED: usize = 16;
/// Addresses and additions of version 2. The format allows 64 KiB; certificates in additions stay far below this.
const ADDITIONS: usize = 8 * 1024;

/// Why a connection has no PROXY head.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadError {
    #[error("the connection ended in its PROXY head")]
    Ended(#[from] io::Error),
    #[error("there is no PROXY head")]
    Missing,
    #[error("the PROXY head is malformed")]
    Malformed,
}

/// The client's address as the head has it; `None` where the balancer speaks for itself (`LOCAL`, `UNKNOWN`).
pub(super) async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, HeadError> {
    let mut head = vec![0; FIRST];
    stream.read_exact(&mut head).await?;
    if head == v2::PROTOCOL_PREFIX {
        version_2(stream, head).await
    } else if head.starts_with(b"PROXY ") {
        version_1(stream, head).await
    } else {
        Err(HeadError::Missing)
    }
}

async fn version_1(
    stream: &mut TcpStream,
    mut head: Vec<u8>,
) -> Result<Option<SocketAddr>, HeadError> {
    while !head.ends_with(b"\n") {
        let begun = head.len();
        if begun >= LINE {
            return Err(HeadError::Malformed);
        }
        head.resize(LINE, 0);
        // looked at first, so that nothing behind the line is taken
        let seen = stream.peek(&mut head[begun..]).await?;
        if seen == 0 {
            return Err(HeadError::Ended(io::ErrorKind::UnexpectedEof.into()));
        }
        let here = &head[begun..begun + seen];
        let line = memchr::memchr(b'\n', here).map_or(seen, |end| end + 1);
        head.truncate(begun + line);
        stream.read_exact(&mut head[begun..]).await?;
    }
    let text = std::str::from_utf8(&head).map_err(|_not_text| HeadError::Malformed)?;
    let parsed = v1::Header::try_from(text).map_err(|_why| HeadError::Malformed)?;
    Ok(match parsed.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(of) => Some((of.source_address, of.source_port).into()),
        v1::Addresses::Tcp6(of) => Some((of.source_address, of.source_port).into()),
    })
}

async fn version_2(
    stream: &mut TcpStream,
    mut head: Vec<u8>,
) -> Result<Option<SocketAddr>, HeadError> {
    head.resize(FIXED, 0);
    stream.read_exact(&mut head[FIRST..]).await?;
    let rest = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if rest > ADDITIONS {
        return Err(HeadError::Malformed);
    }
    head.resize(FIXED + rest, 0);
    stream.read_exact(&mut head[FIXED..]).await?;
    let parsed = v2::Header::try_from(head.as_slice()).map_err(|_why| HeadError::Malformed)?;
    if parsed.command == v2::Command::Local {
        return Ok(None);
    }
    Ok(match parsed.addresses {
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        v2::Addresses::IPv4(of) => Some((of.source_address, of.source_port).into()),
        v2::Addresses::IPv6(of) => Some((of.source_address, of.source_port).into()),
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// What is made of these parts, and what is left on the socket behind the head.
    async fn told(parts: &[&[u8]]) -> (Result<Option<SocketAddr>, HeadError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let sending = async {
            for part in parts {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let (read, ()) = tokio::join!(read(&mut stream), sending);
        let mut rest = Vec::new();
        // a malformed head leaves what it leaves
        drop(stream.read_to_end(&mut rest).await);
        (read, rest)
    }

    fn version_2_head(command: v2::Command) -> Vec<u8> {
        let from: SocketAddr = "203.0.113.9:4000".parse().unwrap();
        let to: SocketAddr = "192.0.2.1:443".parse().unwrap();
        v2::Builder::with_addresses(v2::Version::Two | command, v2::Protocol::Stream, (from, to))
            .write_tlv(v2::Type::NoOp, b"nothing")
            .unwrap()
            .build()
            .unwrap()
    }

    #[tokio::test]
    async fn both_versions_are_read_and_not_a_byte_more() {
        let named = Some("203.0.113.9:4000".parse().unwrap());
        let two = version_2_head(v2::Command::Proxy);
        let local = version_2_head(v2::Command::Local);
        let one = b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 443\r\n";
        let six = b"PROXY TCP6 2001:db8::1 2001:db8::2 4000 443\r\n";
        let cases: [(&[u8], Option<SocketAddr>); 5] = [
            (one, named),
            (six, Some("[2001:db8::1]:4000".parse().unwrap())),
            (b"PROXY UNKNOWN\r\n", None),
            (&two, named),
            (&local, None),
        ];
        for (head, address) in cases {
            let together = [head, b"GET / HTTP/1.1\r\n"].concat();
            for cut in [1, 5, 11, 12, 13, head.len() - 1, head.len()] {
                let (first, second) = together.split_at(cut);
                let (read, rest) = told(&[first, second]).await;
                assert_eq!(read.unwrap(), address);
                assert_eq!(rest, b"GET / HTTP/1.1\r\n");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_head_is_refused() {
        for (head, reason) in [
            (
                &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
                "there is no PROXY head",
            ),
            (b"PROXY TCP4 1.2.3.4\r\n", "the PROXY head is malformed"),
            (
                b"PROXY TCP4 203.0.113.9 192.0.2.1 4000 443\n",
                "the PROXY head is malformed",
            ),
            (
                b"PROXY TCP4 203.0.113.9 192.0.2.1 99999 443\r\n",
                "the PROXY head is malformed",
            ),
            (
                &[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(),
                "the PROXY head is malformed",
            ),
            (b"PROXY TCP4 20", "the connection ended in its PROXY head"),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
                "the PROXY head is malformed",
            ),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
                "the PROXY head is malformed",
            ),
        ] {
            let (read, _) = told(&[head]).await;
            let error = read.unwrap_err().to_string();
            // a version 2 head with another version number ends with the connection
            assert!(
                error == reason || error == "the connection ended in its PROXY head",
                "{head:?}: {error}"
            );
        }
    }
}
