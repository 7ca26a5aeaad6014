//! The application behind the balancer, one for each color: answers who it is, and misbehaves on request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use turnout::domain::Color;

use super::Ports;

/// How it answers, requests and probes alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// 200.
    Healthy,
    /// This status.
    Status(u16),
    /// Reads the request and never answers.
    Hang,
}

#[derive(Debug)]
struct Shared {
    color: Color,
    mode: Mutex<Mode>,
    version: Mutex<String>,
    environment: Mutex<String>,
    stopped: AtomicBool,
    requests: AtomicU64,
}

/// One server of one color. Every answer carries `X-Backend`; `/health` is the health document of the contract; `/slow/MS`
/// takes that many milliseconds.
#[derive(Debug)]
pub(crate) struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

impl Backend {
    pub(crate) fn start(color: Color) -> Self {
        // a port that was free may be somebody else's by the time it is listened on
        let listener = (0..20)
            .find_map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, Ports::free())).ok())
            .expect("one of 20 free ports can be listened on");
        let mut backend = Self::at(color, listener.local_addr().unwrap());
        backend.accept(listener);
        backend
    }

    pub(crate) fn start_on(color: Color, port: u16) -> Self {
        let mut backend = Self::at(color, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        backend.listen();
        backend
    }

    /// One that does not listen yet.
    fn at(color: Color, address: SocketAddr) -> Self {
        Self {
            address,
            shared: Arc::new(Shared {
                color,
                mode: Mutex::new(Mode::Healthy),
                version: Mutex::new(format!("1.0.0-{color}")),
                environment: Mutex::new(color.to_string()),
                stopped: AtomicBool::new(false),
                requests: AtomicU64::new(0),
            }),
            listening: None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    /// What the health document says in `environment`; normally its color.
    pub(crate) fn claim_environment(&self, name: &str) {
        name.clone_into(&mut self.shared.environment.lock().unwrap());
    }

    /// What the health document says in `version`.
    pub(crate) fn claim_version(&self, version: &str) {
        version.clone_into(&mut self.shared.version.lock().unwrap());
    }

    /// Requests that were not probes.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Accepts again after [`Self::refuse`].
    pub(crate) fn listen(&mut self) {
        let listener = TcpListener::bind(self.address)
            .unwrap_or_else(|error| panic!("failed to listen on {}: {error}", self.address));
        self.accept(listener);
    }

    fn accept(&mut self, listener: TcpListener) {
        self.shared.stopped.store(false, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        self.listening = Some(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&shared);
                // an error here is a client that went away
                std::thread::spawn(move || serve(stream, &shared).ok());
            }
        }));
    }

    /// From now on connections are refused; open ones end with their next request.
    pub(crate) fn refuse(&mut self) {
        let Some(listening) = self.listening.take() else {
            return;
        };
        self.shared.stopped.store(true, Ordering::SeqCst);
        // wakes the accepting thread, so that it sees the flag
        TcpStream::connect(self.address).ok();
        listening.join().unwrap();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.refuse();
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut head = Vec::with_capacity(1024);
    while !shared.stopped.load(Ordering::SeqCst) {
        head.clear();
        loop {
            let before = head.len();
            if stream.read_until(b'\n', &mut head)? == 0 {
                return Ok(());
            }
            if head.len() - before <= 2 {
                break;
            }
        }
        let text = String::from_utf8_lossy(&head);
        let length = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0);
        std::io::copy(&mut stream.by_ref().take(length), &mut std::io::sink())?;
        let path = text.split(' ').nth(1).unwrap_or("/");
        let mode = *shared.mode.lock().unwrap();
        let body = if path == "/health" {
            health(shared, mode)
        } else {
            shared.requests.fetch_add(1, Ordering::Relaxed);
            shared.color.to_string()
        };
        if let Some(milliseconds) = path.strip_prefix("/slow/") {
            std::thread::sleep(Duration::from_millis(milliseconds.parse().unwrap_or(0)));
        }
        let status = match mode {
            Mode::Healthy => 200,
            Mode::Status(status) => status,
            Mode::Hang => {
                // until the client gives up
                stream.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\nX-Backend: {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            shared.color,
            body.len()
        );
        stream.get_mut().write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn health(shared: &Shared, mode: Mode) -> String {
    let status = if mode == Mode::Healthy {
        "healthy"
    } else {
        "unhealthy"
    };
    serde_json::json!({
        "status": status,
        "environment": *shared.environment.lock().unwrap(),
        "version": *shared.version.lock().unwrap(),
        "uptime_seconds": 1,
        "timestamp": "2026-11-21T00:00:00Z",
        "hostname": "localhost",
        "database_connected": true,
    })
    .to_string()
}
