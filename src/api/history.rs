//! `GET /v1/history`: the audit log for who may not read the state directory, or is on another host.

use axum::Json;
use axum::extract::{Query, State};
use http::Uri;
use serde::Deserialize;

use super::error::Problem;
use super::openapi::OfALook;
use super::routes::Api;
use crate::controller::AuditEntry;
use crate::domain::ServiceName;

/// Entries in one answer; at some 300 bytes each, 3 MB.
pub(super) const LONGEST: usize = 10_000;

/// `?service=NAME&limit=N`, and nothing else.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// The entries of this service and those that concern all; absent: every entry.
    service: Option<ServiceName>,
    /// How many.
    #[param(minimum = 0, maximum = 10_000)]
    #[serde(default = "twenty")]
    limit: usize,
}

/// As many as the command shows.
const fn twenty() -> usize {
    20
}

/// The audit log, newest first.
#[utoipa::path(get, path = "/v1/history", tag = "turnout", params(Asked), responses(
    (status = 200, description = "The entries.", body = Vec<AuditEntry>),
    OfALook,
))]
pub(super) async fn history(
    State(api): State<Api>,
    uri: Uri,
) -> Result<Json<Vec<AuditEntry>>, Problem> {
    let Query(asked) = Query::<Asked>::try_from_uri(&uri)
        .map_err(|rejection| Problem::malformed(format!("the query: {}", rejection.body_text())))?;
    if asked.limit > LONGEST {
        return Err(Problem::malformed(format!(
            "the query: limit is at most {LONGEST}"
        )));
    }
    Ok(Json(api.handle.history(asked.service, asked.limit).await?))
}
