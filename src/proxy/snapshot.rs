//! One immutable routing snapshot: a routing table in the form in which a request reads it. Made whole, swapped whole; it
//! never changes, so that a request that began with one ends with it.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;

use super::counters::ServiceCounters;
use super::entry::{Course, Entry};
use super::names::Addresses;
use super::tls::Names;
use crate::domain::{
    Generation, Hashing, HostPattern, RoutingTable, Server, Service, ServiceName, Split,
};

/// A routing table, ready to be asked by host.
#[derive(Debug)]
pub struct Snapshot {
    generation: Generation,
    /// In the order of the names.
    pub(super) entries: Vec<Arc<Entry>>,
    /// By listen address.
    pub(super) listeners: BTreeMap<SocketAddr, Listener>,
}

/// The hosts of one listen address. The numbers are places in [`Snapshot::entries`].
#[derive(Debug, Clone)]
pub(super) struct Listener {
    exact: HashMap<String, usize>,
    below: HashMap<String, usize>,
    any: Option<usize>,
    pub(super) door: Door,
}

/// What a connection meets before its first request.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) bounds: Bounds,
    /// `None`: the listener speaks plain.
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) proxy_protocol: bool,
    pub(super) places: Places,
}

/// The connections that a listener may have at once, counted over all threads.
#[derive(Debug, Clone)]
pub(super) struct Places {
    limit: u64,
    taken: Arc<AtomicU64>,
}

/// One of them; free again when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicU64>);

impl Places {
    /// `None`: all are taken.
    pub(super) fn take(&self) -> Option<Place> {
        let place = Place(Arc::clone(&self.taken));
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection may do before its service is known: the widest of all services of the listener, because the host comes
/// with the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) head: Duration,
    pub(super) idle: Duration,
    pub(super) head_bytes: usize,
    pub(super) header_lines: usize,
}

impl Snapshot {
    /// Before the first table: listens nowhere.
    pub(super) fn empty() -> Self {
        Self {
            generation: Generation::default(),
            entries: Vec::new(),
            listeners: BTreeMap::new(),
        }
    }

    /// `table` as a snapshot. Services that are as they were in `previous` are shared with it, and a service that stays
    /// keeps its counters.
    pub(super) fn after(
        previous: &Self,
        table: &RoutingTable,
        hashing: Hashing,
        threads: usize,
    ) -> Self {
        let counters = |known: Option<&Arc<Entry>>| match known {
            Some(known) => Arc::clone(&known.counters),
            None => Arc::new(ServiceCounters::new(threads)),
        };
        let colored = table.routes.iter().map(|(name, route)| {
            let known = previous.entry(name);
            match known {
                Some(known) if known.is_of(route, hashing) => Arc::clone(known),
                _ => Arc::new(Entry::colored((route, hashing), counters(known), known)),
            }
        });
        let aliases = table.aliases.iter().map(|(name, route)| {
            let known = previous.entry(name);
            match known {
                Some(known) if known.alias() == Some(route) => Arc::clone(known),
                _ => {
                    let addresses = known.map(|known| known.addresses_of(route));
                    let addresses = addresses.unwrap_or_default();
                    Arc::new(Entry::of_alias(route, &addresses, counters(known), known))
                }
            }
        });
        let mut entries: Vec<_> = colored.chain(aliases).collect();
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        let mut listeners = BTreeMap::new();
        let mut certificates: BTreeMap<SocketAddr, Names> = BTreeMap::new();
        for (place, entry) in entries.iter().enumerate() {
            let service = entry.service();
            if let Some(address) = service.listen {
                let before = previous.listeners.get(&address);
                listeners
                    .entry(address)
                    .or_insert_with(|| Listener::closed(before))
                    .add(place, service);
                if let Some(certificate) = &entry.certificate {
                    let hosts = &service.hosts;
                    certificates
                        .entry(address)
                        .or_default()
                        .add(hosts, certificate);
                }
            }
        }
        for (address, names) in certificates {
            let before = previous.listeners.get(&address);
            let before = before.and_then(|before| before.door.tls.as_ref());
            if let Some(listener) = listeners.get_mut(&address) {
                listener.door.tls = names.into_config(before);
            }
        }
        Self {
            generation: table.generation,
            entries,
            listeners,
        }
    }

