//! One line for one change: in the audit log, and in the log of the daemon with the same words as the API uses.

use super::Outcome;
use crate::domain::{Color, Generation, ServiceName, describe};
use crate::store::{AuditEntry, ChangeLock};

/// How a change ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    /// It was so already.
    Same,
    Failed,
}

impl Ended {
    /// Of what a request came to.
    pub(super) fn of<E>(result: &Result<Outcome, E>) -> Self {
        match result {
            Ok(outcome) if outcome.changed => Self::Done,
            Ok(_) => Self::Same,
            Err(_) => Self::Failed,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Same => "same",
            Self::Failed => "failed",
        }
    }
}

/// Tells the log and the audit log. A failure to write the latter does not unmake the change, so it is logged and no more.
pub(super) fn tell(
    lock: &mut ChangeLock,
    entry: &AuditEntry,
    ended: Ended,
    generation: Option<Generation>,
) {
    let reason = entry.message.as_str();
    tracing::info!(
        event = entry.action.as_str(),
        outcome = ended.as_str(),
        service = entry.service.as_ref().map(ServiceName::as_str),
        color = entry.environment.map(Color::as_str),
        version = entry.version.as_deref(),
        generation = generation.map(|generation| generation.0),
        actor = entry.actor.as_str(),
        duration_ms = entry.duration_ms,
        reason = (!reason.is_empty()).then_some(reason),
        "change"
    );
    if let Err(error) = lock.audit(entry) {
        tracing::warn!(
            error = describe(&error),
            "the audit log could not be written"
        );
    }
}
