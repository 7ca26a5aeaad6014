//! Clients that come with a key of their own each time, and what each of them got: a new user with each request, so that the weights
//! are seen as they are.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use turnout::domain::Color;

use super::SOON;
use crate::support::{BINARY, Background, Connection, Failure, Ports, Run, get, wait_for};

/// What a client does with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// Keeps it, and looks whether the server has closed it before it asks again.
    Keeps,
    /// A new one for each request.
    Closes,
}

/// What one request came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Got {
    /// When it was sent.
    pub(super) at: Timestamp,
    pub(super) took: Duration,
    /// Status and `X-Routed-To`.
    pub(super) what: Result<(u16, Option<Color>), Failure>,
}

impl Got {
    pub(super) fn is_of(&self, color: Color) -> bool {
        matches!(self.what, Ok((_, Some(routed))) if routed == color)
    }

    /// Not what the user wanted.
    pub(super) fn is_bad(&self) -> bool {
        !matches!(self.what, Ok((200..400, _)))
    }
}

/// Clients at work.
pub(super) struct Users {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Got>>>,
}

impl Users {
    /// So many closed loops with this think time; none waits longer than `patience` for an answer.
    pub(super) fn start(
        front: SocketAddr,
        clients: usize,
        think: Duration,
        patience: Duration,
        habit: Habit,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|number| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut seen = Vec::with_capacity(16 * 1024);
                let mut kept = None;
                for round in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let user = format!("{number}-{round}");
                    seen.push(ask(front, &user, &mut kept, patience, habit));
                    std::thread::sleep(think);
                }
                seen
            })
        });
        Self {
            clients: clients.collect(),
            stop,
        }
    }

    pub(super) fn finish(mut self) -> Vec<Got> {
        self.stop.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut self.clients).into_iter();
        clients.flat_map(|client| client.join().unwrap()).collect()
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        // a test that fails leaves nobody behind
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ask(
    front: SocketAddr,
    user: &str,
    kept: &mut Option<Connection>,
    patience: Duration,
    habit: Habit,
) -> Got {
    let (at, begun) = (Timestamp::now(), Instant::now());
    let close = match habit {
        Habit::Keeps => "",
        Habit::Closes => "Connection: close\r\n",
    };
    let request =
        format!("GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Session-Key: {user}\r\n{close}\r\n");
    let connection = match kept.take().filter(|kept| !kept.is_stale()) {
        Some(connection) => Ok(connection),
        None => Connection::open(front, patience),
    };
    let what = connection.and_then(|mut connection| {
        let answer = connection.send(request.as_bytes())?;
        if answer.keeps && habit == Habit::Keeps {
            *kept = Some(connection);
        }
        Ok((answer.status, answer.color("x-routed-to")))
    });
    Got {
        at,
        took: begun.elapsed(),
        what,
    }
}

/// A `turnout sample-app`, which fails this share of its requests.
pub(super) struct App {
    color: Color,
    pub(super) address: SocketAddr,
    pub(super) process: Background,
}

impl App {
    pub(super) fn start(color: Color, error_rate: f64, log: &Path) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, Ports::free()));
        Self {
            process: begin(color, address, error_rate, log),
            color,
            address,
        }
    }

    /// Another one in its place, that fails nothing.
    pub(super) fn again(&mut self, log: &Path) {
        self.process.kill();
        self.process = begin(self.color, self.address, 0.0, log);
    }
}

fn begin(color: Color, address: SocketAddr, error_rate: f64, log: &Path) -> Background {
    let process = Run::new(BINARY)
        .args(["sample-app", "--color", color.as_str(), "--port"])
        .arg(address.port().to_string())
        .arg("--error-rate")
        .arg(error_rate.to_string())
        .background(log);
    wait_for("the sample application", SOON, || {
        let health = get(address, "/health", &[]);
        health
            .is_ok_and(|answer| answer.status == 200)
            .then_some(())
    });
    process
}
