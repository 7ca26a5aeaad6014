//! What happens in a daemon, told as it happens: intents and outcomes of the journal, audit lines, health, drift, problems.
//!
//! A ring of the last `KEPT` events for everybody, and the number of the newest: who reads keeps a place in it and nothing
//! else, so that a reader that stops costs the controller nothing, whoever and however many there are. Telling never waits
//! and never fails. No event is a source of truth: state file and journal are, and `missed` sends a reader there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

use super::status::Drift;
use super::{RolloutStatus, ServiceStatus, Status};
use crate::balancer::Fallback;
use crate::domain::{
    Color, Colors, Generation, Health, ServiceName, Strategy, TrafficMode, Weight,
};
use crate::store::{AuditEntry, Intent, Outcome, ServiceState};

/// Some minutes of a busy host; at 1 KiB each a quarter of a MiB.
const KEPT: usize = 256;
/// All of them together, however long they are: the oldest go first.
const KEPT_BYTES: usize = 1 << 20;
/// Services named in one event, and servers in one of health. A change of all of 2,000 services is told with its number.
const NAMED: usize = 64;
/// Bytes of a message in an event. The audit log has all of it.
const LONGEST_TEXT: usize = 4096;

/// One thing that happened.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Counted from 1 since the start of the daemon.
    pub number: u64,
    /// What kind: `intent`, `done`, `failed`, `audit`, `health`, `position`, `drift`, `problems`, `fallback`,
    /// `rollout`.
    pub name: &'static str,
    /// A JSON object in one line, with the field names of the API.
    pub data: String,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Since {
    /// What came since its place, oldest first; empty: nothing.
    News(Vec<Arc<Event>>),
    /// More came meanwhile than is kept: some of it is gone.
    Missed,
}

/// Whether a reader has all that came since the event that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// It has.
    None,
    /// That event is not known any more: it begins with what comes now.
    Missed,
}

/// The events of one controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    ring: Arc<Mutex<VecDeque<Arc<Event>>>>,
    /// The number of the newest. Every reader has a receiver of it.
    newest: Arc<watch::Sender<u64>>,
    /// Tells the numbers of one process from those of another.
    epoch: i64,
}

/// One reader's place. Holds nothing of the events.
#[derive(Debug)]
pub struct Reader {
    ring: Arc<Mutex<VecDeque<Arc<Event>>>>,
    newest: watch::Receiver<u64>,
    at: u64,
    epoch: i64,
}

