//! A client that connects anew every millisecond, and how long nobody was there for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Failure, get};

/// The client at work.
pub(super) struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, Outcome)>>,
}

/// What one request met.
#[derive(Debug, Clone)]
enum Outcome {
    Answered,
    /// Another answer than 200.
    Status(u16),
    Failed(Failure),
}

/// The times in which no request was answered.
pub(super) struct Gaps {
    /// From the last good answer to the next one, each.
    pub(super) all: Vec<Duration>,
    /// Answers that were neither 200 nor a refused connection, in words.
    pub(super) others: Vec<String>,
    pub(super) requests: usize,
}

impl Gaps {
    /// The longest.
    pub(super) fn longest(&self) -> Duration {
        self.all.iter().copied().max().unwrap_or_default()
    }
}

impl Client {
    pub(super) fn start(front: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let outcome = match get(front, "/", &["X-Session-Key: user-7"]) {
                    Ok(answer) if answer.status == 200 => Outcome::Answered,
                    Ok(answer) => Outcome::Status(answer.status),
                    Err(failure) => Outcome::Failed(failure),
                };
                seen.push((Instant::now(), outcome));
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Self { stop, thread }
    }

    pub(super) fn finish(self) -> Gaps {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().unwrap();
        let mut gaps = Gaps {
            all: Vec::new(),
            others: Vec::new(),
            requests: seen.len(),
        };
        let mut last = seen[0].0;
        let mut is_gap = false;
        for (at, outcome) in seen {
            match outcome {
                Outcome::Answered => {
                    if is_gap {
                        gaps.all.push(at - last);
                    }
                    (last, is_gap) = (at, false);
                }
                Outcome::Status(status) => {
                    gaps.others.push(format!("status {status}"));
                    is_gap = true;
                }
                Outcome::Failed(failure) => {
                    if !matches!(failure, Failure::Refused) {
                        gaps.others.push(format!("{failure:?}"));
                    }
                    is_gap = true;
                }
            }
        }
        gaps
    }
}
