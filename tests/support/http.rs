//! A small blocking HTTP/1.1 client that tells exactly how a request failed, and on what kind of connection.
//!
//! No library: a client that retries, pools or hides the difference between "refused" and "closed before a byte came" would
//! measure itself. A failed request is never repeated here.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use turnout::domain::Color;

/// One connection to a server.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    /// When its opening began.
    pub(crate) opened: Instant,
    /// Requests sent on it so far.
    pub(crate) used: u32,
}

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// No connection.
    Refused,
    /// End of file or reset before any byte of the answer.
    NoAnswer,
    /// End of file or reset within the answer.
    Cut,
    /// Nothing in time.
    Timeout,
    /// Not HTTP.
    Malformed,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// Whether the server keeps the connection.
    pub(crate) keeps: bool,
}

impl Answer {
    /// A header's value; names in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(&self.head)
            .ok()?
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// How often a header stands there; names in any case.
    pub(crate) fn count(&self, name: &str) -> usize {
        String::from_utf8_lossy(&self.head)
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .count()
    }

    /// The color that a header names.
    pub(crate) fn color(&self, header: &str) -> Option<Color> {
        self.header(header)?.parse().ok()
    }

    /// The color of the backend that answered, by its own word.
    pub(crate) fn backend(&self) -> Option<Color> {
        self.color("x-backend")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!(
                "the body is not JSON: {error}\n{} {}",
                self.status,
                self.text()
            )
        })
    }
}

impl Connection {
    /// Opens a connection; neither opening nor any later read waits longer than `patience`.
    pub(crate) fn open(address: SocketAddr, patience: Duration) -> Result<Self, Failure> {
        let opened = Instant::now();
        let stream = TcpStream::connect_timeout(&address, patience).map_err(|error| {
            if error.kind() == ErrorKind::TimedOut {
                Failure::Timeout
            } else {
                Failure::Refused
            }
        })?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.set_write_timeout(Some(patience)).unwrap();
        Ok(Self {
            stream: BufReader::new(stream),
            opened,
            used: 0,
        })
    }

    /// True if the server has closed (or said something unasked): what a careful client looks at before it reuses one.
    pub(crate) fn is_stale(&self) -> bool {
        let stream = self.stream.get_ref();
        stream.set_nonblocking(true).unwrap();
        let seen = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        !matches!(seen, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a request, raw, and reads its whole answer.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        self.used += 1;
        if let Err(error) = self.stream.get_mut().write_all(request) {
            return Err(no_answer(&error));
        }
        let mut head = Vec::with_capacity(512);
        loop {
            let before = head.len();
            match self.stream.read_until(b'\n', &mut head) {
                Ok(0) if head.is_empty() => return Err(Failure::NoAnswer),
                Ok(0) => return Err(Failure::Cut),
                Ok(_) => {}
                Err(error) if head.is_empty() => return Err(no_answer(&error)),
                Err(error) => return Err(cut(&error)),
            }
            if head.len() - before <= 2 {
                break;
            }
        }
        let status = std::str::from_utf8(&head)
            .ok()
            .and_then(|text| text.strip_prefix("HTTP/1."))
            .and_then(|text| text.get(2..5))
            .and_then(|digits| digits.parse().ok())
            .ok_or(Failure::Malformed)?;
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
            keeps: true,
        };
        answer.keeps = !answer
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.read_body(&mut answer)?;
        Ok(answer)
    }

    fn read_body(&mut self, answer: &mut Answer) -> Result<(), Failure> {
        if matches!(answer.status, 100..200 | 204 | 304) {
            return Ok(());
        }
        let length = answer
            .header("content-length")
            .map(|value| value.parse::<usize>().ok().ok_or(Failure::Malformed))
            .transpose()?;
        let chunked = answer
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        if let Some(length) = length {
            answer.body.resize(length, 0);
            self.stream
                .read_exact(&mut answer.body)
                .map_err(|error| cut(&error))
        } else if chunked {
            loop {
                let mut line = String::new();
                self.stream
                    .read_line(&mut line)
                    .map_err(|error| cut(&error))?;
                let size = usize::from_str_radix(line.trim(), 16)
                    .ok()
                    .ok_or(Failure::Malformed)?;
                let mut piece = vec![0; size + 2];
                self.stream
                    .read_exact(&mut piece)
                    .map_err(|error| cut(&error))?;
                answer.body.extend_from_slice(&piece[..size]);
                if size == 0 {
                    return Ok(());
                }
            }
        } else {
            answer.keeps = false;
            self.stream
                .read_to_end(&mut answer.body)
                .map_err(|error| cut(&error))?;
            Ok(())
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn no_answer(error: &std::io::Error) -> Failure {
    if is_timeout(error) {
        Failure::Timeout
    } else {
        Failure::NoAnswer
    }
}

fn cut(error: &std::io::Error) -> Failure {
    if is_timeout(error) {
        Failure::Timeout
    } else {
        Failure::Cut
    }
}

/// One GET on a connection of its own; `headers` are whole lines without their ends.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &[&str]) -> Result<Answer, Failure> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    Connection::open(address, Duration::from_mins(1))?.send(request.as_bytes())
}
