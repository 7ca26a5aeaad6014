//! When the proxy that stands in takes over, and when it gives back: looks at the balancer once each probe interval, counts,
//! and tells. Nothing else decides it, and no look happens where nobody stands in.
//!
//! The interval is the shortest `health.interval` of the services. Gone at [`LOOKS`] in a row, the proxy takes over with what
//! is recorded; a change that a dead process left open is settled right after, with the proxy that serves to be asked. After a
//! release it is looked every [`RETURNING`], because every moment until the balancer is back is a gap; and it has [`GRACE`] to
//! start, because it binds its addresses first and says who it is afterwards.
//!
//! What came of it is told by `released`, and `fallback.start` is run by `revive`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ChangeError;
use super::released::{Release, Released};
use super::task::Task;
use crate::balancer::{Balancer, Duty, Fallback, Presence, StandIn};
use crate::domain::describe;

/// Looks in a row at which it must be gone.
const LOOKS: u32 = 3;
/// Between two looks after a release.
const RETURNING: Duration = Duration::from_millis(20);
/// From a release, at least, until it is taken for one that does not start: with thousands of services, or with names in
/// somebody's upstreams to look up, it is seconds until a balancer listens.
const GRACE: Duration = Duration::from_secs(10);
/// From a fallback to the first start by turnout: systemd's own `Restart=` comes first.
const FIRST_START: Duration = Duration::from_secs(5);

/// How the problem of a fallback begins that cannot be.
const FALLBACK: &str = "fallback: ";

/// What is known of a balancer that may be gone.
#[derive(Debug)]
pub(super) struct Relief {
    /// The next look.
    next: Instant,
    /// How often in a row it was gone.
    gone: u32,
    /// When that was first seen.
    since: Option<Timestamp>,
    /// The last look at which it was not gone, or was given its listeners back; `None`: none since the start.
    seen: Option<Instant>,
    /// When the listeners were given back.
    released: Option<Instant>,
    /// It is not taken over before: somebody starts it.
    pub(super) due_back: Option<Instant>,
    /// The start command at work (`revive`).
    pub(super) starting: Option<JoinHandle<Result<(), String>>>,
    pub(super) start_wait: Duration,
    /// When the start command may be run next.
    pub(super) start_at: Option<Instant>,
}

impl Default for Relief {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            next: now,
            gone: 0,
            since: None,
            seen: None,
            released: None,
            due_back: None,
            starting: None,
            start_wait: FIRST_START,
            start_at: None,
        }
    }
}

impl Relief {
    /// True unless somebody is about to start it.
    fn is_overdue(&self) -> bool {
        self.due_back.is_none_or(|due| Instant::now() >= due)
    }

    /// Until the next look. Cancel-safe: the time is fixed.
    pub(super) async fn due(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    /// It was there, or somebody is about to start it.
    fn forget(&mut self) {
        self.gone = 0;
        self.since = None;
        self.seen = Some(Instant::now());
    }
}

impl<B: Balancer> Task<B> {
    /// At the start: what a process before this one was serving is taken up at once, if the balancer is still gone.
    pub(super) async fn take_up(&mut self) {
        let Some(stand_in) = self.stand_in() else {
            return;
        };
        let Some(before) = stand_in.remembered() else {
            return;
        };
        match self.controller.balancer.presence().await {
            Presence::Gone(reason) if before.duty == Duty::Serving => {
                self.relief.since = Some(before.since);
                self.take_over(&stand_in, &reason).await;
            }
            Presence::Here => drop(stand_in.stand_aside()),
            Presence::Gone(_) | Presence::Unclear(_) => {}
        }
    }

    fn stand_in(&self) -> Option<Arc<StandIn>> {
        self.controller.balancer.stand_in().map(Arc::clone)
    }

    /// One look.
    pub(super) async fn watch_over(&mut self) {
        let Some(stand_in) = self.stand_in() else {
            // nobody stands in, which only a start changes
            self.relief.next = Instant::now() + Duration::from_hours(24);
            return;
        };
        let every = self.controller.probe_interval();
        let pause = match stand_in.told().map(|told| told.duty) {
            None => {
                self.look_for(&stand_in, every).await;
                every
            }
            Some(Duty::Released) => self.await_return(&stand_in, every).await,
            Some(Duty::Serving) => {
                self.look_beside(&stand_in).await;
                match stand_in.told().map(|told| told.duty) {
                    Some(Duty::Released) => RETURNING,
                    Some(Duty::Serving) | None => every,
                }
            }
        };
        self.relief.next = Instant::now() + pause;
    }

