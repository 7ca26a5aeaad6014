//! One end of a connection, spoken to in bytes: what a client library would put right is what the tests look at.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// One end of a connection, spoken to in bytes.
pub(crate) struct Wire(pub(crate) TcpStream);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Wire {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// A whole head; empty at the end of the stream.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let read = tokio::time::timeout(SOON, self.0.read_u8()).await;
            match read.expect("nothing came") {
                Ok(byte) => head.push(byte),
                Err(_end) => break,
            }
        }
        String::from_utf8(head).unwrap()
    }

    /// A head with the body that it announces.
    pub(crate) async fn message(&mut self) -> Answer {
        let head = self.head().await;
        let mut message = Answer {
            head,
            body: Vec::new(),
        };
        if let Some(length) = message.header("content-length") {
            message.body = vec![0; length.parse().unwrap()];
            let read = self.0.read_exact(&mut message.body);
            tokio::time::timeout(SOON, read).await.unwrap().unwrap();
        } else if message.header("transfer-encoding").is_some() {
            while let Some(part) = self.chunk().await {
                message.body.extend(part);
            }
        }
        message
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let answer = self.message().await;
        assert!(answer.head.starts_with("HTTP/1.1 "), "{:?}", answer.head);
        answer
    }

    /// One chunk; `None` at the last one, or where the stream ends.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let read = tokio::time::timeout(SOON, self.0.read_u8()).await;
            line.push(read.expect("no chunk came").ok()?);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let mut part = vec![0; size + 2];
        self.0.read_exact(&mut part).await.ok()?;
        part.truncate(size);
        (size > 0).then_some(part)
    }

    /// True if the other end closes.
    pub(crate) async fn ended(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(SOON, self.0.read_to_end(&mut rest)).await;
        read.is_ok() && rest.is_empty()
    }
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
}
