//! The valid configuration: what the rest of turnout works with. No serde, no defaults left to fill in, no relative path.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::prometheus::PrometheusSettings;
use crate::domain::{
    Admission, AliasRoute, CanaryAsk, Colors, Position, Server, Service, ServiceName,
};

/// Everything that was configured, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where it came from.
    pub mode: Mode,
    /// Every file that was read (main file first, then fragments), for watching. Empty in environment mode.
    pub files: Vec<PathBuf>,
    /// The folders and patterns of `include`, absolute, for watching and for `service set`.
    pub include: Vec<PathBuf>,
    /// `state.dir`, absolute.
    pub state_dir: PathBuf,
    /// `state.follow`.
    pub follow: Option<Follow>,
    /// `balancer`.
    pub balancer: BalancerSettings,
    /// `control`.
    pub control: Control,
    /// `trusted_proxies`.
    pub trusted_proxies: Vec<IpNet>,
    /// The services that have two colors, by name.
    pub services: BTreeMap<ServiceName, ServiceConfig>,
    /// The services behind an alias, by name; none of them is among the others.
    pub aliases: BTreeMap<ServiceName, AliasConfig>,
    /// Keys that were accepted and checked, but whose feature this version does not put into force.
    pub not_in_force: Vec<NotInForce>,
}

/// Where a configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A file, absolute.
    File(PathBuf),
    /// The environment alone (CONTRACT 2.2): one service `app`, the API on the router's own port.
    Environment,
}

/// A key that has no effect yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotInForce {
    /// Its path, such as `services.shop.canary`.
    pub key: String,
    /// What does not happen because of that.
    pub consequence: String,
}

/// `state.follow`: another tool's file is the source of the active color.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// The foreign JSON file, absolute.
    pub file: PathBuf,
    /// The field that holds `blue` or `green`.
    pub field: String,
    /// Whose active color it is.
    pub service: ServiceName,
}

/// What carries the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalancerKind {
    /// nginx or HAProxy if a running one loads turnout's file; else embedded. What it chose is kept in the state.
    Auto,
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// The embedded proxy.
    Embedded,
    /// The user's own router, by commands.
    Exec,
}

/// `balancer`, all of it: which kind is used, and the settings of every kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerSettings {
    /// `kind`.
    pub kind: BalancerKind,
    /// `nginx`.
    pub nginx: NginxSettings,
    /// `haproxy`.
    pub haproxy: HaproxySettings,
    /// `exec`.
    pub exec: Option<ExecSettings>,
    /// `fallback`: the embedded proxy stands in when the balancer is gone. The inner list is the start command, if any.
    pub fallback: Option<Vec<String>>,
    /// `counts.bucket`: the stretch of time of one figure that rollouts are judged by.
    pub bucket: Duration,
}

/// `balancer.nginx`. All paths absolute, but for `binary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NginxSettings {
    /// The one file turnout owns.
    pub config: PathBuf,
    /// nginx's main file, which includes it.
    pub main: PathBuf,
    /// The program, looked up in `PATH` if it has no slash.
    pub binary: String,
    /// The master's pid file.
    pub pid: PathBuf,
    /// A template in place of the built-in one.
    pub template: Option<PathBuf>,
    /// The private listener that shows the served generation.
    pub prove: SocketAddr,
    /// How color and weights change.
    pub switching: Switching,
    /// Folder for what a user's own server block includes.
    pub snippets: PathBuf,
    /// How nginx is told to reload.
    pub reload: NginxReload,
    /// Resolver for alias targets.
    pub resolver: Option<String>,
}

/// `balancer.nginx.switching`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switching {
    /// Render the new position and reload.
    Reload,
    /// Marker files, without a reload.
    Instant,
}

/// `balancer.nginx.reload`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NginxReload {
    /// SIGHUP to the master that the pid file names.
    Signal,
    /// A command of the user's, not run through a shell.
    Command(Vec<String>),
}

/// `balancer.haproxy`. All paths absolute, but for `binary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaproxySettings {
    /// The one file turnout owns.
    pub config: PathBuf,
    /// What HAProxy runs with, in order; empty: turnout's file alone.
    pub files: Vec<PathBuf>,
    /// Folder of the map files.
    pub maps: PathBuf,
    /// The program.
    pub binary: String,
    /// Runtime API.
    pub socket: PathBuf,
    /// The master's CLI.
    pub master_socket: Option<PathBuf>,
    /// The master's pid file.
    pub pid: PathBuf,
    /// A template in place of the built-in one.
    pub template: Option<PathBuf>,
}

