//! The start of a balancer that is gone, by turnout itself (`fallback.start`): first after some seconds, in which systemd's own
//! `Restart=` may do it, then ever more rarely, since each try gives the listeners back and costs a gap that ends with the try.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::task::Task;
use crate::balancer::{Balancer, StandIn};
use crate::domain::describe;
use crate::exec::{Output, Program};

/// And at most between two.
const LONGEST_START: Duration = Duration::from_mins(5);
/// For the start command.
const START: Duration = Duration::from_mins(1);

impl<B: Balancer> Task<B> {
    /// Runs `fallback.start`, where there is one and its time has come. Not awaited in here: it may have its own
    /// `turnout fallback release` run, whose answer comes from this task.
    pub(super) async fn start_it(&mut self, stand_in: &StandIn) {
        let argv = self
            .controller
            .config
            .balancer
            .fallback
            .clone()
            .unwrap_or_default();
        let is_time = self.relief.start_at.is_some_and(|at| Instant::now() >= at);
        if argv.is_empty() || !is_time {
            return;
        }
        self.relief.start_wait = (self.relief.start_wait * 2).min(LONGEST_START);
        if self.give_back(stand_in).await.is_none() {
            return;
        }
        tracing::info!(?argv, "starting the balancer");
        self.relief.starting = Some(tokio::spawn(async move {
            let run = Program::new(argv).deadline(START).run().await;
            run.and_then(Output::success)
                .map(drop)
                .map_err(|error| describe(&error))
        }));
        self.publish().await;
    }

    /// Why the start command failed, once it has.
    pub(super) async fn started(&mut self) -> Option<String> {
        let ended = self
            .relief
            .starting
            .as_ref()
            .is_some_and(JoinHandle::is_finished);
        let starting = self.relief.starting.take_if(|_| ended)?;
        // the command may have taken its time, and what it started says who it is a moment after it listens
        self.relief.due_back = Some(Instant::now() + self.grace());
        match starting.await {
            Ok(result) => result.err(),
            Err(error) => Some(error.to_string()),
        }
    }
}
