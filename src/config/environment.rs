//! Environment mode: one service `app` on the embedded proxy, from variables alone (CONTRACT 2.2).
//!
//! The variables are put into the mirror of a file and checked like one, so that both have the same defaults. The API is on
//! the router's own port and no other one is opened, unless `TURNOUT_CONTROL` names one. Every bad value is reported by the
//! name of its variable.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::Env;
use super::check::{self, Found, Merged, listen_at, reaches};
use super::document::{Document, Report, normal};
use super::file;
use super::problem::{ConfigError, Problem};
use super::quantity::{Refusal, url_path};
use super::valid::{Config, ControlListen, Mode};
use crate::domain::{Color, Position, Server, Split, Strategy};

const SERVICE: &str = "app";

/// Reads and checks the variables; `blue` and `green` are the URLs of the command line.
pub(super) fn config(
    blue: Option<&str>,
    green: Option<&str>,
    env: &Env<'_>,
) -> Result<Config, ConfigError> {
    let mut reader = Reader {
        env,
        problems: Vec::new(),
    };
    let service = service(&mut reader, blue, green);
    let initial = initial(&mut reader);
    let control = env.var("TURNOUT_CONTROL").map(|_| {
        reader.read("TURNOUT_CONTROL", None, "", |text| {
            listen_at(text, env.folder())
        })
    });
    let state_dir = env
        .var("TURNOUT_STATE_DIR")
        .filter(|dir| !dir.is_empty())
        .unwrap_or_else(|| ".turnout".into());

    let mut report = Report {
        problems: reader.problems,
    };
    let document = Document::empty(env.folder());
    let merged = Merged {
        main: &document,
        root: file::Root {
            balancer: Some(file::Balancer {
                kind: Some(file::Kind::Embedded),
                ..file::Balancer::default()
            }),
            ..file::Root::default()
        },
        services: vec![Found {
            name: SERVICE.into(),
            document: &document,
            service: service.unwrap_or_default(),
        }],
    };
    let said = report.problems.len();
    let checked = check::checked(&merged, Mode::Environment, env, &mut report);
    if said > 0 {
        // What is wrong with a variable was said by its name; the checks would say it again by the name of a key.
        let mut index = 0;
        report.problems.retain(|problem| {
            index += 1;
            index <= said || problem.place.is_none()
        });
    }
    match (checked, initial) {
        (Some(mut config), Some(initial)) => {
            config.state_dir = normal(&env.folder().join(state_dir));
            config.control.listen = control.flatten().unwrap_or(ControlListen::Router);
            for service in config.services.values_mut() {
                service.initial = initial;
            }
            Ok(config)
        }
        _ => Err(ConfigError::Invalid {
            problems: report.problems,
        }),
    }
}

struct Reader<'e> {
    env: &'e Env<'e>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn read<T, E: fmt::Display>(
        &mut self,
        name: &str,
        given: Option<&str>,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let given = given.map(str::to_owned).or_else(|| self.env.var(name));
        match parse(given.as_deref().unwrap_or(default)) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(format!("{name}: {error}"));
                None
            }
        }
    }

    fn refuse(&mut self, message: impl Into<String>) {
        self.problems.push(Problem::of_whole(message));
    }
}

fn service(
    reader: &mut Reader<'_>,
    blue: Option<&str>,
    green: Option<&str>,
) -> Option<file::Service> {
    let server = str::parse::<Server>;
    let blue = reader.read("BLUE_URL", blue, "http://127.0.0.1:5001", server);
    let green = reader.read("GREEN_URL", green, "http://127.0.0.1:5002", server);
    if blue.is_some() && blue == green {
        reader
            .refuse("BLUE_URL and GREEN_URL name the same server: the two colors are two servers");
    }
    let host = reader.read("ROUTER_HOST", None, "0.0.0.0", |text| {
        let named = if text == "localhost" {
            "127.0.0.1"
        } else {
            text
        };
        named.parse::<IpAddr>().ok().ok_or_else(|| {
            Refusal(format!(
                "`{text}` is not an IP address such as 0.0.0.0 or 127.0.0.1"
            ))
        })
    });
    let port = reader.read("ROUTER_PORT", None, "8080", |text| {
        let port = text.parse::<u16>().ok().filter(|port| *port != 0);
        port.ok_or_else(|| Refusal(format!("`{text}` is not a port from 1 to 65535")))
    });
    let sticky = reader.read("STICKY_SESSIONS", None, "true", |text| {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(Refusal(format!("`{text}` is neither true nor false"))),
        }
    });
    let path = reader.read("UPSTREAM_HEALTH_PATH", None, "/health", url_path);
    let response = reader.read("PROXY_TIMEOUT", None, "10", |text| {
        let seconds = text.parse::<f64>().ok();
        let seconds = seconds.filter(|seconds| (0.001..=86_400.0).contains(seconds));
        seconds.ok_or_else(|| {
            Refusal(format!(
                "`{text}` is not a number of seconds, more than 0 and up to 86400"
            ))
        })
    });
    let listen = SocketAddr::new(host?, port?);
    for (name, server) in [("BLUE_URL", &blue), ("GREEN_URL", &green)] {
        if server
            .as_ref()
            .is_some_and(|server| reaches(server, listen))
        {
            reader.refuse(format!(
                "{name}: this is the router itself ({listen}), so requests would go round in a circle"
            ));
        }
    }
    let colored = |server: Server| {
        Some(file::Colored {
            servers: Some(vec![Some(server.to_string())]),
        })
    };
    Some(file::Service {
        listen: Some(listen.to_string()),
        blue: colored(blue?),
        green: colored(green?),
        sticky: Some(file::Sticky::Switch(sticky?)),
        health: Some(file::Health {
            path: Some(path?),
            ..file::Health::default()
        }),
        timeouts: Some(file::Timeouts {
            response: Some(format!("{}ms", (response? * 1000.0).round())),
            ..file::Timeouts::default()
        }),
        ..file::Service::default()
    })
}

fn initial(reader: &mut Reader<'_>) -> Option<Position> {
    let strategy = reader.read("DEFAULT_STRATEGY", None, "blue_green", |text| match text {
        "blue_green" => Ok(Strategy::BlueGreen),
        "canary" => Ok(Strategy::Canary),
        _ => Err(Refusal(format!(
            "`{text}` is not a strategy: it is blue_green or canary"
        ))),
    });
    let active = reader.read("DEFAULT_ACTIVE", None, "blue", str::parse::<Color>);
    let weight = |text: &str| {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| Refusal(format!("`{text}` is not a number from 0 to 100")))
    };
    let given = ["DEFAULT_BLUE_WEIGHT", "DEFAULT_GREEN_WEIGHT"]
        .iter()
        .any(|name| reader.env.var(name).is_some());
    let blue = reader.read("DEFAULT_BLUE_WEIGHT", None, "100", weight);
    let green = reader.read("DEFAULT_GREEN_WEIGHT", None, "0", weight);
    let split = match Split::from_percents(blue?, green?) {
        Ok(split) => split,
        Err(error) => {
            let text = check::split_refused(error);
            reader.refuse(format!(
                "DEFAULT_BLUE_WEIGHT and DEFAULT_GREEN_WEIGHT: {text}"
            ));
            return None;
        }
    };
    Some(match (strategy?, active?) {
        (Strategy::Canary, active) if given => Position::canary(active, split),
        (strategy, active) => Position::all(strategy, active),
    })
}
