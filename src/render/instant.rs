//! nginx without a reload: what a marker says, and what of a configuration is shape.
//!
//! A marker is a symbolic link whose target's name is the position of a service: `shop -> .blue`. nginx reads it anew for
//! each request, by `$realpath_root`, which is one value of one link: whoever asks gets the old position or the new one, and
//! never a part of each. The alternative, files that are looked for by `if (-f …)`, needs several of them for a weight, and a
//! request can see some from before a change and some from after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::ladder::Rung;
use super::{Error, NginxContext, head};
use crate::domain::{
    Color, Generation, Position, Route, RoutingTable, ServiceName, Split, Strategy, Weight,
};

/// How a page of the private listener, and so a configuration, says its shape. The line ends are nginx's escapes.
const SHAPE: &str = "\\nshape ";

/// Hexadecimal digits of a shape.
const SHAPE_LENGTH: usize = 16;

/// The position of one service, as its marker says it: `blue`, `green`, or `w2500-064-029` for blue's weight in basis points
/// with the chain and the place of that boundary, and behind it the colors that are answered with 503, as in `blue-noblue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// The split in force.
    pub split: Split,
    /// The colors that are answered with 503.
    pub refused: BTreeSet<Color>,
}

impl Marker {
    /// What the marker of a route is to say.
    pub fn of(route: &Route) -> Self {
        Self {
            split: route.split(),
            refused: route.refused.clone(),
        }
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.split.whole(), Rung::of(self.split)) {
            (Some(color), _) => write!(f, "{color}")?,
            (None, Some(Rung { chain, place })) => {
                let points = self.split.weight(Color::Blue).basis_points();
                write!(f, "w{points:04}-{chain:03}-{place:03}")?;
            }
            // a split that is not whole has a boundary
            (None, None) => return Err(fmt::Error),
        }
        for color in &self.refused {
            write!(f, "-no{color}")?;
        }
        Ok(())
    }
}

/// A text that turnout writes on no marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a position that turnout writes")]
pub struct NoMarker;

impl FromStr for Marker {
    type Err = NoMarker;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split('-');
        let first = words.next().unwrap_or_default();
        let split = match first.strip_prefix('w') {
            Some(points) => {
                let points = points.parse().ok().and_then(Weight::from_basis_points);
                Split::giving(Color::Blue, points.ok_or(NoMarker)?)
            }
            None => Split::all(first.parse().map_err(|_no_color| NoMarker)?),
        };
        let refused = words
            .filter_map(|word| word.strip_prefix("no")?.parse().ok())
            .collect();
        let marker = Self { split, refused };
        // so also a boundary in another place than its own is none
        if marker.to_string() == text {
            Ok(marker)
        } else {
            Err(NoMarker)
        }
    }
}

/// The markers that a configuration goes with, by its head; none for one that is only ever reloaded.
pub fn nginx_markers(text: &str) -> BTreeMap<ServiceName, Marker> {
    if nginx_shape(text).is_none() {
        return BTreeMap::new();
    }
    head::positions(text)
        .into_iter()
        .map(|(name, (split, refused))| (name, Marker { split, refused }))
        .collect()
}

/// The shape that a configuration says; `None` for one that is only ever reloaded.
pub fn nginx_shape(text: &str) -> Option<&str> {
    shape(text)
}

pub(super) fn shape(text: &str) -> Option<&str> {
    let (_, after) = text.split_once(SHAPE)?;
    let (shape, _) = after.split_at_checked(SHAPE_LENGTH)?;
    shape
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then_some(shape)
}

/// The shape of a text.
pub(super) fn digest(text: &str) -> String {
    head::hex_digest(text).chars().take(SHAPE_LENGTH).collect()
}

/// `table` in a position that is the same for all tables of its shape.
pub(super) fn anywhere(table: &RoutingTable) -> RoutingTable {
    let position = Position::all(Strategy::BlueGreen, Color::Blue);
    RoutingTable {
        generation: Generation::default(),
        routes: table
            .routes
            .iter()
            .map(|(name, route)| (name.clone(), Route::new(route.service.clone(), position)))
            .collect(),
        // a blocked alias is another shape: it has no marker, and that costs a reload
        aliases: table.aliases.clone(),
    }
}

/// What the template knows of it.
#[derive(Debug, Serialize)]
pub(super) struct Instant {
    /// The folder of the markers.
    folder: String,
    shape: String,
}

