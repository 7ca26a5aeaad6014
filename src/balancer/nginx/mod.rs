//! nginx: one file of turnout's inside a configuration of somebody else's.
//!
//! | file | owns |
//! |---|---|
//! | `apply` | the order of a change |
//! | `restore` | the way back |
//! | `instant` | color and weights without a reload, by markers that the workers read |
//! | `tell` | the reload |
//! | `process` | the master that the pid file names, and its workers |
//! | `check` | nginx's own check, without touching the live files (`stage`), and what its output means (`verdict`) |
//! | `main_file` | reading and rewriting the user's main file for that |
//! | `loads` | whether the running nginx reads turnout's file at all |
//! | `prove` | what the running workers say |
//! | `error_log` | what nginx said meanwhile, as a hint |
//! | `folder` | the folder of the snippets |
//! | `counts` | the log by which each request is told of, to be counted |
//! | `absent` | how it is known to be gone, and its files for its return |
//! | `doctor` | what a person should know before the first change |

mod absent;
mod apply;
mod check;
mod counts;
mod doctor;
mod error_log;
mod folder;
mod instant;
mod loads;
mod main_file;
mod process;
mod prove;
mod resolver;
mod restore;
mod stage;
mod tell;
mod verdict;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::Instant;

use super::{
    Applied, ApplyError, Balancer, Change, Disk, Drained, Finding, Foreign, Observed, Presence,
    RenderError, Rendered, RenderedFile, Served, ServerHealthUse, Tended, template,
};
use crate::config::{NginxReload, NginxSettings, Switching};
use crate::domain::{Color, Generation, RoutingTable, ServiceName};
use crate::render::{self, Head, NginxContext, Template};

use folder::Made;
use process::Master;

/// The nginx of this host.
#[derive(Debug, Clone)]
pub struct Nginx {
    settings: NginxSettings,
    state_dir: PathBuf,
    trusted_proxies: Vec<IpNet>,
}

impl Nginx {
    /// nginx as configured. Touches nothing.
    pub const fn new(
        settings: NginxSettings,
        state_dir: PathBuf,
        trusted_proxies: Vec<IpNet>,
    ) -> Self {
        Self {
            settings,
            state_dir,
            trusted_proxies,
        }
    }

