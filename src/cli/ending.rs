//! The end of a daemon: the API and the controller take nothing new, what is in flight is drained, the workloads stop last.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::carrier::Carrier;
use super::heartbeat;
use super::workloads::Running;
use crate::api::{Reread, Server};
use crate::config::Config;
use crate::controller::Handle;
use crate::signals::{Signal, Signals};
use crate::traffic::{Book, Bookkeeper, Source};

/// For a change under way when the daemon ends. It goes on even longer only where a balancer does not answer.
const LAST_CHANGE: Duration = Duration::from_mins(1);

/// The control API at work.
pub(super) struct Answering {
    pub(super) task: JoinHandle<std::io::Result<()>>,
    stop: oneshot::Sender<()>,
    _bookkeeper: Bookkeeper,
}

impl Answering {
    pub(super) fn begin(server: Server, handle: Handle, reread: Reread, source: Source) -> Self {
        let (stop, stopped) = oneshot::channel();
        let status = handle.watch();
        let names = move || {
            let status = status.borrow().clone();
            let services = status.services.iter();
            services.map(|service| service.service.clone()).collect()
        };
        let (figures, bookkeeper) = Book::keep(source, names);
        let answering = server.run(handle, reread, figures, async {
            // a sender that is gone stops it as well
            drop(stopped.await);
        });
        Self {
            task: tokio::spawn(answering),
            stop,
            _bookkeeper: bookkeeper,
        }
    }
}

/// Waits for the API to end by itself; for ever where there is none.
pub(super) async fn ended(api: &mut Option<Answering>) {
    match api {
        Some(answering) => match (&mut answering.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the control API ended"),
            Err(error) => tracing::error!(%error, "the control API broke"),
        },
        None => std::future::pending().await,
    }
}

/// Lets answers under way finish.
pub(super) async fn stop(api: Option<Answering>) {
    let Some(answering) = api else { return };
    // a receiver that is gone has stopped
    let (Ok(()) | Err(())) = answering.stop.send(());
    if let Err(error) = answering.task.await {
        tracing::error!(%error, "the control API broke while it ended");
    }
}

/// Waits for the second order to end.
pub(super) async fn told_again(signals: &mut Signals) {
    while signals.next().await != Signal::Terminate {}
}

/// Requests in flight have as long as the service that gives most.
pub(super) fn longest_drain(config: &Config) -> Duration {
    config
        .shapes()
        .values()
        .map(|shape| shape.timeouts.drain)
        .max()
        .unwrap_or_default()
}

/// What has to be brought to an end, and how long that may take.
pub(super) struct Ending {
    pub(super) api: Option<Answering>,
    pub(super) controller: JoinHandle<()>,
    pub(super) carrier: Carrier,
    pub(super) drain: Duration,
    pub(super) workloads: Running,
}

impl Ending {
    pub(super) async fn finish(self) {
        heartbeat::stopping(self.drain + LAST_CHANGE);
        let ((), cut) = tokio::join!(stop(self.api), self.carrier.drain(self.drain));
        if cut > 0 {
            tracing::warn!(cut, "connections were cut at the drain deadline");
        }
        // the proxy's own way to the controller goes with it
        drop(self.carrier);
        if tokio::time::timeout(LAST_CHANGE, self.controller)
            .await
            .is_err()
        {
            tracing::warn!("a change is still under way; the next start settles it");
        }
        self.workloads.stop().await;
        tracing::info!("stopped");
    }
}
