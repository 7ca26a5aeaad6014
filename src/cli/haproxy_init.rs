//! A proposal for `turnout.yaml` from an HAProxy configuration, with what there is to do in HAProxy as comments.
//!
//! Pure, as `init` is: what could not be understood is said in a comment and never guessed in silence; what is written is
//! always a valid file.

use std::fmt::Write as _;
use std::path::Path;

use super::haproxy_proposal::{Service, services};
use super::haproxy_text::{self, Section};
use super::init::{InitError, quoted};

/// Where Debian's unit has them.
const SOCKET: &str = "/run/haproxy/admin.sock";
const PID: &str = "/run/haproxy.pid";
const MASTER: &str = "/run/haproxy-master.sock";

/// A proposal from the text of the file at `path`, absolute.
pub(super) fn from_haproxy(text: &str, path: &Path) -> Result<String, InitError> {
    let sections = haproxy_text::parse(text)?;
    let (services, notes) = services(&sections);
    if services.is_empty() {
        return Err(InitError::NoBackend {
            notes: notes
                .iter()
                .fold(String::new(), |all, note| all + "; " + note),
        });
    }
    let socket = Socket::of(&sections);
    let folder = path.parent().unwrap_or(Path::new("/etc/haproxy"));
    let ours = folder.join("turnout.cfg");
    let mut out = String::from(
        "# A proposal by `turnout init --from`: read it, change it, then run `turnout doctor`.\n#\n# To do, in this order:\n",
    );
    let mut number = 0;
    let mut step = |text: String| {
        number += 1;
        format!("#   {number}. {text}\n")
    };
    let mut steps = String::new();
    if let Some(line) = &socket.to_do {
        steps.push_str(&step(line.clone()));
    }
    steps.push_str(&step(format!(
        "`turnout render --to {}` writes the backends of turnout's and the map with the position",
        ours.display()
    )));
    steps.push_str(&step(format!(
        "`turnout doctor` prints the lines for your frontends; in {} they take the place of:",
        path.display()
    )));
    for line in services.iter().flat_map(|service| &service.replaces) {
        let _infallible = writeln!(steps, "#        {line}");
    }
    steps.push_str(&step(format!(
        "in /etc/default/haproxy: EXTRAOPTS=\"-S {MASTER} -f {ours}\"; then, once, `haproxy -c -f {} -f {ours}` and `systemctl restart haproxy`",
        path.display(),
        ours = ours.display(),
    )));
    steps.push_str(&step("`turnout apply`, then `turnout verify`".to_owned()));
    out.push_str(&steps);
    for note in notes {
        let _infallible = writeln!(out, "# mind: {note}");
    }
    let _infallible = write!(
        out,
        "\nversion: 1\n\nbalancer:\n  kind: haproxy\n  haproxy:\n    config: {ours}\n    files: [{}, {ours}]\n    maps: {}\n    socket: {}\n    master_socket: {MASTER}    # -S; Debian's unit has it\n    pid: {}\n\nservices:\n",
        path.display(),
        folder.join("turnout").display(),
        socket.path,
        pid(&sections),
        ours = ours.display(),
    );
    for service in &services {
        write_service(&mut out, service);
    }
    Ok(out)
}

fn write_service(out: &mut String, service: &Service) {
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
    if service.green_serves {
        out.push_str("    active: green    # as it is now\n");
    }
}

/// The runtime socket that turnout would use.
struct Socket {
    path: String,
    /// What is to be written into `global`.
    to_do: Option<String>,
}

