//! The color of one request (CONTRACT 6, points 2 and 3): preview header, overlay, active color, sticky key, chance.
//! A service behind an alias has none to choose. Pure: reads an entry and headers, touches nothing.

use http::{HeaderMap, header};

use super::entry::{Coloring, Course, Entry, StickyKey};
use super::lane::Lane;
use crate::domain::{Bucket, Color, OnUnhealthy, Split};

/// Where one request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) lane: Lane,
    /// A new sticky key that the client is to keep, where the service pins first-time visitors.
    pub(super) pin: Option<String>,
}

/// The color for a request with these headers; `None`: nobody who may serve it is healthy.
pub(super) fn choose(
    entry: &Entry,
    headers: &HeaderMap,
    random: impl Fn() -> u128,
) -> Option<Choice> {
    let Course::Colors(coloring) = &entry.course else {
        return entry.serves(Lane::Alias).then_some(Choice {
            lane: Lane::Alias,
            pin: None,
        });
    };
    let serves = |color: Color| entry.serves(Lane::Color(color));
    let choice = |color: Color, pin| Choice {
        lane: Lane::Color(color),
        pin,
    };
    if let Some(color) = preview(coloring, headers) {
        // a visitor who names a color wants that one or an error, never the other one in its place
        return serves(color).then(|| choice(color, None));
    }
    let split = coloring.split;
    let (color, pin) = match (split.whole(), &coloring.sticky) {
        (Some(whole), _) => (whole, None),
        (None, Some(sticky)) => match sticky_key(sticky, headers) {
            Some(key) => (bucket(entry, coloring, key).color(split), None),
            None if sticky.set_cookie => {
                let key = format!("{:032x}", random());
                let bucket = bucket(entry, coloring, key.as_bytes());
                (bucket.color(split), Some(key))
            }
            None => (by_chance(split, &random), None),
        },
        (None, None) => (by_chance(split, &random), None),
    };
    if serves(color) {
        return Some(choice(color, pin));
    }
    match coloring.on_unhealthy {
        OnUnhealthy::Failover if serves(!color) => Some(choice(!color, pin)),
        OnUnhealthy::Failover | OnUnhealthy::Reject => None,
    }
}

fn bucket(entry: &Entry, coloring: &Coloring, key: &[u8]) -> Bucket {
    Bucket::hashed(coloring.hashing, &entry.name, key)
}

fn by_chance(split: Split, random: impl Fn() -> u128) -> Color {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "any 32 of the random bits will do"
    )]
    Bucket::from_random(random() as u32).color(split)
}

/// A header that is neither `blue` nor `green` names nothing and is passed on like any other.
fn preview(coloring: &Coloring, headers: &HeaderMap) -> Option<Color> {
    let value = headers.get(coloring.preview.as_ref()?)?;
    value.to_str().ok()?.parse().ok()
}