    /// The table's generation.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The split that is in force for each service that has one, overlays included.
    pub fn splits(&self) -> BTreeMap<ServiceName, Split> {
        self.entries
            .iter()
            .filter_map(|entry| match &entry.course {
                Course::Colors(coloring) => Some((entry.name.clone(), coloring.split)),
                Course::Alias(_) => None,
            })
            .collect()
    }

    /// Every alias.
    pub(super) fn aliases(&self) -> impl Iterator<Item = &Server> {
        let aliases = self.entries.iter().filter_map(|entry| entry.alias());
        aliases.map(|route| &route.target)
    }

    /// The same with what its aliases resolve to now; `None` where that is what it says already. What is not known stays.
    pub(super) fn readdressed(&self, addresses: &Addresses) -> Option<Self> {
        let mut is_other = false;
        let entries = self.entries.iter().map(|entry| {
            let known = entry.alias().and_then(|route| {
                let now = addresses.get(&route.target)?;
                Some((route, now)).filter(|_| entry.addresses_of(route) != *now)
            });
            let Some((route, now)) = known else {
                return Arc::clone(entry);
            };
            is_other = true;
            let counters = Arc::clone(&entry.counters);
            Arc::new(Entry::of_alias(route, now, counters, Some(entry)))
        });
        let entries = entries.collect();
        is_other.then(|| Self {
            generation: self.generation,
            entries,
            listeners: self.listeners.clone(),
        })
    }

    pub(super) fn entry(&self, name: &ServiceName) -> Option<&Arc<Entry>> {
        self.entries
            .binary_search_by(|entry| entry.name.cmp(name))
            .ok()
            .map(|place| &self.entries[place])
    }

    /// The place of the service that answers to `host` (as it stands in the header, with or without a port) on `listener`.
    pub(super) fn find(&self, listener: SocketAddr, host: &str) -> Option<usize> {
        self.listeners.get(&listener)?.find(host)
    }
}

impl Listener {
    /// Without services; connections that are there from `before` stay counted.
    fn closed(before: Option<&Self>) -> Self {
        Self {
            exact: HashMap::new(),
            below: HashMap::new(),
            any: None,
            door: Door {
                bounds: Bounds {
                    head: Duration::ZERO,
                    idle: Duration::ZERO,
                    head_bytes: 0,
                    header_lines: 0,
                },
                tls: None,
                proxy_protocol: false,
                places: Places {
                    limit: 0,
                    taken: before
                        .map_or_else(Arc::default, |before| Arc::clone(&before.door.places.taken)),
                },
            },
        }
    }

    fn add(&mut self, place: usize, service: &Service) {
        for pattern in &service.hosts {
            match pattern {
                HostPattern::Exact(name) => self.exact.insert(name.clone(), place),
                HostPattern::Below(name) => self.below.insert(name.clone(), place),
            };
        }
        if service.hosts.is_empty() {
            self.any = Some(place);
        }
        self.door.proxy_protocol |= service.proxy_protocol;
        let places = &mut self.door.places;
        places.limit = places.limit.max(u64::from(service.limits.connections));
        let bounds = &mut self.door.bounds;
        bounds.head = bounds.head.max(service.timeouts.head);
        bounds.idle = bounds.idle.max(service.timeouts.idle);
        bounds.head_bytes = bounds
            .head_bytes
            .max(usize::try_from(service.limits.head).unwrap_or(usize::MAX));
        bounds.header_lines = bounds
            .header_lines
            .max(usize::try_from(service.limits.headers).unwrap_or(usize::MAX));
    }

