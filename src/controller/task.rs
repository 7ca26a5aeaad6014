//! The daemon's controller task and its handle.

use std::sync::Arc;

use tokio::sync::watch;

use super::{ChangeError, Outcome, Request, Status, Verification};

/// Something that happened outside.
#[derive(Debug)]
pub enum Fact {
    /// The configuration was read anew: `Err` is the text of all its problems, and the last good one stays.
    Config(Result<Arc<crate::config::Config>, String>),
    /// A template was changed on disk.
    Template,
    /// The followed file names this color (or cannot be read).
    Followed(Result<crate::domain::Color, String>),
    /// Somebody else wrote the state file.
    State,
    /// A probe came back.
    Probed(crate::probe::Report),
}

/// The way to a running controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    status: watch::Receiver<Arc<Status>>,
}

impl Handle {
    /// Asks for a change and waits for its outcome. The change goes on if the caller goes away.
    pub async fn change(&self, request: Request) -> Result<Outcome, ChangeError> {
        todo!()
    }

    /// The latest status; never waits.
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// For being told of each new status.
    pub fn watch(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    /// Looks at disk and balancer now.
    pub async fn verify(&self) -> Result<Verification, ChangeError> {
        todo!()
    }

    /// Hands in a fact. Waits only while the queue is full.
    pub async fn fact(&self, fact: Fact) {
        todo!()
    }
}