    /// While the proxy serves.
    async fn look_beside(&mut self, stand_in: &StandIn) {
        match self.controller.balancer.presence().await {
            Presence::Here => {
                // it serves beside turnout (in a network of its own, say), and must not miss a switch
                if self.give_back(stand_in).await.is_some() {
                    self.came_back(stand_in, Duration::ZERO).await;
                }
                return;
            }
            Presence::Unclear(seen) => {
                let kind = self.controller.balancer.kind();
                let text = format!(
                    "{kind} is neither gone nor back, so turnout goes on in its place: {seen}. To give the listeners back: \
                     `turnout fallback release`"
                );
                self.problem(text).await;
            }
            Presence::Gone(_) => self.no_problem().await,
        }
        self.start_it(stand_in).await;
    }

    async fn look_for(&mut self, stand_in: &StandIn, every: Duration) {
        match self.controller.balancer.presence().await {
            Presence::Here => {
                self.relief.forget();
                self.relief.due_back = None;
                // what a turnout that ended meanwhile has noted is over as well
                drop(stand_in.stand_aside());
                self.no_problem().await;
            }
            Presence::Unclear(seen) => {
                self.relief.forget();
                let kind = self.controller.balancer.kind();
                let seen =
                    format!("{kind} is not seen to be gone, so turnout does not stand in: {seen}");
                self.problem(seen).await;
            }
            Presence::Gone(reason) => {
                self.relief.since.get_or_insert_with(Timestamp::now);
                self.relief.gone += 1;
                if self.relief.gone >= LOOKS && self.relief.is_overdue() {
                    tracing::debug!(?every, looks = self.relief.gone, "gone");
                    self.take_over(stand_in, &reason).await;
                }
            }
        }
    }

    /// Serves what is recorded in the balancer's place, then settles and brings about what is due.
    async fn take_over(&mut self, stand_in: &StandIn, reason: &str) {
        let kind = self.controller.balancer.kind();
        let table = match self.controller.load().await {
            Ok(loaded) => self.controller.current_table(&loaded.state),
            Err(error) => return self.problem(describe(&error)).await,
        };
        let Some(table) = table else {
            // nothing was ever applied: there is nothing to stand in for
            return;
        };
        // where it has not come back since, it is gone for as long as it was
        let before = stand_in.told().map(|told| told.since);
        let since = before.or(self.relief.since);
        let since = since.unwrap_or_else(Timestamp::now);
        let fallback = match stand_in.take_over(&table, reason, since).await {
            Ok(fallback) => fallback,
            Err(error) => {
                let why = describe(&error);
                let text = format!(
                    "{kind} seems to be gone ({reason}), and turnout cannot stand in: {why}"
                );
                // after a release, not before as many looks again
                self.relief.due_back =
                    Some(Instant::now() + LOOKS * self.controller.probe_interval());
                return self.problem(text).await;
            }
        };
        let unserved = self.relief.seen.map(|seen| seen.elapsed());
        let gap = unserved.map_or_else(
            || "as turnout did before it was started again".to_owned(),
            |gap| format!("nobody served for at most {} ms", gap.as_millis()),
        );
        let listeners = fallback.listens.len();
        let now = format!(
            "generation {}, listeners: {listeners}; {gap}",
            table.generation
        );
        tracing::warn!("{}: {now}", fallback.sentence());
        self.controller.forget(FALLBACK);
        self.relief.released = None;
        self.relief.gone = 0;
        self.relief.start_at = Some(Instant::now() + self.relief.start_wait);
        self.patience = None;
        self.reconcile().await;
        let message = format!("{kind} is gone ({reason}): turnout stands in with {now}");
        let controller = &self.controller;
        controller
            .audit_relief("fallback", "turnout", message, unserved.unwrap_or_default())
            .await;
    }

