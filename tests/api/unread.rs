//! Clients that ask and do not read the answers: each ends by itself, and its place is free again.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{SOON, Site, shared, wait_for};

/// The most that are served at once.
const SLOTS: usize = 256;

#[test]
fn clients_that_never_read_do_not_lock_the_others_out() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let request = format!(
        "GET /openapi.json HTTP/1.1\r\nHost: {}\r\n\r\n",
        site.control
    )
    .repeat(50);
    let silent: Vec<_> = (0..SLOTS)
        .map(|_| {
            let mut client = TcpStream::connect(site.control).unwrap();
            client.set_nonblocking(true).unwrap();
            match client.write_all(request.as_bytes()) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            client
        })
        .collect();
    // ten seconds for each of them, all at the same time
    let answer = wait_for(
        "an answer beside them",
        Duration::from_mins(1).max(SOON),
        || {
            let asked = crate::support::Connection::open(site.control, Duration::from_secs(2));
            let head = format!(
                "GET /livez HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                site.control
            );
            asked
                .and_then(|mut connection| connection.send(head.as_bytes()))
                .ok()
        },
    );
    assert_eq!(answer.status, 200);
    drop(silent);
    assert_eq!(daemon.api().get("/readyz").status, 200);
}