    /// Waits until the workers that are finishing now are gone, at most for `within`; the process numbers of those that still
    /// finish something then. Workers that a later reload leaves behind are another wait's.
    async fn old_workers(&self, within: Duration) -> Result<Vec<i32>, ApplyError> {
        let master = Master::find(&self.settings.pid).await?;
        let started = Instant::now();
        let mut old = master.workers();
        old.retain(|worker| !worker.accepts());
        loop {
            old.retain(|worker| worker.lives());
            if old.is_empty() || started.elapsed() >= within {
                return Ok(old.iter().map(|worker| worker.pid).collect());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// True if a running nginx loads turnout's file, or would once it is there. Another nginx on this host, or one whose main
    /// file has no include that names the file, does not. Touches nothing.
    pub async fn loads(&self) -> bool {
        loads::loads(&self.settings).await
    }

    /// What a person should know before the first change. Changes nothing.
    pub async fn doctor(&self) -> Vec<Finding> {
        doctor::examine(self).await
    }

    /// The master, or `None` where only a reload command reaches it (another container).
    async fn master(&self) -> Result<Option<Master>, ApplyError> {
        match (
            Master::find(&self.settings.pid).await,
            &self.settings.reload,
        ) {
            (Ok(master), _) => Ok(Some(master)),
            (Err(_out_of_sight), NginxReload::Command(_)) => {
                self.out_of_sight().await.map(|()| None)
            }
            (Err(error), NginxReload::Signal) => Err(error.into()),
        }
    }

    /// A master that this host does not see may be in another container. But where turnout's file is in place and the
    /// private listener in it is silent, there is none at all.
    async fn out_of_sight(&self) -> Result<(), ApplyError> {
        if intact_generation(&self.settings.config).is_none() {
            return Ok(());
        }
        match prove::generation(self.settings.prove).await {
            Ok(_) => Ok(()),
            Err(silence) => Err(ApplyError::Unreachable {
                message: format!(
                    "nginx does not run: {} names no master, and the private listener is silent ({silence}). Start nginx; if \
                     it does run, it has not loaded {}: reload it once by hand",
                    self.settings.pid.display(),
                    self.settings.config.display()
                ),
            }),
        }
    }

    fn context(&self) -> NginxContext {
        // a main file that cannot be read is reported by nginx's check
        let main = fs::read_to_string(&self.settings.main).unwrap_or_default();
        NginxContext {
            prove: self.settings.prove,
            trusted_proxies: self.trusted_proxies.clone(),
            already_set: main_file::hash_directives(&main),
            counts: Some(counts::of(self, &main)),
            resolver: resolver::servers(self.settings.resolver.as_deref()),
            markers: match self.settings.switching {
                Switching::Instant => Some(instant::folder(self)),
                Switching::Reload => None,
            },
        }
    }

    fn template(&self) -> Result<Template, RenderError> {
        template::read(self.settings.template.as_deref(), Template::built_in)
    }

    /// nginx's message with the places in turnout's file told as template lines, such as
    /// `nginx.conf.j2:12 (rendered /etc/nginx/conf.d/turnout.conf:19)`.
    fn translate(&self, said: &str, table: &RoutingTable, rendered: &Rendered) -> String {
        let config = self.settings.config.display().to_string();
        let place = format!("{config}:");
        if !said.contains(&place) {
            return said.to_owned();
        }
        // a template that cannot be read any more only means that rendered lines are told as they are
        let origins = self
            .template()
            .ok()
            .filter(|template| self.is_from(template, table, rendered))
            .and_then(|template| render::nginx_origins(table, &self.context(), &template).ok())
            .unwrap_or_default();
        let mut translated = String::with_capacity(said.len() + 64);
        let mut rest = said;
        while let Some(at) = rest.find(&place) {
            let (before, after) = (&rest[..at], &rest[at + place.len()..]);
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let origin = after[..digits]
                .parse::<usize>()
                .ok()
                .and_then(|line| origins.get(line.checked_sub(1)?)?.as_ref());
            translated.push_str(before);
            match origin {
                Some(origin) => translated.extend([format!(
                    "{}:{} (rendered {config}:{})",
                    origin.file,
                    origin.line,
                    &after[..digits]
                )]),
                None => translated.push_str(&rest[at..at + place.len() + digits]),
            }
            rest = &after[digits..];
        }
        translated.push_str(rest);
        translated
    }

    /// True if `rendered` is what `template` makes now: else its lines would be told wrong.
    fn is_from(&self, template: &Template, table: &RoutingTable, rendered: &Rendered) -> bool {
        let text = render::nginx(table, &self.context(), template).ok();
        rendered
            .files
            .iter()
            .any(|file| file.path == self.settings.config && Some(&file.text) == text.as_ref())
    }

    fn disk(&self) -> Disk {
        let (generation, splits) = match head(&self.settings.config) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Disk::Absent,
            Err(error) => {
                return Disk::Unreadable {
                    reason: format!("{}: {error}", self.settings.config.display()),
                };
            }
            Ok(Head::Intact {
                generation: Some(generation),
                splits,
            }) => (generation, splits),
            Ok(Head::Edited { generation }) => {
                return Disk::Edited {
                    generation: generation.unwrap_or_default(),
                    path: self.settings.config.clone(),
                };
            }
            Ok(Head::Foreign | Head::Intact { .. }) => return Disk::Foreign,
        };
        let edited = fs::read_dir(&self.settings.snippets)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| matches!(head(path), Ok(Head::Edited { .. })));
        match edited {
            Some(path) => Disk::Edited { generation, path },
            None => Disk::Intact { generation, splits },
        }
    }

    async fn served(&self) -> Served {
        let silence = match prove::generation(self.settings.prove).await {
            Ok(said) if said.shape.is_some() => return instant::served(self, &said).await,
            Ok(said) => match prove::splits(self.settings.prove, &said).await {
                Ok(Some(splits)) => {
                    return Served::Generation {
                        generation: said.generation,
                        splits,
                    };
                }
                Ok(None) => "a reload is under way".to_owned(),
                Err(silence) => silence.to_string(),
            },
            Err(silence) => silence.to_string(),
        };
        match self.master().await {
            Ok(_) => Served::Foreign {
                reason: format!(
                    "nginx runs, but its private listener does not tell a generation ({silence}): its configuration does not \
                     include {}, or was not reloaded since",
                    self.settings.config.display()
                ),
            },
            Err(error) => Served::Unreachable {
                reason: error.to_string(),
            },
        }
    }
}

fn head(path: &Path) -> io::Result<Head> {
    let bytes = fs::read(path)?;
    Ok(std::str::from_utf8(&bytes).map_or(Head::Foreign, Head::of))
}

impl Balancer for Nginx {
    fn kind(&self) -> &'static str {
        "nginx"
    }

