//! The controller.

use std::sync::Arc;

use super::{ChangeError, Outcome, Request, Status, Verification};
use crate::balancer::{Balancer, Progress, Rendered};
use crate::config::Config;
use crate::domain::{Color, ServiceName};
use crate::store::Store;

/// The one owner of the state.
#[derive(Debug)]
pub struct Controller<B> {
    config: Arc<Config>,
    store: Store,
    balancer: B,
}

impl<B: Balancer> Controller<B> {
    /// A controller over a state directory.
    pub fn new(config: Arc<Config>, store: Store, balancer: B) -> Self {
        Self {
            config,
            store,
            balancer,
        }
    }

    /// One change, from lock to record.
    pub async fn change(
        &mut self,
        request: &Request,
        progress: Progress<'_>,
    ) -> Result<Outcome, ChangeError> {
        todo!()
    }

    /// The configuration for the current position, rendered and not installed (`render --to`, `diff`).
    pub async fn render(&mut self) -> Result<Rendered, ChangeError> {
        todo!()
    }

    /// The same, kept under `state.dir/staged` for `reload`. Returns the folder.
    pub async fn stage(&mut self) -> Result<(Rendered, std::path::PathBuf), ChangeError> {
        todo!()
    }

    /// Position, health (probing now where no daemon did), drift.
    pub async fn status(&mut self) -> Result<Status, ChangeError> {
        todo!()
    }

    /// State, disk and served side by side.
    pub async fn verify(&mut self) -> Result<Verification, ChangeError> {
        todo!()
    }

    /// Probes servers now, once each.
    pub async fn check(
        &mut self,
        service: Option<&ServiceName>,
        color: Option<Color>,
    ) -> Result<Vec<super::ServiceStatus>, ChangeError> {
        todo!()
    }
}