    /// [`super::Handle::release`].
    pub(super) async fn release(&mut self, actor: &str) -> Result<Release, ChangeError> {
        let Some(stand_in) = self.stand_in() else {
            return Ok(Release::not_in_force(None));
        };
        let Some(fallback) = self.give_back(&stand_in).await else {
            // whoever says so is about to start it: it is waited for from now
            self.relief.forget();
            self.relief.due_back = Some(Instant::now() + self.grace());
            return Ok(Release::not_in_force(stand_in.told()));
        };
        let served = Timestamp::now().duration_since(fallback.since);
        let served = Duration::try_from(served).unwrap_or_default();
        let kind = &fallback.balancer;
        let again = self.grace();
        let message = format!(
            "the listeners are free for {kind}; if it is not there within {} ms, turnout takes over again",
            again.as_millis()
        );
        let controller = &self.controller;
        controller
            .audit_relief("release", actor, message.clone(), served)
            .await;
        self.publish().await;
        Ok(Release {
            outcome: Released::Released,
            message,
            fallback: Some(fallback),
        })
    }

    pub(super) async fn give_back(&mut self, stand_in: &StandIn) -> Option<Fallback> {
        let drain = self.controller.longest_drain();
        let fallback = stand_in.give_back(drain).await?;
        let now = Instant::now();
        self.relief.forget();
        self.relief.released = Some(now);
        self.relief.due_back = Some(now + self.grace());
        self.relief.next = now;
        tracing::info!(
            "the listeners were given back: {} may start",
            fallback.balancer
        );
        Some(fallback)
    }

    /// How long somebody who has had the listeners given back may take to start it.
    pub(super) fn grace(&self) -> Duration {
        (LOOKS * self.controller.probe_interval()).max(GRACE)
    }

    /// Returns the time until the next look.
    async fn await_return(&mut self, stand_in: &StandIn, every: Duration) -> Duration {
        let failed = self.started().await;
        let presence = self.controller.balancer.presence().await;
        let released = self.relief.released.unwrap_or_else(Instant::now);
        match presence {
            Presence::Here => self.came_back(stand_in, released.elapsed()).await,
            Presence::Gone(reason) => {
                let is_over = self.relief.starting.is_none() && self.relief.is_overdue();
                if let Some(why) = failed {
                    self.take_over(stand_in, &format!("{reason}; its start failed: {why}"))
                        .await;
                } else if is_over {
                    let why = format!(
                        "{reason}, and it did not start after its listeners were given back"
                    );
                    self.take_over(stand_in, &why).await;
                }
            }
            // something of it is there, and holds what would have to be bound; a start passes through this for a moment
            Presence::Unclear(seen) => {
                if released.elapsed() >= every * LOOKS {
                    let kind = self.controller.balancer.kind();
                    let text = format!(
                        "{kind} is neither gone nor there after its listeners were given back, so turnout waits and nobody may \
                         be serving: {seen}. End what is left of it, or start it"
                    );
                    self.problem(text).await;
                    return every;
                }
            }
        }
        RETURNING
    }

    async fn came_back(&mut self, stand_in: &StandIn, gap: Duration) {
        let Some(fallback) = stand_in.stand_aside() else {
            return;
        };
        self.relief.forget();
        self.relief.released = None;
        self.relief.start_wait = FIRST_START;
        let message = format!(
            "{} is there again and serves: its listeners were nobody's for at most {} ms",
            fallback.balancer,
            gap.as_millis()
        );
        tracing::info!("{message}");
        self.no_problem().await;
        self.patience = None;
        self.reconcile().await;
        let controller = &self.controller;
        controller
            .audit_relief("returned", "turnout", message, gap)
            .await;
    }

    /// What keeps turnout from standing in, once in the log and in the status until it is over.
    async fn problem(&mut self, text: String) {
        let text = format!("{FALLBACK}{text}");
        let before = self.controller.forget(FALLBACK);
        let is_new = before.as_ref() != Some(&text);
        self.controller.problems.push(text.clone());
        if is_new {
            tracing::warn!("{text}");
            self.publish().await;
        }
    }

    async fn no_problem(&mut self) {
        if self.controller.forget(FALLBACK).is_some() {
            self.publish().await;
        }
    }
}
