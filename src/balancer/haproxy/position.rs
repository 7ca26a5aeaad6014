//! Color and weights into the running worker, and read back.
//!
//! A command that comes in the first 80 ms of a reload is lost with the worker that took it, whoever reloads. So a position
//! is in force when the worker has it that answers after the master is seen at rest, and not before.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::Tended;
use super::Haproxy;
use super::process::Master;
use super::socket::{Said, SocketError};
use crate::domain::RoutingTable;
use crate::render::{HaproxyPosition, Head, haproxy_keys};

/// For a reload that is under way to end; measured 40 to 70 ms, and a busy address makes it two seconds.
const AT_REST: Duration = Duration::from_secs(5);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Gives the running worker these keys and reads them back. The error says what was seen.
pub(super) async fn put(
    haproxy: &Haproxy,
    master: Option<&Master>,
    keys: &[(String, u64)],
) -> Result<Said, SocketError> {
    let map = haproxy.map();
    let socket = haproxy.socket(&map);
    let started = Instant::now();
    loop {
        let round = async {
            let said = socket.look().await?;
            if said.has(keys) {
                return Ok(said);
            }
            socket.put(keys, &said).await?;
            socket.look().await
        };
        let done = round.await;
        let is_over = started.elapsed() >= AT_REST;
        match done {
            Ok(said) if said.has(keys) && !said.stopping => {
                if is_over || master.is_none_or(Master::is_settled) {
                    haproxy.saw(said.pid);
                    return Ok(said);
                }
            }
            Ok(said) if is_over => {
                let wrong = keys
                    .iter()
                    .find(|(key, value)| said.position.keys.get(key) != Some(&value.to_string()));
                let (key, value) = wrong.map_or(("?", 0), |(key, value)| (key.as_str(), *value));
                return Err(SocketError::Answer {
                    command: format!("set map {} {key} {value}", map.display()),
                    answer: format!(
                        "nothing, and `show map` says {}",
                        said.position
                            .keys
                            .get(key)
                            .map_or("nothing", String::as_str)
                    ),
                });
            }
            Ok(_) => {}
            Err(
                error @ (SocketError::Level { .. }
                | SocketError::Answer { .. }
                | SocketError::Denied { .. }),
            ) => return Err(error),
            // the moment in which the socket changes hands
            Err(error) if is_over || master.is_none_or(|master| !master.lives()) => {
                return Err(error);
            }
            Err(_changing_hands) => {}
        }
        sleep(PAUSE).await;
    }
}

/// The splits that the worker was given by hand: those that are not what the untouched map file says, although its
/// generation is the file's.
pub(super) fn by_hand(haproxy: &Haproxy, said: &Said) -> Vec<String> {
    let Ok(bytes) = std::fs::read(haproxy.map()) else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    if !matches!(Head::of(&text), Head::Intact { .. }) {
        return Vec::new();
    }
    let file = HaproxyPosition::of(text.lines().filter(|line| !line.starts_with('#')));
    if file.generation != said.position.generation {
        return Vec::new();
    }
    said.position
        .splits
        .iter()
        .filter_map(|(name, split)| {
            let written = file.splits.get(name)?;
            (written != split).then(|| {
                format!("{name} had been set to {split} by hand on HAProxy's socket, and was {written} for turnout")
            })
        })
        .collect()
}

/// True if a worker answers that turnout has not seen before. The first one that it meets is no news.
pub(super) async fn is_new(haproxy: &Haproxy) -> bool {
    let map = haproxy.map();
    let Ok(said) = haproxy.socket(&map).look().await else {
        // that it cannot be asked is in the status
        return false;
    };
    if haproxy.worker.load(Ordering::Relaxed) == 0 {
        haproxy.saw(said.pid);
    }
    !said.stopping && haproxy.worker.load(Ordering::Relaxed) != said.pid
}

/// Whoever started the new worker, it gets the position that is recorded, unless the map file was edited by hand: then a
/// person wanted it so, and it is drift. So is what a worker says that turnout has seen before.
pub(super) async fn tend(haproxy: &Haproxy, desired: &RoutingTable) -> Tended {
    let map = haproxy.map();
    let Ok(said) = haproxy.socket(&map).look().await else {
        return Tended::Nothing;
    };
    let known = haproxy.worker.load(Ordering::Relaxed);
    if said.pid == known || said.stopping {
        return Tended::Nothing;
    }
    let keys = haproxy_keys(desired);
    let another = format!(
        "HAProxy was reloaded or restarted by somebody else (worker {known}, now {})",
        said.pid
    );
    if said.has(&keys) {
        haproxy.saw(said.pid);
        return Tended::Seen(format!("{another}; its position is right"));
    }
    if said.shape.is_none() || said.position.keys.is_empty() {
        return Tended::Failed(format!(
            "{another}, and it runs without {}: look with `turnout doctor`",
            haproxy.settings.config.display()
        ));
    }
    if !file_says(&map, &keys) {
        haproxy.saw(said.pid);
        return Tended::Seen(format!(
            "{another}, with a position that is neither turnout's nor that of an untouched {}: look with `turnout verify`",
            map.display()
        ));
    }
    // without it workers from before a reload are not told, of which `put` warns
    let master = Master::find(&haproxy.settings.pid).await.ok();
    match put(haproxy, master.as_ref(), &keys).await {
        Ok(_) => Tended::PutRight(format!("{another}; its position was put right")),
        Err(error) => Tended::Failed(format!(
            "{another}, and its position could not be put right: {error}"
        )),
    }
}

/// True if the map file is untouched and has these keys.
fn file_says(map: &Path, keys: &[(String, u64)]) -> bool {
    let Ok(text) = std::fs::read_to_string(map) else {
        return false;
    };
    let file = HaproxyPosition::of(text.lines().filter(|line| !line.starts_with('#')));
    matches!(Head::of(&text), Head::Intact { .. })
        && keys
            .iter()
            .all(|(key, value)| file.keys.get(key) == Some(&value.to_string()))
}
