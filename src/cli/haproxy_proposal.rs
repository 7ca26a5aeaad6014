//! What the frontends and backends of an HAProxy configuration say about services: hosts, servers of both colors, the front
//! door, and the lines that turnout's take the place of. Pure; what could not be understood becomes a note.

use super::haproxy_text::{Line, Section};
use super::proposal::{next_port, service_name};
use crate::domain::{HostPattern, Server};

/// A service that a frontend leads to.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) public: Option<String>,
    pub(super) blue: Vec<Server>,
    pub(super) green: Vec<Server>,
    /// Green was not in the file.
    pub(super) green_is_guessed: bool,
    /// Green is the one that is used.
    pub(super) green_serves: bool,
    /// The backend of blue, which makes two routes one service.
    backend: String,
    /// What turnout's lines take the place of, such as `frontend web, line 12: use_backend shop if is_shop`.
    pub(super) replaces: Vec<String>,
}

/// The services, and what a person has to look at.
pub(super) fn services(sections: &[Section]) -> (Vec<Service>, Vec<String>) {
    let mut found: Vec<Service> = Vec::new();
    let mut notes = Vec::new();
    let is_tcp_by_default = sections
        .iter()
        .filter(|section| section.kind == "defaults")
        .fold(true, |is_tcp, section| mode(section).unwrap_or(is_tcp));
    let frontends = sections
        .iter()
        .filter(|section| matches!(section.kind.as_str(), "frontend" | "listen"));
    for frontend in frontends {
        let place = format!("{} {}", frontend.kind, frontend.name);
        let routes = routes(frontend);
        if mode(frontend).unwrap_or(is_tcp_by_default) {
            if !routes.is_empty() {
                notes.push(format!("{place} is `mode tcp`: turnout routes HTTP alone"));
            }
            continue;
        }
        for route in routes {
            let Some(service) = service(frontend, &place, &route, sections, &mut notes) else {
                continue;
            };
            match found
                .iter_mut()
                .find(|other| other.backend == service.backend)
            {
                Some(same) => same.merge(service),
                None => found.push(service),
            }
        }
    }
    for number in 1..found.len() {
        let base = found[number].name.clone();
        let mut suffix = 2;
        while found[..number]
            .iter()
            .any(|other| other.name == found[number].name)
        {
            found[number].name = format!("{base}-{suffix}");
            suffix += 1;
        }
    }
    (found, notes)
}

impl Service {
    /// Another way to the same backend.
    fn merge(&mut self, other: Self) {
        // one way without a host takes any
        if self.hosts.is_empty() || other.hosts.is_empty() {
            self.hosts.clear();
        }
        for host in other.hosts {
            if !self.hosts.is_empty() && !self.hosts.contains(&host) {
                self.hosts.push(host);
            }
        }
        let is_tls =
            |url: &Option<String>| url.as_ref().is_some_and(|url| url.starts_with("https"));
        if self.public.is_none() || is_tls(&other.public) && !is_tls(&self.public) {
            self.public = other.public;
        }
        self.replaces.extend(other.replaces);
    }
}

/// `Some(true)`: this section says `mode tcp`.
fn mode(section: &Section) -> Option<bool> {
    let mut modes = section.lines.iter().filter_map(|line| line.after("mode"));
    modes
        .next_back()
        .and_then(|words| words.first())
        .map(|mode| mode == "tcp")
}

/// One way out of a frontend.
struct Route<'s> {
    backend: &'s str,
    /// `None` for servers of a `listen` section itself.
    line: Option<&'s Line>,
    /// Behind `if`.
    condition: &'s [String],
    is_unless: bool,
}

fn routes(frontend: &Section) -> Vec<Route<'_>> {
    let mut routes: Vec<Route<'_>> = frontend
        .lines
        .iter()
        .filter_map(|line| {
            let words = line
                .after("use_backend")
                .or_else(|| line.after("default_backend"))?;
            let (backend, rest) = words.split_first()?;
            let condition = rest.split_first();
            Some(Route {
                backend,
                line: Some(line),
                condition: condition.map_or(&[][..], |(_if, condition)| condition),
                is_unless: condition.is_some_and(|(word, _)| word == "unless"),
            })
        })
        .collect();
    let has_servers = frontend
        .lines
        .iter()
        .any(|line| line.after("server").is_some());
    if frontend.kind == "listen" && has_servers {
        routes.push(Route {
            backend: &frontend.name,
            line: None,
            condition: &[],
            is_unless: false,
        });
    }
    routes
}

