//! The processes of the colors, where the configuration has turnout run them: started before the first probe, stopped last.
//!
//! The one seam of the daemon that is not joined yet: `release` supervises processes, and this file is where it comes in.

use crate::config::Config;
use crate::release::{WorkloadError, Workloads};

/// The workloads of all services.
pub(super) struct Running(Workloads);

impl Running {
    /// Starts each color of each service that has a workload.
    pub(super) async fn start(config: &Config) -> Result<Self, WorkloadError> {
        Workloads::start(config).await.map(Self)
    }

    /// Stops them: SIGTERM, grace, SIGKILL.
    pub(super) async fn stop(self) {
        self.0.stop().await;
    }
}
