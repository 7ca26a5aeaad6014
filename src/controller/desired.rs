//! What a request means, as values: which service, which position, which table. Pure; nothing here looks at the world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::status::HealthBook;
use super::{ChangeError, Verb};
use crate::config::{AliasConfig, Config};
use crate::domain::{
    Admission, Color, Generation, Health, OnUnhealthy, Position, Route, RoutingTable, Server,
    Service, ServiceName, ShapeDigest, Split, Traffic, Weight,
};
use crate::store::{AliasState, DoorSeen, ServiceState, State};

/// The service that is meant: the one named, or the only one there is.
pub(super) fn pick<'a>(
    config: &'a Config,
    named: Option<&ServiceName>,
) -> Result<(&'a ServiceName, &'a Arc<Service>), ChangeError> {
    let known = || {
        let names = config.services.keys().chain(config.aliases.keys());
        let names: Vec<_> = names.map(ServiceName::as_str).collect();
        if names.is_empty() {
            "none in the configuration".to_owned()
        } else {
            names.join(", ")
        }
    };
    if let Some(name) = named {
        if let Some(alias) = config.aliases.get(name) {
            return Err(behind(name, alias));
        }
        return config
            .services
            .get_key_value(name)
            .map(|(name, service)| (name, &service.shape))
            .ok_or_else(|| ChangeError::UnknownService {
                name: name.clone(),
                known: known(),
            });
    }
    let mut services = config.services.iter();
    if services.len() == 0
        && let Some((name, alias)) = config
            .aliases
            .iter()
            .next()
            .filter(|_| config.aliases.len() == 1)
    {
        return Err(behind(name, alias));
    }
    match (services.next(), services.next()) {
        (Some((name, service)), None) => Ok((name, &service.shape)),
        _ => Err(ChangeError::WhichService { known: known() }),
    }
}

fn behind(name: &ServiceName, alias: &AliasConfig) -> ChangeError {
    ChangeError::BehindAlias {
        service: name.clone(),
        target: alias.target.authority(),
    }
}

/// The state of every configured service: as recorded, else as the configuration starts it. One that the configuration does
/// not have any more is left out, so that the next change drops it (journal and audit log keep what it was).
pub(super) fn complete(config: &Config, state: &State, now: Timestamp) -> State {
    let mut complete = state.clone();
    complete
        .services
        .retain(|name, _| config.services.contains_key(name));
    for (name, service) in &config.services {
        let known = complete
            .services
            .entry(name.clone())
            .or_insert_with(|| ServiceState {
                position: service.initial,
                previous: None,
                overlay: None,
                refused: BTreeSet::new(),
                forced: None,
                shape: None,
                door: DoorSeen::Own,
                traffic: Traffic::Open,
                versions: service
                    .workload
                    .as_ref()
                    .map(|workload| workload.versions.clone())
                    .unwrap_or_default(),
                rollout: None,
                since: now,
            });
        known.door = door(&service.shape, known.door);
    }
    complete
        .aliases
        .retain(|name, _| config.aliases.contains_key(name));
    for name in config.aliases.keys() {
        complete.aliases.entry(name.clone()).or_insert(AliasState {
            shape: None,
            admission: Admission::Open,
        });
    }
    complete
}

/// What is known of a front door now that its service has this shape. One that moves from turnout's listener to a server block
/// of the user's was not seen there: what that block is to include is yet to be written.
fn door(shape: &Service, known: DoorSeen) -> DoorSeen {
    match (shape.listen, &shape.public, known) {
        (Some(_), _, _) | (None, None, _) => DoorSeen::Own,
        (None, Some(_), DoorSeen::Own) => DoorSeen::Pending,
        (None, Some(_), known @ (DoorSeen::Seen | DoorSeen::Pending)) => known,
    }
}

/// The digests of all shapes of a configuration. With 10,000 services that is tens of milliseconds, so that it is done once for
/// each configuration and not for each change.
pub(super) fn shapes(config: &Config) -> BTreeMap<ServiceName, ShapeDigest> {
    let shapes = config.shapes().into_iter();
    shapes
        .map(|(name, shape)| (name, ShapeDigest::of(&shape)))
        .collect()
}

/// Notes in `target` which shapes it puts into force: those of the configuration, and none but those.
pub(super) fn note_shapes(shapes: &BTreeMap<ServiceName, ShapeDigest>, target: &mut State) {
    for (name, known) in &mut target.services {
        known.shape = shapes.get(name).cloned();
    }
    for (name, known) in &mut target.aliases {
        known.shape = shapes.get(name).cloned();
    }
}

