//! Both ends of a request: a client that shows everything of an answer, and servers that show everything of a request.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use turnout::domain::{Color, Server};

use super::lab::Lab;

impl Lab {
    pub(super) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.get_as("shop.example.com", path, headers).await
    }

    pub(super) async fn get_as(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut connection = self.connection().await;
        connection.get(host, path, headers).await
    }

    pub(super) async fn connection(&self) -> Connection {
        Connection(TcpStream::connect(self.front()).await.unwrap())
    }
}

/// A server that echoes the request's head and says its color. One thread for each connection.
pub(super) fn backend(color: &'static str) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        let body = String::from_utf8_lossy(&head).replace('\r', "");
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nX-Backend: {color}\r\nX-Routed-To: forged\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        );
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                        head.clear();
                    }
                }
            });
        }
    });
    format!("http://{address}").parse().unwrap()
}

pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    /// The one value of a header, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map_or("", |(_, value)| value);
        assert_eq!(values.next(), None, "{name} comes twice");
        value
    }
}

pub(super) struct Connection(TcpStream);

impl Connection {
    pub(super) async fn routed(&mut self, headers: &[(&str, &str)]) -> Color {
        let answer = self.get("shop.example.com", "/", headers).await;
        answer.header("x-routed-to").parse().unwrap()
    }

    pub(super) async fn get(&mut self, host: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in headers {
            request.extend([format!("{name}: {value}\r\n")]);
        }
        request.push_str("\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            let read = self.0.read(&mut buffer).await.unwrap();
            assert!(
                read > 0,
                "the connection ended in {:?}",
                String::from_utf8_lossy(&bytes)
            );
            bytes.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let mut lines = head.lines();
            let status = lines
                .next()
                .unwrap()
                .split(' ')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap();
            let headers: Vec<(String, String)> = lines
                .map(|line| line.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers
                .iter()
                .find(|(name, _)| name == "content-length")
                .map_or(0, |(_, value)| value.parse().unwrap());
            if body.len() >= length {
                return Answer {
                    status,
                    headers,
                    body: body.to_owned(),
                };
            }
        }
    }
}
