//! What `turnout init` writes: a first configuration, or a proposal made from an nginx configuration (`haproxy_init`: from one
//! of HAProxy's).
//!
//! Pure: a tree of directives in, text out. Reading and writing files is the caller's. A proposal is a starting point for a person, so what
//! could not be understood is said in a comment and never guessed in silence; what is written is always a valid file.

use std::fmt::Write as _;
use std::path::Path;

use super::haproxy_text::NotHaproxy;
use super::nginx_text::{Directive, SyntaxError};
use super::nginx_tree::Tree;
use super::proposal::{Pass, Proposal, Upstream, passes};

/// The file that `turnout init` writes where there is none.
pub(super) fn starter_config() -> String {
    r#"# turnout: the first configuration. `turnout doctor` checks it, `turnout serve` runs it, `turnout switch green` moves the
# traffic. All keys: `turnout schema`.

version: 1

state:
  dir: .turnout                        # what turnout remembers; relative to this file

balancer:
  kind: embedded                       # turnout carries the traffic itself; nginx, HAProxy: `turnout init --from FILE`

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

/// Why a configuration gives no proposal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// It is not nginx's language.
    #[error(
        "it is not nginx's language, and does not begin like HAProxy's (`global`, `defaults`, …)"
    )]
    Syntax(#[from] SyntaxError),
    /// It begins like HAProxy's language and goes on otherwise.
    #[error("it begins like HAProxy's configuration, and cannot be read as that")]
    Haproxy(#[from] NotHaproxy),
    /// There is nothing in HAProxy to put turnout in front of.
    #[error(
        "no frontend or listen section with a backend of servers HOST:PORT was found there{notes}"
    )]
    NoBackend {
        /// What was found and not taken over, each behind a semicolon.
        notes: String,
    },
    /// There is nothing to put turnout in front of.
    #[error("no `server` with a `proxy_pass` to http://… was found there or in what it includes")]
    NoProxy,
}

