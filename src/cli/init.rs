//! What `turnout init` writes: a first configuration, or a proposal made from an nginx configuration.
//!
//! Pure: text in, text out. Reading and writing files is the caller's. A proposal is a starting point for a person, so what
//! could not be understood is said in a comment and never guessed in silence; what is written is always a valid file.

use std::fmt::Write as _;

use super::nginx_text::{Directive, SyntaxError, parse};
use crate::domain::{HostPattern, Server, ServiceName};

/// The file that `turnout init` writes where there is none.
pub(super) fn starter_config() -> String {
    r#"# turnout: the first configuration. `turnout doctor` checks it, `turnout serve` runs it, `turnout switch green` moves the
# traffic. All keys: `turnout schema`.

version: 1

state:
  dir: .turnout                        # what turnout remembers; relative to this file

balancer:
  kind: embedded                       # turnout carries the traffic itself; nginx: see `turnout init --from nginx.conf`

control:
  listen: 127.0.0.1:9180               # the API and the dashboard

services:
  shop:
    listen: 127.0.0.1:8080             # where clients connect
    blue:  { servers: ["http://127.0.0.1:5001"] }    # the version that serves now
    green: { servers: ["http://127.0.0.1:5002"] }    # the version that comes next
    health: { path: /health }          # a color takes traffic only while this answers 200 to 299
"#
    .to_owned()
}

/// Why an nginx configuration gives no proposal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// It is not nginx's language.
    #[error("failed to read the nginx configuration")]
    Syntax(#[from] SyntaxError),
    /// There is nothing to put turnout in front of.
    #[error(
        "no `server` with a `proxy_pass` to http://… was found (files named by `include` are not read: give the one that \
         holds the server block)"
    )]
    NoProxy,
}

/// A proposal for `turnout.yaml` from the text of an nginx configuration, with the lines to add to nginx as comments.
/// `snippets` is nginx's folder for what turnout writes, such as `/etc/nginx/turnout`.
pub(super) fn from_nginx(text: &str, snippets: &str) -> Result<String, InitError> {
    let root = parse(text)?;
    let mut upstreams = Vec::new();
    let mut services: Vec<Proposal> = Vec::new();
    for directive in walk(&root) {
        if directive.name == "upstream" {
            upstreams.push(Upstream::read(directive));
        }
    }
    for server in walk(&root)
        .into_iter()
        .filter(|block| block.name == "server")
    {
        let Some(block) = &server.block else { continue };
        for pass in walk(block)
            .into_iter()
            .filter(|inner| inner.name == "proxy_pass")
        {
            if let Some(proposal) = Proposal::read(block, pass, &upstreams) {
                let mut proposal = proposal;
                let taken = |name: &str| services.iter().any(|other| other.name == name);
                let base = proposal.name.clone();
                let mut number = 2;
                while taken(&proposal.name) {
                    proposal.name = format!("{base}-{number}");
                    number += 1;
                }
                services.push(proposal);
            }
        }
    }
    if services.is_empty() {
        return Err(InitError::NoProxy);
    }
    Ok(written(&services, &root, snippets))
}

/// Every directive, also those inside of blocks, in the order of the text.
fn walk(directives: &[Directive]) -> Vec<&Directive> {
    let mut all = Vec::new();
    for directive in directives {
        all.push(directive);
        if let Some(block) = &directive.block {
            all.extend(walk(block));
        }
    }
    all
}

struct Upstream {
    name: String,
    servers: Vec<Server>,
    /// What turnout cannot take over, as it stands.
    odd: Vec<String>,
}

