//! Heads of requests through the proxy: a server gets them in one form, or does not get them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use turnout::domain::Color;

use super::fuzz;
use crate::support::{Site, shared};

/// A server that looks at what it gets, and what it found wrong.
fn inspector() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let found: Arc<Mutex<Vec<String>>> = Arc::default();
    let wrong = Arc::clone(&found);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let wrong = Arc::clone(&wrong);
            std::thread::spawn(move || inspect(&stream, &wrong));
        }
    });
    (address, found)
}

fn inspect(stream: &TcpStream, wrong: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if !matches!(reader.read_until(b'\n', &mut head), Ok(1..)) {
                return;
            }
        }
        let complaints = complaints(&head);
        if !complaints.is_empty() {
            let text = format!("{complaints:?} in {}", head.escape_ascii());
            wrong.lock().unwrap().push(text);
        }
        // bodies are not read: one answer, and the end
        let bodyless =
            value(&head, "content-length").is_none() && value(&head, "transfer-encoding").is_none();
        let answer = if bodyless {
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        };
        let mut writer = stream;
        if writer.write_all(answer.as_bytes()).is_err() || !bodyless {
            return;
        }
    }
}

fn value(head: &[u8], name: &str) -> Option<Vec<u8>> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (is, value) = line.split_at_checked(name.len())?;
        (is.eq_ignore_ascii_case(name.as_bytes()) && value.first() == Some(&b':'))
            .then(|| value[1..].trim_ascii().to_vec())
    })
}

fn complaints(head: &[u8]) -> Vec<String> {
    let mut complaints = Vec::new();
    let names: Vec<String> = head
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(|line| {
            line.iter()
                .position(|byte| *byte == b':')
                .map(|end| &line[..end])
        })
        .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
        .collect();
    let count = |name: &str| names.iter().filter(|known| *known == name).count();
    for (name, most) in [
        ("host", 1),
        ("content-length", 1),
        ("transfer-encoding", 1),
        ("x-forwarded-for", 1),
        ("x-real-ip", 1),
    ] {
        if count(name) > most {
            complaints.push(format!("{} times {name}", count(name)));
        }
    }
    if count("host") != 1 {
        complaints.push("no host".to_owned());
    }
    if count("content-length") + count("transfer-encoding") > 1 {
        complaints.push("two framings".to_owned());
    }
    for name in [
        "forwarded",
        "keep-alive",
        "proxy-connection",
        "x-forwarded-port",
    ] {
        if count(name) > 0 {
            complaints.push(format!("{name} came through"));
        }
    }
    let health = head.starts_with(b"GET /health ");
    for name in ["x-forwarded-for", "x-real-ip"] {
        if !health && value(head, name).as_deref() != Some(b"127.0.0.1".as_slice()) {
            complaints.push(format!("{name} is forged"));
        }
    }
    let line_ends = head
        .windows(2)
        .any(|pair| (pair[1] == b'\n') != (pair[0] == b'\r'));
    if line_ends
        || names
            .iter()
            .any(|name| name.bytes().any(|byte| byte <= b' '))
    {
        complaints.push("a line that is no header".to_owned());
    }
    complaints
}

#[test]
fn a_request_reaches_the_server_in_one_form_or_not_at_all() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let (address, wrong) = inspector();
    let text = std::fs::read_to_string(site.config()).unwrap();
    let text = text.replace(&site.blue.url(), &format!("http://{address}"));
    std::fs::write(site.config(), text).unwrap();
    let _daemon = site.serve();
    let seeds: Vec<Vec<u8>> = [
        "GET /page HTTP/1.1\r\nHost: shop.example.com\r\nX-Forwarded-For: 1.1.1.1\r\nX-Real-IP: 2.2.2.2\r\nForwarded: for=3.3.3.3\r\n\r\n",
        "POST /order HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\nhello",
        "POST /order HTTP/1.1\r\nHost: shop.example.com\r\nTransfer-Encoding: chunked\r\nX-Forwarded-Port: 1\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "GET http://shop.example.com/page HTTP/1.1\r\nHost: shop.example.com\r\nCookie: a=b; session_id=x\r\nTE: trailers\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    let words = [
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        "\0",
        "\r\n ",
        "Host: b\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 6\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Connection: host, content-length\r\n",
        "Connection: close\r\n",
        "HTTP/1.0",
        "HTTP/1.1",
        "chunked",
        ",",
        "x-hop",
        "Forwarded: for=1\r\n",
        "X-Forwarded-For: 9.9.9.9\r\n",
        "Expect: 100-continue\r\n",
        "Upgrade: websocket\r\n",
        "\u{e9}",
        "Proxy-Connection: x\r\n",
    ];
    fuzz("heads", &seeds, &words, |input| {
        let mut stream = TcpStream::connect(site.front).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        // a proxy that has refused may have closed already
        drop(stream.write_all(input));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut answer = [0; 512];
        if let Ok(1..) = stream.read(&mut answer) {
            assert!(answer.starts_with(b"HTTP/1."), "{}", answer.escape_ascii());
            assert!(
                !answer.starts_with(b"HTTP/1.1 500"),
                "{}",
                answer.escape_ascii()
            );
        }
        let mut wrong = wrong.lock().unwrap();
        let found = std::mem::take(&mut *wrong);
        drop(wrong);
        assert!(found.is_empty(), "{found:#?}");
    });
    assert_eq!(site.recorded(), Color::Blue);
}