impl Socket {
    fn of(sections: &[Section]) -> Self {
        let lines = sections
            .iter()
            .filter(|section| section.kind == "global")
            .flat_map(|section| &section.lines);
        let mut weak = None;
        for line in lines {
            let Some([word, address, rest @ ..]) = line.after("stats") else {
                continue;
            };
            let path = address.strip_prefix("unix@").unwrap_or(address);
            if word != "socket" || !path.starts_with('/') {
                continue;
            }
            if rest.windows(2).any(|pair| pair == ["level", "admin"]) {
                return Self {
                    path: path.to_owned(),
                    to_do: None,
                };
            }
            weak.get_or_insert((line.number, path.to_owned()));
        }
        match weak {
            Some((number, path)) => Self {
                to_do: Some(format!(
                    "in `global`, line {number}: add `level admin` to `stats socket {path}`, without which turnout may not set \
                     the position"
                )),
                path,
            },
            None => Self {
                path: SOCKET.to_owned(),
                to_do: Some(format!(
                    "in `global`: add `stats socket {SOCKET} mode 660 level admin`, by which turnout sets the position"
                )),
            },
        }
    }
}

/// `-p` of the unit goes before `pidfile`, and is Debian's where there is none.
fn pid(sections: &[Section]) -> String {
    let lines = sections
        .iter()
        .filter(|section| section.kind == "global")
        .flat_map(|section| &section.lines);
    let mut named = lines.filter_map(|line| line.after("pidfile")?.first().cloned());
    named
        .next()
        .filter(|path| path.starts_with('/'))
        .unwrap_or_else(|| PID.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::init::tests::loaded;

    fn proposed(text: &str) -> Result<String, InitError> {
        from_haproxy(text, Path::new("/etc/haproxy/haproxy.cfg"))
    }

    const DEBIAN: &str = "global\n\tstats socket /run/haproxy/admin.sock mode 660 level admin\n\tuser haproxy\ndefaults\n\tmode\thttp\n";

    #[test]
    fn hosts_backends_and_the_front_door_become_services() {
        let text = format!(
            "{DEBIAN}frontend web
    bind *:80
    bind :443 ssl crt /etc/ssl/shop.pem alpn h2
    acl is_shop hdr(host) -i shop.example.com www.shop.example.com
    acl is_blog req.hdr(Host),lower -m end .blog.example.com
    acl is_api path_beg /api
    use_backend shop if is_shop or {{ hdr(host) -i shop.example.org }}
    use_backend blogs if is_blog
    use_backend api if is_shop is_api
    use_backend old unless is_shop
    default_backend rest
backend shop
    server s1 10.0.0.1:8080 check
    server s2 10.0.0.2:8080 check backup
backend blogs
    server blue 10.0.1.1:80
    server green 10.0.1.2:80 disabled
backend api
    server a 10.0.2.1:80
backend old
    server a 10.0.2.2:80
backend rest
    server a /run/rest.sock
listen mail
    mode tcp
    bind :25
    server m 10.0.3.1:25
"
        );
        let proposal = proposed(&text).unwrap();
        insta::assert_snapshot!(proposal, @r#"
        # A proposal by `turnout init --from`: read it, change it, then run `turnout doctor`.
        #
        # To do, in this order:
        #   1. `turnout render --to /etc/haproxy/turnout.cfg` writes the backends of turnout's and the map with the position
        #   2. `turnout doctor` prints the lines for your frontends; in /etc/haproxy/haproxy.cfg they take the place of:
        #        frontend web, line 12: `use_backend shop if is_shop or { hdr(host) -i shop.example.org }`
        #        frontend web, line 13: `use_backend blogs if is_blog`
        #   3. in /etc/default/haproxy: EXTRAOPTS="-S /run/haproxy-master.sock -f /etc/haproxy/turnout.cfg"; then, once, `haproxy -c -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/turnout.cfg` and `systemctl restart haproxy`
        #   4. `turnout apply`, then `turnout verify`
        # mind: line 19: `server s2 10.0.0.2:8080 check backup` is not taken over: turnout wants HOST:PORT in clear text, in use
        # mind: frontend web, line 14: `use_backend api if is_shop is_api` is not taken over: its condition is not about hosts alone, which turnout's services are told by
        # mind: frontend web, line 15: `use_backend old unless is_shop` is not taken over: its condition is not about hosts alone, which turnout's services are told by
        # mind: line 28: `server a /run/rest.sock` is not taken over: turnout wants HOST:PORT in clear text, in use
        # mind: frontend web, line 16: `default_backend rest` is not taken over: no backend of that name with a server http://HOST:PORT is in this file
        # mind: listen mail is `mode tcp`: turnout routes HTTP alone

        version: 1

        balancer:
          kind: haproxy
          haproxy:
            config: /etc/haproxy/turnout.cfg
            files: [/etc/haproxy/haproxy.cfg, /etc/haproxy/turnout.cfg]
            maps: /etc/haproxy/turnout
            socket: /run/haproxy/admin.sock
            master_socket: /run/haproxy-master.sock    # -S; Debian's unit has it
            pid: /run/haproxy.pid

        services:
          shop:
            hosts: ["shop.example.com", "www.shop.example.com", "shop.example.org"]
            public: https://shop.example.com/    # the front door, for the proof
            blue:  { servers: ["http://10.0.0.1:8080"] }
            green: { servers: ["http://10.0.0.1:8081"] }    # CHANGE: where the next version runs
          blog:
            hosts: ["*.blog.example.com"]
            public: https://turnout.blog.example.com/    # the front door, for the proof
            blue:  { servers: ["http://10.0.1.1:80"] }
            green: { servers: ["http://10.0.1.2:80"] }
        "#);
        loaded(&proposal);
    }

    #[test]
    fn a_pair_of_backends_becomes_both_colors_and_keeps_the_one_that_serves() {
        let text = "global\n  stats socket /run/h.sock mode 600\n  pidfile /run/h.pid\ndefaults\n  mode http\nfrontend web\n  bind 10.0.0.9:8080\n  default_backend app_green\nbackend app_blue\n  server a 127.0.0.1:3001\nbackend app_green\n  server a 127.0.0.1:3002\n";
        let proposal = proposed(text).unwrap();
        for line in [
            "#   1. in `global`, line 2: add `level admin` to `stats socket /run/h.sock`",
            "    socket: /run/h.sock\n",
            "    pid: /run/h.pid\n",
            "  app:\n    public: http://10.0.0.9:8080/ ",
            "    blue:  { servers: [\"http://127.0.0.1:3001\"] }\n    green: { servers: [\"http://127.0.0.1:3002\"] }\n    active: green ",
            "#        frontend web, line 8: `default_backend app_green`\n",
        ] {
            assert!(proposal.contains(line), "{line}\n{proposal}");
        }
        loaded(&proposal);
    }

    #[test]
    fn a_listen_section_and_a_missing_socket_are_told() {
        let text = "defaults\n mode http\nlisten web\n bind :8080\n server a app.internal:3000\n";
        let proposal = proposed(text).unwrap();
        assert!(
            proposal.contains(
                "#   1. in `global`: add `stats socket /run/haproxy/admin.sock mode 660 level admin`"
            ),
            "{proposal}"
        );
        assert!(
            proposal.contains("listen web: its `server` lines"),
            "{proposal}"
        );
        assert!(
            proposal.contains("  web:\n    public: http://127.0.0.1:8080/"),
            "{proposal}"
        );
        loaded(&proposal);
    }

    #[test]
    fn what_gives_no_proposal_says_why() {
        let error = proposed("defaults\n mode tcp\nlisten a\n bind :1\n server a 1.2.3.4:5\n");
        let said = error.unwrap_err().to_string();
        assert_eq!(
            said,
            "no frontend or listen section with a backend of servers HOST:PORT was found there; listen a is `mode tcp`: turnout routes HTTP alone"
        );
        assert!(matches!(
            proposed("bind :80\n"),
            Err(InitError::Haproxy(haproxy_text::NotHaproxy { line: 1, .. }))
        ));
    }
}
