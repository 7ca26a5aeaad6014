//! What one request's attempts teach: it counts them, and tells each server's mark how its attempt went.

use super::answer::Refusal;
use super::entry::Target;
use super::lane::Lane;
use super::mark::Standing;
use super::upstream::ConnectError;
use super::view::LocalRoute;

/// The attempts of one request.
pub(super) struct Tries<'a> {
    route: &'a LocalRoute,
    lane: Lane,
    count: u32,
}

impl<'a> Tries<'a> {
    pub(super) const fn new(route: &'a LocalRoute, lane: Lane) -> Self {
        Self {
            route,
            lane,
            count: 0,
        }
    }

    /// Attempts after the first.
    pub(super) const fn retries(&self) -> u32 {
        self.count.saturating_sub(1)
    }

    /// A server is asked, or could not be.
    pub(super) fn again(&mut self) {
        if self.count > 0 {
            self.route.entry.counters.retry(self.route.shard, self.lane);
        }
        self.count += 1;
    }

    /// No connection was made.
    pub(super) fn unreached(&mut self, target: &Target, standing: Standing, error: &ConnectError) {
        self.again();
        let marked = target.mark.refused(standing);
        if matches!(error, ConnectError::Timeout(_)) {
            self.failed(target, standing);
        }
        if marked {
            tracing::warn!(
                service = %self.route.entry.name, lane = %self.lane, server = %target.server,
                error = crate::domain::describe(error), "server is passed over for a while"
            );
        }
    }

    /// It was asked and did not answer.
    pub(super) fn failed(&self, target: &Target, standing: Standing) {
        if target.mark.failed(standing) {
            tracing::warn!(
                service = %self.route.entry.name, lane = %self.lane, server = %target.server,
                "server failed too often in a row: its circuit is open"
            );
        }
    }

    /// The head of an answer came.
    pub(super) fn answered(&self, target: &Target) {
        if target.mark.answered() {
            tracing::info!(
                service = %self.route.entry.name, lane = %self.lane, server = %target.server,
                "server answers again"
            );
        }
    }

    /// Why no server of the color answered.
    pub(super) const fn refusal(&self) -> Refusal {
        if self.count == 0 {
            Refusal::NoBackend
        } else {
            Refusal::BadGateway
        }
    }
}
