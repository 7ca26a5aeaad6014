//! What systemd is told: READY after the first proof, STATUS in a line, WATCHDOG while the controller answers, STOPPING.
//!
//! Without systemd (`NOTIFY_SOCKET` unset) nothing of this is said, and nothing fails.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::controller::{Handle, Status};

/// How long the controller may be busy before it counts as stuck. The longest thing it awaits is one apply: nginx's check
/// (30 s), its proof and, when that fails, the proof of what was before.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often the controller is asked where no watchdog says otherwise.
const ASK_EVERY: Duration = Duration::from_secs(15);

/// The daemon's sign of life.
pub(super) struct Heartbeat {
    interval: Interval,
    watchdog: Watchdog,
    answered: watch::Receiver<Instant>,
    asking: Option<JoinHandle<()>>,
    told: String,
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

/// Whether systemd waits for signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watchdog {
    Waits,
    Absent,
}

impl Heartbeat {
    /// Begins to ask the controller whether it is there. Must be called within a runtime.
    pub(super) fn new(handle: Handle) -> Self {
        let (every, watchdog) = match sd_notify::watchdog_enabled() {
            // half of what systemd waits, as it advises
            Some(limit) => (limit / 2, Watchdog::Waits),
            None => (ASK_EVERY, Watchdog::Absent),
        };
        let mut interval = tokio::time::interval(every.max(Duration::from_millis(1)));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (answers, answered) = watch::channel(Instant::now());
        let asking = (watchdog == Watchdog::Waits).then(|| {
            tokio::spawn(async move {
                while handle.verify().await.is_ok() && answers.send(Instant::now()).is_ok() {
                    tokio::time::sleep(every).await;
                }
            })
        });
        Self {
            interval,
            watchdog,
            answered,
            asking,
            told: String::new(),
        }
    }

    /// Waits for the next beat and gives it, if the controller has answered lately.
    pub(super) async fn beat(&mut self) {
        self.interval.tick().await;
        if self.watchdog == Watchdog::Absent {
            return;
        }
        let silent = self.answered.borrow().elapsed();
        if silent < PATIENCE {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(
                silent_s = silent.as_secs(),
                "the controller does not answer: leaving it to systemd's watchdog"
            );
        }
    }

    /// The status in a line, if it is another one than before.
    pub(super) fn status(&mut self, status: &Status) {
        let line = line(status);
        if line != self.told {
            tell(&[NotifyState::Status(&line)]);
            self.told = line;
        }
    }
}

/// The first proof is there.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Told to end; systemd is to wait this long.
pub(super) fn stopping(longest: Duration) {
    let extend = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(extend),
        NotifyState::Status("finishing what is in flight"),
    ]);
}

/// Another process is the daemon by now, and this one has as long as the drain to finish.
pub(super) fn succeeded_by(pid: Option<i32>, drain: Duration) {
    let extend = u32::try_from(drain.as_micros()).unwrap_or(u32::MAX);
    if let Some(pid) = pid.and_then(|pid| u32::try_from(pid).ok()) {
        tell(&[
            NotifyState::ExtendTimeoutUsec(extend),
            NotifyState::MainPid(pid),
        ]);
    }
}

/// Signs of life while there is no controller to ask, because a successor begins.
pub(super) struct Between(Option<Interval>);

pub(super) fn between() -> Between {
    // half of what systemd waits, as it advises
    Between(sd_notify::watchdog_enabled().map(|limit| tokio::time::interval(limit / 2)))
}

impl Between {
    pub(super) async fn beat(&mut self) {
        match &mut self.0 {
            Some(interval) => {
                interval.tick().await;
                tell(&[NotifyState::Watchdog]);
            }
            None => std::future::pending().await,
        }
    }
}

/// `generation 12 on nginx; shop: blue 75% green 25%; 1 problem`
fn line(status: &Status) -> String {
    let mut parts = vec![format!(
        "generation {} on {}",
        status.generation, status.balancer
    )];
    match status.services.as_slice() {
        few @ ([_] | [_, _] | [_, _, _]) => parts.extend(
            few.iter()
                .map(|service| format!("{}: {}", service.service, service.split())),
        ),
        many => parts.push(format!("{} services", many.len())),
    }
    if let Some(problem) = status.problems.first() {
        let first = problem.lines().next().unwrap_or_default();
        parts.push(format!(
            "{} problems, first: {first}",
            status.problems.len()
        ));
    }
    if !status.drift.is_empty() {
        parts.push("drift: see `turnout verify`".to_owned());
    }
    parts.join("; ")
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