/// The table for a (complete) state: shapes from the configuration, positions from the state, health from the probes.
pub(super) fn table(
    config: &Config,
    state: &State,
    generation: Generation,
    health: &HealthBook,
) -> RoutingTable {
    let routes = config.services.iter().map(|(name, service)| {
        let known = state.services.get(name);
        let route = Route {
            service: Arc::clone(&service.shape),
            position: known.map_or(service.initial, |known| known.position),
            overlay: known.and_then(|known| known.overlay),
            refused: known.map(|known| known.refused.clone()).unwrap_or_default(),
            traffic: known.map_or(Traffic::Open, |known| known.traffic.clone()),
            unhealthy: unhealthy(health, name, &BTreeSet::new()),
        };
        (name.clone(), route)
    });
    RoutingTable {
        generation,
        routes: routes.collect(),
        aliases: BTreeMap::new(),
    }
}

/// The same shapes and positions with other servers left out: what probes say is no reason to put an edited shape into force.
pub(super) fn with_health(mut table: RoutingTable, health: &HealthBook) -> RoutingTable {
    for (name, route) in &mut table.routes {
        route.unhealthy = unhealthy(health, name, &route.unhealthy);
    }
    table
}

/// The servers of a service that are known to be down. One that nobody asks any more stays as it was `before`.
fn unhealthy(
    health: &HealthBook,
    name: &ServiceName,
    before: &BTreeSet<Server>,
) -> BTreeSet<Server> {
    let known = || {
        let colors = health.get(name).into_iter();
        colors
            .flat_map(|colors| [&colors.blue, &colors.green])
            .flatten()
    };
    let down = known()
        .filter(|(_, (server, _))| server.health() == Health::Unhealthy)
        .map(|(server, _)| server);
    let unasked = before
        .iter()
        .filter(|server| !known().any(|(asked, _)| asked == *server));
    down.chain(unasked).cloned().collect()
}

/// Where a verb takes a service from where it is.
pub(super) fn moved(
    name: &ServiceName,
    from: &ServiceState,
    verb: &Verb,
) -> Result<Position, ChangeError> {
    // in the middle of a rollout every other move begins with its end
    let position = match &from.rollout {
        Some(governed) => Position::all(governed.strategy, from.position.active()),
        None => from.position,
    };
    let refused = |source| ChangeError::Position {
        service: name.clone(),
        source,
    };
    match verb {
        Verb::Switch { to, .. } => Ok(position.switched(to.unwrap_or(!position.active()))),
        Verb::Rollback { .. } if from.rollout.is_some() => Ok(position),
        // in the middle of a canary the color to get away from is the candidate, whatever was switched before it
        Verb::Rollback { .. } if position.split().whole().is_none() => {
            Ok(position.switched(position.active()))
        }
        Verb::Rollback { .. } => match from.previous {
            Some(previous) => Ok(position.switched(previous)),
            None => Err(ChangeError::NothingToRollBack {
                service: name.clone(),
            }),
        },
        Verb::Strategy { strategy, .. } => Ok(position.with_strategy(*strategy)),
        Verb::Weights { weights, .. } => position.with_split(*weights).map_err(refused),
        Verb::Shift { by, towards, .. } => position.shifted(*towards, *by).map_err(refused),
        Verb::Traffic { .. } | Verb::Apply | Verb::Reload => Ok(position),
    }
}

/// The state of a service after its traffic moved to `position`.
pub(super) fn arrived(from: &ServiceState, position: Position, now: Timestamp) -> ServiceState {
    let left = from.position.active();
    ServiceState {
        position,
        previous: if position.active() == left {
            from.previous
        } else {
            Some(left)
        },
        overlay: None,
        refused: BTreeSet::new(),
        forced: None,
        shape: from.shape.clone(),
        door: from.door,
        traffic: from.traffic.clone(),
        versions: from.versions.clone(),
        // whoever moves the traffic ends it; its own moves say so themselves
        rollout: None,
        since: now,
    }
}

/// The colors that get more traffic than before, and so have to be healthy. A `refused` one has none now.
pub(super) fn gaining(
    from: Split,
    refused: &BTreeSet<Color>,
    to: Split,
) -> impl Iterator<Item = Color> {
    Color::BOTH.into_iter().filter(move |color| {
        let before = if refused.contains(color) {
            Weight::ZERO
        } else {
            from.weight(*color)
        };
        to.weight(*color) > before
    })
}

