//! A load of several kinds of clients at once, each a closed loop with a think time (`balancers.md`, section 3.1).
//!
//! What is lost in a reload depends on how a client treats its connections, so each way that real clients have is a class
//! of its own. Every time stamp is the monotonic clock's. A failed request is recorded and never repeated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Connection, Failure, Report, Sample};

/// A kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Kept alive, hardly a pause between requests.
    Busy,
    /// Kept alive, mostly idle, and never looks whether the server has closed before it sends again.
    Idle,
    /// The same, but looks first and opens a new one if the server has closed, as Go, hyper and curl do.
    IdleCheck,
    /// Kept alive, POST with a body.
    Post,
    /// A new connection for each request.
    Close,
}

impl Class {
    pub(crate) const ALL: [Self; 5] = [
        Self::Busy,
        Self::Idle,
        Self::IdleCheck,
        Self::Post,
        Self::Close,
    ];

    /// How many clients, and the think time of each. Together about 5,000 requests a second if answers come within 0.5 ms.
    const fn clients(self) -> (usize, Duration) {
        match self {
            Self::Busy => (4, Duration::from_millis(1)),
            Self::Idle | Self::IdleCheck => (16, Duration::from_millis(50)),
            Self::Post => (8, Duration::from_millis(20)),
            Self::Close => (4, Duration::from_millis(3)),
        }
    }

    const fn request(self) -> &'static [u8] {
        match self {
            Self::Busy | Self::Idle | Self::IdleCheck => {
                b"GET /page HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"
            }
            Self::Post => {
                b"POST /order HTTP/1.1\r\nHost: shop.example.com\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
            }
            Self::Close => {
                b"GET /page HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n"
            }
        }
    }
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Sample>>>,
    began: Instant,
}

impl Load {
    /// Starts all classes against `target`.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = Vec::new();
        for class in Class::ALL {
            let (count, think) = class.clients();
            for number in 0..count {
                let stop = Arc::clone(&stop);
                // spread over the think time, so that they do not all ask at once for ever
                let offset = think * u32::try_from(number).unwrap() / u32::try_from(count).unwrap();
                clients.push(std::thread::spawn(move || {
                    std::thread::sleep(offset);
                    client(class, think, target, &stop)
                }));
            }
        }
        Self {
            stop,
            clients,
            began: Instant::now(),
        }
    }

    /// Lets every client finish its request, and hands over what they saw.
    pub(crate) fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let ended = Instant::now();
        let samples = self
            .clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect();
        Report::new(samples, ended - self.began)
    }
}

/// Longer than any pause a reload makes; a request that takes so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn client(class: Class, think: Duration, target: SocketAddr, stop: &AtomicBool) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(16 * 1024);
    let mut kept: Option<Connection> = None;
    while !stop.load(Ordering::Relaxed) {
        if class == Class::IdleCheck && kept.as_ref().is_some_and(Connection::is_stale) {
            kept = None;
        }
        let start = Instant::now();
        let sample = match kept.take().map_or_else(
            || Connection::open(target, PATIENCE),
            Ok::<Connection, Failure>,
        ) {
            Err(failure) => Sample {
                class,
                opened: start,
                reused: false,
                start,
                end: Instant::now(),
                outcome: Err(failure),
            },
            Ok(mut connection) => {
                let reused = connection.used > 0;
                let answer = connection.send(class.request());
                let sample = Sample {
                    class,
                    opened: connection.opened,
                    reused,
                    start,
                    end: Instant::now(),
                    outcome: answer.as_ref().map(Into::into).map_err(|failure| *failure),
                };
                if class != Class::Close && answer.is_ok_and(|answer| answer.keeps) {
                    kept = Some(connection);
                }
                sample
            }
        };
        samples.push(sample);
        std::thread::sleep(think);
    }
    samples
}
