//! Whether a service's requests go on at all: an overlay that an operator sets and takes away again. Not a position: where the
//! traffic goes when it is opened is not touched by it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What becomes of a service's requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Traffic {
    /// They go on.
    #[default]
    Open,
    /// They wait, at most the service's `limits.hold`, and go on when the traffic is opened.
    Hold,
    /// They are answered with 503 and a page.
    Maintenance(Maintenance),
}

/// What clients get while a service is in maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Seconds that `Retry-After` names.
    pub retry_after: u32,
    /// An HTML page, whole, at most [`Maintenance::LONGEST_PAGE`] bytes; `None`: the built-in one.
    pub page: Option<String>,
}

impl Traffic {
    /// True unless an operator has stopped the requests.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// The word for it, as it stands on the command line and in status.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Hold => "hold",
            Self::Maintenance(_) => "maintenance",
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Hold => f.write_str("held"),
            Self::Maintenance(_) => f.write_str("in maintenance"),
        }
    }
}

impl Maintenance {
    /// Bytes of a page. It stands in journal and state file, and has to pass the API with its 64 KiB.
    pub const LONGEST_PAGE: usize = 32 * 1024;
    /// `Retry-After` where nothing else is said, in seconds.
    pub const RETRY_AFTER: u32 = 30;
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            retry_after: Self::RETRY_AFTER,
            page: None,
        }
    }
}
