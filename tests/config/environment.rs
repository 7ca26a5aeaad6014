//! The configuration without a file: what each variable of the environment makes of the one service.

use std::path::Path;
use std::time::Duration;

use turnout::config::{
    BalancerKind, Config, ConfigError, ControlListen, Env, Mode, Permission, Source, TokenSource,
};
use turnout::domain::{Color, Position, Split, Strategy};

use super::{messages, vars};

fn environment(list: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let vars = vars(list);
    let env = Env::new("/srv".into(), |name| vars.get(name).cloned());
    Config::load(&Source::environment(None, None), &env)
}

#[test]
fn the_environment_alone_makes_one_service_with_the_documented_defaults() {
    let config = environment(&[]).unwrap();
    assert_eq!(config.mode, Mode::Environment);
    assert_eq!(config.state_dir, Path::new("/srv/.turnout"));
    assert_eq!(config.balancer.kind, BalancerKind::Embedded);
    assert_eq!(config.control.listen, ControlListen::Router);
    assert!(config.control.tokens.is_empty() && config.not_in_force.is_empty());
    let (name, app) = config.services.first_key_value().unwrap();
    assert_eq!(name.as_str(), "app");
    assert_eq!(app.shape.listen, Some("0.0.0.0:8080".parse().unwrap()));
    assert_eq!(
        app.shape.servers(Color::Blue)[0].to_string(),
        "http://127.0.0.1:5001"
    );
    assert_eq!(
        app.shape.servers(Color::Green)[0].to_string(),
        "http://127.0.0.1:5002"
    );
    assert_eq!(app.shape.health.path, "/health");
    assert_eq!(app.shape.timeouts.response, Duration::from_secs(10));
    assert_eq!(app.shape.sticky.as_ref().unwrap().cookie, "session_id");
    assert_eq!(app.initial, Position::all(Strategy::BlueGreen, Color::Blue));
}

#[test]
fn each_variable_has_its_effect() {
    let config = environment(&[
        ("BLUE_URL", "http://10.0.0.1:80"),
        ("GREEN_URL", "http://10.0.0.2:80"),
        ("ROUTER_HOST", "127.0.0.1"),
        ("ROUTER_PORT", "9999"),
        ("DEFAULT_STRATEGY", "canary"),
        ("DEFAULT_ACTIVE", "blue"),
        ("DEFAULT_BLUE_WEIGHT", "75"),
        ("DEFAULT_GREEN_WEIGHT", "25"),
        ("ORCH_TOKEN", "s3cret"),
        ("STICKY_SESSIONS", "False"),
        ("UPSTREAM_HEALTH_PATH", "/up"),
        ("PROXY_TIMEOUT", "2.5"),
        ("TURNOUT_STATE_DIR", "/tmp/state"),
        ("TURNOUT_CONTROL", "unix:/run/t.sock"),
    ])
    .unwrap();
    let app = config.services.values().next().unwrap();
    assert_eq!(app.shape.listen, Some("127.0.0.1:9999".parse().unwrap()));
    assert_eq!(
        app.initial,
        Position::canary(Color::Blue, Split::from_percents(75.0, 25.0).unwrap())
    );
    assert_eq!(app.shape.sticky, None);
    assert_eq!(app.shape.health.path, "/up");
    assert_eq!(app.shape.timeouts.response, Duration::from_millis(2500));
    assert_eq!(config.state_dir, Path::new("/tmp/state"));
    assert_eq!(
        config.control.listen,
        ControlListen::Unix("/run/t.sock".into())
    );
    let token = &config.control.tokens[0];
    assert_eq!(token.name, "env");
    assert_eq!(token.may, [Permission::Read, Permission::Write].into());
    let TokenSource::Sha256(digest) = token.source else {
        panic!("{token:?}")
    };
    assert_eq!(digest[..4], [0x1e, 0xc1, 0xc2, 0x6b]);
}

#[test]
fn bad_variables_are_all_named() {
    assert_eq!(
        messages(environment(&[
            ("BLUE_URL", "https://a"),
            ("ROUTER_HOST", "example.com"),
            ("ROUTER_PORT", "0"),
            ("DEFAULT_STRATEGY", "blue-green"),
            ("DEFAULT_ACTIVE", "red"),
            ("DEFAULT_BLUE_WEIGHT", "NaN"),
            ("ORCH_TOKEN", ""),
            ("STICKY_SESSIONS", "maybe"),
            ("UPSTREAM_HEALTH_PATH", "health"),
            ("PROXY_TIMEOUT", "-1"),
            ("TURNOUT_CONTROL", "9180"),
        ])),
        [
            "BLUE_URL: `https://a` is not a server: turnout speaks HTTP/1.1 in clear text to servers; write http://HOST:PORT",
            "ROUTER_HOST: `example.com` is not an IP address such as 0.0.0.0 or 127.0.0.1",
            "ROUTER_PORT: `0` is not a port from 1 to 65535",
            "STICKY_SESSIONS: `maybe` is neither true nor false",
            "UPSTREAM_HEALTH_PATH: `health` is not a path: it starts with `/`",
            "PROXY_TIMEOUT: `-1` is not a number of seconds, more than 0 and up to 86400",
            "DEFAULT_STRATEGY: `blue-green` is not a strategy: it is blue_green or canary",
            "DEFAULT_ACTIVE: unknown color `red`: it is blue or green",
            "DEFAULT_BLUE_WEIGHT: `NaN` is not a number from 0 to 100",
            "TURNOUT_CONTROL: `9180` has no address: write 0.0.0.0:9180 for every one, or 127.0.0.1:9180 for this host alone",
            "ORCH_TOKEN is set but empty: give it a secret, or unset it",
        ]
    );
    for (list, wanted) in [
        (
            &[("BLUE_URL", "http://h:1"), ("GREEN_URL", "http://h:1")][..],
            "BLUE_URL and GREEN_URL name the same server: the two colors are two servers",
        ),
        (
            &[("DEFAULT_BLUE_WEIGHT", "80")],
            "DEFAULT_BLUE_WEIGHT and DEFAULT_GREEN_WEIGHT: blue 80 and green 0 add up to 80, not 100",
        ),
        (
            &[("ROUTER_PORT", "5001")],
            "BLUE_URL: this is the router itself (0.0.0.0:5001), so requests would go round in a circle",
        ),
    ] {
        assert_eq!(messages(environment(list)), [wanted]);
    }
}

#[test]
fn the_command_lines_urls_come_before_the_environments() {
    let vars = vars(&[("BLUE_URL", "http://h:1"), ("GREEN_URL", "http://h:2")]);
    let env = Env::new("/srv".into(), |name| vars.get(name).cloned());
    let source = Source::environment(None, Some("http://other:3".into()));
    let config = Config::load(&source, &env).unwrap();
    let shape = &config.services.values().next().unwrap().shape;
    assert_eq!(shape.servers(Color::Blue)[0].to_string(), "http://h:1");
    assert_eq!(shape.servers(Color::Green)[0].to_string(), "http://other:3");
}
