//! A request once more, from the bytes in which it went out. A kept connection can end in the moment a request is sent over it,
//! so that each request without a body may have to be sent again, and nearly none is: copying the bytes of each head
//! costs a twentieth of what copying its header map does. Never for a request with a body, which is gone once it is sent.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use super::upload::Upload;

/// Header lines for which there is room at first; each further try has twice as much.
const LINES: usize = 64;

/// The request of a head that hyper wrote; `None` if that is not all of one, so that it cannot be repeated.
pub(super) fn read_back(head: &[u8]) -> Option<Request<Upload>> {
    let mut room = LINES;
    loop {
        let mut lines = vec![httparse::EMPTY_HEADER; room];
        let mut parsed = httparse::Request::new(&mut lines);
        match parsed.parse(head) {
            Ok(httparse::Status::Complete(_)) => return rebuilt(&parsed),
            Err(httparse::Error::TooManyHeaders) if room < head.len() => room *= 2,
            Ok(httparse::Status::Partial) | Err(_) => return None,
        }
    }
}

fn rebuilt(parsed: &httparse::Request<'_, '_>) -> Option<Request<Upload>> {
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    let mut request = Request::new(Upload::new(None, None));
    *request.method_mut() = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    *request.uri_mut() = Uri::try_from(parsed.path?.as_bytes()).ok()?;
    *request.headers_mut() = headers;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_whole_or_not_at_all() {
        let head = b"GET /a?b=%20&c HTTP/1.1\r\nhost: shop\r\nx-one: 1\r\nx-one: 2\r\nx-bytes: \xe9\r\n\r\n";
        let request = read_back(head).unwrap();
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri(), "/a?b=%20&c");
        let lines: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let expected: [(&str, &[u8]); 4] = [
            ("host", b"shop"),
            ("x-one", b"1"),
            ("x-one", b"2"),
            ("x-bytes", b"\xe9"),
        ];
        assert_eq!(lines, expected);
        for end in 0..head.len() {
            assert!(read_back(&head[..end]).is_none(), "{end} bytes");
        }
    }

    #[test]
    fn many_lines_are_read_back_too() {
        let mut head = b"HEAD / HTTP/1.1\r\n".to_vec();
        for number in 0..1_000 {
            head.extend_from_slice(format!("x-{number}: {number}\r\n").as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        let request = read_back(&head).unwrap();
        assert_eq!(request.headers().len(), 1_000);
        assert_eq!(request.headers()["x-999"], "999");
    }
}
