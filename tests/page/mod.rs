//! The page at `/` and `GET /events`: over plain HTTP, and in a real headless Chromium.

mod browser;
mod events;
mod live;
mod login;
mod plain;
mod states;

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::support::{Answer, Connection, Site};

/// Far longer than anything takes here.
const PATIENCE: Duration = Duration::from_mins(1);
/// The secret of the token `ops`, which may read and write.
const OPS: &str = "ops-secret-0123456789";
/// The secret of the token `eyes`, which may read.
const EYES: &str = "eyes-secret-0123456789";

/// A site with both tokens.
fn with_tokens() -> Site {
    let site = Site::embedded("blue_green");
    let secret = |name: &str, text: &str| {
        let path = site.folder().join(name);
        put(&path, text);
        path.display().to_string()
    };
    let (ops, eyes) = (secret("ops", OPS), secret("eyes", EYES));
    edit(
        &site,
        &format!("control: {{ listen: \"{}\" }}", site.control),
        &format!(
            "control: {{ listen: \"{}\", tokens: [{{ name: ops, file: {ops}, may: [read, write] }}, {{ name: eyes, file: {eyes}, may: [read] }}] }}",
            site.control
        ),
    );
    site
}

/// Replaces a part of turnout.yaml.
#[track_caller]
fn edit(site: &Site, before: &str, after: &str) {
    let text = std::fs::read_to_string(site.config()).unwrap();
    assert!(text.contains(before), "{before} is not in\n{text}");
    std::fs::write(site.config(), text.replace(before, after)).unwrap();
}

fn put(path: &Path, text: &str) {
    use std::io::Write;
    let mut options = std::fs::File::options();
    let file = options.create_new(true).write(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// A request on a connection of its own.
#[track_caller]
fn ask(site: &Site, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut lines = headers.join("\r\n");
    if !headers.is_empty() {
        lines.push_str("\r\n");
    }
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{lines}\r\n{body}",
        site.control,
        body.len()
    );
    Connection::open(site.control, PATIENCE)
        .and_then(|mut connection| connection.send(request.as_bytes()))
        .unwrap_or_else(|failure| panic!("{method} {path}: {failure:?}"))
}

/// A form of the page's own.
#[track_caller]
fn form(site: &Site, path: &str, headers: &[&str], body: &str) -> Answer {
    let origin = format!("Origin: http://{}", site.control);
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let headers: Vec<_> = [origin.as_str(), kind]
        .into_iter()
        .chain(headers.iter().copied())
        .collect();
    ask(site, "POST", path, &headers, body)
}

/// Logs in; the header line with the cookie.
#[track_caller]
fn log_in(site: &Site, secret: &str) -> String {
    let answer = form(site, "/page/login", &[], &format!("token={secret}"));
    assert_eq!(answer.status, 303, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap();
    format!("Cookie: {}", cookie.split(';').next().unwrap())
}
