//! A second look at a client's HTTP/1 bytes, beside hyper's: what hyper and httparse let through or resolve in silence is
//! found here, in the bytes as they came, and refused before a server sees anything of it.
//!
//! It finds where each head begins and ends by its own reading of the framing; hyper does the same, and a request is served
//! only where both agree (a head that hyper hands over and this has not seen is refused). It never parses for routing.
//!
//! | what | hyper 1.12, httparse 1.10 | here |
//! |---|---|---|
//! | `Content-Length` beside `Transfer-Encoding` | length dropped, chunked wins | 400, close |
//! | `Content-Length` twice, equal | first one kept | 400, close |
//! | `Content-Length` twice, different; not a number; a list | 400 | 400, close |
//! | `Transfer-Encoding` other than one `chunked`; twice | served if `chunked` is last | 400, close |
//! | `Transfer-Encoding` on HTTP/1.0 | 400 | 400, close |
//! | `Transfer_Encoding`, `Content--Length` and their like (read as the real ones by CGI and its heirs) | passed on | 400, close |
//! | GET or HEAD with a body (RFC 9110, 9.3.1: no meaning, and servers differ in reading it) | passed on | 400, close (`forward`) |
//! | a head line that ends in a bare LF | accepted | 400, close |
//! | a bare CR, NUL or other control in a name or value | 400 | 400, close |
//! | obs-fold; white space before the first header | 400 | 400, close |
//! | white space before a colon | 400 | 400, close |
//! | a control in the request line | 400, mostly | 400, close |
//! | UTF-8 in the target | passed on | passed on, byte for byte |
//! | `#fragment` in the target | cut off | cut off: it is the client's own, and frames nothing |
//! | a chunk size or its end that is malformed; a trailer line that ends in a bare LF | error; accepted | connection ends |
//! | empty lines before a request line | skipped | skipped (RFC 9112, 2.2) |
//! | absent, doubled, listed or malformed `Host`; `Host` unlike an absolute target | passed on | 400, close (`forward`) |
//! | CONNECT, TRACE | passed on | 405, close (`forward`) |

mod framing;

use memchr::{memchr, memchr2};

use framing::Framing;
pub(super) use framing::lookalike;

/// Bytes of one header line that are kept while it comes in parts. The lines that matter here are shorter; of a longer one
/// only its beginning and its last byte count.
const LINE: usize = 512;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    BareNewline,
    BareReturn,
    Folded,
    RequestLine,
    LengthAndEncoding,
    Length,
    Encoding,
    Body,
    /// hyper has seen a request where this has not.
    Unseen,
}

impl Fault {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::BareNewline => "A line of the head ends in a bare LF",
            Self::BareReturn => "There is a bare CR in the head",
            Self::Folded => "A line of the head begins with white space",
            Self::RequestLine => "The request line holds what it must not",
            Self::LengthAndEncoding => "Content-Length together with Transfer-Encoding",
            Self::Length => "Content-Length is not one number",
            Self::Encoding => "Transfer-Encoding is not one chunked",
            Self::Body => "GET and HEAD have no body",
            Self::Unseen => "It is unclear where this request begins",
        }
    }
}

/// Where in the client's bytes the next one stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before or in a request line.
    Start,
    /// After the request line.
    Headers,
    Body(u64),
    ChunkSize {
        size: u64,
        digits: u8,
    },
    /// After the digits: an extension, up to the end of the line.
    ChunkExtension,
    ChunkData(u64),
    /// The end of the line behind a chunk's data.
    ChunkEnd,
    Trailers,
    /// Something was wrong, or HTTP is over: nothing is looked at any more.
    Blind,
}

/// The scanner of one connection. Holds no bytes while lines come whole.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    framing: Framing,
    /// The size of the chunk whose extension is read.
    pending: u64,
    /// A line that has not ended.
    line: Vec<u8>,
    /// The last byte of that line.
    last: u8,
    /// Heads that were found well and not yet asked for.
    good: u32,
    fault: Option<Fault>,
}

