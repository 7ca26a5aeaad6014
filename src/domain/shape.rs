//! A short name for the shape of a service, so that a later process can tell whether the shape has changed since.
//!
//! The shape itself is the configuration's alone (invariant 3); what is remembered of it must never be enough to go on from.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Service;

/// Bytes of the SHA-256 that are kept: 64 bits, and it is compared with one other only.
const KEPT: usize = 8;

/// The digest of a service's shape, as 16 hexadecimal digits. Another version of turnout may give the same shape another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShapeDigest(String);

impl ShapeDigest {
    /// The digest of all that the configuration says of a service but for where its traffic is.
    pub fn of(service: &Service) -> Self {
        // a path that is not UTF-8 has no JSON
        let text = serde_json::to_vec(service).unwrap_or_else(|_| format!("{service:?}").into());
        let digest = Sha256::digest(text);
        let digits = digest.iter().take(KEPT).map(|byte| format!("{byte:02x}"));
        Self(digits.collect())
    }
}

impl fmt::Display for ShapeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