/// The header first, then the cookie; an empty one is none.
fn sticky_key<'a>(sticky: &StickyKey, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let named = sticky.header.as_ref().and_then(|name| headers.get(name));
    if let Some(value) = named.filter(|value| !value.is_empty()) {
        return Some(value.as_bytes());
    }
    headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .find_map(|pair| {
            pair.trim_ascii()
                .strip_prefix(sticky.cookie.as_bytes())?
                .strip_prefix(b"=")
        })
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{Hashing, Position, Route, RoutingTable, Sticky};
    use crate::proxy::snapshot::Snapshot;
    use crate::proxy::tests::shape;

    fn entry(edit: impl FnOnce(&mut Route)) -> Arc<Entry> {
        let mut service = shape("shop", "127.0.0.1:8080".parse().unwrap());
        service.preview = Some("X-Turnout-Color".to_owned());
        service.sticky = Some(Sticky {
            header: "X-Session-Key".to_owned(),
            cookie: "session_id".to_owned(),
            set_cookie: false,
        });
        let position = Position::BlueGreen {
            active: Color::Blue,
        };
        let mut route = Route::new(Arc::new(service), position);
        edit(&mut route);
        let mut table = RoutingTable::default();
        table.routes.insert("shop".parse().unwrap(), route);
        Arc::clone(
            &Snapshot::after(&Snapshot::empty(), &table, Hashing::SplitClients, 1).entries[0],
        )
    }

    fn split(entry: &Entry) -> Split {
        match &entry.course {
            Course::Colors(coloring) => coloring.split,
            Course::Alias(_) => panic!("{} has no split", entry.name),
        }
    }

    fn half(route: &mut Route) {
        let split = Split::from_percents(50.0, 50.0).unwrap();
        route.position = Position::canary(Color::Blue, split);
    }

    fn edit_service(route: &mut Route, edit: impl FnOnce(&mut crate::domain::Service)) {
        edit(Arc::get_mut(&mut route.service).unwrap());
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    fn color(entry: &Entry, lines: &[(&'static str, &str)]) -> Option<Color> {
        choose(entry, &headers(lines), || 0).and_then(|choice| choice.lane.color())
    }

    #[test]
    fn preview_beats_overlay_beats_active() {
        let plain = entry(|_| {});
        assert_eq!(color(&plain, &[]), Some(Color::Blue));
        let overlaid = entry(|route| route.overlay = Some(Color::Green));
        assert_eq!(color(&overlaid, &[]), Some(Color::Green));
        let named = [("x-turnout-color", "blue")];
        assert_eq!(color(&overlaid, &named), Some(Color::Blue));
        assert_eq!(
            color(&plain, &[("x-turnout-color", "red")]),
            Some(Color::Blue)
        );
    }

    #[test]
    fn a_key_gets_the_color_of_its_bucket_header_before_cookie() {
        let entry = entry(half);
        for number in 0..2_000 {
            let key = format!("user-{number}");
            let expected = Bucket::of(&entry.name, key.as_bytes()).color(split(&entry));
            let cookie = format!("a=b; session_id={key}; c=d");
            assert_eq!(color(&entry, &[("x-session-key", &key)]), Some(expected));
            assert_eq!(color(&entry, &[("cookie", &cookie)]), Some(expected));
            let both = [("x-session-key", key.as_str()), ("cookie", "session_id=x")];
            assert_eq!(color(&entry, &both), Some(expected));
        }
    }

    #[test]
    fn an_empty_key_and_a_cookie_of_a_longer_name_are_no_key() {
        let entry = entry(half);
        let none = headers(&[
            ("x-session-key", ""),
            ("cookie", "my_session_id=1; session_idx=2; session_id="),
        ]);
        for random in [0, u128::from(u32::MAX)] {
            assert_eq!(
                choose(&entry, &none, || random).unwrap().lane,
                Lane::Color(
                    Bucket::from_random(u32::try_from(random).unwrap()).color(split(&entry))
                )
            );
        }
    }

    #[test]
    fn a_first_time_visitor_is_pinned_to_the_color_the_first_answer_came_from() {
        let entry = entry(|route| {
            half(route);
            edit_service(route, |service| {
                service.sticky.as_mut().unwrap().set_cookie = true;
            });
        });
        for random in 0..200 {
            let first = choose(&entry, &headers(&[]), || random).unwrap();
            let cookie = format!("session_id={}", first.pin.unwrap());
            let second = choose(&entry, &headers(&[("cookie", &cookie)]), || 7).unwrap();
            assert_eq!((second.lane, second.pin), (first.lane, None));
        }
    }

    #[test]
    fn a_wholly_unhealthy_color_fails_over_or_is_refused_but_a_preview_never_crosses() {
        let sick = |route: &mut Route| {
            route.unhealthy = route.service.servers(Color::Blue).iter().cloned().collect();
        };
        let failing = entry(sick);
        assert_eq!(color(&failing, &[]), Some(Color::Green));
        assert_eq!(color(&failing, &[("x-turnout-color", "blue")]), None);
        let rejecting = entry(|route| {
            sick(route);
            edit_service(route, |service| service.on_unhealthy = OnUnhealthy::Reject);
        });
        assert_eq!(color(&rejecting, &[]), None);
        let dead = entry(|route| {
            sick(route);
            route
                .unhealthy
                .extend(route.service.servers(Color::Green).iter().cloned());
        });
        assert_eq!(color(&dead, &[]), None);
    }
}
