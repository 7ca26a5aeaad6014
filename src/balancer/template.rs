//! The template of a balancer's configuration: a user's, or the built-in one. Reads, and renders nothing.

use std::path::Path;

use super::RenderError;
use crate::render::{self, Template};

/// The template at `path`, or `built_in` where none is configured.
pub(super) fn read(
    path: Option<&Path>,
    built_in: impl FnOnce() -> Template,
) -> Result<Template, RenderError> {
    let Some(path) = path else {
        return Ok(built_in());
    };
    let source = std::fs::read_to_string(path).map_err(|source| RenderError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(Template {
        name: path.display().to_string(),
        source,
    })
}

impl From<render::Error> for RenderError {
    fn from(error: render::Error) -> Self {
        match error {
            render::Error::Template {
                file,
                line,
                message,
            } => Self::Template {
                place: line.map_or_else(|| file.clone(), |line| format!("{file}:{line}")),
                message,
            },
            render::Error::Value { key, rule } => Self::Value { key, rule },
        }
    }
}
