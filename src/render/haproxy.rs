//! HAProxy's two files: the configuration, which has the shape alone, and the map, which has the position alone.
//!
//! A shape is known by a digest of its own text, which stands in it as an environment variable of the worker: the same
//! services give the same text in every position and generation, so that only a new shape needs a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Serialize;

use super::haproxy_view::{Choice, View, position};
use super::nginx::{Template, located, render};
use super::{Error, Origin, head};
use crate::domain::{Color, Generation, HostPattern, RoutingTable, ServiceName, Split, Weight};

const CHOICE: (&str, &str) = (
    "haproxy-choice.cfg.j2",
    include_str!("../../templates/haproxy-choice.cfg.j2"),
);

/// The environment variable of a worker that tells its shape.
pub const SHAPE: &str = "TURNOUT_SHAPE";

/// Stands in the text until its digest is known; as long as that.
const UNKNOWN: &str = "----------------";

/// The key in the map that tells the generation. No service has such a name.
const GENERATION: &str = "_generation";

/// Times one is added to a service's value where blue is refused, times two where green is. Stands in the template too.
const REFUSAL: u64 = 20_000;

/// What a rendering needs besides the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaproxyContext {
    /// The map file.
    pub position: PathBuf,
    /// The runtime socket, where turnout's file is the whole configuration and so has to open it.
    pub socket: Option<PathBuf>,
    /// Peers whose `X-Forwarded-*` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The datagram socket, as the workers call it, that gets a line for each request, to be counted; `None`: none.
    pub counts: Option<PathBuf>,
}

/// The built-in template.
pub fn haproxy_template() -> Template {
    Template {
        name: "haproxy.cfg.j2".to_owned(),
        source: include_str!("../../templates/haproxy.cfg.j2").to_owned(),
    }
}

/// The configuration for the services of a table, with its head.
pub fn haproxy(
    table: &RoutingTable,
    context: &HaproxyContext,
    template: &Template,
) -> Result<String, Error> {
    let view = View::of(table, context, UNKNOWN)?;
    let body = render(
        &template.name,
        &[(&template.name, &template.source), CHOICE],
        &view,
    )?;
    let mark = format!("setenv {SHAPE} {UNKNOWN}");
    if !body.contains(&mark) {
        return Err(Error::Template {
            file: template.name.clone(),
            line: None,
            message: format!(
                "the line `setenv {SHAPE} {{{{ shape }}}}` is not in its global section; without it turnout cannot see what the \
                 running HAProxy has"
            ),
        });
    }
    let digest: String = head::hex_digest(&body)
        .chars()
        .take(UNKNOWN.len())
        .collect();
    let body = body.replacen(&mark, &format!("setenv {SHAPE} {digest}"), 1);
    Ok(head::sealed(None, &body))
}

/// The shape that a configuration says.
pub fn haproxy_shape(text: &str) -> Option<&str> {
    text.lines()
        .find_map(|line| {
            line.trim_start()
                .strip_prefix("setenv ")?
                .strip_prefix(SHAPE)
        })
        .map(str::trim)
}

/// For each line of [`haproxy`]'s text, the template line it comes from. Empty where that cannot be told.
pub fn haproxy_origins(
    table: &RoutingTable,
    context: &HaproxyContext,
    template: &Template,
) -> Result<Vec<Option<Origin>>, Error> {
    let view = View::of(table, context, UNKNOWN)?;
    let sources = [(template.name.as_str(), template.source.as_str()), CHOICE];
    located(&template.name, &sources, &view, |plain| {
        head::sealed(None, plain)
    })
}

/// The map for a table, with its head.
pub fn haproxy_map(table: &RoutingTable) -> String {
    let mut body = String::from(
        "# Written by turnout: for each service blue's share of its buckets, of 10000. Use `turnout weights` or `turnout switch`.\n",
    );
    for (key, value) in haproxy_keys(table) {
        // writing to a String cannot fail
        writeln!(body, "{key} {value}").ok();
    }
    head::sealed(Some(table), &body)
}

/// The keys of the map with their values: each service, and last the generation, so that whoever sees it sees all others.
pub fn haproxy_keys(table: &RoutingTable) -> Vec<(String, u64)> {
    let services = table.routes.iter().map(|(name, route)| {
        let blue = route.split().weight(Color::Blue).basis_points();
        let refused: u64 = route.refused.iter().copied().map(refusal).sum();
        (name.to_string(), u64::from(blue) + refused)
    });
    services
        .chain([(GENERATION.to_owned(), table.generation.0)])
        .collect()
}