fn service(
    frontend: &Section,
    place: &str,
    route: &Route<'_>,
    sections: &[Section],
    notes: &mut Vec<String>,
) -> Option<Service> {
    let replaces = route.line.map_or_else(
        || format!("{place}: its `server` lines"),
        |line| format!("{place}, line {}: `{}`", line.number, line.text()),
    );
    let Some(colors) = colors(route.backend, sections, notes) else {
        notes.push(format!(
            "{replaces} is not taken over: no backend of that name with a server http://HOST:PORT is in this file"
        ));
        return None;
    };
    let hosts = if route.condition.is_empty() {
        Vec::new()
    } else {
        let hosts = (!route.is_unless).then(|| hosts(frontend, route.condition));
        let Some(hosts) = hosts.flatten() else {
            notes.push(format!(
                "{replaces} is not taken over: its condition is not about hosts alone, which turnout's services are told by"
            ));
            return None;
        };
        hosts
    };
    let (green, green_is_guessed) = match colors.green {
        Some(green) => (green, false),
        None => (colors.blue.iter().filter_map(next_port).collect(), true),
    };
    let name = if hosts.is_empty() {
        let plain = route.backend.to_ascii_lowercase().replace('_', "-");
        let plain = ["-blue", "-green", "blue", "green", "-backend"]
            .iter()
            .fold(plain, |name, word| name.replace(word, ""));
        let parsed = plain.parse::<crate::domain::ServiceName>();
        parsed.map_or_else(|_no_name| "app".to_owned(), |name| name.to_string())
    } else {
        service_name(&hosts)
    };
    Some(Service {
        name,
        public: public(frontend, &hosts),
        hosts,
        blue: colors.blue,
        green,
        green_is_guessed,
        green_serves: colors.green_serves,
        backend: colors.backend,
        replaces: vec![replaces],
    })
}

/// The hosts that a condition is about; `None` if it is about anything else.
fn hosts(frontend: &Section, condition: &[String]) -> Option<Vec<HostPattern>> {
    let mut hosts = Vec::new();
    let mut words = condition.iter().peekable();
    let mut is_first = true;
    while let Some(word) = words.next() {
        let mut word = word;
        if matches!(word.as_str(), "||" | "or") {
            word = words.next()?;
        } else if !is_first {
            // two beside each other have to hold both
            return None;
        }
        is_first = false;
        if word == "{" {
            let test: Vec<&String> = words.by_ref().take_while(|word| *word != "}").collect();
            hosts.extend(tested(&test)?);
        } else {
            let mut named = frontend.lines.iter().filter_map(|line| {
                let (name, test) = line.after("acl")?.split_first()?;
                (name == word).then_some(test)
            });
            let first = named.next()?;
            for test in std::iter::once(first).chain(named) {
                hosts.extend(tested(&test.iter().collect::<Vec<_>>())?);
            }
        }
    }
    (!hosts.is_empty()).then_some(hosts)
}

/// The hosts of one test, such as `hdr(host) -i shop.example.com`.
fn tested(test: &[&String]) -> Option<Vec<HostPattern>> {
    let (fetch, rest) = test.split_first()?;
    let (method, argument) = fetch.split_once('(')?;
    let (header, converters) = argument.split_once(')')?;
    let harmless = |converter: &&str| {
        matches!(
            *converter,
            "" | "lower" | "host_only" | "rtrim(.)" | "field(1,:)"
        )
    };
    if !header.split(',').next()?.eq_ignore_ascii_case("host")
        || !converters.split(',').all(|one| harmless(&one)) && converters != ",field(1,:)"
    {
        return None;
    }
    let mut is_end = method == "hdr_end";
    if !matches!(
        method,
        "hdr" | "hdr_end" | "req.hdr" | "req.fhdr" | "hdr_dom"
    ) {
        return None;
    }
    let mut hosts = Vec::new();
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-i" | "--" => {}
            "-m" => match words.next()?.as_str() {
                "str" | "dom" => {}
                "end" => is_end = true,
                _ => return None,
            },
            flag if flag.starts_with('-') => return None,
            host => {
                let host = host.split(':').next()?;
                let pattern = match host.strip_prefix('.') {
                    Some(domain) if is_end => format!("*.{domain}"),
                    _ => host.to_owned(),
                };
                hosts.push(pattern.parse().ok()?);
            }
        }
    }
    Some(hosts)
}

