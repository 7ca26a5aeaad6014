//! What a request means, as values: which service, which position, which table. Pure; nothing here looks at the world.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::status::HealthBook;
use super::{ChangeError, Verb};
use crate::config::Config;
use crate::domain::{
    Color, Generation, Health, Position, Route, RoutingTable, Service, ServiceName, Split, Traffic,
    Weight,
};
use crate::store::{ServiceState, State};

/// The service that is meant: the one named, or the only one there is.
pub(super) fn pick<'a>(
    config: &'a Config,
    named: Option<&ServiceName>,
) -> Result<(&'a ServiceName, &'a Arc<Service>), ChangeError> {
    let known = || {
        let names: Vec<_> = config.services.keys().map(ServiceName::as_str).collect();
        if names.is_empty() {
            "none in the configuration".to_owned()
        } else {
            names.join(", ")
        }
    };
    if let Some(name) = named {
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
    match (services.next(), services.next()) {
        (Some((name, service)), None) => Ok((name, &service.shape)),
        _ => Err(ChangeError::WhichService { known: known() }),
    }
}

/// The state of every configured service: as recorded, else as the configuration starts it.
pub(super) fn complete(config: &Config, state: &State, now: Timestamp) -> State {
    let mut complete = state.clone();
    for (name, service) in &config.services {
        complete
            .services
            .entry(name.clone())
            .or_insert_with(|| ServiceState {
                position: service.initial,
                previous: None,
                overlay: None,
                traffic: Traffic::Open,
                versions: service
                    .workload
                    .as_ref()
                    .map(|workload| workload.versions.clone())
                    .unwrap_or_default(),
                since: now,
            });
    }
    complete
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
        let unhealthy: BTreeSet<_> = health
            .get(name)
            .into_iter()
            .flat_map(|colors| [&colors.blue, &colors.green])
            .flatten()
            .filter(|(_, (server, _))| server.health() == Health::Unhealthy)
            .map(|(server, _)| server.clone())
            .collect();
        let route = Route {
            service: Arc::clone(&service.shape),
            position: known.map_or(service.initial, |known| known.position),
            overlay: known.and_then(|known| known.overlay),
            traffic: known.map_or(Traffic::Open, |known| known.traffic.clone()),
            unhealthy,
        };
        (name.clone(), route)
    });
    RoutingTable {
        generation,
        routes: routes.collect(),
    }
}

/// Where a verb takes a service from where it is.
pub(super) fn moved(
    name: &ServiceName,
    from: &ServiceState,
    verb: &Verb,
) -> Result<Position, ChangeError> {
    let position = from.position;
    let refused = |source| ChangeError::Position {
        service: name.clone(),
        source,
    };
    match verb {
        Verb::Switch { to, .. } => Ok(position.switched(to.unwrap_or(!position.active()))),
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
        traffic: from.traffic.clone(),
        versions: from.versions.clone(),
        since: now,
    }
}

/// The colors that get more traffic than before, and so have to be healthy.
pub(super) fn gaining(from: Split, to: Split) -> impl Iterator<Item = Color> {
    Color::BOTH
        .into_iter()
        .filter(move |color| to.weight(*color) > from.weight(*color))
}

/// The failover that health asks for: everything to the other color while a color with a share has no healthy server left
/// and the other one has. Ends when that color is healthy again; unknown health changes nothing.
pub(super) fn overlay(
    service: &Service,
    position: Position,
    current: Option<Color>,
    health: &HealthBook,
) -> Option<Color> {
    if service.on_unhealthy == crate::domain::OnUnhealthy::Reject {
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
        service.servers[color]
            .iter()
            .all(|server| is(color, server, Health::Unhealthy))
    };
    let up = |color: Color| {
        service.servers[color]
            .iter()
            .any(|server| is(color, server, Health::Healthy))
    };
    let mut carrying = Color::BOTH
        .into_iter()
        .filter(|color| position.split().weight(*color) > Weight::ZERO);
    if let Some(to) = current
        && !up(!to)
        && !down(to)
    {
        return current;
    }
    carrying
        .find(|color| down(*color) && up(!*color))
        .map(|color| !color)
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
            traffic: Traffic::Open,
            versions: Colors::default(),
            since: Timestamp::UNIX_EPOCH,
        }
    }

    fn canary(active: Color, blue: f64) -> Position {
        Position::canary(active, Split::from_percents(blue, 100.0 - blue).unwrap())
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
        assert_eq!(gaining(from, to).collect::<Vec<_>>(), [Color::Blue]);
        assert_eq!(gaining(from, from).count(), 0);
    }
}
