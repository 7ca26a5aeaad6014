//! The processes of the colors, where the configuration has turnout run them: started before the first probe, stopped last.

use std::path::{Path, PathBuf};

use crate::config::{Config, Mode};
use crate::domain::{Color, describe};
use crate::release::{WorkloadError, Workloads};

/// The workloads of all services.
pub(super) struct Running(Workloads);

impl Running {
    /// Starts each color of each service that has a workload. If one cannot be started, the others are stopped again.
    pub(super) async fn start(config: &Config) -> Result<Self, WorkloadError> {
        let mut running = Self(Workloads::new(&config.state_dir, folder(config)));
        match running.start_all(config).await {
            Ok(()) => Ok(running),
            Err(error) => {
                running.stop().await;
                Err(error)
            }
        }
    }

    async fn start_all(&mut self, config: &Config) -> Result<(), WorkloadError> {
        for (name, service) in &config.services {
            let Some(workload) = &service.workload else {
                continue;
            };
            for color in Color::BOTH {
                self.0.start(name, workload, color, None).await?;
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
