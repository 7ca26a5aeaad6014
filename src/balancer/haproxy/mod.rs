//! HAProxy: a configuration with the shape, a map with the position, and the runtime socket between a change and a reload.
//!
//! | file | owns |
//! |---|---|
//! | `apply` | the order of a change |
//! | `position` | color and weights into the running worker, read back |
//! | `elders` | the same for workers from before a reload |
//! | `reload` | a new shape into a new worker, and the wait for it |
//! | `restore` | the way back after a change that failed |
//! | `revert` | the way back to what an earlier one replaced |
//! | `process` | the master that the pid file names, and its workers |
//! | `socket` | what the running worker is told and says |
//! | `observe` | what stands on disk and what is served |
//! | `check` | HAProxy's own check of what is staged |
//! | `counts` | the log by which each request is told of, to be counted |
//! | `absent` | how it is known to be gone, and its files for its return |
//! | `doctor` | what a person should know before the first change |
//!
//! The map is written before the worker is told, so whatever starts from the files starts with what was answered last.

mod absent;
mod apply;
mod check;
mod counts;
mod doctor;
mod elders;
mod observe;
mod position;
mod process;
mod reload;
mod restore;
mod revert;
mod socket;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

use super::counts::CountsSocket;
use super::{
    AliasHealthUse, Applied, ApplyError, Balancer, Change, Drained, Finding, Foreign, Observed,
    Presence, Principal, Put, RenderError, Rendered, RenderedFile, ServerHealthUse, Tended,
    template,
};
use crate::config::HaproxySettings;
use crate::domain::{Color, Generation, Hashing, RoutingTable, ServiceName};
use crate::render::{self, HaproxyContext, Template};

pub use counts::OwnFormat;

use process::Master;
use socket::{Socket, SocketError};

/// Between two looks at what is in flight.
const LOOK: Duration = Duration::from_millis(10);

/// The HAProxy of this host.
#[derive(Debug, Clone)]
pub struct Haproxy {
    settings: HaproxySettings,
    state_dir: PathBuf,
    trusted_proxies: Vec<IpNet>,
    /// The worker whose position was proved or looked at last, 0 for none: another one has been started since by whomever,
    /// and a command of turnout's may have been lost with the one before it.
    worker: Arc<AtomicI32>,
}

impl Haproxy {
    /// HAProxy as configured. Touches nothing.
    pub fn new(settings: HaproxySettings, state_dir: PathBuf, trusted_proxies: Vec<IpNet>) -> Self {
        Self {
            settings,
            state_dir,
            trusted_proxies,
            worker: Arc::default(),
        }
    }

    /// True if a running HAProxy was started with turnout's file. Touches nothing.
    pub async fn loads(&self) -> bool {
        match Master::find(&self.settings.pid).await {
            Ok(master) => self.is_loaded_by(&master),
            Err(_not_running) => false,
        }
    }

    /// What a person should know before the first change. Changes nothing.
    pub async fn doctor(&self, table: &RoutingTable) -> Vec<Finding> {
        doctor::examine(self, table).await
    }

    /// The lines that a user's own frontend needs for the services of `table` without a listener; `None` if there are none.
    pub fn frontend_lines(&self, table: &RoutingTable) -> Result<Option<String>, RenderError> {
        Ok(render::haproxy_frontend_lines(table, &self.context())?)
    }

    /// Where each request is told of.
    pub fn counts_socket(&self) -> Result<CountsSocket, OwnFormat> {
        counts::socket(self)
    }

    /// The runtime socket, which has HAProxy's own totals.
    pub fn runtime_socket(&self) -> &Path {
        &self.settings.socket
    }

    /// The master's pid file: its workers may tell.
    pub fn pid_file(&self) -> &Path {
        &self.settings.pid
    }

    /// True if one of the master's `-f` is turnout's file or its folder.
    fn is_loaded_by(&self, master: &Master) -> bool {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let config = real(&self.settings.config);
        master.files().is_none_or(|files| {
            files.iter().any(|file| {
                let file = real(file);
                file == config || (file.is_dir() && config.parent() == Some(&file))
            })
        })
    }

    /// The map file.
    fn map(&self) -> PathBuf {
        self.settings.maps.join("position.map")
    }

    /// What HAProxy runs with, in order.
    fn files(&self) -> Vec<PathBuf> {
        if self.settings.files.is_empty() {
            vec![self.settings.config.clone()]
        } else {
            self.settings.files.clone()
        }
    }

    fn context(&self) -> HaproxyContext {
        HaproxyContext {
            position: self.map(),
            socket: self
                .settings
                .files
                .is_empty()
                .then(|| self.settings.socket.clone()),
            trusted_proxies: self.trusted_proxies.clone(),
            counts: counts::socket(self).ok().map(|socket| socket.told),
        }
    }

    fn template(&self) -> Result<Template, RenderError> {
        template::read(self.settings.template.as_deref(), render::haproxy_template)
    }