/// Is added to a service's value where a color is answered with 503, well above every share.
const fn refusal(color: Color) -> u64 {
    match color {
        Color::Blue => REFUSAL,
        Color::Green => 2 * REFUSAL,
    }
}

/// Share and refused colors of a value; `None` for one that turnout does not write.
fn read_value(value: &str) -> Option<(Weight, BTreeSet<Color>)> {
    let value: u64 = value.parse().ok().filter(|value| *value < 4 * REFUSAL)?;
    let blue = Weight::from_basis_points(u16::try_from(value % REFUSAL).ok()?)?;
    let refused = Color::BOTH
        .into_iter()
        .filter(|color| (value / REFUSAL) & (refusal(*color) / REFUSAL) != 0);
    Some((blue, refused.collect()))
}

/// What a map says, as a file or (each line with an address before it) as the socket shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HaproxyPosition {
    /// The generation, if it is there.
    pub generation: Option<Generation>,
    /// Each service's split; one with a value that is none is left out.
    pub splits: BTreeMap<ServiceName, Split>,
    /// The colors that are answered with 503, of the services that have such.
    pub refused: BTreeMap<ServiceName, BTreeSet<Color>>,
    /// Every key, as it stands.
    pub keys: BTreeMap<String, String>,
}

impl HaproxyPosition {
    /// What a map with these keys says.
    pub fn of_keys(keys: &[(String, u64)]) -> Self {
        let lines: Vec<String> = keys
            .iter()
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        Self::of(lines.iter().map(String::as_str))
    }

    /// Its keys in the order of [`haproxy_keys`]: the generation last. Those with a value that is no number are left out.
    pub fn to_keys(&self) -> Vec<(String, u64)> {
        let mut keys: Vec<(String, u64)> = self
            .keys
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.parse().ok()?)))
            .collect();
        keys.sort_by_key(|(key, _)| key == GENERATION);
        keys
    }

    /// Reads `key value` lines; others are skipped.
    pub fn of<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut position = Self::default();
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let (Some(key), Some(value), None) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            position.keys.insert(key.to_owned(), value.to_owned());
            if key == GENERATION {
                position.generation = value.parse().ok().map(Generation);
            } else if let (Ok(name), Some((blue, refused))) = (key.parse(), read_value(value)) {
                let name: ServiceName = name;
                if !refused.is_empty() {
                    position.refused.insert(name.clone(), refused);
                }
                position
                    .splits
                    .insert(name, Split::giving(Color::Blue, blue));
            }
        }
        position
    }
}

#[derive(Debug, Serialize)]
struct Lines {
    position: String,
    choice: Choice,
}

/// The lines for a user's own frontend: which service a request is for, and its color. `None` where every service listens
/// itself. They say the same in every position.
pub fn haproxy_frontend_lines(
    table: &RoutingTable,
    context: &HaproxyContext,
) -> Result<Option<String>, Error> {
    let Some((choice, services)) = Choice::of_foreign(table)? else {
        return Ok(None);
    };
    let mut lines = String::new();
    for service in services {
        let name = &service.name;
        let hosts: Vec<String> = service
            .hosts
            .iter()
            .map(|host| match host {
                HostPattern::Exact(host) => {
                    format!("{{ req.hdr(host),host_only,rtrim(.),lower -m str {host} }}")
                }
                HostPattern::Below(host) => {
                    format!("{{ req.hdr(host),host_only,rtrim(.),lower -m end .{host} }}")
                }
            })
            .collect();
        let condition = if hosts.is_empty() {
            "!{ var(txn.turnout) -m found }".to_owned()
        } else {
            hosts.join(" or ")
        };
        // writing to a String cannot fail
        writeln!(
            lines,
            "    http-request set-var(txn.turnout) str({name}) if {condition}"
        )
        .ok();
    }
    let view = Lines {
        position: position(context)?,
        choice,
    };
    lines.push_str(&render(CHOICE.0, &[CHOICE], view)?);
    Ok(Some(lines))
}

#[cfg(test)]
mod tests {
    use super::super::nginx::tests::table;
    use super::*;
    use crate::domain::Position;

    fn context() -> HaproxyContext {
        HaproxyContext {
            position: "/etc/haproxy/turnout/position.map".into(),
            socket: None,
            trusted_proxies: Vec::new(),
            counts: Some("/var/lib/turnout/traffic/socket".into()),
        }
    }

