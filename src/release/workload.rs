//! `workload.command`: the process of each color, one supervisor for each.
//!
//! Starting is idempotent, also across restarts of turnout: what runs is recorded, and a recorded process that still runs is
//! adopted. When turnout dies its workloads go on; when it stops in order, [`Workloads::stop_all`] ends them.
//!
//! Cancel-safety: a supervisor waits on the process's end, its order to stop and a timer, all safe to drop.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::launch::Launch;
use super::output::Output;
use super::process::{Process, StillThere};
use crate::config::Workload;
use crate::domain::{Color, ServiceName};

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
    /// It ran already, with another command, folder or environment than it would be started with now.
    Outdated,
    /// It was started.
    Now,
}

/// What is done with a process of a turnout before this one that is not what would be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Stop,
    Keep,
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
        let other = Other::Stop;
        self.see_to(service, workload, color, version, other).await
    }

    /// As [`Self::start`] with the configured version, but what a turnout before this one has left running is kept, whatever it
    /// was started with: nobody has said that its color serves nobody. Must be called within a runtime.
    pub async fn keep(
        &mut self,
        service: &ServiceName,
        workload: &Workload,
        color: Color,
    ) -> Result<Started, WorkloadError> {
        let other = Other::Keep;
        self.see_to(service, workload, color, None, other).await
    }

    async fn see_to(
        &mut self,
        service: &ServiceName,
        workload: &Workload,
        color: Color,
        version: Option<&str>,
        other: Other,
    ) -> Result<Started, WorkloadError> {
        let launch = Launch::new(
            (&self.records, &self.dir),
            service,
            workload,
            color,
            version,
        )?;
        let place = (service.clone(), color);
        if let Some(known) = self.supervised.get(&place)
            && known.spec == launch.spec
            && !known.task.is_finished()
        {
            return Ok(Started::Already);
        }
        self.stop(service, color).await?;
        let (process, output, spec, started) = match launch.running()? {
            Some((process, output, spec)) if spec == launch.spec => {
                (process, output, spec, Started::Adopted)
            }
            Some((process, output, spec)) if other == Other::Keep => {
                (process, output, spec, Started::Outdated)
            }
            found => {
                if let Some((mut process, _, _)) = found {
                    process
                        .end(launch.grace)
                        .await
                        .map_err(|source| WorkloadError::Stop {
                            service: service.clone(),
                            color,
                            source,
                        })?;
                }
                let (process, output) = launch.spawn()?;
                (process, output, launch.spec.clone(), Started::Now)
            }
        };
        let (stop, stopped) = oneshot::channel();
        let supervised = Supervised {
            spec,
            stop,
            task: tokio::spawn(supervise(launch, process, output, stopped)),
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

/// Keeps it running until told to stop, or until nobody is left to tell.
async fn supervise(
    launch: Launch,
    mut process: Process,
    mut output: Output,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), StillThere> {
    let (service, color) = (&launch.service, launch.color);
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
                    let ended = process.end(launch.grace).await;
                    launch.pass_on(&mut output);
                    if ended.is_ok() {
                        // left behind it would only name a process that is gone
                        drop(std::fs::remove_file(&launch.record));
                    }
                    return ended;
                }
                how = process.ended() => break how,
                _ = listen.tick() => launch.pass_on(&mut output),
            }
        };
        // what its children still hold, such as the port, the next one needs
        let cleared = process.end(launch.grace).await;
        launch.pass_on(&mut output);
        if begun.elapsed() >= WELL {
            wait = FIRST_WAIT;
        }
        tracing::warn!(%service, %color, %how, lived = ?begun.elapsed(), again_in = ?wait, "workload ended");
        if let Err(error) = cleared {
            tracing::warn!(%service, %color, error = &error as &dyn std::error::Error, "restarting beside it");
        }
        (process, output) = loop {
            tokio::select! {
                order = &mut stopped => {
                    if order.is_ok() {
                        drop(std::fs::remove_file(&launch.record));
                    }
                    // else it is the next turnout's by now
                    return Ok(());
                }
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            match launch.spawn() {
                Ok(spawned) => break spawned,
                Err(error) => {
                    tracing::error!(%service, %color, error = &error as &dyn std::error::Error, again_in = ?wait, "workload not restarted");
                }
            }
        };
    }
}
