//! Two processes that serve for a while after a handover: what the elder still answers, on the connections that it had, goes by what
//! the younger has put into force, and what it has in flight counts as in flight. Else a client that kept its connection would
//! be answered by the old color after a switch was answered, and a color be stopped under its requests.
//!
//! ```text
//!  younger                                               elder
//!  install ─── word 7: where each service's traffic is ─► routes by it
//!          ◄── reply 7, and what is in flight ─────────── once every thread does
//!          ◄── reply 7, and what is in flight ─────────── when that has changed, until its end
//! ```
//!
//! Positions go over, and what health and operators add to them; never shapes, since each process has those of its own configuration.
//! How the bytes get from one process to the other is not known here.
//!
//! A younger one may be replaced while its elder still serves. It passes on what it is told then, answers once both do so, counts both,
//! and must not end before its elder ([`Proxy::alone`]), which nobody else reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::handle::Proxy;
use super::lane::Lane;
use super::snapshot::Snapshot;
use super::thread::Command;
use crate::domain::{
    Admission, Color, Colors, Generation, Hashing, Position, Route, RoutingTable, Server,
    ServiceName, Split, Strategy, Traffic,
};

/// For the elder to do what is passed on to it, before the answer is put off until it has. It needs milliseconds.
const PASSED_ON: Duration = Duration::from_secs(1);

/// What the younger process has put into force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// Counts them: the generation stays where only health has changed.
    number: u64,
    generation: Generation,
    routes: BTreeMap<ServiceName, Said>,
    aliases: BTreeMap<ServiceName, Admission>,
}

/// Where the traffic of one service is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Said {
    strategy: Strategy,
    active: Color,
    split: Split,
    overlay: Option<Color>,
    refused: BTreeSet<Color>,
    traffic: Traffic,
    unhealthy: BTreeSet<Server>,
}

/// What the elder says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reply {
    /// The word by which it routes.
    pub number: u64,
    /// Its requests that have not ended, where there are any.
    in_flight: BTreeMap<ServiceName, Colors<u64>>,
}

impl Reply {
    /// To word `number`, of a process that has nothing in flight.
    pub fn to(number: u64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }
}

/// The way to the elder, for whoever carries bytes there and back. Its end is the elder's.
#[derive(Debug)]
pub struct Wire {
    /// The newest word, once there is one.
    pub words: watch::Receiver<Option<Arc<Word>>>,
    /// What the elder said last.
    pub replies: watch::Sender<Reply>,
}

/// The process before this one, for as long as it serves.
#[derive(Debug, Default)]
pub(super) struct Elder(Mutex<Option<Known>>);

#[derive(Debug, Clone)]
struct Known {
    words: watch::Sender<Option<Arc<Word>>>,
    replies: watch::Receiver<Reply>,
}

/// How waiting for it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heeded {
    /// It routes by the last word, or by none any more.
    Yes,
    NotInTime,
}

impl Elder {
    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        // what is behind it is whole at any time
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(Known::is_gone) {
            *known = None;
        }
        known
    }

    /// This is in force from now on.
    pub(super) fn tell(&self, snapshot: &Snapshot) {
        self.say(|number| Word::of(number, snapshot));
    }

    /// What the process after this one says, of which this one knows perhaps fewer services than the elder.
    fn pass_on(&self, word: &Word) {
        self.say(|number| Word {
            number,
            ..word.clone()
        });
    }

    fn say(&self, word: impl FnOnce(u64) -> Word) {
        if let Some(known) = &*self.known() {
            known.words.send_modify(|last| {
                let number = 1 + last.as_ref().map_or(0, |last| last.number);
                *last = Some(Arc::new(word(number)));
            });
        }
    }

    /// Whether it routes by what it was told last, by now.
    fn heeded(&self) -> Heeded {
        match &*self.known() {
            Some(known) if known.replies.borrow().number < known.told() => Heeded::NotInTime,
            Some(_) | None => Heeded::Yes,
        }
    }

    /// Waits until it routes by what it was told last.
    pub(super) async fn heeds(&self, deadline: Instant) -> Heeded {
        let Some(mut known) = self.known().clone() else {
            return Heeded::Yes;
        };
        let told = known.told();
        let heard = known.replies.wait_for(|reply| reply.number >= told);
        match tokio::time::timeout_at(deadline, heard).await {
            // an error is its end
            Ok(Ok(_) | Err(_)) => Heeded::Yes,
            Err(_elapsed) => Heeded::NotInTime,
        }
    }

    /// Its requests of a color that have not ended.
    pub(super) fn in_flight(&self, service: &ServiceName, color: Color) -> u64 {
        self.known().as_ref().map_or(0, |known| {
            let reply = known.replies.borrow();
            reply
                .in_flight
                .get(service)
                .map_or(0, |counts| counts[color])
        })
    }

    /// All of them.
    fn counts(&self) -> BTreeMap<ServiceName, Colors<u64>> {
        let known = self.known();
        known
            .as_ref()
            .map(|known| known.replies.borrow().in_flight.clone())
            .unwrap_or_default()
    }
}

