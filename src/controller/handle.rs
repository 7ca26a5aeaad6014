//! The way to a running controller: a bounded queue in, a `watch` out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::rollouts::{Answer, Shown};
use super::{
    AliasStatus, ChangeError, Events, Meter, Outcome, Release, Request, RolloutError, RolloutId,
    RolloutRequest, RolloutStatus, Status, Verification,
};
use crate::balancer::{AliasLive, Balancer};
use crate::config::Config;
use crate::domain::{Color, Counted, ServiceName};
use crate::store::{AuditEntry, Holder, Store};

/// For a look of this moment in a status. A look at a balancer that answers takes milliseconds, and a change that is being
/// proved up to ten seconds, which who asks for a status does not wait.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// Something that happened outside.
#[derive(Debug)]
pub enum Fact {
    /// The configuration was read anew: `Err` is the text of all its problems, and the last good one stays.
    Config(Result<Arc<Config>, String>),
    /// The keys of the configuration that were changed and that only a start takes; none: there are none (any more).
    Restart(Vec<&'static str>),
    /// A template was changed on disk.
    Template,
    /// The followed file names this color (or cannot be read).
    Followed(Result<Color, String>),
    /// Somebody else wrote the state file.
    State,
    /// Certificates were read again: what is wrong with any of them now.
    Certificates(Vec<String>),
    /// A probe came back.
    Probed(crate::probe::Report),
    /// Something was seen of an alias.
    Sighted(crate::probe::Sighting),
}

pub(super) enum Message {
    Change(Box<Request>, oneshot::Sender<Result<Outcome, ChangeError>>),
    Verify(oneshot::Sender<Result<Verification, ChangeError>>),
    Rollout(Box<RolloutRequest>, Answer),
    /// By whom.
    Release(String, oneshot::Sender<Result<Release, ChangeError>>),
    Fact(Fact),
}

/// Whether what the state says has been seen served since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Not yet.
    Pending,
    /// Yes.
    Seen,
}

/// The way to a running controller. Cheap to clone; the controller ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) queue: mpsc::Sender<Message>,
    pub(super) status: watch::Receiver<Arc<Status>>,
    pub(super) proof: watch::Receiver<Proof>,
    pub(super) events: Events,
    pub(super) meter: Meter,
    pub(super) counting: Counting,
    pub(super) rollouts: watch::Receiver<Shown>,
}

/// The way to the balancer's own counts, which waits for nobody.
#[derive(Clone)]
pub(super) struct Counting(Arc<dyn Fn() -> Option<Vec<Counted>> + Send + Sync>);

impl Counting {
    pub(super) fn of<B: Balancer>(balancer: &Arc<B>) -> Self {
        // weak: who asks for numbers keeps no balancer alive, and a proxy ends with its last handle
        let balancer = Arc::downgrade(balancer);
        Self(Arc::new(move || balancer.upgrade()?.counted()))
    }
}

impl std::fmt::Debug for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counting")
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Change(request, _) => f.debug_tuple("Change").field(request).finish(),
            Self::Verify(_) => f.write_str("Verify"),
            Self::Rollout(request, _) => f.debug_tuple("Rollout").field(request).finish(),
            Self::Release(actor, _) => f.debug_tuple("Release").field(actor).finish(),
            Self::Fact(fact) => f.debug_tuple("Fact").field(fact).finish(),
        }
    }
}