/// `balancer.exec`: the user's commands for another router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSettings {
    /// Given service, blue and green percent.
    pub set: Vec<String>,
    /// Prints what is in force.
    pub get: Vec<String>,
    /// Optional.
    pub promote: Option<Vec<String>>,
    /// Optional.
    pub rollback: Option<Vec<String>>,
    /// For one command, above zero.
    pub timeout: Duration,
}

/// `control`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Where the API listens.
    pub listen: ControlListen,
    /// Further names it may be called by.
    pub hosts: Vec<String>,
    /// Who may call it; none: loopback alone may write.
    pub tokens: Vec<Token>,
}

/// Where the control API listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlListen {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket, absolute.
    Unix(PathBuf),
    /// On the router's own port, under the paths of CONTRACT 5.1 (environment mode without `TURNOUT_CONTROL`).
    Router,
}

/// A named token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name, the actor of what is done with it.
    pub name: String,
    /// Where the secret is.
    pub source: TokenSource,
    /// What it may do.
    pub may: BTreeSet<Permission>,
}

/// Where a token's secret is. Only its SHA-256 is ever held; what is read may be that as well, as `sha256:` and 64
/// hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// In a file, absolute; read when the API starts. Refused if the world may read it.
    File(PathBuf),
    /// In an environment variable; read when the API starts.
    Variable(String),
    /// In a systemd credential: a file in `$CREDENTIALS_DIRECTORY`; read when the API starts.
    Credential(String),
    /// The digest of the secret.
    Sha256([u8; 32]),
}

impl TokenSource {
    /// The 32 bytes that 64 hexadecimal digits are; `None` for any other text.
    pub fn digest(text: &str) -> Option<[u8; 32]> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(digest)
    }
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Ask.
    Read,
    /// Change.
    Write,
}

/// One service: its shape, where it starts, and what runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceConfig {
    /// The shape.
    pub shape: Arc<Service>,
    /// `strategy`, `active`, `weights`: used only where the state knows nothing of the service yet.
    pub initial: Position,
    /// `workload`, where turnout starts the processes itself.
    pub workload: Option<Workload>,
    /// `canary`: what its rollouts are like unless they say otherwise.
    pub canary: CanaryAsk,
    /// The Prometheus that its rollouts are judged by, where `canary.source` names one.
    pub prometheus: Option<PrometheusSettings>,
    /// Where `tls` stands, as `file:line:column`: whether its files are good is found out later, by who serves them.
    pub tls_at: Option<String>,
}

/// One service behind an alias. It has no workload and starts nowhere: what stands behind the name is somebody else's doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasConfig {
    /// The shape.
    pub shape: Arc<Service>,
    /// `target`.
    pub target: Server,
    /// As in [`ServiceConfig::tls_at`].
    pub tls_at: Option<String>,
}

impl Config {
    /// The services behind an alias as they start: open.
    pub fn alias_routes(&self) -> BTreeMap<ServiceName, AliasRoute> {
        let aliases = self.aliases.iter().map(|(name, alias)| {
            let route = AliasRoute {
                service: Arc::clone(&alias.shape),
                target: alias.target.clone(),
                admission: Admission::Open,
            };
            (name.clone(), route)
        });
        aliases.collect()
    }

    /// Every shape of both kinds, by name.
    pub fn shapes(&self) -> BTreeMap<ServiceName, Arc<Service>> {
        let colored = self.services.iter();
        let colored = colored.map(|(name, service)| (name.clone(), Arc::clone(&service.shape)));
        let aliases = self.aliases.iter();
        let aliases = aliases.map(|(name, alias)| (name.clone(), Arc::clone(&alias.shape)));
        colored.chain(aliases).collect()
    }
}

/// `workload.command`: the process of each color, started and stopped by `turnout serve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Program and arguments with `{color}`, `{port}`, `{version}` and `{turnout}` (the running binary) still in them.
    pub command: Vec<String>,
    /// Working directory, absolute, with the same placeholders; `None`: the configuration's.
    pub dir: Option<String>,
    /// Added to the environment, values with the same placeholders.
    pub env: BTreeMap<String, String>,
    /// The port of each color.
    pub ports: Colors<u16>,
    /// The version of each color that fills `{version}` and `APP_VERSION`, until a release says otherwise.
    pub versions: Colors<Option<String>>,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Duration,
}
