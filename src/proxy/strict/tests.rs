//! Every case is fed whole, byte by byte, and cut in two at each place: what is found must not depend on how it came.

use super::*;

/// How many requests were found well before the fault, if there is one.
fn found(ways: impl Iterator<Item = Vec<u8>>) -> (u32, Option<Fault>) {
    let mut scanner = Scanner::new();
    for part in ways {
        scanner.feed(&part);
    }
    let mut good = 0;
    loop {
        match scanner.verdict() {
            Ok(()) => good += 1,
            Err(Fault::Unseen) => return (good, None),
            Err(fault) => return (good, Some(fault)),
        }
    }
}

fn scan(text: &str) -> (u32, Option<Fault>) {
    let bytes = text.as_bytes();
    let whole = found(std::iter::once(bytes.to_vec()));
    assert_eq!(
        found(bytes.iter().map(|byte| vec![*byte])),
        whole,
        "{text:?} byte by byte"
    );
    for cut in 0..bytes.len() {
        let (one, two) = bytes.split_at(cut);
        let ways = [one.to_vec(), two.to_vec()].into_iter();
        assert_eq!(found(ways), whole, "{text:?} cut at {cut}");
    }
    whole
}

#[test]
fn what_is_plain_is_found_with_what_follows_it() {
    let get = "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /";
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nHost: a\r\n\r\n\
                   5;x=\"y\"\r\n\r\n\r\n\n\r\nA \r\n0123456789\r\n000\r\nX-T: 1\r\n\r\n";
    for (text, requests) in [
        (get.to_owned(), 1),
        (post.to_owned(), 1),
        (chunked.to_owned(), 1),
        (format!("\r\n{get}{post}\r\n{chunked}{get}"), 4),
        (
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n".repeat(3),
            3,
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length-Of: a\r\nTe: x\r\nC: d\r\nTransfer-EncodingX: y\r\n\r\n"
                .to_owned(),
            1,
        ),
        (format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(700)), 1),
        ("GET / HTTP/1.1\r\nHost: a\r\n".to_owned(), 0),
    ] {
        assert_eq!(scan(&text), (requests, None), "{text:?}");
    }
}

#[test]
fn what_is_ambiguous_is_a_fault_and_ends_the_looking() {
    let behind = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (head, fault) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Fault::BareNewline),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Fault::BareNewline),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Fault::BareNewline),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::BareNewline),
        ("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", Fault::BareReturn),
        ("GET / HTTP/1.1\r\nX: a\r\r\n\r\n", Fault::BareReturn),
        ("GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", Fault::Folded),
        ("GET / HTTP/1.1\r\n\tX: a\r\n\r\n", Fault::Folded),
        ("GET /\u{7f} HTTP/1.1\r\n\r\n", Fault::RequestLine),
        ("GET /\0 HTTP/1.1\r\n\r\n", Fault::RequestLine),
        ("GET\t/ HTTP/1.1\r\n\r\n", Fault::RequestLine),
    ] {
        assert_eq!(
            scan(&format!("{head}{behind}")),
            (0, Some(fault)),
            "{head:?}"
        );
    }
    for (lines, fault) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            Fault::LengthAndEncoding,
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 5",
            Fault::LengthAndEncoding,
        ),
        ("Content-Length: 5\r\nContent-Length: 5", Fault::Length),
        ("Content-Length: 5\r\nContent-Length: 6", Fault::Length),
        ("Content-Length: 5, 5", Fault::Length),
        ("Content-Length: +5", Fault::Length),
        ("Content-Length: -5", Fault::Length),
        ("Content-Length: 0x5", Fault::Length),
        ("Content-Length: 5 5", Fault::Length),
        ("Content-Length:", Fault::Length),
        ("Content-Length: 18446744073709551616", Fault::Length),
        ("Content-Length : 5", Fault::Length),
        ("Content_Length: 5", Fault::Length),
        ("Content--Length: 5", Fault::Length),
        ("Content-Length", Fault::Length),
        ("Transfer-Encoding: gzip, chunked", Fault::Encoding),
        ("Transfer-Encoding: chunked, chunked", Fault::Encoding),
        ("Transfer-Encoding: identity", Fault::Encoding),
        ("Transfer-Encoding: xchunked", Fault::Encoding),
        ("Transfer-Encoding: \u{b}chunked", Fault::Encoding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Fault::Encoding,
        ),
        ("Transfer-Encoding: chunked;q=1", Fault::Encoding),
        ("Transfer-Encoding:", Fault::Encoding),
        ("Transfer-Encoding\t: chunked", Fault::Encoding),
        ("Transfer_Encoding: chunked", Fault::Encoding),
        ("transfer-encoding\u{0}: chunked", Fault::Encoding),
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{behind}");
        assert_eq!(scan(&text), (0, Some(fault)), "{lines:?}");
    }
}

#[test]
fn a_broken_chunk_hides_what_stands_behind_it() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "x\r\n",
        "\r\n",
        ";x\r\n",
        "5\n12345\r\n",
        "5;\n12345\r\n",
        "5\r\n123456\r\n",
        "5\r\n12345\n0\r\n",
        "-1\r\n",
        "0x5\r\n",
        "FFFFFFFFFFFFFFFF\r\n",
        "0000000000000000\r\n",
        "0\r\nX: 1\n\r\n",
        "5\r\n12345\r\r\n",
    ] {
        let text = format!("{head}{body}0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        let (good, fault) = scan(&text);
        assert_eq!(good, 1, "{body:?}");
        assert!(fault.is_some(), "{body:?}");
    }
}
