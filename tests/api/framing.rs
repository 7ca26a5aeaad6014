//! Requests on the control port whose end could be read in two ways: refused, or the connection ends with them. What would have
//! been read as a second request is never answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use turnout::domain::Color;

use super::PATIENCE;
use crate::support::{Site, shared};

/// Everything that comes until the server closes.
fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // a reset after the answer is a close too
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn an_ambiguous_request_is_refused_or_the_last_of_its_connection() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let _daemon = site.serve();
    let hidden = "POST /orchestration/bluegreen/activate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18\r\n\r\n{\"active\":\"green\"}";
    let head = "POST /orchestration/rollback HTTP/1.1\r\nHost: localhost\r\n";
    for framing in [
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
        "Content-Length: +4\r\n\r\n",
        "Content-Length: 4, 4\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ] {
        let answer = exchange(site.control, &format!("{head}{framing}{hidden}"));
        assert!(answer.starts_with("HTTP/1.1 400"), "{framing:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{framing:?}: {answer}"
        );
    }
    // RFC 9112, 6.3: Transfer-Encoding counts, and the connection ends with the answer
    let both =
        format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}");
    let answer = exchange(site.control, &both);
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!(site.served(), Color::Blue);
}
