//! The configuration through the library: what loads, what it becomes, and every message a person may meet.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "test files need not survive a crash, and texts here are short"
)]

mod documented;
mod environment;
mod files;
mod forms;
mod problems;
mod rules;
mod schema;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use turnout::config::{Config, ConfigError, Env, Source};

fn vars(list: &[(&str, &str)]) -> HashMap<String, String> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn load_with(folder: &Path, list: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let vars = vars(list);
    let env = Env::new(folder.to_owned(), |name| vars.get(name).cloned());
    Config::load(&Source::find(None, &env)?, &env)
}

fn load(text: impl AsRef<[u8]>) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("turnout.yaml"), text).unwrap();
    load_with(folder.path(), &[])
}

/// Just the `error:` lines with their `-->` lines.
fn messages(result: Result<Config, ConfigError>) -> Vec<String> {
    let text = match result {
        Ok(config) => return vec![format!("valid: {:?}", config.services.keys())],
        Err(error) => error.to_string(),
    };
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(message) = line.strip_prefix("error: ") {
            lines.push(message.to_owned());
        } else if let Some((_, place)) = line.split_once("--> ") {
            let last = lines.last_mut().unwrap();
            *last = format!("{place}: {last}");
        }
    }
    lines
}

/// A file with one good service and what is under test put into it.
fn shop(extra: &str) -> String {
    format!(
        "services:\n  shop:\n    listen: 127.0.0.1:8080\n    blue: {{ servers: [\"http://127.0.0.1:1\"] }}\n    green: {{ servers: [\"http://127.0.0.1:2\"] }}\n{extra}"
    )
}
