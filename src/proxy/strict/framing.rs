//! What the header lines of one head say of its body, by their bytes.

use memchr::memchr;

use super::Fault;

/// What the headers of the present head say of the body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framing {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) fault: Option<Fault>,
}

impl Framing {
    pub(super) const fn new() -> Self {
        Self {
            length: None,
            chunked: false,
            fault: None,
        }
    }

    /// Takes one header line, without its end.
    pub(super) fn header(&mut self, line: &[u8]) {
        match line[0] {
            b'c' | b'C' => {
                self.length(&named(line, b"content-length"));
            }
            b't' | b'T' => {
                self.encoding(&named(line, b"transfer-encoding"));
            }
            b' ' | b'\t' => self.refuse(Fault::Folded),
            _ => {}
        }
    }

    fn length(&mut self, named: &Named<'_>) {
        let value = match named {
            Named::Other => return,
            Named::Lookalike => None,
            Named::Value(value) => Some(*value),
        };
        if self.chunked {
            return self.refuse(Fault::LengthAndEncoding);
        }
        let number = value
            .filter(|value| self.length.is_none() && value.iter().all(u8::is_ascii_digit))
            .and_then(|value| std::str::from_utf8(value).ok())
            .and_then(|value| value.parse().ok());
        match number {
            Some(number) => self.length = Some(number),
            None => self.refuse(Fault::Length),
        }
    }

    fn encoding(&mut self, named: &Named<'_>) {
        let is_chunked = match named {
            Named::Other => return,
            Named::Lookalike => false,
            Named::Value(value) => value.eq_ignore_ascii_case(b"chunked"),
        };
        if self.length.is_some() {
            return self.refuse(Fault::LengthAndEncoding);
        }
        if self.chunked || !is_chunked {
            return self.refuse(Fault::Encoding);
        }
        self.chunked = true;
    }

    fn refuse(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

/// What a name is taken for where letters alone are looked at.
pub(in crate::proxy) fn lookalike(name: &[u8]) -> Option<Fault> {
    let is = |wanted: &[u8]| name.len() >= wanted.len() && letters(name).eq(letters(wanted));
    match name.first()?.to_ascii_lowercase() {
        b'c' if is(b"content-length") => Some(Fault::Length),
        b't' if is(b"transfer-encoding") => Some(Fault::Encoding),
        _ => None,
    }
}

/// What a line is to one of the two headers that say where a body ends.
enum Named<'l> {
    /// Another header.
    Other,
    /// Spelt otherwise, looking at letters alone, or without a value.
    Lookalike,
    Value(&'l [u8]),
}

fn named<'l>(line: &'l [u8], wanted: &[u8]) -> Named<'l> {
    let colon = memchr(b':', line);
    let name = &line[..colon.unwrap_or(line.len())];
    if name.len() < wanted.len() || !letters(name).eq(letters(wanted)) {
        return Named::Other;
    }
    let value = colon
        .filter(|_| name.eq_ignore_ascii_case(wanted))
        .map(|colon| line[colon + 1..].trim_ascii());
    match value {
        Some(value) if !value.is_empty() => Named::Value(value),
        Some(_) | None => Named::Lookalike,
    }
}

fn letters(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter()
        .filter(|byte| byte.is_ascii_alphabetic())
        .map(u8::to_ascii_lowercase)
}
