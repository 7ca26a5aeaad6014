//! What is replaced in an example before it runs: paths by a folder of the test's, ports by free ones, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::Ports;

/// Each `${NAME:-value}` by its value: the example as it is without any variable. A unix socket of the API becomes a port,
/// which is what the support code asks.
pub(super) fn defaults(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${TURNOUT_EXAMPLE_") {
        let (variable, behind) = after.split_once('}').unwrap();
        out.push_str(before);
        out.push_str(variable.split_once(":-").map_or("", |(_, value)| value));
        rest = behind;
    }
    out.push_str(rest);
    // on one host the servers and the front doors need ports of their own
    for (example, here) in [
        ("https://shop.example.com/", "https://127.0.0.1:8443/"),
        ("10.0.1.10:8080", "10.0.1.10:8091"),
        ("10.0.1.20:8080", "10.0.1.20:8092"),
    ] {
        out = out.replace(example, here);
    }
    out.lines()
        .map(|line| match line.split_once("unix:/") {
            Some((before, _)) if before.trim_start().starts_with("listen:") => {
                format!("{before}127.0.0.1:9180\n")
            }
            _ => format!("{line}\n"),
        })
        .collect()
}

/// The paths of a Debian host, in a folder.
pub(super) fn replace_paths(text: &str, folder: &Path) -> String {
    let folder = folder.display();
    [
        ("/etc/nginx/conf.d", "nginx/conf.d"),
        ("/etc/nginx/nginx.conf", "nginx/nginx.conf"),
        ("/etc/nginx/turnout", "nginx/snippets"),
        ("/run/nginx.pid", "nginx/nginx.pid"),
        ("/etc/haproxy", "haproxy"),
        ("/run/haproxy/admin.sock", "haproxy/admin.sock"),
        ("/run/haproxy.pid", "haproxy/haproxy.pid"),
        ("/var/lib/turnout", "state"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (from, to)| {
        text.replace(from, &format!("{folder}/{to}"))
    })
}

/// Every port by a free one, the same by the same, and every private address by 127.0.0.1.
pub(super) fn replace_ports(text: &str) -> String {
    let mut ports: BTreeMap<u16, u16> = BTreeMap::new();
    let mut out = String::new();
    for line in text.lines() {
        let is_ports = line.contains("ports:");
        let mut rest = line;
        while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
            let length = rest[at..]
                .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
                .unwrap_or(rest.len() - at);
            let (before, number) = (&rest[..at], &rest[at..at + length]);
            let after = rest[at + length..].chars().next();
            let last = before.chars().next_back();
            out.push_str(before);
            let is_port = (matches!(last, Some(':' | '-'))
                || is_ports && matches!(last, Some(' ' | '{')))
                && !after.is_some_and(char::is_alphanumeric);
            let is_private = number.split('.').count() == 4
                && (number.starts_with("10.") || number.starts_with("192.168."))
                && after != Some('/');
            match number.parse::<u16>() {
                Ok(port) if is_port && port > 79 => {
                    let free = ports.entry(port).or_insert_with(Ports::free);
                    out.push_str(&free.to_string());
                }
                _ if is_private => out.push_str("127.0.0.1"),
                _ => out.push_str(number),
            }
            rest = &rest[at + length..];
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}

#[test]
fn replacing_addresses_leaves_everything_else_alone() {
    let text = "a: 10.0.1.10:8080 # 5s\nb: \"http://10.0.1.20:8080\"\nc: { trusted: [10.0.0.0/8], n: 10000, x: 1.1.0 }\n";
    let replaced = replace_ports(text);
    let port = replaced
        .lines()
        .next()
        .unwrap()
        .trim_start_matches("a: 127.0.0.1:")
        .trim_end_matches(" # 5s")
        .to_owned();
    assert_ne!(port, "8080");
    let expected = format!(
        "a: 127.0.0.1:{port} # 5s\nb: \"http://127.0.0.1:{port}\"\nc: {{ trusted: [10.0.0.0/8], n: 10000, x: 1.1.0 }}\n"
    );
    assert_eq!(replaced, expected);
}