impl Instant {
    /// `None` where every change is a reload.
    pub(super) fn of(context: &NginxContext, shape: &str) -> Result<Option<Self>, Error> {
        let Some(folder) = &context.markers else {
            return Ok(None);
        };
        let folder = folder.display().to_string();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        if !folder.bytes().all(plain) {
            return Err(Error::Value {
                key: "balancer.nginx.snippets".to_owned(),
                rule: "has letters, digits, `/`, `.`, `_` and `-` only with `switching: instant`, since nginx reads markers there",
            });
        }
        Ok(Some(Self {
            folder,
            shape: shape.to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::nginx::tests::table;
    use super::super::{Template, nginx};
    use super::*;

    fn text(table: &RoutingTable) -> String {
        let context = NginxContext {
            prove: "127.0.0.1:9181".parse().unwrap(),
            trusted_proxies: Vec::new(),
            already_set: BTreeSet::new(),
            resolver: None,
            markers: Some("/etc/nginx/turnout/position".into()),
            counts: None,
        };
        nginx(table, &context, &Template::built_in()).unwrap()
    }

    #[test]
    fn a_position_is_in_the_file_and_not_in_the_shape() {
        let blue = table(3, &["shop", "blog"]);
        let mut moved = table(4, &["shop", "blog"]);
        let shop: ServiceName = "shop".parse().unwrap();
        let route = moved.routes.get_mut(&shop).unwrap();
        route.position = Position::canary(Color::Blue, Split::from_percents(25.0, 75.0).unwrap());
        route.refused = BTreeSet::from([Color::Green]);
        let (before, after) = (text(&blue), text(&moved));
        assert_eq!(nginx_shape(&before), nginx_shape(&after));
        assert_ne!(
            nginx_shape(&before),
            nginx_shape(&text(&table(3, &["shop"])))
        );
        assert!(after.contains("    default w2500-064-029-nogreen-lost;\n"));
        let markers = nginx_markers(&after);
        assert_eq!(markers[&shop], Marker::of(&moved.routes[&shop]));
        assert_eq!(markers[&shop].to_string(), "w2500-064-029-nogreen");
        assert_eq!(markers.len(), 2);
    }

    #[test]
    fn what_stands_in_a_snippet_alone_is_shape() {
        let own = |seconds: u64, color| {
            let mut table = table(3, &["shop", "blog"]);
            let shop: ServiceName = "shop".parse().unwrap();
            let route = table.routes.get_mut(&shop).unwrap();
            route.position = Position::all(Strategy::BlueGreen, color);
            let service = Arc::make_mut(&mut route.service);
            service.listen = None;
            service.timeouts.response = Duration::from_secs(seconds);
            text(&table)
        };
        let before = own(5, Color::Blue);
        assert_eq!(nginx_shape(&before), nginx_shape(&own(5, Color::Green)));
        let after = own(6, Color::Blue);
        assert_ne!(nginx_shape(&before), nginx_shape(&after));
        let without = |text: &str, shape| text.replace(nginx_shape(shape).unwrap(), "");
        let body = |text: &str, shape| {
            let text = without(text, shape);
            text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            body(&before, &before),
            body(&after, &after),
            "the file itself says nothing of it"
        );
    }

    #[test]
    fn a_file_that_goes_by_reloads_has_no_shape_and_no_markers() {
        let reloaded = head::sealed(Some(&table(3, &["shop"])), "server {}\n");
        assert_eq!(nginx_shape(&reloaded), None);
        assert_eq!(nginx_markers(&reloaded), BTreeMap::new());
    }

    #[test]
    fn a_marker_says_split_and_refused_colors_and_is_read_back() {
        for text in [
            "blue",
            "green",
            "w2500-064-029",
            "w0001-000-000",
            "blue-noblue",
            "green-noblue-nogreen",
        ] {
            assert_eq!(text.parse::<Marker>().unwrap().to_string(), text);
        }
        let weighed: Marker = "w2500-064-029-nogreen".parse().unwrap();
        assert_eq!(weighed.split, Split::from_percents(25.0, 75.0).unwrap());
        assert_eq!(weighed.refused, BTreeSet::from([Color::Green]));
        for text in [
            "",
            "red",
            "blue-lost",
            "w2500-064-030",
            "w2500",
            "w10000-0-0",
            "blue-nogreen-noblue",
        ] {
            assert_eq!(text.parse::<Marker>(), Err(NoMarker), "{text}");
        }
    }
}