struct Found {
    blue: Vec<Server>,
    green: Option<Vec<Server>>,
    green_serves: bool,
    /// Which backend is blue.
    backend: String,
}

/// The servers of both colors: a pair of backends whose names differ in the color alone, or a backend whose servers are
/// called blue and green.
fn colors(name: &str, sections: &[Section], notes: &mut Vec<String>) -> Option<Found> {
    if name.contains("green")
        && let Some(blue) = servers(&name.replace("green", "blue"), sections, notes)
    {
        return Some(Found {
            blue: plain(blue),
            green: Some(plain(servers(name, sections, notes)?)),
            green_serves: true,
            backend: name.replace("green", "blue"),
        });
    }
    let all = servers(name, sections, notes)?;
    if name.contains("blue")
        && let Some(green) = servers(&name.replace("blue", "green"), sections, notes)
    {
        return Some(Found {
            blue: plain(all),
            green: Some(plain(green)),
            green_serves: false,
            backend: name.to_owned(),
        });
    }
    let of = |color: &str| -> Vec<Server> {
        let named = all.iter().filter(|(name, _)| name.contains(color));
        named.map(|(_, server)| server.clone()).collect()
    };
    let (blue, green) = (of("blue"), of("green"));
    let (blue, green) = if !blue.is_empty() && blue.len() + green.len() == all.len() {
        (blue, Some(green).filter(|green| !green.is_empty()))
    } else {
        (plain(all), None)
    };
    Some(Found {
        blue,
        green,
        green_serves: false,
        backend: name.to_owned(),
    })
}

fn plain(servers: Vec<(String, Server)>) -> Vec<Server> {
    servers.into_iter().map(|(_, server)| server).collect()
}

/// The servers of a backend with their names; `None` if there are none that turnout could use.
fn servers(
    name: &str,
    sections: &[Section],
    notes: &mut Vec<String>,
) -> Option<Vec<(String, Server)>> {
    let backend = sections.iter().find(|section| {
        matches!(section.kind.as_str(), "backend" | "listen") && section.name == name
    })?;
    let mut servers = Vec::new();
    for line in &backend.lines {
        let Some([name, address, flags @ ..]) = line.after("server") else {
            continue;
        };
        let is_colored = name.contains("blue") || name.contains("green");
        let is_odd = flags.iter().any(|flag| {
            flag == "ssl" || !is_colored && matches!(flag.as_str(), "backup" | "disabled")
        });
        match format!("http://{address}").parse::<Server>() {
            Ok(server) if !is_odd && address.contains(':') => servers.push((name.clone(), server)),
            Ok(_) | Err(_) => {
                let note = format!(
                    "line {}: `{}` is not taken over: turnout wants HOST:PORT in clear text, in use",
                    line.number,
                    line.text()
                );
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
    }
    (!servers.is_empty()).then_some(servers)
}

/// Where clients come in, by the `bind` with TLS, or else the first.
fn public(frontend: &Section, hosts: &[HostPattern]) -> Option<String> {
    let binds: Vec<&[String]> = frontend
        .lines
        .iter()
        .filter_map(|line| line.after("bind"))
        .collect();
    let is_tls = |bind: &&&[String]| bind.iter().any(|word| word == "ssl");
    let chosen = binds.iter().find(is_tls).or(binds.first())?;
    let tls = is_tls(&chosen);
    let (address, port) = chosen.first()?.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let host = match (hosts.first(), tls) {
        (Some(host), _) => host.example(),
        // a certificate names no address
        (None, true) => return None,
        (None, false) => match address.parse::<std::net::Ipv4Addr>() {
            Ok(address) if !address.is_unspecified() => address.to_string(),
            Ok(_) | Err(_) => "127.0.0.1".to_owned(),
        },
    };
    let scheme = if tls { "https" } else { "http" };
    Some(match (tls, port) {
        (true, 443) | (false, 80) => format!("{scheme}://{host}/"),
        _ => format!("{scheme}://{host}:{port}/"),
    })
}
