//! Waiting for the color that was left (`--wait-drained`), after the change was recorded and the lock given back.
//!
//! A drain lasts as long as somebody's slowest download. So it holds nothing: no lock, and not the controller's task, which
//! goes on with probes, failover and other changes. What it needs of the controller is taken out into a [`Drain`] of its own.
//! It must never change anything: whatever comes of it, the change is done and stays recorded.

use std::sync::Arc;
use std::time::Duration;

use super::{ChangeError, Controller, Outcome, Request, desired};
use crate::balancer::{Balancer, Drained};
use crate::domain::{Color, ServiceName};

/// Beyond `timeouts.drain`, at whose end the balancer cuts what is left: for that to be seen.
const GRACE: Duration = Duration::from_secs(1);

/// One wait, on its own feet.
#[derive(Debug)]
pub(super) struct Drain<B> {
    balancer: Arc<B>,
    service: ServiceName,
    left: Color,
    within: Duration,
}

impl<B: Balancer> Controller<B> {
    /// The wait that `request` asks for now that `outcome` came of it. None where the traffic is divided: no color was left.
    pub(super) fn drain_after(&self, request: &Request, outcome: &Outcome) -> Option<Drain<B>> {
        let asked = request.wait_drained && !request.dry_run;
        let service = outcome.service.as_ref().filter(|_| asked)?;
        let serves = service.split().whole()?;
        let (name, shape) = desired::pick(&self.config, Some(&service.service)).ok()?;
        Some(Drain {
            balancer: Arc::clone(&self.balancer),
            service: name.clone(),
            left: !serves,
            within: shape.timeouts.drain + GRACE,
        })
    }
}

impl<B: Balancer> Drain<B> {
    /// Waits for it, at most as long as the service gives to a drain.
    pub(super) async fn wait(self) -> Result<(), ChangeError> {
        match self
            .balancer
            .drained(&self.service, self.left, self.within)
            .await
        {
            Drained::Done => Ok(()),
            Drained::Busy { what } => Err(ChangeError::NotDrained {
                service: self.service,
                color: self.left,
                seconds: self.within.as_secs(),
                what,
            }),
        }
    }
}
