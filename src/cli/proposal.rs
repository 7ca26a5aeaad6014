//! What one `proxy_pass` of an nginx configuration says about a service: hosts, servers of both colors, front door, and what
//! the snippet replaces. Pure; what could not be understood becomes a note.

use super::nginx_text::Directive;
use crate::domain::{HostPattern, Server, ServiceName};

/// Each `proxy_pass` with the block that it stands in.
pub(super) fn passes(block: &[Directive]) -> Vec<(&[Directive], &Directive)> {
    let mut found = Vec::new();
    for directive in block {
        if directive.name == "proxy_pass" {
            found.push((block, directive));
        }
        if let Some(inner) = &directive.block {
            found.extend(passes(inner));
        }
    }
    found
}

/// What makes two directives the same setting: the name, and for headers which one.
fn setting<'a>(name: &'a str, first: Option<&str>) -> (&'a str, Option<String>) {
    let of_a_header = matches!(
        name,
        "proxy_set_header" | "proxy_hide_header" | "add_header"
    );
    (
        name,
        first.filter(|_| of_a_header).map(str::to_ascii_lowercase),
    )
}

/// The directives beside a `proxy_pass` that the snippet has too: nginx refuses some twice, and sends some headers twice.
fn surplus(around: &[Directive]) -> Vec<String> {
    let template = include_str!("../../templates/nginx-location.conf.j2");
    let ours: Vec<_> = template
        .lines()
        .map(|line| line.trim().trim_end_matches(';'))
        .filter(|line| !line.starts_with("{%"))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(setting(words.next()?, words.next()))
        })
        .collect();
    around
        .iter()
        .filter(|directive| directive.name != "proxy_pass")
        .filter(|directive| {
            ours.contains(&setting(
                &directive.name,
                directive.args.first().map(String::as_str),
            ))
        })
        .map(|directive| format!("{} {};", directive.name, directive.args.join(" ")))
        .collect()
}

pub(super) struct Upstream {
    name: String,
    servers: Vec<Server>,
    /// What turnout cannot take over, as it stands.
    odd: Vec<String>,
}

impl Upstream {
    pub(super) fn read(directive: &Directive) -> Self {
        let mut upstream = Self {
            name: directive.args.first().cloned().unwrap_or_default(),
            servers: Vec::new(),
            odd: Vec::new(),
        };
        for server in directive
            .block
            .iter()
            .flatten()
            .filter(|inner| inner.name == "server")
        {
            let Some((address, parameters)) = server.args.split_first() else {
                continue;
            };
            let left_out = ["down", "backup"];
            match format!("http://{address}").parse::<Server>() {
                Ok(address)
                    if !parameters
                        .iter()
                        .any(|word| left_out.contains(&word.as_str())) =>
                {
                    upstream.servers.push(address);
                }
                Ok(_) | Err(_) => upstream.odd.push(server.args.join(" ")),
            }
        }
        upstream
    }
}

pub(super) struct Proposal {
    pub(super) name: String,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) public: Option<String>,
    pub(super) blue: Vec<Server>,
    pub(super) green: Vec<Server>,
    /// Green was not in the file.
    pub(super) green_is_guessed: bool,
    /// Upstream or address behind the `proxy_pass`: what makes two of them one service.
    pub(super) authority: String,
    pub(super) passes: Vec<Pass>,
    pub(super) notes: Vec<String>,
}

/// A `proxy_pass` that the snippet replaces.
pub(super) struct Pass {
    /// `FILE:LINE`
    pub(super) place: String,
    pub(super) text: String,
    /// What has to go with it.
    pub(super) surplus: Vec<String>,
}

impl Proposal {
    pub(super) fn read(
        server: &[Directive],
        around: &[Directive],
        pass: &Directive,
        upstreams: &[Upstream],
    ) -> Option<Self> {
        let url = pass.args.first()?;
        let target = url.strip_prefix("http://")?;
        let authority = target.split('/').next().unwrap_or(target);
        let mut notes = Vec::new();
        if target.contains('/') {
            notes.push(format!(
                "`{url}` rewrites the path; the snippet passes it on as it came"
            ));
        }
        let (blue, green) = colors(authority, upstreams, &mut notes)?;
        let hosts: Vec<HostPattern> = server
            .iter()
            .filter(|inner| inner.name == "server_name")
            .flat_map(|inner| &inner.args)
            .filter(|name| *name != "_")
            .filter_map(|name| {
                let host = name.parse().ok();
                if host.is_none() {
                    notes.push(format!(
                        "the server name `{name}` is no exact name or *.name"
                    ));
                }
                host
            })
            .collect();
        let (green, green_is_guessed) = match green {
            Some(green) => (green, false),
            None => (blue.iter().filter_map(next_port).collect(), true),
        };
        Some(Self {
            name: service_name(&hosts),
            public: public(server, &hosts),
            hosts,
            blue,
            green,
            green_is_guessed,
            authority: authority.to_owned(),
            passes: vec![Pass {
                place: pass.place(),
                text: format!("proxy_pass {};", pass.args.join(" ")),
                surplus: surplus(around),
            }],
            notes,
        })
    }

