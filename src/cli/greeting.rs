//! What `serve` says when it serves: where what is, and what to try next.

use crate::api::ServerAddress;
use crate::config::{Config, ControlListen, Mode};
use crate::controller::Status;

/// More services than this are counted, not listed.
const LISTED: usize = 10;

/// The text, true from the first proof on. `shown`: the configuration file as it was named.
pub(super) fn of(config: &Config, status: &Status, shown: Option<&str>) -> String {
    let mut text = vec![format!(
        "turnout {} serves generation {} on {}",
        env!("CARGO_PKG_VERSION"),
        status.generation,
        status.balancer
    )];
    for service in status.services.iter().take(LISTED) {
        let place = config
            .services
            .get(&service.service)
            .and_then(|configured| configured.shape.listen)
            .map_or_else(
                || "behind your own listener".to_owned(),
                |listen| ServerAddress::of_socket(listen).to_string(),
            );
        line(
            &mut text,
            service.service.as_str(),
            &format!("{place}  {} {}", service.strategy, service.split()),
        );
    }
    let room = LISTED.saturating_sub(status.services.len());
    for alias in status.aliases.iter().take(room) {
        let place = config
            .aliases
            .get(&alias.service)
            .and_then(|configured| configured.shape.listen)
            .map_or_else(
                || "behind your own listener".to_owned(),
                |listen| ServerAddress::of_socket(listen).to_string(),
            );
        let rest = format!("{place}  alias {}", alias.target);
        line(&mut text, alias.service.as_str(), &rest);
    }
    if let Some(more) = status
        .services
        .len()
        .saturating_add(status.aliases.len())
        .checked_sub(LISTED)
        .filter(|more| *more > 0)
    {
        line(&mut text, "…", &format!("and {more} more"));
    }
    let api = api_address(config);
    if let Some(address) = &api {
        line(&mut text, "control API", address);
    }
    for missing in &config.not_in_force {
        line(
            &mut text,
            "not in force",
            &format!("{}: {}", missing.key, missing.consequence),
        );
    }
    line(
        &mut text,
        "try",
        &next(config, status, shown, api.as_deref()),
    );
    text.join("\n")
}

fn line(text: &mut Vec<String>, head: &str, rest: &str) {
    text.push(format!("  {head:<14}{rest}"));
}

fn api_address(config: &Config) -> Option<String> {
    match &config.control.listen {
        ControlListen::Router => config
            .services
            .values()
            .find_map(|service| service.shape.listen)
            .map(|listen| ServerAddress::of_socket(listen).to_string()),
        listen @ (ControlListen::Tcp(_) | ControlListen::Unix(_)) => {
            ServerAddress::of_listen(listen).map(|address| address.to_string())
        }
    }
}

/// A command that moves the traffic, as it is typed in a second terminal.
fn next(config: &Config, status: &Status, shown: Option<&str>, api: Option<&str>) -> String {
    let (name, target) = match status.services.as_slice() {
        [only] => (String::new(), !only.active),
        [first, ..] => (format!(" {}", first.service), !first.active),
        [] => return "turnout status".to_owned(),
    };
    let flag = match (&config.mode, shown, api) {
        (Mode::File(_), Some(file), _) => format!(" --config {file}"),
        (Mode::File(_), None, _) | (Mode::Environment, _, None) => String::new(),
        (Mode::Environment, _, Some(address)) => format!(" --server {address}"),
    };
    format!("{}{flag} switch{name} {target}", program())
}

/// This program as it was called: `cargo run` calls it by a path, and nobody has `turnout` in theirs yet. Where it was found
/// by its name alone, or cannot be told, that name.
fn program() -> String {
    std::env::args_os()
        .next()
        .and_then(|name| name.into_string().ok())
        .filter(|name| name.contains('/') && !name.contains(char::is_whitespace))
        .unwrap_or_else(|| "turnout".to_owned())
}
