//! One request that is counted: in flight from the choice of its color to the end of its answer, and then by how it ended.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::client::{Connection, Protocol};
use super::lane::Lane;
use super::ledger::Done;
use super::view::LocalRoute;
use crate::domain::CLIENT_GONE;

/// One request that is counted as in flight until this is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    route: Rc<LocalRoute>,
    lane: Lane,
    connection: Rc<Connection>,
    stint: u32,
    began: Instant,
    status: Cell<u16>,
    failed: Cell<bool>,
    bytes: Cell<u64>,
}

impl InFlight {
    pub(super) fn begin(route: Rc<LocalRoute>, lane: Lane, connection: &Rc<Connection>) -> Self {
        route.entry.counters.begin(route.shard, lane);
        let stint = connection.work_begins(Rc::clone(&route.tenure[lane]));
        Self {
            route,
            lane,
            connection: Rc::clone(connection),
            stint,
            began: Instant::now(),
            status: Cell::new(CLIENT_GONE),
            failed: Cell::new(false),
            bytes: Cell::new(0),
        }
    }

    /// The head of its answer, whoever made it.
    pub(super) fn answered(&self, status: StatusCode) {
        self.status.set(status.as_u16());
    }

    pub(super) fn count(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    /// Ready when what is left of the answer is to be cut off. HTTP/1 connections are cut as a whole, by the sweep.
    pub(super) fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        match self.connection.protocol.get() {
            Protocol::Http1 => Poll::Pending,
            Protocol::Http2 => self.connection.stints.poll_cut(self.stint, cx),
        }
    }

    /// True if it was cut: whatever else is to come of its answer does not.
    pub(super) fn is_cut(&self) -> bool {
        self.connection.stints.is_cut(self.stint)
    }

    /// `work` to its end, or `None` when this request is cut first.
    pub(super) async fn unless_cut<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll_cut(cx).map(|()| None),
        })
        .await
    }

    /// How long the server may say nothing in the middle of its answer.
    pub(super) fn patience(&self) -> Duration {
        self.route.entry.timeouts.idle
    }

    pub(super) fn fail(&self) {
        self.failed.set(true);
        self.route.entry.counters.fail(self.route.shard, self.lane);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.connection.stints.end(self.stint);
        let (entry, shard) = (&self.route.entry, self.route.shard);
        entry.counters.end(shard, self.lane);
        if entry.is_counted() {
            let status = self.status.get();
            let is_tunnel = status == StatusCode::SWITCHING_PROTOCOLS.as_u16();
            let done = Done {
                status,
                failed: self.failed.get(),
                bytes: self.bytes.get(),
                took: (!is_tunnel).then(|| self.began.elapsed()),
            };
            entry.counters.write(shard, self.lane, done);
        }
    }
}