/// What is told, before it has a number.
#[derive(Debug)]
pub(super) enum Happening<'a> {
    /// A journal intent is on disk.
    Intent(&'a Intent),
    /// It was proved and recorded.
    Done(&'a Intent),
    /// It came to nothing.
    Failed(&'a Intent, Outcome, &'a str),
    /// A line of the audit log.
    Audit(&'a AuditEntry),
    /// Servers changed their health.
    Health(&'a [HealthChange]),
    /// A position as it is by now.
    Position(&'a ServiceStatus),
    /// More positions changed at once than are told one by one.
    Positions(Generation, usize),
    /// What does not agree, all of it.
    Drift(&'a [Drift]),
    /// What a person should know, all of it.
    Problems(&'a [String]),
    /// The stand-in serves, or not any more.
    Fallback(Option<&'a Fallback>),
    /// A rollout as it is by now, in brief.
    Rollout(&'a RolloutStatus),
}

/// One server's change of health.
#[derive(Debug, Serialize)]
pub(super) struct HealthChange {
    pub(super) service: ServiceName,
    /// `None`: what stands behind the alias.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) color: Option<Color>,
    pub(super) url: String,
    pub(super) health: Health,
    pub(super) reason: Option<String>,
    pub(super) checked_at: Timestamp,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            ring: Arc::default(),
            newest: Arc::new(watch::Sender::new(0)),
            epoch: Timestamp::now().as_millisecond(),
        }
    }
}

impl Events {
    /// For a reader that begins now, or goes on behind the event of this id.
    pub fn subscribe(&self, after: Option<&str>) -> (Reader, Gap) {
        let newest = self.newest.subscribe();
        let at = *newest.borrow();
        let mut reader = Reader {
            ring: Arc::clone(&self.ring),
            at,
            newest,
            epoch: self.epoch,
        };
        let Some(after) = after else {
            return (reader, Gap::None);
        };
        let first = {
            let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
            ring.front().map_or(1, |event| event.number)
        };
        let known = after
            .split_once('-')
            .and_then(|(epoch, number)| Some((epoch.parse::<i64>().ok()?, number.parse().ok()?)))
            .filter(|(epoch, number)| *epoch == self.epoch && *number <= reader.at)
            .filter(|(_, number)| *number + 1 >= first);
        match known {
            Some((_, number)) => {
                reader.at = number;
                (reader, Gap::None)
            }
            None => (reader, Gap::Missed),
        }
    }

    /// Tells it to everybody.
    pub(super) fn tell(&self, happening: &Happening<'_>) {
        let (name, data) = match happening.encode() {
            Ok(encoded) => encoded,
            Err(error) => {
                tracing::error!(%error, "an event could not be told");
                return;
            }
        };
        // nothing in here panics, and a ring is whole after each step
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let number = ring.back().map_or(0, |event| event.number) + 1;
        ring.push_back(Arc::new(Event { number, name, data }));
        let mut bytes: usize = ring.iter().map(|event| event.data.len()).sum();
        // the newest stays, whatever it is
        while ring.len() > KEPT || (bytes > KEPT_BYTES && ring.len() > 1) {
            bytes -= ring.pop_front().map_or(0, |event| event.data.len());
        }
        drop(ring);
        self.newest.send_replace(number);
    }

    /// Tells what is new in a status: positions, drift, problems, fallback.
    pub(super) fn tell_news(&self, before: &Status, now: &Status) {
        let is_new = |service: &&ServiceStatus| {
            let place = before
                .services
                .binary_search_by(|known| known.service.cmp(&service.service));
            place.map_or(true, |place| !same_place(&before.services[place], service))
        };
        let moved: Vec<_> = now.services.iter().filter(is_new).collect();
        if moved.len() > NAMED {
            self.tell(&Happening::Positions(now.generation, moved.len()));
        } else {
            for service in moved {
                self.tell(&Happening::Position(service));
            }
        }
        if before.drift != now.drift {
            self.tell(&Happening::Drift(&now.drift));
        }
        if before.problems != now.problems {
            self.tell(&Happening::Problems(&now.problems));
        }
        if before.fallback.is_some() != now.fallback.is_some() {
            self.tell(&Happening::Fallback(now.fallback.as_ref()));
        }
    }

    /// Tells changes of health, many servers in one event.
    pub(super) fn tell_health(&self, changes: &[HealthChange]) {
        for some in changes.chunks(NAMED) {
            self.tell(&Happening::Health(some));
        }
    }
}

impl Reader {
    /// Returns when there is something new; `false`: there never will be, the controller has ended.
    pub async fn changed(&mut self) -> bool {
        self.newest.changed().await.is_ok()
    }

    /// What came since this was asked last.
    pub fn news(&mut self) -> Since {
        self.newest.mark_unchanged();
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let first = ring.front().map_or(1, |event| event.number);
        if self.at + 1 < first {
            return Since::Missed;
        }
        let known = usize::try_from(self.at + 1 - first).unwrap_or(usize::MAX);
        let news: Vec<_> = ring.iter().skip(known).cloned().collect();
        drop(ring);
        if let Some(last) = news.last() {
            self.at = last.number;
        }
        Since::News(news)
    }

    /// The id of an event, which [`Events::subscribe`] understands.
    pub fn id(&self, event: &Event) -> String {
        format!("{}-{}", self.epoch, event.number)
    }
}

/// The part of a status that a change moves.
#[derive(Serialize)]
struct Place<'a> {
    service: &'a ServiceName,
    strategy: Strategy,
    active: Color,
    weights: Colors<Weight>,
    overlay: Option<Color>,
    previous: Option<Color>,
    traffic: TrafficMode,
}

impl<'a> Place<'a> {
    fn of(name: &'a ServiceName, state: &ServiceState) -> Self {
        Self {
            service: name,
            strategy: state.position.strategy(),
            active: state.position.active(),
            weights: state.position.split().weights(),
            overlay: state.overlay,
            previous: state.previous,
            traffic: state.traffic.mode(),
        }
    }
}

fn same_place(before: &ServiceStatus, now: &ServiceStatus) -> bool {
    before.strategy == now.strategy
        && before.active == now.active
        && before.weights == now.weights
        && before.overlay == now.overlay
        && before.refused == now.refused
        && before.previous == now.previous
        && before.versions == now.versions
        && before.traffic == now.traffic
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_TEXT)]
}

impl Happening<'_> {
    fn encode(&self) -> Result<(&'static str, String), serde_json::Error> {
        use serde_json::json;
        let (name, data) = match self {
            Self::Intent(intent) => {
                let changes: Vec<_> = intent
                    .changes
                    .iter()
                    .take(NAMED)
                    .map(|(name, state)| Place::of(name, state))
                    .collect();
                let data = json!({
                    "time": intent.time,
                    "generation": intent.generation,
                    "base": intent.base,
                    "action": intent.action,
                    "actor": intent.actor,
                    "message": intent.message.as_deref().map(cut),
                    "balancer": intent.balancer,
                    "changes": changes,
                    "changed": intent.changes.len(),
                });
                ("intent", data)
            }
            Self::Done(intent) => {
                let data = json!({
                    "time": Timestamp::now(),
                    "generation": intent.generation,
                    "action": intent.action,
                    "actor": intent.actor,
                });
                ("done", data)
            }
            Self::Failed(intent, outcome, error) => {
                let data = json!({
                    "time": Timestamp::now(),
                    "generation": intent.generation,
                    "action": intent.action,
                    "actor": intent.actor,
                    "outcome": outcome,
                    "error": cut(error),
                });
                ("failed", data)
            }
            Self::Audit(entry) if entry.message.len() > LONGEST_TEXT => {
                let message = cut(&entry.message).to_owned();
                let entry = AuditEntry {
                    message,
                    ..AuditEntry::clone(entry)
                };
                ("audit", serde_json::to_value(entry)?)
            }
            Self::Audit(entry) => ("audit", serde_json::to_value(entry)?),
            Self::Health(changes) => ("health", json!({ "servers": changes })),
            Self::Position(service) => {
                let data = json!({
                    "service": service.service,
                    "strategy": service.strategy,
                    "active": service.active,
                    "weights": service.weights,
                    "generation": service.generation,
                    "overlay": service.overlay,
                    "refused": service.refused,
                    "previous": service.previous,
                    "versions": service.versions,
                    "traffic": service.traffic,
                    "since": service.since,
                });
                ("position", data)
            }
            Self::Positions(generation, changed) => {
                let data = json!({ "service": null, "generation": generation, "changed": changed });
                ("position", data)
            }
            Self::Drift(drift) => {
                let some = &drift[..drift.len().min(NAMED)];
                ("drift", json!({ "drift": some, "changed": drift.len() }))
            }
            Self::Problems(problems) => {
                let some = problems.iter().take(NAMED).map(|text| cut(text));
                let data = json!({ "problems": some.collect::<Vec<_>>() });
                ("problems", data)
            }
            Self::Fallback(fallback) => ("fallback", json!({ "fallback": fallback })),
            Self::Rollout(rollout) => ("rollout", serde_json::to_value(rollout)?),
        };
        Ok((name, serde_json::to_string(&data)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(events: &Events, text: &str) {
        events.tell(&Happening::Problems(&[text.to_owned()]));
    }

    fn texts(since: Since) -> Vec<String> {
        match since {
            Since::News(news) => news.iter().map(|event| event.data.clone()).collect(),
            Since::Missed => panic!("missed"),
        }
    }

    #[tokio::test]
    async fn long_events_are_kept_up_to_their_bytes_and_who_was_before_them_is_told() {
        let events = Events::default();
        let (mut reader, _) = events.subscribe(None);
        tell(&events, "first");
        let first = match reader.news() {
            Since::News(news) => reader.id(&news[0]),
            Since::Missed => panic!("missed"),
        };
        let long = ["x".repeat(LONGEST_TEXT), "y".repeat(LONGEST_TEXT)];
        for _ in 0..200 {
            events.tell(&Happening::Problems(&long));
        }
        let kept: usize = {
            let ring = events.ring.lock().unwrap();
            ring.iter().map(|event| event.data.len()).sum()
        };
        assert!(
            (KEPT_BYTES - 10_000..=KEPT_BYTES).contains(&kept),
            "{kept} bytes"
        );
        assert_eq!(reader.news(), Since::Missed);
        assert_eq!(events.subscribe(Some(&first)).1, Gap::Missed);
    }

    #[tokio::test]
    async fn a_reader_hears_what_comes_after_it_and_nothing_twice() {
        let events = Events::default();
        tell(&events, "before");
        let (mut reader, gap) = events.subscribe(None);
        assert_eq!(gap, Gap::None);
        assert_eq!(reader.news(), Since::News(vec![]));
        tell(&events, "one");
        tell(&events, "two");
        assert!(reader.changed().await);
        assert_eq!(
            texts(reader.news()),
            [r#"{"problems":["one"]}"#, r#"{"problems":["two"]}"#]
        );
        assert_eq!(reader.news(), Since::News(vec![]));
        drop(events);
        assert!(!reader.changed().await);
    }

    #[test]
    fn a_reader_that_was_away_too_long_is_told() {
        let events = Events::default();
        let (mut reader, _) = events.subscribe(None);
        for _ in 0..KEPT {
            tell(&events, "x");
        }
        let (mut slower, _) = events.subscribe(None);
        assert_eq!(texts(reader.news()).len(), KEPT);
        for _ in 0..=KEPT {
            tell(&events, "y");
        }
        assert_eq!(slower.news(), Since::Missed);
    }

    #[test]
    fn an_id_goes_on_where_it_was_and_a_foreign_one_has_missed_something() {
        let events = Events::default();
        let (mut first, _) = events.subscribe(None);
        tell(&events, "one");
        tell(&events, "two");
        let Since::News(news) = first.news() else {
            panic!("missed")
        };
        let id = first.id(&news[0]);
        let (mut again, gap) = events.subscribe(Some(&id));
        assert_eq!(gap, Gap::None);
        assert_eq!(texts(again.news()), [r#"{"problems":["two"]}"#]);
        for foreign in ["", "1-1", "x-1", "9999999999999-0", "-", &format!("{id}0")] {
            assert_eq!(events.subscribe(Some(foreign)).1, Gap::Missed, "{foreign}");
        }
    }

    #[test]
    fn a_long_message_is_cut_and_stays_text() {
        let text = "ä".repeat(LONGEST_TEXT);
        let (_, data) = Happening::Problems(&[text]).encode().unwrap();
        assert!(data.len() < LONGEST_TEXT + 32, "{}", data.len());
        let drift = Drift {
            kind: super::super::DriftKind::Served,
            service: None,
            message: "a\nb".to_owned(),
        };
        let (name, data) = Happening::Drift(&[drift]).encode().unwrap();
        assert_eq!((name, data.contains('\n')), ("drift", false));
    }
}