impl Scanner {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Start,
            framing: Framing::new(),
            pending: 0,
            line: Vec::new(),
            last: 0,
            good: 0,
            fault: None,
        }
    }

    /// True inside a head, and where nothing is known any more.
    pub(super) fn is_in_head(&self) -> bool {
        match self.state {
            State::Start => !self.line.is_empty(),
            State::Headers | State::Blind => true,
            State::Body(_)
            | State::ChunkSize { .. }
            | State::ChunkExtension
            | State::ChunkData(_)
            | State::ChunkEnd
            | State::Trailers => false,
        }
    }

    /// True where the head of the next request has begun and not ended.
    pub(super) fn has_begun_a_head(&self) -> bool {
        self.state == State::Headers || self.state == State::Start && !self.line.is_empty()
    }

    /// True where all that came were whole messages, and hyper has had each of them.
    pub(super) fn is_between_messages(&self) -> bool {
        self.state == State::Start && self.line.is_empty() && self.good == 0
    }

    /// hyper has a request: what this makes of it.
    pub(super) fn verdict(&mut self) -> Result<(), Fault> {
        if self.good > 0 {
            self.good -= 1;
            return Ok(());
        }
        self.state = State::Blind;
        Err(self.fault.unwrap_or(Fault::Unseen))
    }

    /// Looks at what came.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Start | State::Headers | State::Trailers => self.lines(bytes),
                State::Body(left) => {
                    let (left, rest) = skip(left, bytes);
                    self.state = if left == 0 {
                        State::Start
                    } else {
                        State::Body(left)
                    };
                    rest
                }
                State::ChunkData(left) => {
                    let (left, rest) = skip(left, bytes);
                    self.state = if left == 0 {
                        State::ChunkEnd
                    } else {
                        State::ChunkData(left)
                    };
                    rest
                }
                State::ChunkSize { size, digits } => self.chunk_size(size, digits, bytes),
                State::ChunkExtension => self.chunk_extension(bytes),
                State::ChunkEnd => {
                    self.chunk_end(bytes[0]);
                    &bytes[1..]
                }
                State::Blind => return,
            };
        }
    }

    /// Whole lines, until the head or the trailers are over. A line that came whole and ends as it must is searched once.
    fn lines<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let mut rest = bytes;
        while let Some(end) = memchr2(b'\r', b'\n', rest) {
            let (line, ending) = rest.split_at(end);
            match ending.strip_prefix(b"\r\n") {
                Some(next) if self.line.is_empty() => {
                    rest = next;
                    self.line_is(line);
                }
                Some(_) | None => {
                    let Some(newline) = memchr(b'\n', ending) else {
                        break;
                    };
                    let part = &rest[..end + newline];
                    rest = &ending[newline + 1..];
                    if self.line.is_empty() {
                        self.line_ended(part, part.last().copied().unwrap_or(0));
                    } else {
                        self.keep(part);
                        let (line, last) = (std::mem::take(&mut self.line), self.last);
                        self.line_ended(&line, last);
                    }
                }
            }
            // the end of a head may be the beginning of a body
            if !matches!(self.state, State::Start | State::Headers | State::Trailers) {
                return rest;
            }
        }
        self.keep(rest);
        &[]
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE.saturating_sub(self.line.len()).min(part.len());
        self.line.extend_from_slice(&part[..room]);
        if let Some(last) = part.last() {
            self.last = *last;
        }
    }

    /// `line` without its LF; `last` is its last byte even where the line was too long to keep.
    fn line_ended(&mut self, line: &[u8], last: u8) {
        if last != b'\r' {
            return self.refuse(Fault::BareNewline);
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if memchr(b'\r', line).is_some() {
            return self.refuse(Fault::BareReturn);
        }
        self.line_is(line);
    }

    /// A line without its end, and without a bare CR or LF in it.
    fn line_is(&mut self, line: &[u8]) {
        match self.state {
            State::Trailers if line.is_empty() => self.state = State::Start,
            // some clients end a body with a line end too many
            State::Start if line.is_empty() => {}
            State::Start => {
                // counted without an early end, so that the compiler looks at many bytes at a time
                let is_strange = |byte: &&u8| **byte < b' ' || **byte == 0x7f;
                let strange = line.iter().filter(is_strange).count();
                if strange > 0 {
                    return self.refuse(Fault::RequestLine);
                }
                self.framing = Framing::new();
                self.state = State::Headers;
            }
            State::Headers if line.is_empty() => self.head_ended(),
            State::Headers => self.framing.header(line),
            State::Trailers
            | State::Body(_)
            | State::ChunkSize { .. }
            | State::ChunkExtension
            | State::ChunkData(_)
            | State::ChunkEnd
            | State::Blind => {}
        }
    }

    fn head_ended(&mut self) {
        let framing = self.framing;
        if let Some(fault) = framing.fault {
            return self.refuse(fault);
        }
        self.good = self.good.saturating_add(1);
        self.state = match framing.length {
            _ if framing.chunked => State::ChunkSize { size: 0, digits: 0 },
            None | Some(0) => State::Start,
            Some(length) => State::Body(length),
        };
    }

    fn chunk_size<'b>(&mut self, mut size: u64, mut digits: u8, bytes: &'b [u8]) -> &'b [u8] {
        for (place, byte) in bytes.iter().enumerate() {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b'A'..=b'F' => byte - b'A' + 10,
                b'\r' | b';' | b' ' | b'\t' if digits > 0 => {
                    self.pending = size;
                    self.last = 0;
                    self.state = State::ChunkExtension;
                    return &bytes[place..];
                }
                _ => {
                    self.refuse(Fault::Encoding);
                    return &[];
                }
            };
            // 15 digits are a petabyte more than anybody sends, and cannot overflow
            if digits == 15 {
                self.refuse(Fault::Encoding);
                return &[];
            }
            size = size << 4 | u64::from(digit);
            digits += 1;
        }
        self.state = State::ChunkSize { size, digits };
        &[]
    }

    fn chunk_extension<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(end) = memchr(b'\n', bytes) else {
            self.last = bytes.last().copied().unwrap_or(self.last);
            return &[];
        };
        let last = if end == 0 { self.last } else { bytes[end - 1] };
        if last != b'\r' {
            self.refuse(Fault::BareNewline);
            return &[];
        }
        self.last = 0;
        self.state = match self.pending {
            0 => State::Trailers,
            size => State::ChunkData(size),
        };
        &bytes[end + 1..]
    }

    fn chunk_end(&mut self, byte: u8) {
        match (byte, self.last) {
            (b'\r', last) if last != b'\r' => self.last = b'\r',
            (b'\n', b'\r') => {
                self.last = 0;
                self.state = State::ChunkSize { size: 0, digits: 0 };
            }
            _ => self.refuse(Fault::Encoding),
        }
    }

    fn refuse(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
        self.state = State::Blind;
        self.line = Vec::new();
    }
}

/// Steps over up to `left` bytes.
fn skip(left: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (left - here as u64, &bytes[here..])
}

#[cfg(test)]
mod tests;
