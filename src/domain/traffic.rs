//! Whether a service's requests go on at all: an overlay that an operator sets and takes away again. Not a position: where the
//! traffic goes when it is opened is not touched by it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What becomes of a service's requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Traffic {
    /// They go on.
    #[default]
    Open,
    /// They wait, at most the service's `limits.hold`, and go on when the traffic is opened.
    Hold,
    /// They are answered with 503 and a page.
    Maintenance(Maintenance),
}

// the form of `Traffic` on the wire, for describing it
/// What becomes of a service's requests.
#[derive(utoipa::ToSchema)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "it is a description, and never a value")]
enum Flat {
    /// They go on.
    Open,
    /// They wait, at most the service's `limits.hold`, and go on when the traffic is opened.
    Hold,
    /// They are answered with 503 and a page.
    Maintenance {
        /// Seconds that `Retry-After` names.
        #[schema(value_type = u64, maximum = 4_294_967_295u64)]
        retry_after: u32,
        /// An HTML page, whole, at most 32 KiB; absent: the built-in one.
        #[schema(max_length = 32_768)]
        page: Option<String>,
    },
}

impl utoipa::PartialSchema for Traffic {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        Flat::schema()
    }
}

impl utoipa::ToSchema for Traffic {}

/// What clients get while a service is in maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

    /// Without the page.
    pub const fn mode(&self) -> TrafficMode {
        match self {
            Self::Open => TrafficMode::Open,
            Self::Hold => TrafficMode::Hold,
            Self::Maintenance(_) => TrafficMode::Maintenance,
        }
    }
}

/// The three kinds of [`Traffic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrafficMode {
    /// Requests go on.
    #[default]
    Open,
    /// They wait.
    Hold,
    /// They are answered with a page.
    Maintenance,
}

impl TrafficMode {
    /// The word for it, as it stands on the command line and in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Hold => "hold",
            Self::Maintenance => "maintenance",
        }
    }
}

/// As it reads after "the traffic of shop is".
impl fmt::Display for TrafficMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Hold => "held",
            Self::Maintenance => "in maintenance",
        })
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
