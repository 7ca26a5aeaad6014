//! What a server says before its answer (1xx; RFC 9110, 15.2, has a proxy pass it on): 103 and its like, each a head without a body.
//! hyper's client skips them and its server cannot say them, so they are found in the bytes that come and go out between its own.
//! 101 is an answer and 100 is the proxy's own to say; clients of HTTP/1.0 and of HTTP/2 get none of it.
//!
//! Costs a request that has none of it two looks at a flag and one at the first bytes of its answer.

use std::cell::{Cell, RefCell};

use bytes::{Buf as _, BytesMut};
use httparse::Status;

/// How every one of them begins.
const BEGIN: &[u8] = b"HTTP/1.1 1";
/// And how an answer does that begins like one.
const SWITCH: &[u8] = b"HTTP/1.1 101";
/// Bytes of all of them before one answer; and, of what is not written yet, for one client.
const MOST: usize = 32 * 1024;
/// Header lines of one.
const LINES: usize = 64;

/// Whether what comes is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Looking {
    /// The answer has begun.
    #[default]
    No,
    /// What comes next may be one of these.
    Yes,
}

/// What comes from a server before its answer.
#[derive(Debug, Default)]
pub(super) struct Before {
    looking: Cell<Looking>,
    /// What has come of one, or of several.
    came: RefCell<Vec<u8>>,
}

impl Before {
    /// A request goes out: what comes next is the first of its answer.
    pub(super) fn begin(&self) {
        self.looking.set(Looking::Yes);
    }

    /// hyper has the head of the answer: what else comes is of its body, and none of these.
    pub(super) fn end(&self) {
        if self.looking.replace(Looking::No) == Looking::Yes {
            drop(self.came.take());
        }
    }

    /// Bytes came.
    pub(super) fn look(&self, bytes: &[u8]) {
        if self.looking.get() == Looking::No {
            return;
        }
        let mut came = self.came.borrow_mut();
        if came.is_empty() && !may_be_one(bytes) {
            return self.looking.set(Looking::No);
        }
        came.extend_from_slice(bytes);
    }

    /// Gives `to` each whole one that has come. Where one ends is the parser's to say, which is hyper's own: by another rule, of
    /// line ends for example, what hyper takes for the answer could be looked at here.
    pub(super) fn pass(&self, to: &Early) {
        if self.looking.get() == Looking::No || self.came.borrow().is_empty() {
            return;
        }
        let mut came = self.came.borrow_mut();
        let mut gone = 0;
        let next = loop {
            let rest = &came[gone..];
            if !may_be_one(rest) {
                break Looking::No;
            }
            match to.say(rest) {
                Ok(Status::Complete(end)) => gone += end,
                Ok(Status::Partial) if rest.len() <= MOST => break Looking::Yes,
                Ok(Status::Partial) | Err(_) => break Looking::No,
            }
        };
        self.looking.set(next);
        if next == Looking::No {
            *came = Vec::new();
        } else {
            came.drain(..gone);
        }
    }
}

/// False once it is clear that this is none of them.
fn may_be_one(bytes: &[u8]) -> bool {
    let begins = |with: &[u8]| {
        let both = bytes.len().min(with.len());
        bytes[..both] == with[..both]
    };
    begins(BEGIN) && (bytes.len() < SWITCH.len() || !begins(SWITCH))
}

/// What goes to a client before its answer.
#[derive(Debug, Default)]
pub(super) struct Early {
    waiting: RefCell<BytesMut>,
    /// The first part of it was written.
    begun: Cell<bool>,
}

