//! Clients that ask for the alias's host until they are told to stop, and what they saw.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::Connection;

/// One request of a client's.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) sent: Instant,
    /// Status and who answered, or what went wrong.
    pub(super) answer: Result<(u16, String), String>,
}

/// Four clients on kept-alive connections, which ask each 2 ms.
pub(super) struct Load {
    ends: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Asked>>>,
}

impl Load {
    pub(super) fn start(front: SocketAddr) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let clients = (0..4)
            .map(|_| {
                let ends = Arc::clone(&ends);
                std::thread::spawn(move || client(front, &ends))
            })
            .collect();
        Self { ends, clients }
    }

    pub(super) fn finish(self) -> Vec<Asked> {
        self.ends.store(true, Ordering::Relaxed);
        let clients = self.clients.into_iter();
        let mut all: Vec<_> = clients.flat_map(|client| client.join().unwrap()).collect();
        all.sort_by_key(|asked| asked.sent);
        all
    }
}

fn client(front: SocketAddr, ends: &AtomicBool) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut open: Option<Connection> = None;
    while !ends.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let answer = open
            .take()
            .filter(|connection| !connection.is_stale())
            .map_or_else(|| Connection::open(front, Duration::from_secs(20)), Ok)
            .and_then(|mut connection| {
                let answer = connection.send(b"GET / HTTP/1.1\r\nHost: blog.com\r\n\r\n")?;
                if answer.keeps {
                    open = Some(connection);
                }
                Ok(answer)
            });
        asked.push(Asked {
            sent,
            answer: answer
                .map(|answer| (answer.status, answer.text()))
                .map_err(|failure| format!("{failure:?}")),
        });
        std::thread::sleep(Duration::from_millis(2));
    }
    asked
}

/// Requests that did not get a 200, each kind with its number.
pub(super) fn failures(asked: &[Asked]) -> BTreeMap<String, usize> {
    let mut failures = BTreeMap::new();
    for one in asked {
        let failure = match &one.answer {
            Ok((200, _)) => continue,
            Ok((status, text)) => format!("{status} {text}"),
            Err(failure) => failure.clone(),
        };
        *failures.entry(failure).or_default() += 1;
    }
    failures
}

/// Who answered the requests that were sent from `from` on.
pub(super) fn answered(asked: &[Asked], from: Instant) -> BTreeSet<String> {
    let late = asked.iter().filter(|one| one.sent >= from);
    late.filter_map(|one| one.answer.as_ref().ok())
        .map(|(_, text)| text.clone())
        .collect()
}
