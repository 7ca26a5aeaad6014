//! Workers from before a reload. They take no new connection, but a request on one that a client has kept is still routed by
//! them, and by the map that they were started with; the runtime socket does not reach them, the master's does.

use std::time::Duration;

use super::Haproxy;
use super::process::Master;
use super::socket::{self, Said, SocketError};
use crate::render::HaproxyPosition;

/// For one worker through the master; it answers in about a millisecond.
const ANSWER: Duration = Duration::from_secs(1);

/// Gives every older worker the same position as `now`, where a master socket is configured. The lines say which of them
/// could not be told and so still route the way they did.
pub(super) async fn follow(
    haproxy: &Haproxy,
    master: Option<&Master>,
    now: &Said,
    keys: &[(String, u64)],
) -> Vec<String> {
    let Some(master) = master else {
        return vec![
            "the master was not found, so workers from before a reload, if there are any, were not told: see \
             balancer.haproxy.pid"
                .to_owned(),
        ];
    };
    let mut lines = Vec::new();
    for elder in master.workers() {
        if elder.pid == now.pid {
            continue;
        }
        let why = match &haproxy.settings.master_socket {
            None => "set balancer.haproxy.master_socket (HAProxy's -S), so that it can be told"
                .to_owned(),
            Some(_) => match tell(haproxy, elder.pid, keys).await {
                Ok(()) => continue,
                Err(_gone) if !elder.lives() => continue,
                Err(error) => error.to_string(),
            },
        };
        lines.push(format!(
            "worker {} from before a reload is still there, and routes the next request on each connection that a client has \
             kept as it did then: {why}",
            elder.pid
        ));
    }
    lines
}

async fn tell(haproxy: &Haproxy, pid: i32, keys: &[(String, u64)]) -> Result<(), SocketError> {
    let Some(path) = &haproxy.settings.master_socket else {
        return Ok(());
    };
    let map = haproxy.map();
    let map = map.display();
    let show = format!("@!{pid} show map {map}");
    let position = |text: &str| {
        let entries = text.lines().filter_map(|line| line.split_once(' '));
        HaproxyPosition::of(entries.map(|(_address, entry)| entry))
    };
    let before = position(&socket::ask_master(path, &show, ANSWER).await?);
    // an elder that knows less services has no connection to route there
    let wanted = |now: &HaproxyPosition| -> Vec<(String, u64)> {
        let differs = |(key, value): &&(String, u64)| {
            now.keys
                .get(key)
                .is_some_and(|now| *now != value.to_string())
        };
        keys.iter().filter(differs).cloned().collect()
    };
    for (key, value) in wanted(&before) {
        let line = format!("@!{pid} set map {map} {key} {value}");
        let answer = socket::ask_master(path, &line, ANSWER).await?;
        if !answer.trim().is_empty() {
            return Err(SocketError::Answer {
                command: line,
                answer: answer.trim().to_owned(),
            });
        }
    }
    let after = position(&socket::ask_master(path, &show, ANSWER).await?);
    match wanted(&after).first() {
        None => Ok(()),
        Some((key, _)) => Err(SocketError::Answer {
            command: show,
            answer: format!("{key} unchanged"),
        }),
    }
}
