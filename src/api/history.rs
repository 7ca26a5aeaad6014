//! `GET /v1/history`: the audit log for who may not read the state directory, or is on another host.

use axum::Json;
use axum::extract::{Query, State};
use http::Uri;
use serde::Deserialize;

use super::error::Problem;
use super::routes::Api;
use crate::controller::AuditEntry;
use crate::domain::ServiceName;

/// Entries in one answer; at some 300 bytes each, 3 MB.
const LONGEST: usize = 10_000;

/// `?service=NAME&limit=N`, and nothing else.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    service: Option<ServiceName>,
    #[serde(default = "twenty")]
    limit: usize,
}

/// As many as the command shows.
const fn twenty() -> usize {
    20
}

/// The entries, newest first.
pub(super) async fn history(
    State(api): State<Api>,
    uri: Uri,
) -> Result<Json<Vec<AuditEntry>>, Problem> {
    let Query(asked) = Query::<Asked>::try_from_uri(&uri)
        .map_err(|rejection| Problem::malformed(format!("the query: {}", rejection.body_text())))?;
    let limit = asked.limit.min(LONGEST);
    Ok(Json(api.handle.history(asked.service, limit).await?))
}
