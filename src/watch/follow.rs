//! Another tool's file as the source of the active color: a field of a JSON document.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::Follow;
use crate::domain::{Color, ParseColorError};

/// Far above any such file; what is longer is something else.
const MAX_FILE: u64 = 1024 * 1024;

/// Why a followed file names no color. It changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It cannot be read, or does not exist.
    #[error("failed to read the followed file {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A folder, a FIFO, or larger than 1 MiB.
    #[error("the followed file {path} is not a file of at most 1 MiB")]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Not JSON; it may be half written, and will be looked at again when it changes.
    #[error("the followed file {path} is not JSON")]
    NotJson {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The field is not there, or is not a text.
    #[error("the followed file {path} has no text in the field `{field}`")]
    NoField {
        /// Which.
        path: PathBuf,
        /// The field as configured.
        field: String,
    },
    /// The field names no color.
    #[error("the field `{field}` of the followed file {path} names no color")]
    NoColor {
        /// Which.
        path: PathBuf,
        /// The field as configured.
        field: String,
        /// What it says.
        #[source]
        source: ParseColorError,
    },
}

/// The color that the followed file names now.
pub fn read(follow: &Follow) -> Result<Color, FollowError> {
    let path = follow.file.as_path();
    let document: serde_json::Value =
        serde_json::from_slice(&content(path)?).map_err(|source| FollowError::NotJson {
            path: path.to_owned(),
            source,
        })?;
    let text = field(&document, &follow.field)
        .and_then(serde_json::Value::as_str)
        .ok_or_else(|| FollowError::NoField {
            path: path.to_owned(),
            field: follow.field.clone(),
        })?;
    text.parse().map_err(|source| FollowError::NoColor {
        path: path.to_owned(),
        field: follow.field.clone(),
        source,
    })
}

/// A field by its name, or by a path of names with dots between them.
fn field<'a>(document: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    document.get(name).or_else(|| {
        name.split('.')
            .try_fold(document, |value, part| value.get(part))
    })
}

fn content(path: &Path) -> Result<Vec<u8>, FollowError> {
    let failed = |source| FollowError::Read {
        path: path.to_owned(),
        source,
    };
    // O_NONBLOCK: opening a FIFO must not hang
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(failed)?;
    let not_a_file = || FollowError::NotAFile {
        path: path.to_owned(),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(not_a_file());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(not_a_file());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn followed(text: &str, field: &str) -> Result<Color, FollowError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read(&Follow {
            file: file.path().to_owned(),
            field: field.to_owned(),
            service: "app".parse().unwrap(),
        })
    }

    #[test]
    fn the_field_is_found_by_name_and_by_path() {
        for (text, field) in [
            (r#"{"active_version":"green","other":1}"#, "active_version"),
            (r#"{"router":{"active":"green"}}"#, "router.active"),
            (r#"{"router.active":"green"}"#, "router.active"),
        ] {
            assert_eq!(followed(text, field).unwrap(), Color::Green, "{text}");
        }
    }

    #[test]
    fn what_names_no_color_says_why() {
        for (text, says) in [
            ("", "is not JSON"),
            (r#"{"active_version":"gre"#, "is not JSON"),
            (
                r#"{"active":"green"}"#,
                "has no text in the field `active_version`",
            ),
            (r#"{"active_version":1}"#, "has no text in the field"),
            (r#"["green"]"#, "has no text in the field"),
            (r#"{"active_version":"Green"}"#, "names no color"),
        ] {
            let error = followed(text, "active_version").unwrap_err();
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
        let long = format!(r#"{{"active_version":"{}"}}"#, "x".repeat(1 << 20));
        let error = followed(&long, "active_version").unwrap_err();
        assert!(matches!(error, FollowError::NotAFile { .. }), "{error}");
        let missing = read(&Follow {
            file: PathBuf::from("/nonexistent/bg_state.json"),
            field: "x".to_owned(),
            service: "app".parse().unwrap(),
        });
        assert!(matches!(missing, Err(FollowError::Read { .. })));
    }
}