impl Handle {
    /// Asks for a change and waits for its outcome. The change goes on if the caller goes away.
    pub async fn change(&self, request: Request) -> Result<Outcome, ChangeError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Change(Box::new(request), answer))
            .await?;
        answered.await.unwrap_or(Err(ChangeError::ShuttingDown))
    }

    /// Asks something of the rollouts, and waits until it is so. It goes on if the caller goes away.
    pub async fn rollout(
        &self,
        request: RolloutRequest,
    ) -> Result<Arc<RolloutStatus>, RolloutError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Rollout(Box::new(request), answer))
            .await?;
        let ended = || Err(RolloutError::Change(ChangeError::ShuttingDown));
        answered.await.unwrap_or_else(|_| ended())
    }

    /// The rollouts that are kept, newest first; never waits.
    pub fn rollouts(&self) -> Arc<Vec<Arc<RolloutStatus>>> {
        self.rollouts.borrow().clone()
    }

    /// For being told of each change to them.
    pub fn watch_rollouts(&self) -> watch::Receiver<Arc<Vec<Arc<RolloutStatus>>>> {
        self.rollouts.clone()
    }

    /// One of them.
    pub fn rollout_of(&self, id: &RolloutId) -> Result<Arc<RolloutStatus>, RolloutError> {
        let all = self.rollouts();
        let found = all.iter().find(|rollout| rollout.id == *id);
        found
            .cloned()
            .ok_or_else(|| RolloutError::Unknown { id: id.clone() })
    }

    /// The latest status; never waits.
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// For being told of each new status.
    pub fn watch(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// For being told of the first proof since the start.
    pub fn proof(&self) -> watch::Receiver<Proof> {
        self.proof.clone()
    }

    /// What happens, as it happens. Holds no way to the controller.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Looks at disk and balancer now. Also shows that the controller is alive.
    pub async fn verify(&self) -> Result<Verification, ChangeError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Verify(answer)).await?;
        answered.await.unwrap_or(Err(ChangeError::ShuttingDown))
    }

    /// Has the proxy that stands in for a balancer give the listeners back, on behalf of `actor`. They are closed with the answer.
    pub async fn release(&self, actor: String) -> Result<Release, ChangeError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Release(actor, answer)).await?;
        answered.await.unwrap_or(Err(ChangeError::ShuttingDown))
    }

    /// The status with the drift and the counts of this moment, or else, while the controller is busy with the balancer, as it
    /// was last told.
    pub async fn status_now(&self) -> Result<Status, ChangeError> {
        let looked = tokio::time::timeout(LOOK_WITHIN, self.verify()).await;
        let mut status = Status::clone(&self.status());
        let Ok(verification) = looked else {
            return Ok(status);
        };
        let verification = verification?;
        for service in &mut status.services {
            // both are in the order of their names
            let seen = &verification.services;
            let place = seen.binary_search_by(|seen| seen.service.cmp(&service.service));
            service.live = place.ok().and_then(|place| seen[place].live.clone());
        }
        status.aliases = self.aliases_now();
        status.refused = verification.refused;
        status.drift = verification.drift;
        Ok(status)
    }

    /// The last `limit` entries of the audit log, newest first: those of one service, or every one. Waits for no change.
    pub async fn history(
        &self,
        service: Option<ServiceName>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, ChangeError> {
        self.recall(service, limit, u64::MAX).await
    }

    /// The same, of the last MiB of the log alone: some 3,000 changes, for what is asked for again and again.
    pub async fn recent(
        &self,
        service: Option<ServiceName>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, ChangeError> {
        self.recall(service, limit, 1 << 20).await
    }

    async fn recall(
        &self,
        service: Option<ServiceName>,
        limit: usize,
        within: u64,
    ) -> Result<Vec<AuditEntry>, ChangeError> {
        let store = Store::new(PathBuf::from(&self.status().state_dir));
        let read =
            tokio::task::spawn_blocking(move || store.recent(service.as_ref(), limit, within));
        match read.await {
            Ok(entries) => Ok(entries?),
            // the runtime ends, or the reading broke and has said so
            Err(_) => Err(ChangeError::ShuttingDown),
        }
    }

    /// What is counted of the controller's own doings.
    pub const fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What the balancer counts of every service's traffic now, in the order of their names; `None` where it does not count.
    /// Waits for nobody.
    pub fn counted(&self) -> Option<Vec<Counted>> {
        (self.counting.0)()
    }

    /// The services behind an alias as they were last told, with the counts of this moment. Waits for nobody.
    pub fn aliases_now(&self) -> Vec<AliasStatus> {
        let mut aliases = self.status().aliases.clone();
        if aliases.is_empty() {
            return aliases;
        }
        let counted = self.counted().unwrap_or_default();
        for alias in &mut aliases {
            let own = counted.iter().find(|one| one.service == alias.service);
            alias.live = own.and_then(AliasLive::of);
        }
        aliases
    }

    /// Who holds the change lock; `None`: nobody does, or that cannot be seen. Waits for no change.
    pub async fn lock_holder(&self) -> Option<Holder> {
        let store = Store::new(PathBuf::from(&self.status().state_dir));
        let looked = tokio::task::spawn_blocking(move || store.lock_status());
        looked.await.ok()?.ok()?.change
    }

    /// Hands in a fact. Waits only while the queue is full; says so when the controller has ended.
    pub async fn fact(&self, fact: Fact) -> Result<(), ChangeError> {
        self.send(Message::Fact(fact)).await
    }

    async fn send(&self, message: Message) -> Result<(), ChangeError> {
        match self.queue.send(message).await {
            Ok(()) => Ok(()),
            // the message comes back when the controller has ended; its sender is told by the error
            Err(mpsc::error::SendError(_)) => Err(ChangeError::ShuttingDown),
        }
    }
}