impl Known {
    fn is_gone(&self) -> bool {
        self.replies.has_changed().is_err()
    }

    /// The number of the last word.
    fn told(&self) -> u64 {
        self.words.borrow().as_ref().map_or(0, |word| word.number)
    }
}

impl Word {
    fn of(number: u64, snapshot: &Snapshot) -> Self {
        let (table, _) = snapshot.table();
        let said = |route: &Route| Said {
            strategy: route.position.strategy(),
            active: route.position.active(),
            split: route.position.split(),
            overlay: route.overlay,
            refused: route.refused.clone(),
            traffic: route.traffic.clone(),
            unhealthy: route.unhealthy.clone(),
        };
        let routes = table.routes.iter();
        let aliases = table.aliases.iter();
        Self {
            number,
            generation: table.generation,
            routes: routes
                .map(|(name, route)| (name.clone(), said(route)))
                .collect(),
            aliases: aliases
                .map(|(name, route)| (name.clone(), route.admission))
                .collect(),
        }
    }

    /// `now` with every position as it is said here. Services that are not known here stay as they are.
    fn onto(&self, now: &Snapshot, threads: usize) -> Snapshot {
        let (mut table, hashing) = now.table();
        table.generation = self.generation;
        for (name, route) in &mut table.routes {
            if let Some(said) = self.routes.get(name) {
                route.position = match said.strategy {
                    Strategy::BlueGreen => Position::BlueGreen {
                        active: said.active,
                    },
                    Strategy::Canary => Position::Canary {
                        active: said.active,
                        split: said.split,
                    },
                };
                route.overlay = said.overlay;
                route.refused.clone_from(&said.refused);
                route.traffic.clone_from(&said.traffic);
                route.unhealthy.clone_from(&said.unhealthy);
            }
        }
        for (name, route) in &mut table.aliases {
            if let Some(admission) = self.aliases.get(name) {
                route.admission = *admission;
            }
        }
        Snapshot::after(now, &table, hashing, threads)
    }

    /// Which one it is.
    pub const fn number(&self) -> u64 {
        self.number
    }
}

impl Snapshot {
    /// The table that this was made from, and how it finds the color of a key.
    fn table(&self) -> (RoutingTable, Hashing) {
        let mut table = RoutingTable {
            generation: self.generation(),
            ..RoutingTable::default()
        };
        let mut hashing = Hashing::SplitClients;
        for entry in &self.entries {
            if let Some((route, its)) = entry.route() {
                hashing = its;
                table.routes.insert(entry.name.clone(), route.clone());
            } else if let Some(route) = entry.alias() {
                table.aliases.insert(entry.name.clone(), route.clone());
            }
        }
        (table, hashing)
    }
}

impl Proxy {
    /// From now on another process, which serves as well until it has finished what it has, is told of everything that is installed
    /// here, and [`Self::acknowledged`] asks it, too.
    pub fn succeed(&self) -> Wire {
        let (words, told) = watch::channel(None);
        let (heard, replies) = watch::channel(Reply::default());
        *self.inner.elder.known() = Some(Known { words, replies });
        if self.generation() > Generation::default() {
            self.inner.elder.tell(&self.current());
        }
        Wire {
            words: told,
            replies: heard,
        }
    }

    /// Routes by what the process said that took over from this one. No listener is opened or closed. As [`Self::reply`].
    pub async fn follow(&self, word: &Word) -> Option<Reply> {
        let core = &self.inner.core;
        let next = word.onto(&self.current(), self.inner.threads.len());
        core.current.store(Arc::new(next));
        core.readdress();
        self.inner.elder.pass_on(word);
        for thread in &self.inner.threads {
            let (done, said) = oneshot::channel();
            // a thread that is gone has drained, and routes nothing
            if thread.send(Command::Report(done)).await.is_ok() {
                drop(said.await);
            }
        }
        match self.inner.elder.heeds(Instant::now() + PASSED_ON).await {
            Heeded::Yes => self.reply(word.number),
            Heeded::NotInTime => None,
        }
    }

    /// What is in flight here and in the process before this one, as the answer to word `number`; `None` while that does not
    /// route by it.
    pub fn reply(&self, number: u64) -> Option<Reply> {
        let elder = &self.inner.elder;
        if elder.heeded() == Heeded::NotInTime {
            return None;
        }
        let mut in_flight = elder.counts();
        let snapshot = self.current();
        let colored = snapshot.entries.iter();
        for entry in colored.filter(|entry| entry.alias().is_none()) {
            let count = in_flight.entry(entry.name.clone()).or_default();
            *count = Colors::from_fn(|color| {
                count[color] + entry.counters.totals(Lane::Color(color)).in_flight
            });
        }
        in_flight.retain(|_, count| *count != Colors::default());
        Some(Reply { number, in_flight })
    }