    #[test]
    fn the_shape_is_the_same_in_every_position_and_another_with_another_server() {
        let blue = table(3, &["shop", "blog"]);
        let mut green = table(4, &["shop", "blog"]);
        for route in green.routes.values_mut() {
            route.position = Position::BlueGreen {
                active: Color::Green,
            };
        }
        let text = haproxy(&blue, &context(), &haproxy_template()).unwrap();
        assert_eq!(
            text,
            haproxy(&green, &context(), &haproxy_template()).unwrap()
        );
        let shape = haproxy_shape(&text).unwrap();
        assert_eq!(shape.len(), 16, "{text}");
        let other = haproxy(&table(3, &["shop"]), &context(), &haproxy_template()).unwrap();
        assert_ne!(haproxy_shape(&other), Some(shape));
    }

    #[test]
    fn only_trusted_peers_are_believed() {
        let mut context = context();
        context.trusted_proxies = vec!["10.1.2.3/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let text = haproxy(&table(1, &["shop"]), &context, &haproxy_template()).unwrap();
        assert!(
            text.contains("acl turnout_trusted src 10.0.0.0/8 ::1/128\n"),
            "{text}"
        );
        let line = "set-header X-Real-IP %[src] if !turnout_trusted || !{ req.fhdr(X-Real-IP),length gt 0 }\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_map_says_its_generation_and_is_read_from_the_file_and_from_the_socket() {
        let map = haproxy_map(&table(12, &["shop"]));
        assert!(map.ends_with("\nshop 10000\n_generation 12\n"), "{map}");
        let file = HaproxyPosition::of(map.lines().filter(|line| !line.starts_with('#')));
        assert_eq!(file.generation, Some(Generation(12)));
        assert_eq!(
            file.splits,
            BTreeMap::from([("shop".parse().unwrap(), Split::all(Color::Blue))])
        );
        let odd = HaproxyPosition::of(["shop 10001", "x", "blog 0"].into_iter());
        assert_eq!(
            (odd.generation, odd.splits.len(), odd.keys.len()),
            (None, 1, 2)
        );
    }

    #[test]
    fn a_refused_color_is_in_the_map_and_not_in_the_shape() {
        let plain = table(3, &["shop", "blog"]);
        let mut refusing = table(4, &["shop", "blog"]);
        let shop: ServiceName = "shop".parse().unwrap();
        let route = refusing.routes.get_mut(&shop).unwrap();
        route.refused = BTreeSet::from([Color::Blue]);
        let shaped = |table| haproxy(table, &context(), &haproxy_template()).unwrap();
        assert_eq!(shaped(&plain), shaped(&refusing));
        let keys = haproxy_keys(&refusing);
        assert_eq!(keys[1], ("shop".to_owned(), 30_000));
        let read = HaproxyPosition::of_keys(&keys);
        assert_eq!(read.splits[&shop], Split::all(Color::Blue));
        assert_eq!(
            read.refused,
            BTreeMap::from([(shop.clone(), BTreeSet::from([Color::Blue]))])
        );
        assert_eq!(read.to_keys(), keys);
        let both = HaproxyPosition::of(["shop 60000", "blog 80000"].into_iter());
        assert_eq!(
            both.splits,
            [(shop.clone(), Split::all(Color::Green))].into()
        );
        assert_eq!(both.refused[&shop], BTreeSet::from(Color::BOTH));
    }

    #[test]
    fn a_template_without_the_shape_is_refused() {
        let template = Template {
            name: "own.j2".into(),
            source: "global\n".into(),
        };
        let error = haproxy(&table(1, &["shop"]), &context(), &template).unwrap_err();
        assert!(
            error.to_string().contains("setenv TURNOUT_SHAPE"),
            "{error}"
        );
    }

    #[test]
    fn a_path_that_haproxy_would_take_apart_is_refused() {
        let odd = HaproxyContext {
            position: "/etc/a,b/position.map".into(),
            ..context()
        };
        let error = haproxy(&table(1, &["shop"]), &odd, &haproxy_template()).unwrap_err();
        assert!(
            matches!(&error, Error::Value { key, .. } if key == "balancer.haproxy.maps"),
            "{error}"
        );
    }

    #[test]
    fn the_lines_for_a_frontend_of_the_user_s_name_its_services_alone() {
        let mut table = table(1, &["shop", "blog"]);
        assert_eq!(haproxy_frontend_lines(&table, &context()).unwrap(), None);
        let shop = table.routes.get_mut(&"shop".parse().unwrap()).unwrap();
        std::sync::Arc::get_mut(&mut shop.service).unwrap().listen = None;
        let lines = haproxy_frontend_lines(&table, &context()).unwrap().unwrap();
        assert!(lines.contains(
            "str(shop) if { req.hdr(host),host_only,rtrim(.),lower -m str shop.example.com }"
        ));
        assert!(
            lines.contains("use_backend turnout_%[var(txn.turnout)]_"),
            "{lines}"
        );
        assert!(!lines.contains("blog"), "{lines}");
    }
}
