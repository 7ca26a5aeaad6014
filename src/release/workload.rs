//! `workload.command`: the process of each color, one supervisor for each.
//!
//! Starting is idempotent, also across restarts of turnout: what runs is recorded, and a recorded process that still runs is
//! adopted. When turnout dies its workloads go on; when it stops in order, [`Workloads::stop_all`] ends them.
//!
//! Cancel-safety: a supervisor waits on the process's end, its order to stop and a timer, all safe to drop.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::output::Output;
use super::process::{Process, Record, StillThere};
use crate::config::Workload;
use crate::domain::{Color, ServiceName};
use crate::exec;

/// The first wait before a restart; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A process that lived this long was well, and the next wait is the first again.
const WELL: Duration = Duration::from_secs(10);
/// How often its output is looked at: soon enough to read along, rarely enough to cost nothing.
const LISTEN: Duration = Duration::from_millis(200);

/// Why a workload was not started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The program cannot be run.
    #[error("failed to start the {color} workload of {service}: `{program}` in {dir}")]
    Spawn {
        /// Whose.
        service: ServiceName,
        /// Which.
        color: Color,
        /// The first word of the command.
        program: String,
        /// Working directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder of records cannot be used; nothing was started.
    #[error("failed to keep a record of the {color} workload of {service} in {path}")]
    Record {
        /// Whose.
        service: ServiceName,
        /// Which.
        color: Color,
        /// Record or output file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `{turnout}` has no value.
    #[error("failed to find the running binary for {{turnout}}")]
    Binary(#[source] io::Error),
    /// It would not end.
    #[error("failed to stop the {color} workload of {service}")]
    Stop {
        /// Whose.
        service: ServiceName,
        /// Which.
        color: Color,
        /// What is left.
        #[source]
        source: StillThere,
    },
}

/// How a workload came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It was supervised already.
    Already,
    /// It ran already, started by a turnout before this one.
    Adopted,
    /// It was started.
    Now,
}

/// The workloads that this turnout supervises. Dropping it leaves the processes running, for the next turnout to adopt.
#[derive(Debug)]
pub struct Workloads {
    records: PathBuf,
    dir: PathBuf,
    supervised: BTreeMap<(ServiceName, Color), Supervised>,
}

#[derive(Debug)]
struct Supervised {
    spec: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StillThere>>,
}

impl Workloads {
    /// Supervises nothing yet. Records go below `state_dir`; `dir` is where workloads without a `dir` of their own run.
    pub fn new(state_dir: &Path, dir: PathBuf) -> Self {
        Self {
            records: state_dir.join("workloads"),
            dir,
            supervised: BTreeMap::new(),
        }
    }

    /// Sees to it that the workload of a color runs, with `version` (default: the configured one). One that runs with another
    /// command, environment or version is stopped first. Must be called within a runtime.
    pub async fn start(
        &mut self,
        service: &ServiceName,
        workload: &Workload,
        color: Color,
        version: Option<&str>,
    ) -> Result<Started, WorkloadError> {
        let plan = Plan::new(self, service, workload, color, version)?;
        let place = (service.clone(), color);
        if let Some(known) = self.supervised.get(&place)
            && known.spec == plan.spec
            && !known.task.is_finished()
        {
            return Ok(Started::Already);
        }
        self.stop(service, color).await?;
        let (process, output, started) = if let Some((process, output)) = plan.adopt().await? {
            (process, output, Started::Adopted)
        } else {
            let (process, output) = plan.spawn()?;
            (process, output, Started::Now)
        };
        let (stop, stopped) = oneshot::channel();
        let supervised = Supervised {
            spec: plan.spec.clone(),
            stop,
            task: tokio::spawn(plan.supervise(process, output, stopped)),
        };
        self.supervised.insert(place, supervised);
        Ok(started)
    }

    /// Stops the workload of a color, its whole process group, and waits until that is empty. Not running: nothing to do.
    pub async fn stop(&mut self, service: &ServiceName, color: Color) -> Result<(), WorkloadError> {
        match self.supervised.remove(&(service.clone(), color)) {
            Some(supervised) => ended(service, color, supervised).await,
            None => Ok(()),
        }
    }

    /// Stops all of them at once, and returns what could not be stopped.
    pub async fn stop_all(mut self) -> Vec<WorkloadError> {
        let places = std::mem::take(&mut self.supervised);
        let stopping: Vec<_> = places
            .into_iter()
            .map(|((service, color), supervised)| {
                tokio::spawn(async move { ended(&service, color, supervised).await })
            })
            .collect();
        let mut errors = Vec::new();
        for stopped in stopping {
            if let Ok(Err(error)) = stopped.await {
                errors.push(error);
            }
        }
        errors
    }
}

async fn ended(
    service: &ServiceName,
    color: Color,
    supervised: Supervised,
) -> Result<(), WorkloadError> {
    // an error means that the supervisor has ended, and then there is no process
    supervised.stop.send(()).ok();
    match supervised.task.await {
        Ok(Err(source)) => Err(WorkloadError::Stop {
            service: service.clone(),
            color,
            source,
        }),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// Everything that one workload is started with.
#[derive(Debug)]
struct Plan {
    service: ServiceName,
    color: Color,
    command: Vec<String>,
    dir: PathBuf,
    env: BTreeMap<String, String>,
    grace: Duration,
    record: PathBuf,
    output: PathBuf,
    spec: String,
}

impl Plan {
    fn new(
        workloads: &Workloads,
        service: &ServiceName,
        workload: &Workload,
        color: Color,
        version: Option<&str>,
    ) -> Result<Self, WorkloadError> {
        let binary = std::env::current_exe().map_err(WorkloadError::Binary)?;
        let version = version
            .or(workload.versions[color].as_deref())
            .unwrap_or_default();
        let port = workload.ports[color].to_string();
        let filled = |text: &str| {
            fill(
                text,
                &[
                    ("turnout", &binary.to_string_lossy()),
                    ("color", color.as_str()),
                    ("port", &port),
                    ("version", version),
                ],
            )
        };
        let mut env: BTreeMap<String, String> = [
            ("ENVIRONMENT_COLOR", color.as_str()),
            ("APPLICATION_PORT", &port),
            ("PORT", &port),
            ("APP_VERSION", version),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        env.extend(
            workload
                .env
                .iter()
                .map(|(name, value)| (name.clone(), filled(value))),
        );
        let command: Vec<String> = workload.command.iter().map(|word| filled(word)).collect();
        let dir = workload
            .dir
            .as_deref()
            .map_or_else(|| workloads.dir.clone(), |dir| PathBuf::from(filled(dir)));
        let spec = digest(&command, &dir, &env);
        Ok(Self {
            record: workloads.records.join(format!("{service}-{color}.json")),
            output: workloads.records.join(format!("{service}-{color}.out")),
            spec,
            service: service.clone(),
            color,
            command,
            dir,
            env,
            grace: workload.stop_grace,
        })
    }

    fn unrecorded(&self, path: &Path) -> impl Fn(io::Error) -> WorkloadError {
        let (service, color, path) = (self.service.clone(), self.color, path.to_owned());
        move |source| WorkloadError::Record {
            service: service.clone(),
            color,
            path: path.clone(),
            source,
        }
    }

    /// The recorded process, if it still runs and is what would be started; one that is something else is stopped.
    async fn adopt(&self) -> Result<Option<(Process, Output)>, WorkloadError> {
        let Some(record) = Record::load(&self.record) else {
            return Ok(None);
        };
        // an error means that it does not run any more
        let Ok(mut process) = Process::adopt(record.identity) else {
            return Ok(None);
        };
        if record.spec == self.spec {
            let output = Output::resumed(&self.output).map_err(self.unrecorded(&self.output))?;
            return Ok(Some((process, output)));
        }
        process
            .end(self.grace)
            .await
            .map_err(|source| WorkloadError::Stop {
                service: self.service.clone(),
                color: self.color,
                source,
            })?;
        Ok(None)
    }

    fn spawn(&self) -> Result<(Process, Output), WorkloadError> {
        let failed = |source| WorkloadError::Spawn {
            service: self.service.clone(),
            color: self.color,
            program: self.command.first().cloned().unwrap_or_default(),
            dir: self.dir.clone(),
            source,
        };
        if let Some(folder) = self.record.parent() {
            std::fs::create_dir_all(folder).map_err(self.unrecorded(folder))?;
        }
        let (output, end) = Output::fresh(&self.output).map_err(self.unrecorded(&self.output))?;
        let also = end.try_clone().map_err(self.unrecorded(&self.output))?;
        let mut command = exec::command(&self.command);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("TURNOUT_") || text == "ORCH_TOKEN" {
                // turnout's own settings and secrets are none of the workload's business
                command.env_remove(&name);
            }
        }
        let child = command
            .envs(&self.env)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(end)
            .stderr(also)
            .spawn()
            .map_err(failed)?;
        let process = Process::child(child).map_err(failed)?;
        let record = Record {
            identity: process.identity.clone(),
            spec: self.spec.clone(),
        };
        if let Err(source) = record.save(&self.record) {
            // unrecorded it would be started a second time by the next turnout; it has done nothing yet
            process.kill();
            return Err(self.unrecorded(&self.record)(source));
        }
        Ok((process, output))
    }

    /// Keeps it running until told to stop, or until nobody is left to tell.
    async fn supervise(
        self,
        mut process: Process,
        mut output: Output,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<(), StillThere> {
        let (service, color) = (&self.service, self.color);
        let mut wait = FIRST_WAIT;
        loop {
            let begun = Instant::now();
            tracing::info!(%service, %color, pid = process.identity.pid, "workload runs");
            let mut listen = tokio::time::interval(LISTEN);
            listen.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let how = loop {
                tokio::select! {
                    order = &mut stopped => {
                        if order.is_err() {
                            return Ok(());
                        }
                        let ended = process.end(self.grace).await;
                        self.pass_on(&mut output);
                        if ended.is_ok() {
                            // left behind it would only name a process that is gone
                            drop(std::fs::remove_file(&self.record));
                        }
                        return ended;
                    }
                    how = process.ended() => break how,
                    _ = listen.tick() => self.pass_on(&mut output),
                }
            };
            // what its children still hold, such as the port, the next one needs
            let cleared = process.end(self.grace).await;
            self.pass_on(&mut output);
            if begun.elapsed() >= WELL {
                wait = FIRST_WAIT;
            }
            tracing::warn!(%service, %color, %how, lived = ?begun.elapsed(), again_in = ?wait, "workload ended");
            if let Err(error) = cleared {
                tracing::warn!(%service, %color, error = &error as &dyn std::error::Error, "restarting beside it");
            }
            (process, output) = loop {
                tokio::select! {
                    _order = &mut stopped => {
                        drop(std::fs::remove_file(&self.record));
                        return Ok(());
                    }
                    () = tokio::time::sleep(wait) => {}
                }
                wait = (wait * 2).min(LONGEST_WAIT);
                match self.spawn() {
                    Ok(spawned) => break spawned,
                    Err(error) => {
                        tracing::error!(%service, %color, error = &error as &dyn std::error::Error, again_in = ?wait, "workload not restarted");
                    }
                }
            };
        }
    }

    fn pass_on(&self, output: &mut Output) {
        if let Err(error) = output.pass_on(&self.service, self.color) {
            tracing::debug!(service = %self.service, color = %self.color, error = &error as &dyn std::error::Error, "output unread");
        }
    }
}

/// Tells one set of command, folder and environment from another; a digest, since the environment may hold secrets.
fn digest(command: &[String], dir: &Path, env: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    let pairs = env.iter().flat_map(|(name, value)| [name, value]);
    for text in command.iter().chain(pairs) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.update(dir.as_os_str().as_bytes());
    let mut text = String::new();
    for byte in hash.finalize() {
        use std::fmt::Write;
        // writing into a String cannot fail
        write!(text, "{byte:02x}").ok();
    }
    text
}

/// `text` with `{name}` filled in. One pass, so that a value with braces stays as it is; unknown names stay too.
fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        let known = values.iter().find_map(|(name, value)| {
            let tail = from[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((value, tail))
        });
        rest = if let Some((value, tail)) = known {
            filled.push_str(value);
            tail
        } else {
            filled.push('{');
            &from[1..]
        };
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn placeholders_are_filled_once_and_unknown_ones_stay() {
        let values = [("color", "blue"), ("port", "{color}")];
        for (text, expected) in [
            ("{color}:{port}", "blue:{color}"),
            ("{{color}}", "{blue}"),
            ("{unknown} {", "{unknown} {"),
            ("", ""),
        ] {
            assert_eq!(fill(text, &values), expected);
        }
    }
}