/// A proposal for `turnout.yaml` from an nginx configuration, with the lines to change in nginx as comments.
pub(super) fn from_nginx(tree: &Tree) -> Result<String, InitError> {
    let everything = walk(&tree.root);
    let upstreams: Vec<Upstream> = everything
        .iter()
        .filter(|directive| directive.name == "upstream")
        .map(|directive| Upstream::read(directive))
        .collect();
    let mut services: Vec<Proposal> = Vec::new();
    for server in everything.iter().filter(|block| block.name == "server") {
        let Some(block) = &server.block else { continue };
        for (around, pass) in passes(block) {
            let Some(mut proposal) = Proposal::read(block, around, pass, &upstreams) else {
                continue;
            };
            if let Some(same) = services
                .iter_mut()
                .find(|other| other.authority == proposal.authority)
            {
                same.merge(proposal);
                continue;
            }
            let base = proposal.name.clone();
            let mut number = 2;
            while services.iter().any(|other| other.name == proposal.name) {
                proposal.name = format!("{base}-{number}");
                number += 1;
            }
            services.push(proposal);
        }
    }
    if services.is_empty() {
        return Err(InitError::NoProxy);
    }
    Ok(written(&services, tree))
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

fn written(services: &[Proposal], tree: &Tree) -> String {
    let mut out = String::from(
        "# A proposal by `turnout init --from`: read it, change it, then run `turnout doctor`.\n#\n",
    );
    let folder = tree.main.as_deref().and_then(Path::parent);
    let folder = folder
        .unwrap_or(Path::new("/etc/nginx"))
        .display()
        .to_string();
    out.push_str("# To do in nginx, after the first `turnout apply` has written these files:\n");
    for service in services {
        for Pass {
            place,
            text,
            surplus,
        } in &service.passes
        {
            let _infallible = writeln!(
                out,
                "#   {place}: put `include {folder}/turnout/{}.conf;` in place of `{text}`",
                service.name
            );
            for line in surplus {
                let _infallible = writeln!(out, "#     and remove `{line}`: the include sets it");
            }
        }
        for note in &service.notes {
            let _infallible = writeln!(out, "#   mind: {note}");
        }
    }
    for line in &tree.left_out {
        let _infallible = writeln!(out, "#   mind: {line}");
    }
    let all = walk(&tree.root);
    let included = all.iter().any(|directive| {
        directive.name == "include"
            && directive
                .args
                .iter()
                .any(|path| path.ends_with("conf.d/*.conf"))
    });
    let http = tree.root.iter().any(|directive| directive.name == "http");
    let _infallible = match (included, http) {
        (true, _) => writeln!(
            out,
            "# Before that nothing: `http {{ … }}` includes conf.d/*.conf already"
        ),
        (false, true) => writeln!(
            out,
            "# Before that, in `http {{ … }}` before the servers: include {folder}/conf.d/*.conf;"
        ),
        (false, false) => writeln!(
            out,
            "# Before that, make sure that `http {{ … }}` of nginx.conf has: include {folder}/conf.d/*.conf;"
        ),
    };
    let _infallible = write!(
        out,
        "\nversion: 1\n\nbalancer:\n  kind: nginx\n  nginx:\n    config: {folder}/conf.d/turnout.conf\n"
    );
    if let Some(main) = &tree.main {
        let _infallible = writeln!(out, "    main: {}", main.display());
    }
    let pid = all
        .iter()
        .find(|directive| directive.name == "pid")
        .and_then(|directive| directive.args.first());
    if let Some(pid) = pid.filter(|pid| pid.starts_with('/')) {
        let _infallible = writeln!(out, "    pid: {pid}");
    }
    let _infallible = write!(out, "    snippets: {folder}/turnout\n\nservices:\n");
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

/// A list's items in quotes, with commas.
pub(super) fn quoted<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(|item| format!("\"{}\"", item.to_string()))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Config, Env, Source};
    use crate::domain::ServiceName;

    pub(in crate::cli) fn loaded(text: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("turnout.yaml");
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes())
            .unwrap();
        let env = Env::new(folder.path().to_owned(), |_| None);
        Config::load(&Source::file(&path, &env), &env).unwrap_or_else(|error| panic!("{error}"))
    }

    fn proposed(text: &str) -> Result<String, InitError> {
        let file = std::rc::Rc::from(Path::new("/etc/nginx/nginx.conf"));
        from_nginx(&Tree {
            root: crate::cli::nginx_text::parse(text, &file)?,
            main: Some(file.to_path_buf()),
            left_out: vec!["nginx.conf:1: left out".to_owned()],
        })
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
        location / {
            proxy_pass http://backend;
            proxy_set_header host $host;
            proxy_set_header X-Mine 1;
            proxy_http_version 1.1;
        }
        location /api/ { proxy_pass http://backend; }
    }
    server { listen 80; server_name www.example.com; location / { proxy_pass http://backend; } }
}
pid /run/mine.pid;";
        let proposal = proposed(text).unwrap();
        insta::assert_snapshot!(proposal, @r#"
        # A proposal by `turnout init --from`: read it, change it, then run `turnout doctor`.
        #
        # To do in nginx, after the first `turnout apply` has written these files:
        #   /etc/nginx/nginx.conf:8: put `include /etc/nginx/turnout/shop.conf;` in place of `proxy_pass http://backend;`
        #     and remove `proxy_set_header host $host;`: the include sets it
        #     and remove `proxy_http_version 1.1;`: the include sets it
        #   /etc/nginx/nginx.conf:13: put `include /etc/nginx/turnout/shop.conf;` in place of `proxy_pass http://backend;`
        #   /etc/nginx/nginx.conf:15: put `include /etc/nginx/turnout/shop.conf;` in place of `proxy_pass http://backend;`
        #   mind: `server 10.0.0.2:8080 backup;` of upstream backend is not taken over
        #   mind: nginx.conf:1: left out
        # Before that, in `http { … }` before the servers: include /etc/nginx/conf.d/*.conf;

        version: 1

        balancer:
          kind: nginx
          nginx:
            config: /etc/nginx/conf.d/turnout.conf
            main: /etc/nginx/nginx.conf
            pid: /run/mine.pid
            snippets: /etc/nginx/turnout

        services:
          shop:
            hosts: ["shop.example.com", "*.shop.example.com", "www.example.com"]
            public: https://shop.example.com/    # the front door, for the proof
            blue:  { servers: ["http://10.0.0.1:8080"] }
            green: { servers: ["http://10.0.0.1:8081"] }    # CHANGE: where the next version runs
        "#);
        loaded(&proposal);
    }

    #[test]
    fn a_pair_of_upstreams_becomes_both_colors() {
        let text = "upstream app_blue { server 127.0.0.1:3001; }\nupstream app_green { server 127.0.0.1:3002; }\nserver { listen 8080; server_name a.com; location / { set $up app_blue; proxy_pass http://$up; } }\nserver { server_name _; location / { proxy_pass http://app_green; } }\ninclude /etc/nginx/conf.d/*.conf;\n";
        let proposal = proposed(text).unwrap();
        let config = loaded(&proposal);
        let names: Vec<&str> = config.services.keys().map(ServiceName::as_str).collect();
        assert_eq!(names, ["a", "app"]);
        for service in config.services.values() {
            assert_eq!(
                service.shape.servers(crate::domain::Color::Blue)[0].to_string(),
                "http://127.0.0.1:3001"
            );
            assert_eq!(
                service.shape.servers(crate::domain::Color::Green)[0].to_string(),
                "http://127.0.0.1:3002"
            );
        }
        assert!(
            proposal.contains("public: http://a.com:8080/"),
            "{proposal}"
        );
        assert!(proposal.contains("green serves now"), "{proposal}");
        assert!(proposal.contains("Before that nothing"), "{proposal}");
    }

    #[test]
    fn what_gives_no_proposal_says_why() {
        assert_eq!(
            proposed("server { listen 80; root /srv; }"),
            Err(InitError::NoProxy)
        );
        assert_eq!(
            proposed("server {\n listen 80;\n"),
            Err(InitError::Syntax(SyntaxError {
                line: 3,
                what: "a block is not closed"
            }))
        );
    }
}