    fn render(&self, table: &RoutingTable) -> Result<Rendered, RenderError> {
        let context = self.context();
        let text = render::nginx(table, &context, &self.template()?)?;
        let mut files = vec![RenderedFile {
            path: self.settings.config.clone(),
            text,
        }];
        files.extend(folder::snippets(&self.settings.snippets, table, &context)?);
        Ok(Rendered {
            generation: table.generation,
            files,
        })
    }

    fn server_health(&self) -> ServerHealthUse {
        ServerHealthUse::Own
    }

    async fn check(
        &self,
        desired: &RoutingTable,
        rendered: &Rendered,
    ) -> Result<Vec<String>, ApplyError> {
        apply::check_only(self, desired, rendered).await
    }

    async fn apply(&self, change: Change<'_>) -> Result<Applied, ApplyError> {
        let made = Made::for_the_snippets_of(change.rendered, &self.settings.snippets)?;
        let applied = apply::apply(self, change).await;
        // after a failure it is gone again, unless something that could not be undone is in it
        if applied.is_ok() {
            made.keep();
        }
        applied
    }

    /// nginx does not count by color: the color is left when the old workers are.
    async fn drained(&self, _: &ServiceName, _: Color, within: Duration) -> Drained {
        if self.settings.switching == Switching::Instant {
            return Drained::Busy {
                what: "unknown: with `switching: instant` the workers stay, and nginx does not count by color"
                    .to_owned(),
            };
        }
        match self.old_workers(within).await {
            Ok(still) if still.is_empty() => Drained::Done,
            Ok(still) => {
                let pids: Vec<_> = still.iter().map(ToString::to_string).collect();
                Drained::Busy {
                    what: format!(
                        "{} old workers of nginx (pids {})",
                        pids.len(),
                        pids.join(", ")
                    ),
                }
            }
            Err(error) => Drained::Busy {
                what: format!("unknown: {error}"),
            },
        }
    }

    async fn revert(
        &self,
        to: Generation,
        foreign: Foreign,
    ) -> Result<Option<Applied>, ApplyError> {
        restore::revert(self, to, foreign).await
    }

    async fn observe(&self) -> Observed {
        Observed {
            disk: Some(self.disk()),
            served: self.served().await,
        }
    }

    async fn is_new(&self) -> bool {
        instant::is_worn(self)
    }

    async fn tend(&self, desired: &RoutingTable) -> Tended {
        instant::tend(self, desired.generation).await
    }

    async fn presence(&self) -> Presence {
        absent::presence(self).await
    }
}

/// The generation that a file on disk says it is, if it is turnout's and untouched.
fn intact_generation(path: &Path) -> Option<Generation> {
    match head(path).ok()? {
        Head::Intact { generation, .. } => generation,
        Head::Edited { .. } | Head::Foreign => None,
    }
}