impl Upstream {
    fn read(directive: &Directive) -> Self {
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

struct Proposal {
    name: String,
    hosts: Vec<HostPattern>,
    public: Option<String>,
    blue: Vec<Server>,
    green: Vec<Server>,
    /// Green was not in the file.
    green_is_guessed: bool,
    /// The line of the `proxy_pass`, and its text.
    pass: (usize, String),
    notes: Vec<String>,
}

impl Proposal {
    fn read(server: &[Directive], pass: &Directive, upstreams: &[Upstream]) -> Option<Self> {
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
            pass: (pass.line, format!("proxy_pass {};", pass.args.join(" "))),
            notes,
        })
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

fn next_port(server: &Server) -> Option<Server> {
    let host = match server.host() {
        v6 if v6.contains(':') => format!("[{v6}]"),
        host => host.to_owned(),
    };
    let port = server.port().checked_add(1)?;
    format!("http://{host}:{port}").parse().ok()
}

fn service_name(hosts: &[HostPattern]) -> String {
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

fn written(services: &[Proposal], root: &[Directive], snippets: &str) -> String {
    let mut out = String::from(
        "# A proposal by `turnout init --from`: read it, change it, then run `turnout doctor`.\n#\n",
    );
    out.push_str("# To do in nginx:\n");
    for service in services {
        let (line, pass) = &service.pass;
        let _infallible = writeln!(
            out,
            "#   line {line}: put `include {snippets}/{}.conf;` in place of `{pass}`",
            service.name
        );
        for note in &service.notes {
            let _infallible = writeln!(out, "#   mind: {note}");
        }
    }
    let includes = walk(root).into_iter().any(|directive| {
        directive.name == "include"
            && directive
                .args
                .iter()
                .any(|path| path.ends_with("conf.d/*.conf"))
    });
    let http = root.iter().any(|directive| directive.name == "http");
    out.push_str(match (includes, http) {
        (true, _) => "#   nothing else: `http { … }` includes conf.d/*.conf already\n",
        (false, true) => {
            "#   in `http { … }`, before the servers: include /etc/nginx/conf.d/turnout.conf;\n"
        }
        (false, false) => {
            "#   make sure that `http { … }` of nginx.conf has: include /etc/nginx/conf.d/*.conf;\n"
        }
    });
    let _infallible = write!(
        out,
        "\nbalancer:\n  kind: nginx\n  nginx:\n    snippets: {snippets}\n\nservices:\n"
    );
    for service in services {
        let _infallible = writeln!(out, "  {}:", service.name);
        if !service.hosts.is_empty() {
            let _infallible = writeln!(out, "    hosts: [{}]", quoted(&service.hosts));
        }
        if let Some(public) = &service.public {
            let _infallible = writeln!(
                out,
                "    public: {public}    # the front door, for the proof"
            );
        }
        let _infallible = writeln!(out, "    blue:  {{ servers: [{}] }}", quoted(&service.blue));
        let guess = if service.green_is_guessed {
            "    # CHANGE: where the next version runs"
        } else {
            ""
        };
        let _infallible = writeln!(
            out,
            "    green: {{ servers: [{}] }}{guess}",
            quoted(&service.green)
        );
    }
    out
}

fn quoted<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(|item| format!("\"{}\"", item.to_string()))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Env, Source};

    fn loaded(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turnout.yaml");
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes())
            .unwrap();
        let env = Env::new(folder.path().to_owned(), |_| None);
        Config::load(&Source::file(&path, &env), &env).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_first_configuration_is_valid() {
        let config = loaded(&starter_config());
        assert_eq!(config.services.len(), 1);
        assert_eq!(config.not_in_force, []);
    }

    #[test]
    fn a_plain_server_block_becomes_a_service_with_a_green_to_fill_in() {
        let text = r"
http {
    upstream backend { server 10.0.0.1:8080 weight=2; server 10.0.0.2:8080 backup; }
    server {
        listen 443 ssl;
        server_name shop.example.com *.shop.example.com;
        location / { proxy_pass http://backend; }
    }
}";
        let proposal = from_nginx(text, "/etc/nginx/turnout").unwrap();
        insta::assert_snapshot!(proposal, @r#"
        # A proposal by `turnout init --from`: read it, change it, then run `turnout doctor`.
        #
        # To do in nginx:
        #   line 7: put `include /etc/nginx/turnout/shop.conf;` in place of `proxy_pass http://backend;`
        #   mind: `server 10.0.0.2:8080 backup;` of upstream backend is not taken over
        #   in `http { … }`, before the servers: include /etc/nginx/conf.d/turnout.conf;

        balancer:
          kind: nginx
          nginx:
            snippets: /etc/nginx/turnout

        services:
          shop:
            hosts: ["shop.example.com", "*.shop.example.com"]
            public: https://shop.example.com/    # the front door, for the proof
            blue:  { servers: ["http://10.0.0.1:8080"] }
            green: { servers: ["http://10.0.0.1:8081"] }    # CHANGE: where the next version runs
        "#);
        loaded(&proposal);
    }

    #[test]
    fn a_pair_of_upstreams_becomes_both_colors() {
        let text = "upstream app_blue { server 127.0.0.1:3001; }\nupstream app_green { server 127.0.0.1:3002; }\nserver { listen 8080; server_name a.com; location / { set $up app_blue; proxy_pass http://$up; } }\nserver { server_name _; location / { proxy_pass http://app_green; } }\ninclude /etc/nginx/conf.d/*.conf;\n";
        let proposal = from_nginx(text, "/etc/nginx/turnout").unwrap();
        let config = loaded(&proposal);
        let names: Vec<&str> = config.services.keys().map(ServiceName::as_str).collect();
        assert_eq!(names, ["a", "app"]);
        for service in config.services.values() {
            assert_eq!(
                service.shape.servers.blue[0].to_string(),
                "http://127.0.0.1:3001"
            );
            assert_eq!(
                service.shape.servers.green[0].to_string(),
                "http://127.0.0.1:3002"
            );
        }
        assert!(
            proposal.contains("public: http://a.com:8080/"),
            "{proposal}"
        );
        assert!(proposal.contains("green serves now"), "{proposal}");
        assert!(proposal.contains("nothing else"), "{proposal}");
    }

    #[test]
    fn what_gives_no_proposal_says_why() {
        assert_eq!(
            from_nginx("server { listen 80; root /srv; }", "/s"),
            Err(InitError::NoProxy)
        );
        assert_eq!(
            from_nginx("server {\n listen 80;\n", "/s"),
            Err(InitError::Syntax(SyntaxError {
                line: 3,
                what: "a block is not closed"
            }))
        );
    }
}
