//! The way back after a change that HAProxy did not take: the last good files, the shape and the position that were served.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::install::{InstallError, LastGood};
use super::super::{ApplyError, Change, Presence, Step};
use super::apply::Before;
use super::process::Master;
use super::reload::{self, Unproved};
use super::socket::Said;
use super::{Haproxy, absent, position};

/// For a worker to answer after its predecessor was killed; a start takes 40 ms, a large one more.
const STARTING: Duration = Duration::from_secs(5);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The files go back; HAProxy was never told.
pub(super) fn undo_untold(last_good: LastGood, error: ApplyError) -> ApplyError {
    match last_good.restore() {
        Ok(()) => {
            settle_undone(last_good);
            error
        }
        Err(undo) => not_put_back(&last_good, error.to_string(), &undo),
    }
}

/// HAProxy was not told, and some files could not be put back.
pub(super) fn not_put_back(
    last_good: &LastGood,
    message: String,
    undo: &InstallError,
) -> ApplyError {
    ApplyError::NotRestored {
        message,
        undo: crate::domain::describe(undo),
        advice: format!(
            "HAProxy was not told. Put the files back: {}",
            last_good.by_hand()
        ),
    }
}

/// HAProxy may have been told, and is not seen to serve the last good configuration.
pub(super) fn not_brought_back(
    haproxy: &Haproxy,
    last_good: &LastGood,
    message: String,
    undo: String,
) -> ApplyError {
    ApplyError::NotRestored {
        message,
        undo,
        advice: format!(
            "By hand: {} && kill -USR2 $(cat {}); then look with `turnout verify`",
            last_good.by_hand(),
            haproxy.settings.pid.display()
        ),
    }
}

/// What stands on disk is the last good again.
pub(super) fn settle_undone(last_good: LastGood) {
    // without the mark the next change takes these same files for the last good ones, which they are
    drop(last_good.clear());
}

/// The way back after HAProxy was told.
pub(super) async fn restore(
    haproxy: &Haproxy,
    change: &Change<'_>,
    before: &Before,
    last_good: LastGood,
    message: String,
) -> ApplyError {
    let failed = |undo: String| not_brought_back(haproxy, &last_good, message.clone(), undo);
    if let Err(error) = last_good.restore() {
        return failed(format!(
            "the last good files could not be put back: {}",
            crate::domain::describe(&error)
        ));
    }
    change
        .progress
        .tell(Step::Restore, "the last good files are back");
    let serves = before.said.position.generation.unwrap_or_default();
    let now = match now(haproxy).await {
        Now::Answers(now) => now,
        Now::Gone => {
            settle_undone(last_good);
            return ApplyError::Unreachable {
                message: format!(
                    "{message}; its files are as before, and HAProxy does not run any more: start it (systemctl start haproxy)"
                ),
            };
        }
        Now::Mute(seen) => {
            return failed(format!("the last good files are back, but {seen}"));
        }
    };
    // one that was started meanwhile is another one
    let master = Master::find(&haproxy.settings.pid).await.ok();
    if now.shape != before.said.shape {
        let Some(master) = &master else {
            return failed("the last good files are back, but no master is seen".to_owned());
        };
        match reload::into(haproxy, master, before.said.shape.as_deref(), before.within).await {
            Ok(_) => {}
            Err(Unproved::NotTaken(seen)) => return failed(seen),
            Err(Unproved::Untold(error)) => return failed(error.to_string()),
        }
    }
    if before.said.shape.is_some()
        && let Err(error) = position::put(haproxy, master.as_ref(), &before.keys()).await
    {
        return failed(format!("the last good files are back, but {error}"));
    }
    change
        .progress
        .tell(Step::Restore, &format!("generation {serves} serves"));
    settle_undone(last_good);
    ApplyError::Restored { message, serves }
}

/// What there is of HAProxy once the files are back.
enum Now {
    /// A worker, and what it says.
    Answers(Said),
    /// Nothing: whatever starts, starts with the files.
    Gone,
    /// A process that does not answer; what was seen.
    Mute(String),
}

/// A worker that was killed takes a moment to end with its master, and one that systemd starts in its place another to listen.
async fn now(haproxy: &Haproxy) -> Now {
    let map = haproxy.map();
    let started = Instant::now();
    loop {
        let seen = match haproxy.socket(&map).look().await {
            Ok(now) if !now.stopping => return Now::Answers(now),
            Ok(now) => format!("worker {} is stopping", now.pid),
            Err(error) => error.to_string(),
        };
        match absent::presence(haproxy).await {
            Presence::Gone(_) => return Now::Gone,
            Presence::Here | Presence::Unclear(_) if started.elapsed() >= STARTING => {
                return Now::Mute(seen);
            }
            Presence::Here | Presence::Unclear(_) => sleep(PAUSE).await,
        }
    }
}