    /// Returns once no process before this one serves.
    pub async fn alone(&self) {
        let elder = self.inner.elder.known().clone();
        if let Some(mut elder) = elder {
            // an error is its end, and there is nothing else to wait for
            drop(elder.replies.wait_for(|_| false).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::tests::shape;

    fn table(generation: u64, position: Position) -> RoutingTable {
        let shape = shape("shop", "127.0.0.1:8080".parse().unwrap());
        let mut table = RoutingTable {
            generation: Generation(generation),
            ..RoutingTable::default()
        };
        let route = Route::new(Arc::new(shape), position);
        table.routes.insert("shop".parse().unwrap(), route);
        table
    }

    fn snapshot(table: &RoutingTable) -> Snapshot {
        Snapshot::after(&Snapshot::empty(), table, Hashing::Xxh32, 1)
    }

    #[test]
    fn a_word_moves_everything_but_shapes() {
        let green = "http://127.0.0.1:2".parse().unwrap();
        let before = snapshot(&table(7, Position::all(Strategy::BlueGreen, Color::Blue)));
        let split = Split::from_percents(99.5, 0.5).unwrap();
        let position = Position::Canary {
            active: Color::Blue,
            split,
        };
        let mut after = table(8, position);
        let route = after.routes.values_mut().next().unwrap();
        route.overlay = Some(Color::Green);
        route.traffic = Traffic::Hold;
        route.refused = BTreeSet::from([Color::Blue]);
        route.unhealthy = BTreeSet::from([green]);
        let text = serde_json::to_string(&Word::of(3, &snapshot(&after))).unwrap();
        let word: Word = serde_json::from_str(&text).unwrap();
        let (now, hashing) = word.onto(&before, 1).table();
        assert_eq!((now, hashing), (after, Hashing::Xxh32));
        // a service that only one of them has
        let (alone, _) = word.onto(&Snapshot::empty(), 1).table();
        assert!(alone.routes.is_empty());
    }

    #[tokio::test]
    async fn what_is_told_is_waited_for_until_the_elder_answers_or_ends() {
        let proxy = Proxy::start(1, Vec::new()).unwrap();
        let elder = &proxy.inner.elder;
        let soon = || Instant::now() + std::time::Duration::from_millis(100);
        let shop = "shop".parse().unwrap();
        elder.tell(&proxy.current());
        assert_eq!(elder.heeds(soon()).await, Heeded::Yes);
        let wire = proxy.succeed();
        assert!(wire.words.borrow().is_none());
        elder.tell(&snapshot(&table(
            7,
            Position::all(Strategy::BlueGreen, Color::Blue),
        )));
        assert_eq!(elder.heeds(soon()).await, Heeded::NotInTime);
        let in_flight = Colors { blue: 2, green: 0 };
        wire.replies.send_replace(Reply {
            number: wire.words.borrow().as_ref().unwrap().number,
            in_flight: BTreeMap::from([("shop".parse().unwrap(), in_flight)]),
        });
        assert_eq!(elder.heeds(soon()).await, Heeded::Yes);
        assert_eq!(elder.in_flight(&shop, Color::Blue), 2);
        elder.tell(&proxy.current());
        assert_eq!(elder.heeds(soon()).await, Heeded::NotInTime);
        drop(wire);
        assert_eq!(elder.heeds(soon()).await, Heeded::Yes);
        assert_eq!(elder.in_flight(&shop, Color::Blue), 0);
    }

    /// Three processes, the first of which still serves when the second is replaced.
    #[tokio::test]
    async fn what_the_third_says_reaches_the_first_and_its_requests_count() {
        let shop = "shop".parse().unwrap();
        let second = Proxy::start(1, Vec::new()).unwrap();
        let before = snapshot(&table(7, Position::all(Strategy::BlueGreen, Color::Blue)));
        second.inner.core.current.store(Arc::new(before));
        let first = second.succeed();
        let reply = |number, blue| Reply {
            number,
            in_flight: BTreeMap::from([("shop".parse().unwrap(), Colors { blue, green: 0 })]),
        };
        first.replies.send_replace(reply(1, 2));
        assert_eq!(second.reply(4), Some(reply(4, 2)));
        let after = snapshot(&table(8, Position::all(Strategy::BlueGreen, Color::Green)));
        let mut word = Word::of(5, &after);
        // of a service that the second does not have
        let other = word.routes[&shop].clone();
        word.routes.insert("blog".parse().unwrap(), other);
        let (follower, said) = (second.clone(), word.clone());
        let following = tokio::spawn(async move { follower.follow(&said).await });
        let mut words = first.words.clone();
        let heard = words.wait_for(|heard| heard.as_ref().is_some_and(|heard| heard.number == 2));
        let passed_on = heard.await.unwrap().clone().unwrap();
        assert_eq!(
            *passed_on,
            Word {
                number: 2,
                ..word.clone()
            }
        );
        assert!(!following.is_finished());
        assert_eq!(second.reply(5), None, "the first routes by what was before");
        first.replies.send_replace(reply(2, 1));
        assert_eq!(following.await.unwrap(), Some(reply(5, 1)));
        assert_eq!(second.generation(), Generation(8));
        let waiting = tokio::spawn(async move { second.alone().await });
        assert!(!waiting.is_finished());
        drop((first, words));
        waiting.await.unwrap();
    }
}
