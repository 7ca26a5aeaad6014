//! The processes of the colors, where the configuration has turnout run them: started before the first probe, stopped last.

use std::path::{Path, PathBuf};

use crate::config::{Config, Mode};
use crate::domain::{Color, describe};
use crate::release::{Started, WorkloadError, Workloads};

/// What becomes of the others where one workload cannot be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// They end: a daemon that is not there cannot watch over them.
    Stopped,
    /// They run on: another daemon, which serves with them, takes them back.
    Behind,
}

/// The workloads of all services.
pub(super) struct Running(Workloads);

impl Running {
    /// Sees to it that each color of each service that has a workload runs. What a daemon before has left running is not
    /// stopped, whatever it was started with, since it may be what serves.
    pub(super) async fn start(config: &Config, left: Left) -> Result<Self, WorkloadError> {
        let mut running = Self(Workloads::new(&config.state_dir, folder(config)));
        let started = running.start_all(config).await;
        if let Err(error) = started {
            if left == Left::Stopped {
                running.stop().await;
            }
            return Err(error);
        }
        Ok(running)
    }

    async fn start_all(&mut self, config: &Config) -> Result<(), WorkloadError> {
        for (name, service) in &config.services {
            let Some(workload) = &service.workload else {
                continue;
            };
            for color in Color::BOTH {
                if self.0.keep(name, workload, color).await? == Started::Outdated {
                    tracing::warn!(
                        service = %name, %color,
                        "the workload runs with another command, folder or environment than is configured now, and goes on; the new ones hold from its next start"
                    );
                }
            }
        }
        Ok(())
    }

    /// Stops them: SIGTERM, grace, SIGKILL.
    pub(super) async fn stop(self) {
        for error in self.0.stop_all().await {
            tracing::error!(error = describe(&error), "a workload could not be stopped");
        }
    }
}

/// Where workloads without a `dir` of their own run: beside the configuration.
fn folder(config: &Config) -> PathBuf {
    match &config.mode {
        Mode::File(file) => file.parent().unwrap_or(Path::new("/")).to_owned(),
        Mode::Environment => config.state_dir.clone(),
    }
}
