//! `balancer`, as it stands in a file.

use schemars::JsonSchema;
use serde::Deserialize;

/// What carries the traffic.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Balancer {
    /// Which one. Default: auto, that is nginx or HAProxy if a running one loads turnout's file, else embedded.
    pub(in crate::config) kind: Option<Kind>,
    /// How nginx is driven.
    pub(in crate::config) nginx: Option<Nginx>,
    /// How HAProxy is driven.
    pub(in crate::config) haproxy: Option<Haproxy>,
    /// Commands that drive another router.
    pub(in crate::config) exec: Option<Exec>,
    /// The embedded proxy stands in when nginx or HAProxy is gone. Default: false.
    pub(in crate::config) fallback: Option<Fallback>,
    /// How the requests of each color are counted.
    pub(in crate::config) counts: Option<Counts>,
}

/// How the requests of each color are counted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Counts {
    /// The stretch of time of one figure that rollouts are judged by, from 100ms to 10m. Default: 10s.
    pub(in crate::config) bucket: Option<String>,
}

/// The kinds of balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Kind {
    Auto,
    Nginx,
    Haproxy,
    Embedded,
    Exec,
}

/// How nginx is driven.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Nginx {
    /// The one file turnout owns, included by `main`. Default: /etc/nginx/conf.d/turnout.conf.
    pub(in crate::config) config: Option<String>,
    /// nginx's main file. Default: /etc/nginx/nginx.conf.
    pub(in crate::config) main: Option<String>,
    /// The program. Default: nginx.
    pub(in crate::config) binary: Option<String>,
    /// The master's pid file. Default: /run/nginx.pid.
    pub(in crate::config) pid: Option<String>,
    /// A template in place of the built-in one.
    pub(in crate::config) template: Option<String>,
    /// The private listener that shows the served generation. Default: 127.0.0.1:9181.
    pub(in crate::config) prove: Option<String>,
    /// reload: render the new position and reload; instant: marker files. Default: reload.
    pub(in crate::config) switching: Option<Switching>,
    /// The folder for what a user's own server block includes. Default: /etc/nginx/turnout.
    pub(in crate::config) snippets: Option<String>,
    /// `signal`, or a command as a list. Default: signal.
    pub(in crate::config) reload: Option<Reload>,
    /// The resolver for alias targets: addresses with a space between them.
    pub(in crate::config) resolver: Option<String>,
}

/// How color and weights change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Switching {
    Reload,
    Instant,
}

/// How nginx is told to reload.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Reload {
    Word(ReloadWord),
    Command(Vec<Option<String>>),
}

/// The one word for it.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum ReloadWord {
    Signal,
}

/// How HAProxy is driven.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Haproxy {
    /// The one file turnout owns. Default: /etc/haproxy/turnout.cfg.
    pub(in crate::config) config: Option<String>,
    /// What HAProxy runs with, in order. Default: turnout's file alone.
    pub(in crate::config) files: Option<Vec<Option<String>>>,
    /// The folder of the map files. Default: /etc/haproxy/turnout.
    pub(in crate::config) maps: Option<String>,
    /// The program. Default: haproxy.
    pub(in crate::config) binary: Option<String>,
    /// The runtime API, level admin. Default: /run/haproxy/admin.sock.
    pub(in crate::config) socket: Option<String>,
    /// The master's CLI, where HAProxy offers one.
    pub(in crate::config) master_socket: Option<String>,
    /// The master's pid file. Default: /run/haproxy.pid.
    pub(in crate::config) pid: Option<String>,
    /// A template in place of the built-in one.
    pub(in crate::config) template: Option<String>,
}

/// Commands for another router; none goes through a shell.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Exec {
    /// Puts weights into force: given service, blue and green percent, in place of `{service}`, `{blue}` and `{green}`, or behind
    /// its own arguments where none of them stands there; and as `TURNOUT_SERVICE`, `TURNOUT_BLUE` and `TURNOUT_GREEN`.
    pub(in crate::config) set: Vec<Option<String>>,
    /// Prints what is in force for `{service}`: `{"blue": 90, "green": 10}` or `90 10`.
    pub(in crate::config) get: Vec<Option<String>>,
    /// Run in place of `set` where all traffic goes to the color that was not the active one: given service and color.
    pub(in crate::config) promote: Option<Vec<Option<String>>>,
    /// Run in place of `set` where all traffic goes back to the active color: given service and color.
    pub(in crate::config) rollback: Option<Vec<Option<String>>>,
    /// For one command. Default: 30s.
    pub(in crate::config) timeout: Option<String>,
}

/// On, off, or on with the command that starts the balancer again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Fallback {
    Switch(bool),
    Start(FallbackStart),
}

/// The command that starts the balancer again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FallbackStart {
    /// Such as `[systemctl, start, nginx]`.
    pub(in crate::config) start: Vec<Option<String>>,
}