    /// What the socket's silence means, with the master's word for it: "does not run" and "has no socket" ask for different
    /// things.
    async fn unreachable(&self, error: SocketError) -> ApplyError {
        let cause = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        match error {
            SocketError::Denied { .. } | SocketError::Level { .. } => {
                ApplyError::NotPermitted { message: cause }
            }
            SocketError::Missing { .. } | SocketError::Abandoned { .. } => {
                match Master::find(&self.settings.pid).await {
                    Ok(master) => ApplyError::Unreachable {
                        message: format!(
                            "HAProxy runs (master {}), but {cause}: write `stats socket {} mode 660 level admin` in its global \
                             section, or set balancer.haproxy.socket to the one it has",
                            master.pid,
                            self.settings.socket.display()
                        ),
                    },
                    Err(error)
                        if self.settings.files.is_empty() && !self.settings.config.exists() =>
                    {
                        ApplyError::Unreachable {
                            message: format!(
                                "{error}. Its configuration is turnout's file alone, which is not there yet: write it with \
                                 `turnout render --to {}`, start HAProxy with it, then `turnout apply`",
                                self.settings.config.display()
                            ),
                        }
                    }
                    Err(error) => error.into(),
                }
            }
            SocketError::Late { .. } | SocketError::Io { .. } | SocketError::Answer { .. } => {
                ApplyError::Unreachable { message: cause }
            }
        }
    }

    /// HAProxy's message with the places in turnout's file told as template lines.
    fn translate(&self, said: &str, table: &RoutingTable) -> String {
        let config = self.settings.config.display().to_string();
        let place = format!("[{config}:");
        let origins = self
            .template()
            .ok()
            .and_then(|template| render::haproxy_origins(table, &self.context(), &template).ok())
            .unwrap_or_default();
        let Some((before, after)) = said.split_once(&place) else {
            return said.to_owned();
        };
        let Some((digits, rest)) = after.split_once(']') else {
            return said.to_owned();
        };
        let origin = digits
            .parse::<usize>()
            .ok()
            .and_then(|line| origins.get(line.checked_sub(1)?)?.as_ref());
        match origin {
            Some(origin) => format!(
                "{before}[{}:{} (rendered {config}:{digits})]{}",
                origin.file,
                origin.line,
                self.translate(rest, table)
            ),
            None => said.to_owned(),
        }
    }

    fn socket<'a>(&'a self, map: &'a Path) -> Socket<'a> {
        Socket {
            path: &self.settings.socket,
            map,
        }
    }

    /// A worker was seen to have the position that it should.
    fn saw(&self, worker: i32) {
        self.worker.store(worker, Ordering::Relaxed);
    }

    /// What a color still has to finish; `None`: nothing.
    async fn in_flight(&self, service: &ServiceName, color: Color) -> Option<String> {
        let map = self.map();
        let socket = self.socket(&map);
        let backend = format!("turnout_{service}_{color}");
        let sessions = match socket.sessions(&backend).await {
            Ok(sessions) => sessions,
            Err(error) => return Some(format!("unknown: {error}")),
        };
        if sessions > 0 {
            return Some(format!("{sessions} requests in {backend}"));
        }
        // a worker from before a reload still routes what comes on its connections by the position that it had then
        let now = socket.look().await.ok()?.pid;
        let master = Master::find(&self.settings.pid).await.ok()?;
        let old: Vec<String> = master
            .workers()
            .iter()
            .filter(|worker| worker.pid != now)
            .map(|worker| worker.pid.to_string())
            .collect();
        (!old.is_empty()).then(|| {
            format!(
                "{} workers of HAProxy from before a reload (pids {})",
                old.len(),
                old.join(", ")
            )
        })
    }
}

impl Balancer for Haproxy {
    fn kind(&self) -> &'static str {
        "haproxy"
    }

    fn untold(&self) -> Option<String> {
        self.counts_socket().err().map(|error| error.to_string())
    }

    fn render(&self, table: &RoutingTable) -> Result<Rendered, RenderError> {
        let text = render::haproxy(table, &self.context(), &self.template()?)?;
        // the map first: a configuration that names a service finds its line there
        let files = vec![
            RenderedFile {
                path: self.map(),
                text: render::haproxy_map(table),
            },
            RenderedFile {
                path: self.settings.config.clone(),
                text,
            },
        ];
        Ok(Rendered {
            generation: table.generation,
            files,
        })
    }

    fn server_health(&self) -> ServerHealthUse {
        ServerHealthUse::Own
    }

    fn alias_health(&self) -> AliasHealthUse {
        AliasHealthUse::Own
    }

    async fn check(
        &self,
        desired: &RoutingTable,
        rendered: &Rendered,
    ) -> Result<Vec<String>, ApplyError> {
        check::staged(self, &rendered.files, |said| self.translate(said, desired)).await
    }

    async fn apply(&self, change: Change<'_>) -> Result<Applied, ApplyError> {
        apply::apply(self, change).await
    }

    async fn revert(
        &self,
        to: Generation,
        foreign: Foreign,
    ) -> Result<Option<Applied>, ApplyError> {
        revert::revert(self, to, foreign).await
    }

    async fn drained(&self, service: &ServiceName, color: Color, within: Duration) -> Drained {
        let started = Instant::now();
        loop {
            match self.in_flight(service, color).await {
                None => return Drained::Done,
                Some(what) if started.elapsed() >= within => return Drained::Busy { what },
                Some(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn observe(&self) -> Observed {
        Observed {
            disk: Some(observe::disk(self)),
            served: observe::served(self).await,
        }
    }

    async fn is_new(&self) -> bool {
        position::is_new(self).await
    }

    async fn tend(&self, desired: &RoutingTable) -> Tended {
        position::tend(self, desired).await
    }

    async fn presence(&self) -> Presence {
        absent::presence(self).await
    }
}

impl Principal for Haproxy {
    fn hashing(&self) -> Hashing {
        Hashing::Xxh32
    }

    fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    fn leading_file(&self) -> PathBuf {
        self.map()
    }

    async fn put(&self, change: &Change<'_>) -> Result<Put, ApplyError> {
        absent::put(self, change).await
    }
}
