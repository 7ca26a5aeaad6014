//! Stub of `Store::history`, to be replaced at the merge: reads the audit log as it stands.

use crate::domain::ServiceName;
use crate::store::{AuditEntry, Store, StoreError};

/// The last `limit` entries, newest first: those of one service (and those that concern all), or every one.
pub(super) fn history(
    store: &Store,
    service: Option<&ServiceName>,
    limit: usize,
) -> Result<Vec<AuditEntry>, StoreError> {
    let path = store.dir().join("deployments.jsonl");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(source) => {
            return Err(StoreError::Io {
                action: "read",
                path,
                source,
            });
        }
    };
    Ok(bytes
        .split(|byte| *byte == b'\n')
        .rev()
        .filter_map(|line| serde_json::from_slice::<AuditEntry>(line).ok())
        .filter(|entry| {
            service.is_none() || entry.service.is_none() || entry.service.as_ref() == service
        })
        .take(limit)
        .collect())
}
