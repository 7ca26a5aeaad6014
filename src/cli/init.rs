//! Stub of the texts of `turnout init`, to be replaced at the merge.

/// A first configuration, with comments.
pub(super) fn first_configuration() -> &'static str {
    "# yaml-language-server: $schema=turnout.schema.json\nversion: 1\n"
}

/// What to add to an nginx configuration so that turnout can move its traffic: text for a person to read.
pub(super) fn from_nginx(_configuration: &str) -> Result<String, FromNginxError> {
    Err(FromNginxError {
        message: "no server block found".to_owned(),
    })
}

/// Why nothing can be proposed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct FromNginxError {
    message: String,
}