    /// Exact name, then the longest `*.` pattern, then the service without hosts.
    fn find(&self, host: &str) -> Option<usize> {
        let name = bare(host);
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            lower.as_str()
        } else {
            name
        };
        if let Some(place) = self.exact.get(name) {
            return Some(*place);
        }
        if !self.below.is_empty() {
            let mut rest = name;
            while let Some((label, above)) = rest.split_once('.') {
                if let Some(place) = self.below.get(above).filter(|_| !label.is_empty()) {
                    return Some(*place);
                }
                rest = above;
            }
        }
        self.any
    }
}

/// A host without port, brackets and the dot that may end a full name.
fn bare(host: &str) -> &str {
    if let Some(inside) = host.strip_prefix('[') {
        return inside
            .split_once(']')
            .map_or(inside, |(address, _)| address);
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Color, Position, Route, Strategy};
    use crate::proxy::lane::Lane;
    use crate::proxy::tests::shape;

    fn table(generation: u64, hosts: &[(&str, &[&str])]) -> RoutingTable {
        let mut table = RoutingTable {
            generation: Generation(generation),
            ..RoutingTable::default()
        };
        for (name, patterns) in hosts {
            let mut service = shape(name, "127.0.0.1:8080".parse().unwrap());
            service.hosts = patterns.iter().map(|host| host.parse().unwrap()).collect();
            let route = Route::new(
                Arc::new(service),
                Position::all(Strategy::BlueGreen, Color::Blue),
            );
            table.routes.insert(name.parse().unwrap(), route);
        }
        table
    }

    fn found(snapshot: &Snapshot, host: &str) -> Option<String> {
        snapshot
            .find("127.0.0.1:8080".parse().unwrap(), host)
            .map(|place| snapshot.entries[place].name.to_string())
    }

    #[test]
    fn exact_beats_the_longest_wildcard_beats_the_service_without_hosts() {
        let table = table(
            1,
            &[
                ("any", &[]),
                ("deep", &["*.shop.example.com"]),
                ("exact", &["shop.example.com", "10.0.0.1"]),
                ("wide", &["*.example.com"]),
            ],
        );
        let snapshot = Snapshot::after(&Snapshot::empty(), &table, Hashing::SplitClients, 1);
        for (host, expected) in [
            ("shop.example.com", "exact"),
            ("SHOP.example.COM:8080", "exact"),
            ("shop.example.com.", "exact"),
            ("10.0.0.1:80", "exact"),
            ("a.shop.example.com", "deep"),
            ("a.b.shop.example.com", "deep"),
            ("blog.example.com", "wide"),
            ("example.com", "any"),
            ("[::1]:8080", "any"),
            (".example.com", "any"),
        ] {
            assert_eq!(found(&snapshot, host).as_deref(), Some(expected), "{host}");
        }
    }

    #[test]
    fn without_a_service_for_any_host_a_stranger_finds_nothing() {
        let snapshot = Snapshot::after(
            &Snapshot::empty(),
            &table(1, &[("a", &["a.com"])]),
            Hashing::SplitClients,
            1,
        );
        assert_eq!(found(&snapshot, "b.com"), None);
        assert_eq!(snapshot.find("127.0.0.1:1".parse().unwrap(), "a.com"), None);
    }

    #[test]
    fn an_unchanged_service_is_shared_and_a_changed_one_keeps_its_counters() {
        let first = Snapshot::after(
            &Snapshot::empty(),
            &table(1, &[("a", &["a.com"]), ("b", &["b.com"])]),
            Hashing::SplitClients,
            1,
        );
        first.entries[1]
            .counters
            .begin(0, Lane::Color(Color::Green));
        let second = Snapshot::after(
            &first,
            &table(2, &[("a", &["a.com"]), ("b", &["c.com"])]),
            Hashing::SplitClients,
            1,
        );
        assert!(Arc::ptr_eq(&first.entries[0], &second.entries[0]));
        assert!(!Arc::ptr_eq(&first.entries[1], &second.entries[1]));
        assert_eq!(
            second.entries[1]
                .counters
                .totals(Lane::Color(Color::Green))
                .in_flight,
            1
        );
    }
}