/// The failover that health asks for: everything to the other color while a color with a share has no healthy server left
/// and the other one has. Ends when that color is healthy again, and stays while neither is, because there is nobody to go
/// to; unknown health changes nothing.
pub(super) fn overlay(
    service: &Service,
    position: Position,
    current: Option<Color>,
    health: &HealthBook,
) -> Option<Color> {
    if service.on_unhealthy == OnUnhealthy::Reject {
        return None;
    }
    let Some(book) = health.get(&service.name) else {
        return current;
    };
    let is = |color: Color, server: &crate::domain::Server, state: Health| {
        book[color]
            .get(server)
            .is_some_and(|(known, _)| known.health() == state)
    };
    let down = |color: Color| {
        service
            .servers(color)
            .iter()
            .all(|server| is(color, server, Health::Unhealthy))
    };
    let up = |color: Color| {
        service
            .servers(color)
            .iter()
            .any(|server| is(color, server, Health::Healthy))
    };
    let mut carrying = Color::BOTH
        .into_iter()
        .filter(|color| position.split().weight(*color) > Weight::ZERO);
    if let Some(to) = current
        && !up(!to)
    {
        return current;
    }
    carrying
        .find(|color| down(*color) && up(!*color))
        .map(|color| !color)
}

/// The colors that health asks a balancer to answer with 503 itself: under `reject` each one that has a share and no healthy
/// server left; under `failover` both, once neither has one. Ends with the first healthy server; unknown health changes
/// nothing.
pub(super) fn refused(
    service: &Service,
    position: Position,
    current: &BTreeSet<Color>,
    health: &HealthBook,
) -> BTreeSet<Color> {
    let Some(book) = health.get(&service.name) else {
        return current.clone();
    };
    let of = |color: Color, server: &crate::domain::Server| {
        book[color]
            .get(server)
            .map_or(Health::Unknown, |(known, _)| known.health())
    };
    let out = |color: Color| {
        let mut known = service
            .servers(color)
            .iter()
            .map(|server| of(color, server));
        if current.contains(&color) {
            known.all(|health| health != Health::Healthy)
        } else {
            known.all(|health| health == Health::Unhealthy)
        }
    };
    match service.on_unhealthy {
        OnUnhealthy::Reject => Color::BOTH
            .into_iter()
            .filter(|color| position.split().weight(*color) > Weight::ZERO && out(*color))
            .collect(),
        OnUnhealthy::Failover if Color::BOTH.into_iter().all(out) => Color::BOTH.into(),
        OnUnhealthy::Failover => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Colors, Strategy};

    fn at(position: Position, previous: Option<Color>) -> ServiceState {
        ServiceState {
            position,
            previous,
            overlay: Some(Color::Green),
            refused: BTreeSet::new(),
            forced: None,
            shape: None,
            door: DoorSeen::Own,
            traffic: Traffic::Open,
            versions: Colors::default(),
            rollout: None,
            since: Timestamp::UNIX_EPOCH,
        }
    }

    fn canary(active: Color, blue: f64) -> Position {
        Position::canary(active, Split::from_percents(blue, 100.0 - blue).unwrap())
    }

    #[test]
    fn a_front_door_that_leaves_turnouts_listener_was_not_seen_where_it_is_now() {
        let listens = crate::proxy::tests::shape("shop", "127.0.0.1:1".parse().unwrap());
        let mut included = listens.clone();
        included.listen = None;
        included.public = Some(crate::domain::PublicUrl(
            "http://shop.example.com/".to_owned(),
        ));
        let mut hidden = included.clone();
        hidden.public = None;
        for (shape, known, then) in [
            (&listens, DoorSeen::Own, DoorSeen::Own),
            (&included, DoorSeen::Own, DoorSeen::Pending),
            (&included, DoorSeen::Pending, DoorSeen::Pending),
            (&included, DoorSeen::Seen, DoorSeen::Seen),
            (&hidden, DoorSeen::Seen, DoorSeen::Own),
            (&listens, DoorSeen::Seen, DoorSeen::Own),
        ] {
            assert_eq!(door(shape, known), then);
        }
    }

    #[test]
    fn a_rollback_goes_to_the_color_before_the_last_switch_and_back_again() {
        let name: ServiceName = "shop".parse().unwrap();
        let rollback = Verb::Rollback { service: None };
        let blue = at(
            Position::BlueGreen {
                active: Color::Blue,
            },
            None,
        );
        assert!(matches!(
            moved(&name, &blue, &rollback),
            Err(ChangeError::NothingToRollBack { .. })
        ));
        let to = moved(
            &name,
            &blue,
            &Verb::Switch {
                service: None,
                to: None,
            },
        )
        .unwrap();
        let green = arrived(&blue, to, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (green.position.active(), green.previous),
            (Color::Green, Some(Color::Blue))
        );
        assert_eq!(green.overlay, None);
        let back = moved(&name, &green, &rollback).unwrap();
        let blue_again = arrived(&green, back, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (blue_again.position.active(), blue_again.previous),
            (Color::Blue, Some(Color::Green))
        );
    }

    #[test]
    fn a_rollback_in_the_middle_of_a_canary_goes_to_the_stable_color() {
        let name: ServiceName = "shop".parse().unwrap();
        // green is stable since a switch from blue; 20 % are on blue, which now runs the candidate
        let state = at(canary(Color::Green, 20.0), Some(Color::Blue));
        let to = moved(&name, &state, &Verb::Rollback { service: None }).unwrap();
        assert_eq!(to, Position::all(Strategy::Canary, Color::Green));
    }

    #[test]
    fn only_a_color_that_gains_has_to_be_healthy() {
        let from = Split::from_percents(80.0, 20.0).unwrap();
        let to = Split::from_percents(90.0, 10.0).unwrap();
        let none = BTreeSet::new();
        let gain = |to, refused: &BTreeSet<Color>| gaining(from, refused, to).collect::<Vec<_>>();
        assert_eq!(gain(to, &none), [Color::Blue]);
        assert_eq!(gain(from, &none), []);
        assert_eq!(gain(from, &BTreeSet::from([Color::Green])), [Color::Green]);
    }

    #[test]
    fn new_health_keeps_the_shape_and_what_nobody_asks_any_more() {
        let name: ServiceName = "shop".parse().unwrap();
        let shape = crate::proxy::tests::shape("shop", "127.0.0.1:1".parse().unwrap());
        let asked = shape.servers(Color::Blue)[0].clone();
        let gone: Server = "http://127.0.0.1:9".parse().unwrap();
        let mut down = crate::domain::ServerHealth::default();
        for _ in 0..3 {
            let refused = crate::domain::ProbeOutcome::Fail(crate::domain::ProbeFailure::Refused);
            down.observe(&shape.health, &refused);
        }
        let mut book = HealthBook::new();
        let known = (down, Timestamp::UNIX_EPOCH);
        book.entry(name.clone()).or_default().blue = [(asked.clone(), known)].into();
        let table = RoutingTable {
            generation: Generation(7),
            aliases: BTreeMap::new(),
            routes: [(
                name.clone(),
                Route {
                    position: canary(Color::Blue, 50.0),
                    service: Arc::new(shape),
                    overlay: None,
                    refused: BTreeSet::new(),
                    traffic: Traffic::Open,
                    unhealthy: BTreeSet::from([gone.clone()]),
                },
            )]
            .into(),
        };
        let mut expected = table.clone();
        expected.routes.get_mut(&name).unwrap().unhealthy = BTreeSet::from([asked, gone]);
        assert_eq!(with_health(table, &book), expected);
    }

    #[test]
    fn a_color_is_refused_when_it_is_known_to_be_down_and_nobody_may_stand_in() {
        let mut shape = crate::proxy::tests::shape("shop", "127.0.0.1:1".parse().unwrap());
        let (blue, green) = (Color::Blue, Color::Green);
        let known = |down: &[Color], up: &[Color]| {
            let mut book = HealthBook::new();
            let colors = book.entry("shop".parse().unwrap()).or_default();
            for (list, fails) in [(down, true), (up, false)] {
                for color in list {
                    let server = shape.servers(*color)[0].clone();
                    let mut health = crate::domain::ServerHealth::default();
                    for _ in 0..3 {
                        let outcome = if fails {
                            crate::domain::ProbeOutcome::Fail(crate::domain::ProbeFailure::Refused)
                        } else {
                            crate::domain::ProbeOutcome::Pass { version: None }
                        };
                        health.observe(&shape.health, &outcome);
                    }
                    colors[*color].insert(server, (health, Timestamp::UNIX_EPOCH));
                }
            }
            book
        };
        let (none, both) = (BTreeSet::new(), BTreeSet::from(Color::BOTH));
        let (down, blue_up) = (known(&Color::BOTH, &[]), known(&[green], &[blue]));
        let unknown = known(&[], &[]);
        let half = canary(blue, 50.0);
        assert_eq!(refused(&shape, half, &none, &down), both);
        assert_eq!(refused(&shape, half, &none, &blue_up), none);
        assert_eq!(refused(&shape, half, &both, &blue_up), none);
        assert_eq!(refused(&shape, half, &both, &unknown), both);
        assert_eq!(refused(&shape, half, &none, &unknown), none);
        shape.on_unhealthy = OnUnhealthy::Reject;
        assert_eq!(refused(&shape, half, &none, &blue_up), [green].into());
        let at_blue = canary(blue, 100.0);
        assert_eq!(refused(&shape, at_blue, &none, &down), [blue].into());
        assert_eq!(refused(&shape, at_blue, &both, &blue_up), none);
    }
}