impl Early {
    /// One more, as it came, if it is whole; where it ends. What is meant for the server's own connection is left out.
    fn say(&self, bytes: &[u8]) -> httparse::Result<usize> {
        let mut lines = [httparse::EMPTY_HEADER; LINES];
        let mut parsed = httparse::Response::new(&mut lines);
        let Status::Complete(end) = parsed.parse(bytes)? else {
            return Ok(Status::Partial);
        };
        let Some(code) = parsed.code.filter(|code| !matches!(code, 100 | 101)) else {
            return Ok(Status::Complete(end));
        };
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() + end > MOST {
            return Ok(Status::Complete(end));
        }
        let named: Vec<&[u8]> = parsed
            .headers
            .iter()
            .filter(|line| line.name.eq_ignore_ascii_case("connection"))
            .flat_map(|line| line.value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .collect();
        let is_own = |name: &str| {
            let frames = ["content-length", "transfer-encoding", "trailer", "te"];
            super::headers::is_hop_by_hop(name.to_ascii_lowercase().as_bytes())
                || frames.iter().any(|own| name.eq_ignore_ascii_case(own))
                || named
                    .iter()
                    .any(|own| name.as_bytes().eq_ignore_ascii_case(own))
        };
        waiting.extend_from_slice(format!("HTTP/1.1 {code} ").as_bytes());
        waiting.extend_from_slice(parsed.reason.unwrap_or_default().as_bytes());
        waiting.extend_from_slice(b"\r\n");
        for line in parsed.headers.iter().filter(|line| !is_own(line.name)) {
            waiting.extend_from_slice(line.name.as_bytes());
            waiting.extend_from_slice(b": ");
            waiting.extend_from_slice(line.value);
            waiting.extend_from_slice(b"\r\n");
        }
        waiting.extend_from_slice(b"\r\n");
        Ok(Status::Complete(end))
    }

    /// True if nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// True if a part of what waits was written, so that the rest has to follow.
    pub(super) fn is_begun(&self) -> bool {
        self.begun.get()
    }

    /// What waits.
    pub(super) fn bytes(&self) -> BytesMut {
        self.waiting.take()
    }

    /// What of that was not written, after `written` bytes were.
    pub(super) fn back(&self, mut bytes: BytesMut, written: usize) {
        bytes.advance(written);
        if written > 0 {
            self.begun.set(!bytes.is_empty());
        }
        self.waiting.replace(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nConnection: x-own\r\nX-Own: 1\r\nKeep-Alive: 5\r\n\r\n";
    const PASSED: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// What a client gets early of what comes in these parts.
    fn passed<'b>(parts: impl IntoIterator<Item = &'b [u8]>) -> String {
        let (before, early) = (Before::default(), Early::default());
        before.begin();
        for part in parts {
            before.look(part);
            before.pass(&early);
        }
        String::from_utf8(early.bytes().to_vec()).unwrap()
    }

    #[test]
    fn what_comes_before_the_answer_is_passed_on_however_it_is_cut() {
        let text = format!("{HINT}HTTP/1.1 100 Continue\r\n\r\n{HINT}{ANSWER}");
        let all = format!("{PASSED}{PASSED}");
        assert_eq!(passed([text.as_bytes()]), all);
        assert_eq!(passed(text.as_bytes().chunks(1)), all);
        assert_eq!(passed(text.as_bytes().chunks(7)), all);
    }

    #[test]
    fn an_answer_is_none_of_it_whatever_it_says() {
        let inside = format!("{ANSWER}{HINT}");
        let switch = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n{HINT}");
        for text in [inside, switch, "HTTP/1.1 199\nx\r\n\r\n".to_owned()] {
            assert_eq!(passed([text.as_bytes()]), "", "{text}");
            assert_eq!(passed(text.as_bytes().chunks(1)), "", "{text}");
        }
    }

    #[test]
    fn where_it_ends_is_where_hyper_finds_its_end() {
        // whose lines end in line feeds alone
        let text = format!("HTTP/1.1 103 x\nA: b\n\nHTTP/1.1 200 OK\r\n\r\n{HINT}");
        let first = "HTTP/1.1 103 x\r\nA: b\r\n\r\n";
        assert_eq!(passed([text.as_bytes()]), first);
        assert_eq!(passed(text.as_bytes().chunks(1)), first);
    }

    #[test]
    fn what_has_no_end_is_not_kept() {
        let before = Before::default();
        before.begin();
        let early = Early::default();
        before.look(b"HTTP/1.1 103 Early Hints\r\n");
        for _ in 0..100 {
            before.look(b"x: y\r\n");
            before.look(&[b'x'; 1024]);
            before.look(b": y\r\n");
            before.pass(&early);
        }
        assert!(before.came.borrow().is_empty() && early.is_empty());
    }

    #[test]
    fn nothing_is_kept_once_the_answer_is_here() {
        let before = Before::default();
        before.begin();
        before.look(b"HTTP/1.1 103 Early Hints\r\nnot yet whole");
        before.end();
        assert!(before.came.borrow().is_empty());
        before.look(HINT.as_bytes());
        assert!(before.came.borrow().is_empty());
        // nor is it looked at for the next request
        before.begin();
        let early = Early::default();
        before.look(ANSWER.as_bytes());
        before.pass(&early);
        assert!(early.is_empty());
    }

    #[test]
    fn what_was_begun_is_told_from_what_was_not() {
        let (before, early) = (Before::default(), Early::default());
        before.begin();
        before.look(HINT.as_bytes());
        before.pass(&early);
        let whole = early.bytes();
        early.back(whole, 0);
        assert!(!early.is_begun() && !early.is_empty());
        let whole = early.bytes();
        early.back(whole, 3);
        assert!(early.is_begun() && !early.is_empty());
        let rest = early.bytes();
        assert_eq!(&rest[..], &PASSED.as_bytes()[3..]);
        early.back(rest, PASSED.len() - 3);
        assert!(!early.is_begun() && early.is_empty());
    }
}
