//! A server that says what it was asked, lies about where it was routed, and is healthy or not as the test wants.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use turnout::domain::Color;

use crate::support::Ports;

/// Answers with the head of the request as the body. Ends with the process.
#[derive(Debug, Clone)]
pub(super) struct Echo {
    pub(super) address: SocketAddr,
    healthy: Arc<AtomicBool>,
}

impl Echo {
    pub(super) fn start(color: Color) -> Self {
        let address = Ports::address();
        let listener = TcpListener::bind(address).unwrap();
        let healthy = Arc::new(AtomicBool::new(true));
        let echo = Self {
            address,
            healthy: Arc::clone(&healthy),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let healthy = Arc::clone(&healthy);
                // an error here is a client that went away
                std::thread::spawn(move || serve(stream, color, &healthy).ok());
            }
        });
        echo
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What `/health` says from now on.
    pub(super) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::SeqCst);
    }
}

fn serve(stream: TcpStream, color: Color, healthy: &AtomicBool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let is_probe = head.split(' ').nth(1) == Some("/health");
        let status = if is_probe && !healthy.load(Ordering::SeqCst) {
            503
        } else {
            200
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nX-Backend: {color}\r\nX-Routed-To: forged\r\nX-Upstream-URL: forged\r\nContent-Length: {}\r\n\r\n{head}",
            head.len()
        );
        stream.get_mut().write_all(answer.as_bytes())?;
    }
}