    /// Another location, perhaps of another server block, with the same upstream.
    pub(super) fn merge(&mut self, other: Self) {
        self.passes.extend(other.passes);
        for host in other.hosts {
            if !self.hosts.contains(&host) {
                self.hosts.push(host);
            }
        }
        let is_tls =
            |url: &Option<String>| url.as_ref().is_some_and(|url| url.starts_with("https"));
        if self.public.is_none() || is_tls(&other.public) && !is_tls(&self.public) {
            self.public = other.public;
        }
        for note in other.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }
}

type Servers = Vec<Server>;

/// The servers of blue, and of green if the file has them: a pair of upstreams whose names differ in the color alone, or,
/// behind a variable, the only upstreams called blue and green.
fn colors(
    authority: &str,
    upstreams: &[Upstream],
    notes: &mut Vec<String>,
) -> Option<(Servers, Option<Servers>)> {
    let mut servers = |name: &str| {
        let found = upstreams.iter().find(|upstream| upstream.name == name)?;
        for odd in &found.odd {
            notes.push(format!(
                "`server {odd};` of upstream {name} is not taken over"
            ));
        }
        Some(found.servers.clone()).filter(|servers| !servers.is_empty())
    };
    if authority.starts_with('$') {
        let blue = upstreams
            .iter()
            .find(|upstream| upstream.name.contains("blue"))?;
        let green = blue.name.replace("blue", "green");
        return Some((servers(&blue.name)?, servers(&green)));
    }
    if let Some(found) = servers(authority) {
        if authority.contains("blue") {
            return Some((found, servers(&authority.replace("blue", "green"))));
        }
        if authority.contains("green")
            && let Some(blue) = servers(&authority.replace("green", "blue"))
        {
            notes.push("green serves now: add `active: green`".to_owned());
            return Some((blue, Some(found)));
        }
        return Some((found, None));
    }
    let direct = format!("http://{authority}").parse().ok()?;
    Some((vec![direct], None))
}

pub(super) fn next_port(server: &Server) -> Option<Server> {
    let host = match server.host() {
        v6 if v6.contains(':') => format!("[{v6}]"),
        host => host.to_owned(),
    };
    let port = server.port().checked_add(1)?;
    format!("http://{host}:{port}").parse().ok()
}

pub(super) fn service_name(hosts: &[HostPattern]) -> String {
    let first = hosts.first().map(|host| match host {
        HostPattern::Exact(name) | HostPattern::Below(name) => name.as_str(),
    });
    let label = first.and_then(|name| name.trim_start_matches("www.").split('.').next());
    match label.map(str::parse::<ServiceName>) {
        Some(Ok(name)) => name.to_string(),
        Some(Err(_)) | None => "app".to_owned(),
    }
}

fn public(server: &[Directive], hosts: &[HostPattern]) -> Option<String> {
    let host = hosts.first()?.example();
    let listens: Vec<&Directive> = server
        .iter()
        .filter(|inner| inner.name == "listen")
        .collect();
    let tls = |listen: &&&Directive| listen.args.iter().any(|word| word == "ssl");
    let chosen = listens.iter().find(tls).or(listens.first());
    let scheme = if chosen.is_some_and(|listen| tls(&listen)) {
        "https"
    } else {
        "http"
    };
    let address = chosen
        .and_then(|listen| listen.args.first())
        .map_or("80", String::as_str);
    let port = address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse::<u16>().ok());
    Some(match (scheme, port) {
        ("https", Some(443) | None) | ("http", Some(80) | None) => format!("{scheme}://{host}/"),
        (scheme, Some(port)) => format!("{scheme}://{host}:{port}/"),
        (scheme, None) => format!("{scheme}://{host}/"),
    })
}
