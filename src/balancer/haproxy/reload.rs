//! A new shape into a new worker: the master is told, and it is waited for until what it started serves alone.
//!
//! The master says nothing by itself (before 2.7), and may refuse in silence. Seen is: a new worker answers on the socket
//! with the new shape, the master is at rest, and no old worker accepts any more.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Haproxy;
use super::process::{Master, MasterError, Worker};
use super::socket::{self, Said, SocketError};

/// Longer than the two seconds for which HAProxy retries a busy address; a large configuration takes longer to load.
const PROOF: Duration = Duration::from_secs(10);

/// Added for each service.
const PROOF_PER_SERVICE: Duration = Duration::from_millis(5);

/// A master at rest for so long after the signal, with its old workers alone, has refused.
const REFUSED: Duration = Duration::from_secs(1);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a reload with so many services may take.
pub(super) fn within(services: usize) -> Duration {
    PROOF + PROOF_PER_SERVICE * u32::try_from(services).unwrap_or(u32::MAX)
}

/// Why a shape is not proved.
#[derive(Debug)]
pub(super) enum Unproved {
    /// The master could not be told; nothing has happened.
    Untold(MasterError),
    /// It was told, and this was seen.
    NotTaken(String),
}

/// Tells the master, and waits until a worker with `shape` serves alone. `shape: None`: one without turnout's file.
pub(super) async fn into(
    haproxy: &Haproxy,
    master: &Master,
    shape: Option<&str>,
    within: Duration,
) -> Result<(Said, String), Unproved> {
    let old = master.workers();
    let waiting = until(haproxy, master, &old, shape, within);
    let Some(path) = &haproxy.settings.master_socket else {
        master.reload().map_err(Unproved::Untold)?;
        let how = format!("SIGUSR2 to the master {}", master.pid);
        return Ok((waiting.await?, how));
    };
    // 2.7 and later answer with Success=0 or 1 and the log; before, the connection ends with the old master's program
    let how = format!("`reload` to {}", path.display());
    let answer = socket::ask(path, "reload", within);
    tokio::pin!(waiting, answer);
    tokio::select! {
        biased;
        said = &mut waiting => Ok((said?, how)),
        answer = &mut answer => match answer {
            Err(error @ (SocketError::Missing { .. } | SocketError::Abandoned { .. } | SocketError::Denied { .. })) => {
                Err(Unproved::NotTaken(format!("the master could not be told to reload: {error}")))
            }
            Ok(text) if text.contains("Success=0") => {
                let log: Vec<&str> = text.lines().filter(|line| line.contains("[ALERT]")).collect();
                Err(Unproved::NotTaken(format!("HAProxy did not take the reload: {}", log.join("; "))))
            }
            Ok(_) | Err(_) => Ok((waiting.await?, how)),
        },
    }
}

async fn until(
    haproxy: &Haproxy,
    master: &Master,
    old: &[Worker],
    shape: Option<&str>,
    within: Duration,
) -> Result<Said, Unproved> {
    let map = haproxy.map();
    let socket = haproxy.socket(&map);
    let started = Instant::now();
    let mut at_rest = started;
    loop {
        if !master.lives() {
            return Err(Unproved::NotTaken(
                "HAProxy ended during the reload".to_owned(),
            ));
        }
        let is_settled = master.is_settled();
        if !is_settled {
            at_rest = Instant::now();
        }
        let accepting = old.iter().filter(|worker| worker.accepts()).count();
        let said = socket.look().await;
        if let Ok(said) = &said
            && said.shape.as_deref() == shape
            && !said.stopping
            && !old.iter().any(|worker| worker.pid == said.pid)
            && is_settled
            && accepting == 0
        {
            return Ok(said.clone());
        }
        let has_new = master.workers().iter().any(|worker| !old.contains(worker));
        let refused = is_settled && !has_new && at_rest.elapsed() >= REFUSED;
        if refused || started.elapsed() >= within {
            let seen = match said {
                Ok(said) if accepting > 0 && said.shape.as_deref() == shape => {
                    format!("{accepting} old workers still accept")
                }
                Ok(said) if refused => format!(
                    "its worker is still {}; HAProxy's log says why (journalctl -u haproxy)",
                    said.pid
                ),
                Ok(said) => format!(
                    "its worker {} has the shape {}",
                    said.pid,
                    said.shape.as_deref().unwrap_or("of somebody else")
                ),
                Err(error) => error.to_string(),
            };
            return Err(Unproved::NotTaken(format!(
                "HAProxy did not take the new configuration within {:.1} s: {seen}",
                started.elapsed().as_secs_f64()
            )));
        }
        sleep(PAUSE).await;
    }
}
