//! The control listener of a configuration file: tokens from files and digests, scopes, names, several services, the unix
//! socket.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use sha2::{Digest, Sha256};
use turnout::domain::Color;

use super::{PATIENCE, ask, assert_problem, said};
use crate::support::{Ports, Site, shared, wait_for};

const ACTIVATE: &str = "/orchestration/bluegreen/activate";
const GREEN: Option<&str> = Some(r#"{"active":"green"}"#);

/// Puts `control` in place of the site's own.
pub(super) fn rewrite_control(site: &Site, control: &str) {
    let text = std::fs::read_to_string(site.config()).unwrap();
    let own = format!("control: {{ listen: \"{}\" }}", site.control);
    assert!(text.contains(&own), "{text}");
    std::fs::write(site.config(), text.replace(&own, control)).unwrap();
}

fn secret(folder: &Path, name: &str, text: &str, mode: u32) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn a_token_may_what_its_scopes_say() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let file = secret(site.folder(), "ci.token", "from-a-file\n", 0o600);
    let hand = secret(site.folder(), "hand.token", "from-a-hand\n", 0o600);
    let digest: String = Sha256::digest("from-a-digest")
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| char::from_digit(nibble.into(), 16))
        .collect();
    rewrite_control(
        &site,
        &format!(
            "control:\n  listen: \"{}\"\n  tokens:\n  - {{ name: ci, file: {file}, may: [read, write] }}\n  - {{ name: eye, sha256: {digest}, may: [read] }}\n  - {{ name: hand, file: {hand}, may: [write] }}",
            site.control
        ),
    );
    let _daemon = site.serve();
    let ci = ["Authorization: Bearer from-a-file"];
    let eye = ["Authorization: Bearer from-a-digest"];
    assert_eq!(
        ask(site.control, "GET", "/v1/status", &eye, None).status,
        200
    );
    let refused = ask(site.control, "POST", ACTIVATE, &eye, GREEN);
    assert_problem(&refused, 403, "`eye` may not write");
    wait_for("green to be healthy", PATIENCE, || {
        (ask(site.control, "POST", ACTIVATE, &ci, GREEN).status == 200).then_some(())
    });
    assert_eq!(site.served(), Color::Green);
    assert_problem(
        &ask(site.control, "GET", "/v1/status", &[], None),
        401,
        "Bearer",
    );
    // the command asks who the daemon is before it writes, and whoever may write may ask that
    let cli = |args: &[&str]| {
        let told = site.turnout().command(args);
        told.arg("--token-file").arg(&hand).run().sane()
    };
    cli(&["switch", "blue"]).exits(0);
    assert_eq!(site.served(), Color::Blue);
    cli(&["status"]).exits(77).says("`hand` may not read");
    let audit = std::fs::read_to_string(site.state_dir().join("deployments.jsonl")).unwrap();
    assert!(audit.contains(r#""actor":"ci""#), "{audit}");
}

#[test]
fn an_unsafe_token_keeps_the_daemon_from_starting() {
    let _turn = shared();
    for (text, mode, says) in [
        ("s3cret", 0o644, "chmod 0600"),
        ("\n", 0o600, "is empty"),
        ("two\nlines", 0o600, "one line"),
    ] {
        let site = Site::embedded("blue_green");
        let file = secret(site.folder(), "ci.token", text, mode);
        rewrite_control(
            &site,
            &format!(
                "control: {{ listen: \"{}\", tokens: [{{ name: ci, file: {file}, may: [read] }}] }}",
                site.control
            ),
        );
        site.turnout().run(&["serve"]).exits(78).says(says);
    }
}

#[test]
fn a_foreign_host_or_origin_is_refused_on_the_control_port() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    rewrite_control(
        &site,
        &format!(
            "control: {{ listen: \"{}\", hosts: [turnout.example.com] }}",
            site.control
        ),
    );
    let _daemon = site.serve();
    let port = site.control.port();
    for host in [
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        "turnout.example.com".to_owned(),
    ] {
        let header = format!("Host: {host}");
        assert_eq!(
            ask(site.control, "GET", "/v1/status", &[&header], None).status,
            200,
            "{host}"
        );
    }
    for host in ["evil.example", "localhost.evil.example", "10.9.8.7"] {
        for path in ["/v1/status", "/health", "/readyz"] {
            let header = format!("Host: {host}");
            let answer = ask(site.control, "GET", path, &[&header], None);
            assert_problem(&answer, 403, "control.hosts");
        }
    }
    let foreign = ask(
        site.control,
        "POST",
        ACTIVATE,
        &["Origin: http://localhost:3000"],
        GREEN,
    );
    assert_problem(&foreign, 403, "localhost:3000");
    assert_eq!(site.served(), Color::Blue);
}

#[test]
fn with_several_services_one_must_be_named() {
    let _turn = shared();
    let mut site = Site::embedded("blue_green");
    let other = Ports::address();
    let _servers = site.add_service("blog", other);
    let _daemon = site.serve();
    for path in ["/orchestration/status", "/health"] {
        assert_problem(
            &ask(site.control, "GET", path, &[], None),
            400,
            "blog, shop",
        );
    }
    assert_problem(
        &ask(site.control, "POST", ACTIVATE, &[], GREEN),
        400,
        "blog, shop",
    );
    let named = format!("{ACTIVATE}?service=blog");
    wait_for("green to be healthy", PATIENCE, || {
        (ask(site.control, "POST", &named, &[], GREEN).status == 200).then_some(())
    });
    assert_eq!(
        crate::support::get(other, "/", &[]).unwrap().backend(),
        Some(Color::Green)
    );
    assert_eq!(site.served(), Color::Blue, "the other service stays");
    let services = ask(site.control, "GET", "/v1/services", &[], None).json();
    let names: Vec<_> = services
        .as_array()
        .unwrap()
        .iter()
        .map(|service| service["service"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["blog", "shop"]);
    let one = ask(site.control, "GET", "/v1/services/blog", &[], None).json();
    assert_eq!(one["active"], "green");
    let drift = ask(site.control, "GET", "/v1/drift", &[], None).json();
    assert_eq!(drift["drift"], serde_json::json!([]));
}

#[test]
fn the_unix_socket_knows_its_user_and_serves_the_command_line() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let socket = site.folder().join("turnout.sock");
    rewrite_control(
        &site,
        &format!("control: {{ listen: \"unix:{}\" }}", socket.display()),
    );
    let daemon = site.turnout().serve_unready();
    said(&daemon, "serves generation");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream
        .write_all(b"GET /v1/identity HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let state_dir = site.state_dir().display().to_string();
    assert!(answer.contains(&state_dir), "{answer}");
    wait_for("a switch by the command line", PATIENCE, || {
        (site.turnout().run(&["switch", "green"]).code() == Some(0)).then_some(())
    });
    assert_eq!(site.served(), Color::Green);
    // what the kernel says of the other end, and no word of the client's own, begins the actor
    let body = r#"{"active":"blue"}"#;
    let mut stream = UnixStream::connect(&socket).unwrap();
    write!(
        stream,
        "POST {ACTIVATE} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name;
    let audit = std::fs::read_to_string(site.state_dir().join("deployments.jsonl")).unwrap();
    let actor = format!(r#""actor":"{user}""#);
    assert!(audit.lines().last().unwrap().contains(&actor), "{audit}");
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(!socket.exists(), "removed at the end");
}
